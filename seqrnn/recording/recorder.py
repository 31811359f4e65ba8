"""What a run says while it lasts and leaves behind: ties together terminal, run directory and pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from seqrnn import device, loop, plots
from seqrnn.errors import Diverged, UserError
from seqrnn.loop import Predictions
from seqrnn.monitor import Monitor, Progress, Row
from seqrnn.recording import kept, provenance
from seqrnn.recording.tensorboard import TensorBoard
from seqrnn.recording.terminal import Terminal
from seqrnn.run import Run
from seqrnn.schedule import Schedule, distinct
from seqrnn.settings import Experiment

WRITE_EVERY = 1.0  # seconds: rows wait so long at most while updates go on
SHOWN_METRIC = {"regression": "mae", "classification": "accuracy"}


class Recorder:
    """Writes down one run. However its ``with`` block is left, the directory is complete as far as the run got:
    metrics, weights, a summary with its status, and pictures.

    Args:
        directory: the run directory.
        experiment: the config and the objects of the run.
        overrides: what the command line said.
    """

    def __init__(self, directory: Path, experiment: Experiment, overrides: Sequence[str]) -> None:
        self.values, self.experiment = experiment.values, experiment
        self.directory = directory
        self.recipe = next((text.partition("=")[2] for text in overrides if text.startswith("experiment=")), None)
        self.run = Run(directory, experiment.values, overrides)
        self.tensorboard = TensorBoard(directory) if experiment.settings.logger == "tensorboard" else None
        self.terminal = Terminal(self.run.log_path, SHOWN_METRIC[experiment.task.kind])
        self.progress = Progress(0)
        self.rows: list[Row] = []  # not written yet
        self.written = -WRITE_EVERY
        self.frame_every = 0
        self.shown: list[kept.FirstSequences] = []
        self.frames: list[tuple[int, Predictions]] = []
        self.scores: dict[str, dict[str, float]] = {}
        self.first_ten = ""
        self.began = time.time(), time.process_time()

    def begin(self, monitor: Monitor) -> None:
        """Says what is about to run."""
        self.progress = monitor.progress
        settings, schedule = self.experiment.settings, self.experiment.schedule
        if settings.plots.animation:
            self.frame_every = -(-self.progress.planned_updates // settings.plots.frames)
            monitor.stops.append(self.frame_every)
            self.shown = [kept.FirstSequences(self.experiment.task.test()[0], self.experiment.task.kind)]
        name = f"{self.values['task']['name']} with {self.values['model']['name']}"
        self.terminal.header(f"{name} ({self.recipe})" if self.recipe else name, self._facts())
        batches = self.experiment.task.train(0, schedule.streams)
        for note in self._notes(schedule, max(batch.timesteps for batch, _ in distinct(batches)), batches[0].streams):
            self.terminal.say(f"  note: {note}")
        self.run.write_summary(self._summary("running", None))
        if self.experiment.task.kind == "classification":
            self.run.write_samples(kept.samples(batches[0]))
            if settings.plots.draw:
                plots.draw_samples(self.directory)

    def record(self, row: Row) -> None:
        """Takes a row of metrics. Writing one takes as long as many updates, so they are written once a second, in
        whole lines; a run that is killed loses those of its last second."""
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
                predictions = loop.predict(self.experiment.network, self.shown, self.experiment.place)
                self.frames.append((progress.timesteps, predictions))

    def _write_if_due(self) -> None:
        if time.monotonic() >= self.written + WRITE_EVERY:
            self._write_rows()

    def _write_rows(self) -> None:
        rows, self.rows = self.rows, []
        for row in rows:
            self.run.record(row)
            if self.tensorboard:
                self.tensorboard.record(row)
            if any(key.startswith("eval_") and value is not None for key, value in row.items()):
                self.terminal.evaluated(row)
        self.run.flush()
        self.terminal.flush()
        self.written = time.monotonic()

    def finish(self, predictions: Predictions) -> float:
        """Takes the trained network's predictions on the test data; returns their loss."""
        self._write_rows()
        task, loss = self.experiment.task, self.experiment.loss
        self.scores = {
            self.values["model"]["name"]: loop.score(predictions, task, loss),
            **loop.score_baselines(predictions, task, loss),
        }
        if task.kind == "classification":
            outputs, targets = (values[:10] for values in predictions.judged())
            predicted = " ".join(str(label) for label in outputs.argmax(axis=-1))
            self.first_ten = f"first ten: predicted {predicted}, real {' '.join(str(label) for label in targets)}"
        self.run.write_predictions(kept.predictions_of(predictions, task.kind))
        test_loss = self._test()["loss"]
        if not np.isfinite(test_loss):
            raise Diverged(f"diverged: the test loss is {test_loss}")
        return test_loss

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = _status(error)
        self.terminal.stop_progress(self.progress)
        with ExitStack() as steps:  # from the last to the first, each whatever becomes of the others
            steps.callback(self._say_goodbye, status, error)
            steps.callback(self.run.close)
            if self.experiment.settings.plots.draw:
                steps.callback(plots.draw, self.directory)
            if self.tensorboard:
                steps.callback(self.tensorboard.close)
            steps.callback(self.run.write_summary, self._summary(status, error))
            if self.frames:
                steps.callback(self.run.write_snapshots, kept.snapshots_of(self.frames, self.experiment.task.kind))
            steps.callback(self.run.write_weights, self.experiment.network.state_dict())
            steps.callback(self._write_rows)

    def _say_goodbye(self, status: str, error: BaseException | None) -> None:
        if isinstance(error, UserError):
            for problem in error.problems:
                self.terminal.say(problem)
            error.shown = True
        elif error is not None and not isinstance(error, KeyboardInterrupt):
            self.terminal.say(f"{status}: {error!r}")
        self.terminal.closing(self.scores)
        if self.first_ten:
            self.terminal.say(self.first_ten)
        updates = f"{self.progress.updates:,} update{'s' * (self.progress.updates != 1)}"
        seconds = self.progress.train_seconds
        spent = f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"
        self.terminal.say(f"{status} after {updates}, {spent}")
        self.terminal.say_path(relative(self.directory))
        self.terminal.close()

    def _facts(self) -> dict[str, str]:
        experiment, model = self.experiment, self.values["model"]
        parameters = sum(parameter.numel() for parameter in experiment.network.parameters())
        size = f"{model['hidden_size']} hidden units · " if "hidden_size" in model else ""
        facts = {
            "model": f"{size}{model['head']} head · {parameters:,} parameters",
            "optimizer": f"{self.values['optimizer']['name']} · lr {self.values['optimizer']['lr']:g} · "
            f"{experiment.schedule.lr_decay}",
            "schedule": experiment.schedule.describe(),
            "length": f"{experiment.schedule.epochs:,} epoch{'s' * (experiment.schedule.epochs > 1)} · "
            f"{self.progress.planned_updates:,} updates",
            "device": f"{device.describe(experiment.place.device)} · {experiment.settings.precision} · "
            f"seed {experiment.settings.seed}",
            "results": relative(self.directory),
        }
        note = getattr(experiment.task, "data_note", None)
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
        return notes

    def _test(self) -> dict[str, float]:
        return next(iter(self.scores.values()), {})

    def _summary(self, status: str, error: BaseException | None) -> dict[str, Any]:
        experiment, progress = self.experiment, self.progress
        return {
            "status": status,
            "problem": str(error) or repr(error) if error else None,
            "experiment": self.recipe,
            "task": self.values["task"]["name"],
            "model": self.values["model"]["name"],
            "kind": experiment.task.kind,
            "loss": experiment.task.loss,
            "input_size": experiment.task.input_size,
            "output_size": experiment.task.output_size,
            "parameters": sum(parameter.numel() for parameter in experiment.network.parameters()),
            "data_note": getattr(experiment.task, "data_note", None),
            "smoke": experiment.settings.smoke,
            "seed": experiment.settings.seed,
            "device": device.describe(experiment.place.device),
            "precision": experiment.settings.precision,
            "threads": torch.get_num_threads(),
            "planned_updates": progress.planned_updates,
            "position": progress.position,
            "updates": progress.updates,
            "timesteps": progress.timesteps,
            "epochs": progress.epoch + 1,
            "stopped_early": progress.stopped_early,
            "train_seconds": progress.train_seconds,
            "evaluate_seconds": progress.evaluate_seconds,
            "wall_seconds": time.time() - self.began[0],
            "cpu_seconds": time.process_time() - self.began[1],
            "train_loss": progress.train_loss,
            "validation": progress.evaluation,
            "best_validation_loss": progress.best_loss,
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
        case KeyboardInterrupt():
            return "interrupted"
        case _:
            return "failed"
