"""A treatment: a run is diagnosed, the advice is followed at full length, and what is better is diagnosed in turn.

What is better is decided by the loss on the validation data, with the weights that a run is tested with; between runs
that are trained by different losses, by the mean absolute error. Each training is a run of its own, in a numbered
directory beside the run that is treated; nothing is overwritten, and a treatment that is repeated continues from the
best of the runs that are there.

The time is spent where it is expected to bring most. What is better is made longer at once, as long as that helps and
takes no more time than a diagnosis would: a training at full length shows more than trials at a part of it. A second
diagnosis of the same run continues from the measurements and trials of the first; and what had no effect in earlier
trials is no suspect in later diagnoses, unless the run itself shows the fault.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from seqrnn import metrics
from seqrnn.clock import working_seconds
from seqrnn.diagnosis.command_line import command, lengthened, overrides_of
from seqrnn.diagnosis.diagnosis import Verdict
from seqrnn.diagnosis.instruments.losses import METRIC
from seqrnn.diagnosis.intervals import Interval, number
from seqrnn.diagnosis.remedies import learning_rate
from seqrnn.diagnosis.run_findings import is_overtrained
from seqrnn.diagnosis.session import Earlier, diagnose_run
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import Trial, changed
from seqrnn.errors import DataError, Diverged, UserError, printable
from seqrnn.monitor import Progress
from seqrnn.rundir.lock import refuse_links
from seqrnn.rundir.names import SUMMARY
from seqrnn.rundir.reader import RunReader
from seqrnn.rundir.request import RunRequest
from seqrnn.training import validation_scorer

SECONDS = 300.0
DIAGNOSING, LONGEST = 0.3, 0.6  # of the time left, for a diagnosis; for one after which nothing has helped
SHORTEST = 10.0  # seconds, below which no diagnosis is made
BETTER = 0.98  # of the validation loss: what is kept must be lower than that
FACTORS = (4.0, 2.0)  # times the length, of a run that is made longer: the first one for which there is time
WORTH_MORE = 0.9  # of the validation loss: what a longer run must bring to be made still longer
ATTEMPTS = 4  # trainings after a diagnosis: the advice, and the best single remedies
TIME_OVER = "the time was over; allow more with --seconds"


class _TimeIsOver(Exception):
    """A training has continued beyond the end of the treatment."""


@dataclass(frozen=True)
class Step:
    """A run of the treatment.

    Args:
        change: the overrides that it adds to those of an earlier one.
        trained_by: the name of its loss.
        scores: on the validation data; empty if it diverged.
        tested: scores on the test data.
        seconds: of its training.
    """

    directory: Path
    change: Sequence[str]
    trained_by: str
    scores: Mapping[str, float]
    tested: Mapping[str, float]
    seconds: float

    @property
    def loss(self) -> float:
        """The loss on the validation data; infinite if it diverged."""
        return self.score("loss")

    def score(self, measure: str) -> float:
        """Returns an error on the validation data; infinite if it diverged."""
        return self.scores.get(measure, math.inf)

    def relative_to(self, other: Step) -> float:
        """Returns the validation loss by that of another run; errors where they are trained by different losses."""
        measure = _measure([self, other])
        return self.score(measure) / max(other.score(measure), 1e-30)


@dataclass
class Treatment:
    """
    Args:
        directory: of the run that is treated.
        make_run: makes the run of a request; calls a function with its progress after each evaluation.
        seconds: about how long the treatment takes.
        plugins: modules to import that the run needs.

    Attributes:
        steps: all runs, the one that is treated first.
        kept: those of them that were better than all before.
    """

    directory: Path
    make_run: Callable[[RunRequest, Callable[[Progress], None]], object]
    seconds: float = SECONDS
    plugins: Sequence[str] = ()
    console: Console = field(default_factory=Console)

    def __post_init__(self) -> None:
        self.began = working_seconds()
        own = self.directory.resolve()
        self.folder = own.parent / f"{own.name}-treated"
        self.steps: list[Step] = []
        self.kept: list[Step] = []
        self._kind = ""  # of the task
        self._trained: set[str] = set()  # command lines

    @property
    def remaining(self) -> float:
        """Seconds that are left."""
        return self.began + self.seconds - working_seconds()

    def treat(self) -> None:
        """Treats the run, and prints what was tried, the best run, and the line that makes it. These are
        also printed where it ends by an error or an interruption.

        Raises:
            UserError: it is no run directory, or something in it is damaged, or it cannot be written to.
            KeyboardInterrupt: the user interrupted the treatment.
        """
        self._add(self.directory, ["(as it was)"])
        for earlier in self._earlier():
            try:
                self._add(earlier, ["(earlier treatment)"])
            except UserError as error:
                self._print(f"left out: {'; '.join(error.problems)}")
        reason = "it failed"
        try:
            reason = self._rounds()
        except KeyboardInterrupt:
            reason = "it was interrupted"
            raise
        finally:
            self._show(reason)

    def _rounds(self) -> str:
        """Diagnoses, and trains what the diagnosis recommends, until nothing helps; returns why it ended."""
        share, earlier = DIAGNOSING, Earlier()
        while self.remaining > SHORTEST:
            before = self.kept[-1]
            run = TrainedRun(before.directory, self.plugins)
            run.announce = cache(self._print)
            with self.console.status("") as status:

                def announce(text: str) -> None:
                    status.update(f"diagnosing: {text} …")

                verdict, followed = diagnose_run(run, max(SHORTEST, share * self.remaining), announce, earlier)
            self._print(f"{_shown(before.directory)}: {_cause(verdict)}")
            if verdict.solved:
                return "nothing is left to be mended"
            new = [trial for trial in followed if _line(run, trial) not in self._trained]
            fitting = [trial for trial in new if before.seconds * trial.cost <= self.remaining]
            try:
                for trial in fitting[:ATTEMPTS]:
                    self._train(run, trial)
                    if self.kept[-1] is not before:
                        break
                self._lengthen(DIAGNOSING if self.kept[-1] is not before else 1.0)
            except _TimeIsOver:
                return TIME_OVER
            if self.kept[-1] is not before:
                share, earlier = DIAGNOSING, Earlier(refuted=earlier.refuted)
            elif new and not fitting:
                return TIME_OVER
            elif share < LONGEST:
                share = LONGEST  # trials are longer where there is more time for them
            else:
                return f"no {'other ' * bool(self._trained)}remedy helped"
        return TIME_OVER

    def _lengthen(self, share: float) -> None:
        """Trains the best run for longer, as long as that helps.

        Args:
            share: of the time left, that each training may take.

        Raises:
            _TimeIsOver: the time was over before one finished.
        """
        while True:
            before = self.kept[-1]
            run = TrainedRun(before.directory, self.plugins)
            fitting = [factor for factor in FACTORS if factor * before.seconds <= share * self.remaining]
            if not fitting or learning_rate(run) is None or is_overtrained(run):
                return
            longer = _longer(fitting[0])
            if _line(run, longer) in self._trained:
                return
            self._train(run, longer)
            if not self.kept[-1].relative_to(before) < WORTH_MORE:
                return

    def _train(self, run: TrainedRun, trial: Trial) -> None:
        """Trains with a remedy, in a new directory.

        Raises:
            _TimeIsOver: the time was over before it finished.
        """
        change = lengthened(trial.change, trial.length, run)
        line = _line(run, trial)
        self._trained.add(line)
        words = shlex.split(line)[3:]
        directory = self._new_directory()
        self._print(f"  training with {' '.join(overrides_of(change, run))}")

        def check(progress: Progress) -> None:
            if self.remaining < 0:
                raise _TimeIsOver

        values = {**changed(run.values, change), "diagnose": False, "resume": None}
        began = working_seconds()
        with self.console.status("training …"):
            try:
                self.make_run(RunRequest(values, directory, words), check)
            except Diverged:
                loss = str(values["task"].get("loss", run.components.task.loss))
                self.steps.append(Step(directory, overrides_of(change, run), loss, {}, {}, working_seconds() - began))
                return
        self._add(directory, overrides_of(change, run))

    def _add(self, directory: Path, change: Sequence[str]) -> None:
        """Adds a finished run, and keeps it if it is better than all before."""
        run = TrainedRun(directory, self.plugins)
        task, summary = run.components.task, run.summary
        tested: Mapping[str, Any] = summary.get("test") or {}
        step = Step(
            directory,
            change,
            task.loss,
            validation_scorer(run.components)(),
            {name: _finite(value) for name, value in tested.items()},
            _finite(summary.get("train_seconds")),
        )
        self._kind = task.kind
        self.steps.append(step)
        if not self.kept or step.relative_to(self.kept[-1]) < BETTER:
            self.kept.append(step)

    def _numbered(self) -> Iterator[Path]:
        """Yields the run directories of treatments of this run."""
        if self.folder.is_dir():
            yield from (path for path in self.folder.iterdir() if path.name.isdecimal())

    def _new_directory(self) -> Path:
        """Makes the next numbered directory, which is no other treatment's that is made at the same time."""
        refuse_links([self.folder])
        self.folder.mkdir(exist_ok=True)
        number = 1 + max([0, *(int(path.name) for path in self._numbered())])
        while True:
            try:
                (self.folder / str(number)).mkdir()
            except FileExistsError:
                number += 1
            else:
                return self.folder / str(number)

    def _earlier(self) -> Iterator[Path]:
        """Yields the finished runs of earlier treatments, in order."""
        for path in sorted(self._numbered(), key=lambda path: int(path.name)):
            if not (path / SUMMARY).is_file():
                continue  # one that was killed before it wrote anything
            try:
                if RunReader(path).summary().get("status") == "finished":
                    yield path
            except DataError as error:
                self._print(f"left out: {'; '.join(error.problems)}")

    # --- What is shown

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(printable(text), markup=False, highlight=False, style=style)

    def _show(self, reason: str) -> None:
        """Prints a table of all runs, the best one, and the line that makes it."""
        measure = _measure(self.steps)
        metric = metrics.headline(self._kind, self.steps[0].trained_by) if measure == "loss" else measure
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("run", no_wrap=True)
        table.add_column("what was changed")
        for name in (f"validation {measure}", f"test {metric}", "", "seconds"):
            table.add_column(name, justify="left" if not name else "right")
        for place, step in enumerate(self.steps):
            is_kept = step in self.kept
            outcome = "" if not place else "kept" if is_kept else "diverged" if not step.scores else "worse"
            cells = [step.directory.name if place else "0", " ".join(step.change), number(step.score(measure))]
            cells += [_tested(step, metric), outcome, number(step.seconds)]
            table.add_row(*map(printable, cells), style="bold" if step is self.kept[-1] else None)
        self.console.print()
        self.console.print(table)
        first, best = self.kept[0], self.kept[-1]
        spent = working_seconds() - self.began
        if best is first:
            self._print(f"It ended after {spent:.0f} s: {reason}. Nothing was better than the run as it is.")
            return
        self._print(
            f"It ended after {spent:.0f} s: {reason}. The best run's validation {measure} is "
            f"{number(best.relative_to(first))} times that of run 0; test {metric} {_tested(best, metric)} "
            f"instead of {_tested(first, metric)}:"
        )
        self.console.print(f"\n{_shown(best.directory)}", soft_wrap=True, markup=False, highlight=False)
        line = command({}, TrainedRun(best.directory, self.plugins))
        self.console.print(line, soft_wrap=True, markup=False, highlight=False, style="bold")


