"""A treatment: a run is diagnosed, the advice is followed at full length, and what is better is diagnosed in turn.

What is better is decided by the loss on the validation data, with the weights that a run is tested with. Each
training is a run of its own, in a numbered directory beside the run that is treated; nothing is overwritten, and a
treatment that is repeated continues from the best of the runs that are there.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from seqrnn import metrics
from seqrnn.diagnosis.command_line import command, lengthened, overrides_of
from seqrnn.diagnosis.diagnosis import Verdict
from seqrnn.diagnosis.intervals import number
from seqrnn.diagnosis.session import diagnose_run
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
ATTEMPTS = 4  # trainings after a diagnosis: the advice, and the best single remedies
TIME_OVER = "the time was over; allow more with --seconds"


class _TimeIsOver(Exception):
    """A training has continued beyond the end of the treatment."""


@dataclass(frozen=True)
class Step:
    """A run of the treatment.

    Args:
        change: the overrides that it adds to those of an earlier one.
        loss: on the validation data; infinite if it diverged.
        metric: on the test data.
        seconds: of its training.
    """

    directory: Path
    change: Sequence[str]
    loss: float
    metric: float
    seconds: float


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
        self.began = perf_counter()
        own = self.directory.resolve()
        self.folder = own.parent / f"{own.name}-treated"
        self.steps: list[Step] = []
        self.kept: list[Step] = []
        self.metric_name = "loss"
        self._trained: set[str] = set()  # command lines

    @property
    def remaining(self) -> float:
        """Seconds that are left."""
        return self.began + self.seconds - perf_counter()

    def treat(self) -> None:
        """Treats the run, and prints what was tried, the best run, and the line that makes it.

        Raises:
            UserError: it is no run directory, or something in it is damaged.
            KeyboardInterrupt: the user interrupted the treatment; the best run so far has been printed.
        """
        self._add(self.directory, ["(as it was)"])
        for earlier in self._earlier():
            try:
                self._add(earlier, ["(earlier treatment)"])
            except UserError as error:
                self._print(f"left out: {'; '.join(error.problems)}")
        reason = "it was interrupted"
        try:
            reason = self._rounds()
        finally:
            self._show(reason)

    def _rounds(self) -> str:
        """Diagnoses, and trains what the diagnosis recommends, until nothing helps; returns why it ended."""
        share = DIAGNOSING
        while self.remaining > SHORTEST:
            before = self.kept[-1]
            with self.console.status("") as status:

                def announce(text: str) -> None:
                    status.update(f"diagnosing: {text} …")

                run = TrainedRun(before.directory, self.plugins)
                verdict, followed = diagnose_run(run, max(SHORTEST, share * self.remaining), announce)
            self._print(f"{_shown(before.directory)}: {_cause(verdict)}")
            if verdict.solved:
                return "nothing is left to be mended"
            new = [trial for trial in followed if _line(run, trial) not in self._trained]
            fitting = [trial for trial in new if before.seconds * trial.cost <= self.remaining]
            if new and not fitting:
                return TIME_OVER
            for trial in fitting[:ATTEMPTS]:
                try:
                    self._train(run, trial)
                except _TimeIsOver:
                    return TIME_OVER
                if self.kept[-1] is not before:
                    break
            if self.kept[-1] is not before:
                share = DIAGNOSING
            elif share < LONGEST:
                share = LONGEST  # trials are longer where there is more time for them
            else:
                return f"no {'other ' * bool(self._trained)}remedy helped"
        return TIME_OVER

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
        began = perf_counter()
        with self.console.status("training …"):
            try:
                self.make_run(RunRequest(values, directory, words), check)
            except Diverged:
                self.steps.append(
                    Step(directory, overrides_of(change, run), math.inf, math.nan, perf_counter() - began)
                )
                return
        self._add(directory, overrides_of(change, run))

    def _add(self, directory: Path, change: Sequence[str]) -> None:
        """Adds a finished run, and keeps it if it is better than all before."""
        run = TrainedRun(directory, self.plugins)
        loss = validation_scorer(run.components)()["loss"]
        self.metric_name = metrics.headline(run.components.task.kind, run.components.task.loss)
        tested: Mapping[str, Any] = run.summary.get("test") or {}
        metric, spent = tested.get(self.metric_name), run.summary.get("train_seconds")
        step = Step(directory, change, loss, _finite(metric), _finite(spent))
        self.steps.append(step)
        if not self.kept or step.loss < BETTER * self.kept[-1].loss:
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
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("run", no_wrap=True)
        table.add_column("what was changed")
        for name in ("validation loss", f"test {self.metric_name}", "", "seconds"):
            table.add_column(name, justify="left" if not name else "right")
        for place, step in enumerate(self.steps):
            is_kept = step in self.kept
            outcome = "" if not place else "kept" if is_kept else "diverged" if math.isinf(step.loss) else "worse"
            cells = [step.directory.name if place else "0", " ".join(step.change), number(step.loss)]
            cells += [number(step.metric) if math.isfinite(step.metric) else "–", outcome, number(step.seconds)]
            table.add_row(*map(printable, cells), style="bold" if step is self.kept[-1] else None)
        self.console.print()
        self.console.print(table)
        first, best = self.kept[0], self.kept[-1]
        spent = perf_counter() - self.began
        if best is first:
            self._print(f"It ended after {spent:.0f} s: {reason}. Nothing was better than the run as it is.")
            return
        self._print(
            f"It ended after {spent:.0f} s: {reason}. The best run has {number(best.loss / first.loss)} of the "
            f"validation loss; test {self.metric_name} {number(best.metric)} instead of {number(first.metric)}:"
        )
        self.console.print(f"\n{_shown(best.directory)}", soft_wrap=True, markup=False, highlight=False)
        line = command({}, TrainedRun(best.directory, self.plugins))
        self.console.print(line, soft_wrap=True, markup=False, highlight=False, style="bold")


def _line(run: TrainedRun, trial: Trial) -> str:
    """Returns the command line that trains a run with a remedy."""
    return command(lengthened(trial.change, trial.length, run), run)


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
