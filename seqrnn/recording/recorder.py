"""Records a run: ties together the terminal, the run directory and the pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import Any

import numpy as np

from seqrnn import evaluation, plots
from seqrnn.components import Components
from seqrnn.errors import Diverged, UserError, explained, reason_of
from seqrnn.evaluation import Predictions
from seqrnn.forecasting.report import Report
from seqrnn.monitor import Monitor, Progress, Row
from seqrnn.plots import helper
from seqrnn.recording import arrays, header
from seqrnn.recording.best import Best
from seqrnn.recording.conclusion import early_stop, shortfall
from seqrnn.recording.header import relative
from seqrnn.recording.summary import classes_of, headline_of, status_of, summarise
from seqrnn.recording.terminal import Terminal
from seqrnn.recording.tracking import Tracking
from seqrnn.rundir.reader import RunReader
from seqrnn.rundir.request import RunRequest, diagnosis_command, drawing_command, resume_command
from seqrnn.rundir.writer import RunWriter
from seqrnn.tasks.checks import check_baseline_names

WRITE_EVERY = 1.0  # seconds: how long rows wait at most before they are written
FIRST = 10  # classified sequences whose classes are printed


class Recorder:
    """Records one run. However its ``with`` block is left, the directory is complete as far as the run got: metrics,
    weights, a summary with its status, and pictures. A picture that cannot be drawn does not change the status.

    Args:
        components: the config and the objects of the run.
        request: the run directory, and whether the run is resumed.
        deferred: a context in which a signal waits until everything is written.
        draws: whether the pictures are drawn at the end; if not, they are left to ``seqrnn.plots.helper``.
        quiet: whether nothing is printed; the log holds it nevertheless.
    """

    def __init__(
        self,
        components: Components,
        request: RunRequest,
        deferred: Callable[[], AbstractContextManager[None]] = nullcontext,
        *,
        draws: bool = True,
        quiet: bool = False,
    ) -> None:
        self.draws, self.draws_later = (components.settings.plots.draw and now for now in (draws, not draws))
        self.values, self.components = components.values, components
        self.directory, self.resuming = request.directory, request.resuming
        self.writer = RunWriter(
            request.directory,
            components.values,
            request.overrides,
            resuming=request.resuming,
            lock_timeout=request.lock_timeout,
        )
        overrides = RunReader(request.directory).overrides() if request.resuming else request.overrides
        self.experiment = next((text.partition("=")[2] for text in overrides if text.startswith("experiment=")), None)
        self.deferred, self.has_begun = deferred, False
        self.tracking: Tracking | None = None
        self.best = Best(components.network, components.settings.checkpoint.best, components.task)
        self.terminal = Terminal(self.writer.log_path, headline_of(components.task), quiet)
        self.progress = Progress(0)
        self.unwritten: list[Row] = []
        self.last_written = -WRITE_EVERY
        self.frame_every = 0
        self.animated: list[arrays.FirstSequences] = []
        self.frames: list[tuple[int, Predictions]] = []
        self.scores: dict[str, dict[str, float]] = {}
        self.validation_baselines: dict[str, dict[str, float]] = {}
        self.first_classes = ""
        self.report: Report | None = None
        self.began = time.monotonic(), time.process_time()
        self.seconds_before = 0.0, 0.0  # by the clock and by the processor, in the processes before this one
        self.history: dict[str, Any] = {"resumed": 0, "rollbacks": [], "init_from": None}

    def begin(self, monitor: Monitor, notes: Sequence[str] = ()) -> None:
        """Prints what is about to run and ``notes``, and writes what is known before the training."""
        self.progress, self.has_begun = monitor.progress, True
        if self.resuming:
            self.writer.write_config(self.values)
        components, settings = self.components, self.components.settings
        self.tracking = Tracking(
            self.directory,
            self.values,
            headline_of(components.task),
            self.progress.timesteps if self.resuming else None,
            self.terminal.print,
        )
        if settings.plots.animation:
            self.frame_every = -(-self.progress.planned_updates // settings.plots.frames)
            monitor.end_blocks_at_multiples_of(self.frame_every)
            self.animated = [arrays.FirstSequences(components.task.test()[0], components.task.kind)]
        self.terminal.header(
            header.title(components, self.experiment),
            header.facts(components, self.progress.planned_updates, self.directory),
        )
        for note in header.notes(components):
            self.terminal.print(f"  note: {note}")
        for note in notes:
            self.terminal.print(f"  {note}")
        self.validation_baselines = evaluation.score_baselines_on(
            components.task.validation(), components.task, components.loss, components.context
        )
        check_baseline_names(self.validation_baselines, self.values)
        self._write_summary("running")
        documents = getattr(components.task, "documents", None)
        for name, document in documents().items() if documents else ():
            self.writer.write_document(name, document)
        if components.task.kind == "classification" and not getattr(components.task, "picture", None):
            batches = components.task.train(0, components.schedule.streams)
            self.writer.write_samples(arrays.samples(batches[0]))
            if self.draws:
                with suppress(Exception):  # it is drawn again at the end, and reported then
                    plots.draw_samples(self.directory)

    def record(self, row: Row) -> None:
        """Takes a row of metrics. Writing one takes as long as many updates, so they are written once a second, in
        whole lines; a run that is killed loses those of its last second."""
        self.best.consider(row)
        self.unwritten.append(row)
        self._write_rows_if_due()

    def observe(self, progress: Progress) -> None:
        """Shows how far the run is, and takes a frame of the animation when one is due. Called after each block of
        updates."""
        self.terminal.progress(progress)
        if self.unwritten:
            self._write_rows_if_due()
        if self.frame_every:
            is_last = progress.position == progress.planned_updates
            if is_last or progress.position % self.frame_every == 0:
                predictions = evaluation.predict(self.components.network, self.animated, self.components.context)
                self.frames.append((progress.timesteps, predictions))

    def _write_rows_if_due(self) -> None:
        if time.monotonic() >= self.last_written + WRITE_EVERY:
            self._write_rows()

    def _write_rows(self) -> None:
        rows, self.unwritten = self.unwritten, []
        for row in rows:
            self.writer.record(row)
            if any(key.startswith("eval_") and value is not None for key, value in row.items()):
                self.terminal.log_evaluation(row)
        self.writer.flush()
        self.terminal.flush()
        if self.tracking and rows:
            self.tracking.record(rows)
        self.last_written = time.monotonic()

    @property
    def scored(self) -> tuple[str, int]:
        """The weights that are scored and saved, ``best`` or ``last``, and the number of updates that made them."""
        if self.components.schedule.keeps_best and self.best.weights:
            return "best", self.best.updates
        return "last", self.progress.updates

    def load_scored_weights(self) -> None:
        """Loads the weights that are scored and saved into the trained network."""
        if self.scored[0] == "best":
            self.components.network.load_state_dict(self.best.weights)

    def finish(self, predictions: Predictions) -> float:
        """Takes the trained network's predictions on the test data; returns their loss.

        Raises:
            Diverged: the test loss is NaN or infinite.
        """
        self._write_rows()
        task, loss = self.components.task, self.components.loss
        self.scores = {
            self.values["model"]["name"]: evaluation.score(predictions, task, loss),
            **evaluation.score_baselines(predictions, task, loss),
        }
        if task.kind == "classification":
            first = tuple(np.argwhere(predictions.valid.T)[:FIRST, ::-1].T)  # in the order of the first sequences
            outputs, targets = predictions.outputs[first], predictions.targets[first]
            names = classes_of(task) or [str(number) for number in range(task.output_size)]
            predicted, real = (", ".join(names[n] for n in numbers) for numbers in (outputs.argmax(axis=-1), targets))
            self.first_classes = f"first ten: predicted {predicted}, real {real}"
        generated = evaluation.generate(self.components.network, task, self.components.context)
        self.writer.write_predictions({**arrays.predictions_of(predictions, task.kind), **generated})
        test_loss = self._test_scores()["loss"]
        if not np.isfinite(test_loss):
            raise Diverged(f"diverged: the test loss is {test_loss}")
        self._report(predictions)
        return test_loss

    def _report(self, test: Predictions) -> None:
        """Takes and writes the task's report, if it makes one."""
        task, network = self.components.task, self.values["model"]["name"]
        report_on = getattr(task, "report", None)
        if report_on is None:
            return
        validation = evaluation.predict(self.components.network, task.validation(), self.components.context)
        self.report = report_on(
            *({network: made, **dict(evaluation.predict_baselines(made, task))} for made in (validation, test))
        )
        if self.report is not None:
            self.writer.write_forecast(self.report.arrays, self.report.intervals)
            self.scores = {name: {**scores, **self.report.scores[name]} for name, scores in self.scores.items()}

    def state(self, durable: bool) -> dict[str, Any]:
        """Returns what has been recorded, for a checkpoint, from which ``rewind`` and ``restore_history`` continue.

        Args:
            durable: whether the metrics so far must survive a power failure.
        """
        self._write_rows()
        return {
            "metrics": self.writer.position(durable),
            "frames": arrays.packed(self.frames),
            "best": self.best.state(),
            "seconds": list(self._seconds()),
            "history": self.history,
        }

    def rewind(self, state: Mapping[str, Any] | None) -> list[str]:
        """Removes what was recorded after ``state``; None: everything. Returns a line for each file that lacks
        something from before."""
        self.unwritten = []
        self.frames = arrays.unpacked(state["frames"]) if state else []
        if state:
            self.best.restore(state["best"])
        if self.tracking:  # a rollback; at the beginning of a resumed run, there is none yet
            self.tracking.rewind(self.progress.timesteps)
        return self.writer.rewind(state["metrics"] if state else None)

    def restore_history(self, state: Mapping[str, Any]) -> None:
        """Continues the times and the history of the process that wrote ``state``."""
        self.seconds_before = tuple(state["seconds"])
        self.history = {**state["history"], "rollbacks": list(state["history"]["rollbacks"])}

    def write_best(self) -> None:
        """Writes the weights of the best evaluation, if they have changed since they were written."""
        if not self.best.is_written:
            self.writer.write_best(self.best.weights)
            self.best.is_written = True

    def _seconds(self) -> tuple[float, float]:
        """Returns the time of all processes of the run, by the clock and by the processor."""
        now = time.monotonic(), time.process_time()
        wall, cpu = (old + end - begin for old, end, begin in zip(self.seconds_before, now, self.began, strict=True))
        return wall, cpu

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminal.stop_progress(self.progress)
        with self.deferred():
            first = self._close(error)
        if first is not None and first is not error:
            raise first from error

    def _close(self, error: BaseException | None) -> BaseException | None:
        """Writes everything that is left, each step even if others fail; returns the first error, explained."""
        errors = [explained(error, self.directory)] if error else []

        def attempt(step: Callable[[], object]) -> None:
            try:
                step()
            except BaseException as problem:
                found = explained(problem, self.directory)
                if str(found) not in map(str, errors):  # one cause may make all steps fail
                    errors.append(found)

        if self.resuming and not self.has_begun:  # what an earlier process has written stays as it was
            attempt(self.writer.close)
            self._print_errors(errors)
            return errors[0] if errors else None
        attempt(self._write_rows)
        if type(error) is not KeyboardInterrupt:  # the second Ctrl-C: its user does not want to wait
            weights = self.best.weights if self.scored[0] == "best" else self.components.network.state_dict()
            attempt(lambda: self.writer.write_weights(weights))
            attempt(self.write_best)
            if self.frames:
                kind = self.components.task.kind
                attempt(lambda: self.writer.write_snapshots(arrays.snapshots_of(self.frames, kind)))
        reasons = [reason_of(errors[0])] if errors else []
        pending = [helper.pending_line(self.directory)] if self.draws_later else []
        attempt(lambda: self._write_summary(status_of(errors[0] if errors else None), [*reasons, *pending]))
        status = status_of(errors[0] if errors else None)
        if self.tracking:
            self.tracking.close(status, self._test_scores())
        not_drawn: list[str] = []
        if self.draws and not any(type(one) is KeyboardInterrupt for one in errors):
            try:
                not_drawn = helper.draw_or_explain(self.directory)
            except BaseException as interruption:  # the results are complete: only the exit code tells of it
                errors.append(interruption)
        if not_drawn:
            attempt(lambda: self._write_summary(status, [*reasons, *not_drawn]))
        is_in_place = self.writer.is_in_place
        attempt(self.writer.close)
        attempt(lambda: self._print_result(status, errors, not_drawn, is_in_place))
        return errors[0] if errors else None

    def _print_errors(self, errors: Sequence[BaseException]) -> None:
        self.terminal.ignore_log_errors()
        for error in errors:
            if isinstance(error, UserError):
                for problem in error.problems:
                    self.terminal.print(problem)
                error.shown = True
            elif not isinstance(error, KeyboardInterrupt | SystemExit):
                self.terminal.print(f"{status_of(errors[0])}: {reason_of(error)}")

    def _print_result(
        self, status: str, errors: Sequence[BaseException], not_drawn: Sequence[str], is_in_place: bool
    ) -> None:
        """Prints how the run ended; where its directory does not lie any more, no line that names it."""
        self._print_errors(errors)
        self.terminal.print_scores(self.scores, self.components.task.loss)
        if self.scores and self.scored[0] == "best":
            self.terminal.print(
                f"scored: best evaluation ({self.best.metric} {self.best.value:.4g}), at update {self.scored[1]:,}"
            )
        elif self.scores:
            self.terminal.print(f"scored: last weights, at update {self.scored[1]:,}")
        if self.first_classes:
            self.terminal.print(self.first_classes)
        if self.report:
            for line in (self.report.coverage_line, *self.report.coverage_notes):
                self.terminal.print(line)
        updates = f"{self.progress.updates:,} update{'s' * (self.progress.updates != 1)}"
        seconds = self.progress.train_seconds
        duration = f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"
        reason = f": {early_stop(self.components.schedule)}" if self.progress.stopped_early else ""
        self.terminal.print(f"{status} after {updates}, {duration}{reason}")
        directory = relative(self.directory)
        if not is_in_place:
            self.terminal.print(f"no longer there: {directory}")
            self.terminal.close()
            return
        if not_drawn:
            for problem in not_drawn:
                self.terminal.print(f"could not be drawn: {problem}")
            self.terminal.print("draw the pictures with:")
            self.terminal.print_path(drawing_command(directory))
        self.terminal.print_path(directory)
        if status in ("interrupted", "failed"):
            self.terminal.print("resume with:")
            self.terminal.print_path(resume_command(directory, self.values))
        if self.report and self.report.verdict:
            self.terminal.print(self.report.verdict)
        elif status == "finished" and not self.components.settings.smoke:
            self._print_shortfall(directory)
        self.terminal.close()

    def _print_shortfall(self, directory: str) -> None:
        sentence = shortfall(self.scores, self.components.task, self.terminal.metric)
        if sentence is not None:
            self.terminal.print(f"{sentence}; find out why:")
            self.terminal.print_path(diagnosis_command(directory, self.values))

    def _test_scores(self) -> dict[str, float]:
        return next(iter(self.scores.values()), {})

    def _write_summary(self, status: str, problems: Sequence[str] = ()) -> None:
        wall, cpu = self._seconds()
        measured = {
            "experiment": self.experiment,
            "wall_seconds": wall,
            "cpu_seconds": cpu,
            **self.history,
            "scored": self.scored[0],
            "scored_updates": self.scored[1],
            "best": {"metric": self.best.metric, "value": self.best.value, "updates": self.best.updates},
            "validation_baselines": self.validation_baselines,
            "test": self._test_scores(),
            "baselines": dict(list(self.scores.items())[1:]),
            **({"forecast": self.report.summary} if self.report else {}),
        }
        self.writer.write_summary(summarise(self.components, self.progress, status, problems, measured))
