"""What a run says while it lasts and leaves behind: ties together terminal, run directory and pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from seqrnn import device, evaluation, metrics, plots
from seqrnn.components import Components
from seqrnn.errors import Diverged, UserError
from seqrnn.evaluation import Predictions
from seqrnn.monitor import Monitor, Progress, Row
from seqrnn.recording import arrays, provenance
from seqrnn.recording.best import Best
from seqrnn.recording.tensorboard import TensorBoard
from seqrnn.recording.terminal import Terminal
from seqrnn.rundir.reader import RunReader
from seqrnn.rundir.request import RunRequest, resume_command
from seqrnn.rundir.writer import RunWriter
from seqrnn.schedule import Schedule, distinct

WRITE_EVERY = 1.0  # seconds: rows wait so long at most while updates go on


class Recorder:
    """Writes down one run. However its ``with`` block is left, the directory is complete as far as the run got:
    metrics, weights, a summary with its status, and pictures.

    Args:
        components: the config and the objects of the run.
        request: where it goes, and whether it is there already.
        deferred: within it, a signal waits until everything is written down.
        quiet: whether nothing is printed; the log has it all the same.
    """

    def __init__(
        self,
        components: Components,
        request: RunRequest,
        deferred: Callable[[], AbstractContextManager[None]] = nullcontext,
        *,
        quiet: bool = False,
    ) -> None:
        self.values, self.components = components.values, components
        self.directory, self.resuming = request.directory, request.resuming
        self.writer = RunWriter(
            request.directory,
            components.values,
            request.overrides,
            resuming=request.resuming,
            lock_timeout=request.lock_timeout,
        )
        said = RunReader(request.directory).overrides() if request.resuming else request.overrides
        self.experiment = next((text.partition("=")[2] for text in said if text.startswith("experiment=")), None)
        self.deferred, self.has_begun = deferred, False
        self.tensorboard: TensorBoard | None = None
        self.best = Best(components.network, components.settings.checkpoint.best, components.task)
        metric = metrics.headline(components.task.kind, components.task.loss)
        self.terminal = Terminal(self.writer.log_path, metric, quiet)
        self.progress = Progress(0)
        self.rows: list[Row] = []  # not written yet
        self.written = -WRITE_EVERY
        self.frame_every = 0
        self.shown: list[arrays.FirstSequences] = []
        self.frames: list[tuple[int, Predictions]] = []
        self.scores: dict[str, dict[str, float]] = {}
        self.first_ten = ""
        self.began = time.monotonic(), time.process_time()
        self.spent = 0.0, 0.0  # by the clock and by the processor, before this process took over
        self.history: dict[str, Any] = {"resumed": 0, "rollbacks": [], "init_from": None}

    def begin(self, monitor: Monitor, notes: Sequence[str] = ()) -> None:
        """Says what is about to run, and what else there is to know."""
        self.progress, self.has_begun = monitor.progress, True
        if self.resuming:
            self.writer.write_config(self.values)
        if self.components.settings.logger == "tensorboard":
            self.tensorboard = TensorBoard(self.directory, self.progress.timesteps if self.resuming else None)
        settings, schedule = self.components.settings, self.components.schedule
        if settings.plots.animation:
            self.frame_every = -(-self.progress.planned_updates // settings.plots.frames)
            monitor.end_blocks_at_multiples_of(self.frame_every)
            self.shown = [arrays.FirstSequences(self.components.task.test()[0], self.components.task.kind)]
        name = f"{self.values['task']['name']} with {self.values['model']['name']}"
        self.terminal.header(f"{name} ({self.experiment})" if self.experiment else name, self._facts())
        batches = self.components.task.train(0, schedule.streams)
        for note in self._notes(schedule, max(batch.timesteps for batch, _ in distinct(batches)), batches[0].streams):
            self.terminal.say(f"  note: {note}")
        for note in notes:
            self.terminal.say(f"  {note}")
        self.writer.write_summary(self._summary(None, "running"))
        if self.components.task.kind == "classification":
            self.writer.write_samples(arrays.samples(batches[0]))
            if settings.plots.draw:
                plots.draw_samples(self.directory)

    def record(self, row: Row) -> None:
        """Takes a row of metrics. Writing one takes as long as many updates, so they are written once a second, in
        whole lines; a run that is killed loses those of its last second."""
        self.best.consider(row)
        self.rows.append(row)
        self._write_if_due()

    def observe(self, progress: Progress) -> None:
        """Is told after some updates where the run stands."""
        self.terminal.progress(progress)
        if self.rows:
            self._write_if_due()
        if self.frame_every:
            is_last = progress.position == progress.planned_updates
            if is_last or progress.position % self.frame_every == 0:
                predictions = evaluation.predict(self.components.network, self.shown, self.components.context)
                self.frames.append((progress.timesteps, predictions))

    def _write_if_due(self) -> None:
        if time.monotonic() >= self.written + WRITE_EVERY:
            self._write_rows()

    def _write_rows(self) -> None:
        rows, self.rows = self.rows, []
        for row in rows:
            self.writer.record(row)
            if self.tensorboard:
                self.tensorboard.record(row)
            if any(key.startswith("eval_") and value is not None for key, value in row.items()):
                self.terminal.evaluated(row)
        self.writer.flush()
        self.terminal.flush()
        self.written = time.monotonic()

    @property
    def scored(self) -> tuple[str, int]:
        """Which weights are scored and saved, ``best`` or ``last``, and after how many updates they were those."""
        if self.components.schedule.keeps_best and self.best.weights:
            return "best", self.best.updates
        return "last", self.progress.updates

    def load_scored_weights(self) -> None:
        """Gives the network, once trained, the weights that are scored and saved."""
        if self.scored[0] == "best":
            self.components.network.load_state_dict(self.best.weights)

    def finish(self, predictions: Predictions) -> float:
        """Takes the trained network's predictions on the test data; returns their loss."""
        self._write_rows()
        task, loss = self.components.task, self.components.loss
        self.scores = {
            self.values["model"]["name"]: evaluation.score(predictions, task, loss),
            **evaluation.score_baselines(predictions, task, loss),
        }
        if task.kind == "classification":
            outputs, targets = (values[:10] for values in predictions.judged())
            predicted = " ".join(str(label) for label in outputs.argmax(axis=-1))
            self.first_ten = f"first ten: predicted {predicted}, real {' '.join(str(label) for label in targets)}"
        self.writer.write_predictions(arrays.predictions_of(predictions, task.kind))
        test_loss = self._test()["loss"]
        if not np.isfinite(test_loss):
            raise Diverged(f"diverged: the test loss is {test_loss}")
        return test_loss

    def state(self, lasting: bool) -> dict[str, Any]:
        """What has been written down, and what is yet to be, for ``rewind`` and ``inherit``; see ``Run.mark``."""
        self._write_rows()
        return {
            "metrics": self.writer.mark(lasting),
            "frames": arrays.packed(self.frames),
            "best": self.best.state(),
            "seconds": list(self._seconds()),
            "history": self.history,
        }

    def rewind(self, state: Mapping[str, Any] | None) -> list[str]:
        """Forgets what was written down after a state; None: everything. Returns what is missing from before."""
        self.rows = []
        self.frames = arrays.unpacked(state["frames"]) if state else []
        if state:
            self.best.restore(state["best"])
        return self.writer.rewind(state["metrics"] if state else None)

    def inherit(self, state: Mapping[str, Any]) -> None:
        """Goes on with the time and the history of the process that wrote a state."""
        self.spent = tuple(state["seconds"])
        self.history = {**state["history"], "rollbacks": list(state["history"]["rollbacks"])}

    def write_best(self) -> None:
        """Writes the weights of the best evaluation, if that is news."""
        if not self.best.is_written:
            self.writer.write_best(self.best.weights)
            self.best.is_written = True

    def _seconds(self) -> tuple[float, float]:
        """By the clock and by the processor, since the run was started, while there was a process."""
        now = time.monotonic(), time.process_time()
        wall, cpu = (spent + new - old for spent, new, old in zip(self.spent, now, self.began, strict=True))
        return wall, cpu

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminal.stop_progress(self.progress)
        with self.deferred():
            problem = self._close(error)
        if error is None and problem is not None:
            raise problem

    def _close(self, error: BaseException | None) -> BaseException | None:
        """Writes everything down, each step whatever becomes of the others; returns what went wrong first."""
        problems = [error] if error else []

        def attempt(*steps: Callable[[], object]) -> None:
            for step in steps:
                try:
                    step()
                except BaseException as problem:
                    problems.append(problem)

        def summarise() -> None:
            self.writer.write_summary(self._summary(problems[0] if problems else None))

        if self.resuming and not self.has_begun:  # what is there from before stays as it was
            attempt(self.writer.close, lambda: self._explain(problems))
            return None
        attempt(self._write_rows)
        if type(error) is not KeyboardInterrupt:  # a second Ctrl-C: no time for more
            weights = self.best.weights if self.scored[0] == "best" else self.components.network.state_dict()
            attempt(lambda: self.writer.write_weights(weights), self.write_best)
            if self.frames:
                attempt(
                    lambda: self.writer.write_snapshots(arrays.snapshots_of(self.frames, self.components.task.kind))
                )
        attempt(summarise)
        if self.tensorboard:
            attempt(self.tensorboard.close)
        if self.components.settings.plots.draw and not any(type(one) is KeyboardInterrupt for one in problems):
            sound = len(problems)
            attempt(lambda: plots.draw(self.directory))
            if len(problems) > sound == 0:
                attempt(summarise)  # it is not finished after all
        attempt(self.writer.close, lambda: self._say_goodbye(problems))
        return problems[0] if problems else None

    def _explain(self, problems: Sequence[BaseException]) -> None:
        self.terminal.insist()
        status = _status(problems[0] if problems else None)
        for error in problems:
            if isinstance(error, UserError):
                for problem in error.problems:
                    self.terminal.say(problem)
                error.shown = True
            elif not isinstance(error, KeyboardInterrupt | SystemExit):
                self.terminal.say(f"{status}: {_reason(error)}")

    def _say_goodbye(self, problems: Sequence[BaseException]) -> None:
        self._explain(problems)
        status = _status(problems[0] if problems else None)
        self.terminal.closing(self.scores)
        if self.scores and self.scored[0] == "best":
            self.terminal.say(
                f"scored: best evaluation ({self.best.metric} {self.best.value:.4g}), at update {self.scored[1]:,}"
            )
        elif self.scores:
            self.terminal.say(f"scored: last weights, at update {self.scored[1]:,}")
        if self.first_ten:
            self.terminal.say(self.first_ten)
        updates = f"{self.progress.updates:,} update{'s' * (self.progress.updates != 1)}"
        seconds = self.progress.train_seconds
        spent = f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"
        self.terminal.say(f"{status} after {updates}, {spent}")
        self.terminal.say_path(relative(self.directory))
        if status in ("interrupted", "failed"):
            self.terminal.say("go on with:")
            self.terminal.say_path(resume_command(relative(self.directory), self.values))
        self.terminal.close()

    def _facts(self) -> dict[str, str]:
        components, model = self.components, self.values["model"]
        parameters = sum(parameter.numel() for parameter in components.network.parameters())
        size = f"{model['hidden_size']} hidden units · " if "hidden_size" in model else ""
        facts = {
            "model": f"{size}{model['head']} head · {parameters:,} parameters",
            "optimizer": f"{self.values['optimizer']['name']} · lr {self.values['optimizer']['lr']:g} · "
            f"{components.schedule.lr_decay}",
            "schedule": components.schedule.describe(),
            "length": f"{components.schedule.epochs:,} epoch{'s' * (components.schedule.epochs > 1)} · "
            f"{self.progress.planned_updates:,} updates",
            "device": f"{device.describe(components.context.device)} · {components.settings.precision} · "
            f"seed {components.settings.seed}",
            "results": relative(self.directory),
        }
        note = getattr(components.task, "data_note", None)
        return {"data": note, **facts} if note else facts

    def _notes(self, schedule: Schedule, longest: int, streams: int) -> list[str]:
        notes = []
        if schedule.window and schedule.window > longest:
            notes.append(
                f"schedule.window={schedule.window} is longer than the sequences of {longest} timesteps: "
                "gradients reach back to the start of each sequence"
            )
        if streams < schedule.streams:
            notes.append(f"schedule.streams={schedule.streams}: the task has sequences for {streams}")
        best = self.components.settings.checkpoint.best
        chosen = {
            f"best.safetensors (checkpoint.best={best})": best is not None,
            f"the end of training (schedule.patience={schedule.patience})": schedule.patience is not None,
            "the learning rate (schedule.lr_decay=plateau)": schedule.lr_decay == "plateau",
        }
        by_test = [name for name, is_chosen in chosen.items() if is_chosen]
        if getattr(self.components.task, "validation_is_test", False) and by_test:
            notes.append(
                f"validation data is test data here, and chooses {' and '.join(by_test)}: test scores of what it "
                "chooses are too good"
            )
        return notes

    def _test(self) -> dict[str, float]:
        return next(iter(self.scores.values()), {})

    def _summary(self, error: BaseException | None, status: str | None = None) -> dict[str, Any]:
        components, progress = self.components, self.progress
        wall, cpu = self._seconds()
        return {
            "status": status or _status(error),
            "problem": _reason(error) if error else None,
            "experiment": self.experiment,
            "task": self.values["task"]["name"],
            "model": self.values["model"]["name"],
            "kind": components.task.kind,
            "loss": components.task.loss,
            "input_size": components.task.input_size,
            "output_size": components.task.output_size,
            "parameters": sum(parameter.numel() for parameter in components.network.parameters()),
            "data_note": getattr(components.task, "data_note", None),
            "smoke": components.settings.smoke,
            "seed": components.settings.seed,
            "device": device.describe(components.context.device),
            "precision": components.settings.precision,
            "threads": torch.get_num_threads(),
            "planned_updates": progress.planned_updates,
            "position": progress.position,
            "updates": progress.updates,
            "timesteps": progress.timesteps,
            "epochs": progress.epoch + 1,
            "stopped_early": progress.stopped_early,
            "train_seconds": progress.train_seconds,
            "evaluate_seconds": progress.evaluate_seconds,
            "wall_seconds": wall,
            "cpu_seconds": cpu,
            **self.history,
            "job": provenance.scheduler_job(),
            "train_loss": progress.train_loss,
            "validation": progress.evaluation,
            "best_validation_loss": progress.best_loss,
            "scored": self.scored[0],
            "scored_updates": self.scored[1],
            "best": {"metric": self.best.metric, "value": self.best.value, "updates": self.best.updates},
            "test": self._test(),
            "baselines": dict(list(self.scores.items())[1:]),
            "versions": provenance.versions(),
            "git_revision": provenance.git_revision(),
        }


def relative(path: Path) -> str:
    """As short as it can be said from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _status(error: BaseException | None) -> str:
    match error:
        case None:
            return "finished"
        case Diverged():
            return "diverged"
        case KeyboardInterrupt() | SystemExit():  # a scheduler's handler may end the process
            return "interrupted"
        case _:
            return "failed"


def _reason(error: BaseException) -> str:
    """For people: what went wrong."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or repr(error)
