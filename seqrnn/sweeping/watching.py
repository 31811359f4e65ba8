"""Prints a line for each job of a sweep that ends, in whichever process and on whichever machine it ran."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType

from seqrnn.errors import UserError
from seqrnn.rundir.reader import RunReader
from seqrnn.sweeping.directory import Job, Outcome, SweepDirectory

Show = Callable[[str], None]
LOOK_EVERY = 0.2  # seconds


class Watcher:
    """Within its ``with`` block, prints a line for each job that has ended since it began.

    Args:
        jobs: those that are to run.
        labels: what is printed of each, by name.
        total: the jobs of the sweep.
        show: prints a line.
    """

    def __init__(
        self, sweep: SweepDirectory, jobs: Sequence[Job], labels: dict[str, str], total: int, show: Show
    ) -> None:
        self._sweep, self._labels, self._total, self._show = sweep, labels, total, show
        self._attempts = {job.name: sweep.outcome(job.name).attempts for job in jobs}
        self._waiting = dict.fromkeys(job.name for job in jobs)
        self._width = max((len(labels[job.name]) for job in jobs), default=0)
        self._began, self._count = time.monotonic(), len(jobs)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            with suppress(OSError):  # a file system that is away for a moment; the last look is outside
                self._look()

    def _look(self) -> None:
        for name in [*self._waiting]:
            outcome = self._sweep.read_outcome(name)
            if (
                outcome is None
                or outcome.status in ("running", "waiting")
                or outcome.attempts <= self._attempts[name]
            ):
                continue
            del self._waiting[name]
            self._show(self._line(name, outcome))

    def _line(self, name: str, outcome: Outcome) -> str:
        done = self._count - len(self._waiting)
        number = f"[{self._total - len(self._waiting):>{len(str(self._total))}}/{self._total}]"
        score = outcome.reason if outcome.reason else self._score(name)
        left = (time.monotonic() - self._began) / done * len(self._waiting)
        remaining = f"  {duration(left)} left" if self._waiting else ""
        return (
            f"{number} {outcome.status:<11} {self._labels[name]:<{self._width}}  {score}  "
            f"{duration(outcome.seconds)}{remaining}"
        )

    def _score(self, name: str) -> str:
        with suppress(UserError):
            summary = RunReader(self._sweep.job_directory(name)).summary()
            metric = summary.get("headline")
            value = (summary.get("test") or {}).get(metric)
            if value is not None:
                return f"{metric} {value:.4g}"
        return ""


def duration(seconds: float) -> str:
    """Returns a time in few words: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