def _line(run: TrainedRun, trial: Trial) -> str:
    """Returns the command line that trains a run with a remedy."""
    return command(lengthened(trial.change, trial.length, run), run)


def _measure(steps: Sequence[Step]) -> str:
    """Returns what runs are compared by: losses of different kinds cannot be."""
    return "loss" if len({step.trained_by for step in steps}) == 1 else METRIC


def _longer(factor: float) -> Trial:
    """Returns a longer training as a remedy whose effect is not known."""
    return Trial("longer training", {}, factor, 1.0, Interval(1.0, 0.0, math.inf), math.nan, 0, factor)


def _tested(step: Step, metric: str) -> str:
    """Returns a metric on the test data, as it is shown."""
    value = step.tested.get(metric, math.nan)
    return number(value) if math.isfinite(value) else "–"


def _finite(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _shown(directory: Path) -> str:
    """Returns a directory as it is shown: relative to the current one where it lies in it."""
    resolved, here = directory.resolve(), Path.cwd()
    return printable(str(resolved.relative_to(here) if resolved.is_relative_to(here) else resolved))


def _cause(verdict: Verdict) -> str:
    if verdict.solved:
        return "nothing is wrong any more."
    if not verdict.causes:
        return "no cause was found with confidence."
    first = verdict.causes[0].finding
    return f"{first.title}. {first.description}"
