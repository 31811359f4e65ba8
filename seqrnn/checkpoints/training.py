"""A training that can be stopped and resumed: its complete state, its checkpoints, and its rollbacks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from seqrnn import loop
from seqrnn.checkpoints import init_from
from seqrnn.checkpoints.file import Tree
from seqrnn.checkpoints.identity import differences, identity
from seqrnn.checkpoints.init_from import Origin
from seqrnn.checkpoints.manager import CheckpointManager
from seqrnn.checkpoints.signals import Signals
from seqrnn.components import Components
from seqrnn.errors import ConfigError, DataError, Diverged
from seqrnn.monitor import Monitor
from seqrnn.recording import provenance
from seqrnn.recording.conclusion import early_stop
from seqrnn.recording.recorder import Recorder
from seqrnn.rundir.reader import RunReader
from seqrnn.strategies.protocol import Strategy
from seqrnn.strategies.strategy_state import StrategyState, cpu_copy
from seqrnn.tasks.protocol import Task

FINGERPRINTED = 1024  # timesteps of each of training, validation and test data
PACKAGES = ("torch", "numpy", "seqrnn")  # whose versions a resumed run must share to be bit for bit the same


class Training:
    """Trains a run's network, and writes checkpoints.

    Args:
        signals: the signals that ask for an end, which are answered between updates, after a checkpoint.
    """

    def __init__(
        self, components: Components, strategy: Strategy, monitor: Monitor, recorder: Recorder, signals: Signals
    ) -> None:
        self.components, self.strategy, self.monitor, self.recorder, self.signals = (
            components,
            strategy,
            monitor,
            recorder,
            signals,
        )
        self.manager = CheckpointManager(recorder.writer.checkpoints, components.settings.checkpoint)
        self.cursor = loop.TrainingCursor(components.task, components.schedule, monitor.progress.planned_updates)
        self._fingerprint = ""
        if components.settings.checkpoint.updates:
            monitor.end_blocks_at_multiples_of(components.settings.checkpoint.updates)

    def begin(self, resuming: bool, reason: str = "", origin: Origin | None = None) -> None:
        """Prepares to train from the beginning or, if the run is resumed, from its newest checkpoint.

        Args:
            reason: why the run is resumed, if the user did not name its directory.
            origin: where the weights of a new run are from; None: they are new.

        Raises:
            DataError: there are checkpoints, and the run cannot be resumed from any; or there are none, and it has
                finished.
            ConfigError: the run is to be shorter than it is already.
        """
        notes: list[str] = []
        found = self.manager.newest(notes.append) if resuming else None
        if found:
            path, tree = found
            self._restore(path, tree)
            self._refuse_shorter()
            self.recorder.restore_history(tree["recorder"])
            self.recorder.history["resumed"] += 1
            notes += self.recorder.rewind(tree["recorder"]) + self._changes(tree["made_with"])
            where = f"from update {self.monitor.progress.updates:,} ({path.name})"
            notes.append(f"resumes {where}{f': {reason}' if reason else ''}")
            if self.monitor.progress.stopped_early:
                notes.append(
                    "makes no further updates: training had ended early, after "
                    f"{early_stop(self.components.schedule)}; a larger schedule.patience, or null, continues it"
                )
        elif resuming:
            self._refuse_restart()
            self.recorder.history["resumed"] += 1
            self.recorder.rewind(None)
            notes.append(f"starts again: the run had no checkpoint yet{f' ({reason})' if reason else ''}")
            if self.components.settings.init_from:
                origin = init_from.start_from(self.components.settings.init_from, self.components.network)
        if origin:
            self.recorder.history["init_from"] = origin
            notes.append(f"starts from the weights of {origin['path']}")
        self.recorder.begin(self.monitor, notes)

    def train(self) -> None:
        """Trains to the end, with rollbacks where the config asks for them.

        Raises:
            Diverged: the loss, the gradient or a weight became NaN or infinite, and there is no further rollback.
            Interrupted: a signal asked for an end, and a checkpoint has been written.
        """
        while True:
            try:
                with self.signals.deferred():
                    loop.train(
                        self.components.task,
                        self.components.schedule,
                        self.strategy,
                        self.monitor,
                        self.cursor,
                        self._pause,
                    )
                return
            except Diverged as error:
                self._roll_back(error)

    def _pause(self) -> None:
        position = self.monitor.progress.position
        needs_first = self.components.settings.on_divergence == "rollback" and self.manager.position is None
        if self.signals.pending or self.monitor.finished or needs_first or self.manager.is_due(position):
            self._write(position)
        self.signals.answer()

    def _write(self, position: int) -> None:
        if position == self.manager.position:
            return
        for name, weight in self.components.network.state_dict().items():
            if weight.is_floating_point() and not weight.isfinite().all():
                raise Diverged(
                    f"diverged: {name} has become NaN or infinite by update {self.monitor.progress.updates}; "
                    f"try {self.components.schedule.divergence_advice}"
                )
        self.manager.write(position, self._state)
        self.recorder.write_best()

    def _state(self) -> Tree:
        """Returns everything that the rest of the run depends on."""
        sampler, schedule = self.cursor.sampler, self.components.schedule
        batch = sampler.current_batch
        pending_carries = schedule.pending_carries(batch.timesteps, sampler.window) if batch else []
        strategy_state = self.strategy.state(batch.streams if batch else 0, pending_carries)
        generators = {"cpu": torch.get_rng_state()}
        if self.components.context.device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state(self.components.context.device)
        return {
            "config": identity(self.components.values),
            "data": self._data(),
            "made_with": self._made_with(),
            "model": {name: cpu_copy(value) for name, value in self.components.network.state_dict().items()},
            "optimizer": {"parameters": dict(strategy_state.parameters), "groups": list(strategy_state.groups)},
            "carried": [{"before": before, "parts": list(parts)} for before, parts in strategy_state.carried.items()],
            "influence": strategy_state.influence,
            "sampler": sampler.state(),
            "decay": self.cursor.decay.state(),
            "monitor": self.monitor.state(),
            "generators": generators,
            # Syncing takes longer than a short run, and the other files of a finished run are not synced either.
            "recorder": self.recorder.state(durable=not self.monitor.finished),
        }

    def _restore(self, path: Path, tree: Tree) -> None:
        """Restores everything from a checkpoint but the recorder.

        Raises:
            DataError: the checkpoint is not one of this run.
        """
        try:
            changed = differences(identity(self.components.values), tree["config"])
            if changed:
                raise DataError(
                    f"{path}: written with another config: {'; '.join(changed[:5])}; put config.yaml back as it was, "
                    "or start a new run with init_from=RUN_DIR"
                )
            if tree["data"] != self._data():
                raise DataError(
                    f"{path}: written with other data: what the task reads now is not what it was trained on; put "
                    "the data back, or start a new run with init_from=RUN_DIR"
                )
            init_from.load_weights(self.components.network, tree["model"])
            self.cursor.sampler.restore(tree["sampler"])
            batch = self.cursor.sampler.current_batch
            carried = {int(one["before"]): tuple(one["parts"]) for one in tree["carried"]}
            expected = [part.shape for part in self.components.network.initial_state(batch.streams)] if batch else []
            for parts in carried.values():
                if [part.shape for part in parts] != expected:
                    raise DataError(f"carried states of shapes {[tuple(part.shape) for part in parts]}")
            self.strategy.restore(
                StrategyState(
                    tree["optimizer"]["parameters"],
                    tree["optimizer"]["groups"],
                    carried,
                    tree.get("influence", {}),  # checkpoints of versions without such gradients have none
                )
            )
            self.cursor.decay.restore(tree["decay"])
            self.monitor.restore(tree["monitor"])
            torch.set_rng_state(tree["generators"]["cpu"])
            if self.components.context.device.type == "cuda" and "cuda" in tree["generators"]:
                torch.cuda.set_rng_state(tree["generators"]["cuda"], self.components.context.device)
        except DataError as error:
            raise DataError(*(one if str(path) in one else f"{path}: {one}" for one in error.problems)) from None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise DataError(f"{path}: does not fit this run: {error!r}") from error

    def _refuse_restart(self) -> None:
        """Refuses to start a finished run again.

        Raises:
            DataError: the run has finished, and its results would be lost.
        """
        try:
            finished = RunReader(self.recorder.directory).summary().get("status") == "finished"
        except DataError:
            return  # killed before it wrote a summary
        if finished:
            raise DataError(
                f"{self.recorder.directory}: has finished, and has no checkpoint to resume from (checkpoint.keep=0, "
                "or removed); start a new run from its weights with init_from=RUN_DIR"
            )

    def _refuse_shorter(self) -> None:
        """Refuses to make a run shorter than it is already: its config would not be the one that it was made with.

        Raises:
            ConfigError: more updates have been made than are planned.
        """
        progress = self.monitor.progress
        if progress.position > progress.planned_updates:
            schedule = self.components.schedule
            raise ConfigError(
                f"schedule.epochs={schedule.epochs}, schedule.max_updates={schedule.max_updates or 'null'}: that is "
                f"{progress.planned_updates:,} updates, and the run has made {progress.position:,}; it can be made "
                "longer, not shorter"
            )

    def _roll_back(self, error: Diverged) -> None:
        """Restores the newest checkpoint, and lowers the learning rate from there on.

        Raises:
            Diverged: the config asks for no rollback, or for no more of them.
        """
        settings, rollbacks = self.components.settings, self.recorder.history["rollbacks"]
        if settings.on_divergence != "rollback" or len(rollbacks) >= settings.rollback.times:
            raise error
        try:
            found = self.manager.newest(self.recorder.terminal.print)
        except DataError:
            found = None
        if found is None:
            raise error
        path, tree = found
        progress = self.monitor.progress
        diverged, spent = progress.updates, (progress.train_seconds, progress.evaluate_seconds)
        self._restore(path, tree)
        self.recorder.rewind(tree["recorder"])
        progress.train_seconds, progress.evaluate_seconds = spent
        self.cursor.decay.scale *= settings.rollback.factor
        rollbacks.append(
            {"problem": str(error), "after": diverged, "back_to": progress.updates, "scale": self.cursor.decay.scale}
        )
        self.recorder.terminal.print(
            f"{error.problems[0].partition(';')[0]}; back to update {progress.updates:,}, with "
            f"{self.cursor.decay.scale:g} times the learning rate ({len(rollbacks)} of {settings.rollback.times})"
        )
        self.manager.position = None
        self._write(progress.position)  # a run that is killed after this does not roll back a second time

    def _data(self) -> str:
        if not self._fingerprint:
            self._fingerprint = fingerprint(self.components.task, self.components.schedule.streams)
        return self._fingerprint

    def _made_with(self) -> dict[str, str]:
        versions = provenance.versions()
        return {
            **{name: versions[name] for name in PACKAGES},
            "device": self.components.context.device.type,
            "threads": str(torch.get_num_threads()),
            "strategy": getattr(self.strategy, "name", type(self.strategy).__name__.lower()),
        }

    def _changes(self, was: Mapping[str, str]) -> list[str]:
        """Returns a note on what has changed since, so that numbers may differ in their last bits."""
        now = self._made_with()
        changed = [f"{name} {was.get(name)} → {now[name]}" for name in now if was.get(name) != now[name]]
        if not changed:
            return []
        return [f"note: {', '.join(changed)}: numbers may differ in their last bits from an uninterrupted run's"]


def fingerprint(task: Task, streams: int) -> str:
    """Returns a hash of the beginning of a task's training, validation and test data, and of its own fingerprint."""
    digest = hashlib.sha256()
    for batches in (task.train(0, streams), task.validation(), task.test()):
        chunk = batches[0].read(0, min(batches[0].timesteps, FINGERPRINTED))
        for values in (chunk.inputs, chunk.targets, chunk.valid, chunk.starts):
            digest.update(f"{values.dtype}{tuple(values.shape)}".encode())
            digest.update(values.contiguous().numpy().tobytes())
    own = getattr(task, "fingerprint", None)
    if own is not None:
        digest.update(own().encode())
    return digest.hexdigest()
