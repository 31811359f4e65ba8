"""Shows how the jobs of a sweep get on, in whichever process and on whichever machine they run: a line for each job
that has ended, and below them, on a terminal, a line for each that runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from seqrnn.errors import UserError, printable
from seqrnn.recording.terminal import Screen
from seqrnn.rundir.bounded import opened
from seqrnn.rundir.names import METRICS_JSONL
from seqrnn.rundir.reader import RunReader
from seqrnn.sweeping.directory import FAILED, Job, Outcome, SweepDirectory

LOOK_EVERY = 0.2  # seconds
DRAW_EVERY = 0.5  # seconds between two drawings of the jobs that run
LINE_EVERY = 60.0  # seconds without a line, where there is no terminal
MOST_SHOWN = 16  # jobs that run
LAST_STEPS = "trained; testing and drawing"
TAIL_BYTES = 2**14  # of metrics.jsonl, in which its last row begins
Measure = Callable[[dict[str, Any]], float | None]  # what stands for a run, of its summary.json


def test_score(summary: dict[str, Any]) -> float | None:
    """Returns the headline metric on the test data."""
    value = (summary.get("test") or {}).get(summary.get("headline"))
    return None if value is None else float(value)


def validation_score(summary: dict[str, Any]) -> float | None:
    """Returns the headline metric of the last evaluation."""
    value = (summary.get("validation") or {}).get(summary.get("headline"))
    return None if value is None else float(value)


@dataclass
class _Running:
    """A job that runs.

    Args:
        began: when it was first seen, on this process's clock.
        planned: its updates, as far as they are known.
        share: of them that have been made.
        score: of its last evaluation, as text.
    """

    began: float
    planned: int = 0
    headline: str = ""
    share: float = 0.0
    score: str = ""


@dataclass
class _Counts:
    """How many jobs have ended, before and since."""

    total: int
    before: int
    now: int = 0
    latest: float = field(default_factory=time.monotonic)  # when the last line was printed


class Watcher:
    """Within its ``with`` block, shows the jobs that ``expect`` names.

    Args:
        label: returns what is shown of a job.
        total: the jobs of the sweep.
        before: those that have ended before.
        measure: what is shown of a job that has finished.
    """

    def __init__(
        self,
        sweep: SweepDirectory,
        screen: Screen,
        label: Callable[[Job], str],
        total: int,
        before: int,
        measure: Measure = test_score,
    ) -> None:
        self._sweep, self._screen, self._label, self._measure = sweep, screen, label, measure
        self._counts, self._began = _Counts(total, before), time.monotonic()
        self._attempts: dict[str, int] = {}  # before this call
        self._labels: dict[str, str] = {}
        self._expected: dict[str, None] = {}
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._live: Live | None = None

    def expect(self, jobs: Iterable[Job]) -> None:
        """Adds jobs that are to run."""
        for job in jobs:
            attempts = self._sweep.outcome(job.name).attempts
            with self._lock:
                self._attempts[job.name], self._labels[job.name] = attempts, printable(self._label(job))
                self._expected[job.name] = None

    def __enter__(self) -> Watcher:
        if self._screen.is_terminal:
            self._live = Live(console=self._screen, auto_refresh=False, transient=True)
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        try:
            self._look()
        finally:
            if self._live:
                self._live.stop()

    def _watch(self) -> None:
        drawn = 0.0
        while not self._ended.wait(LOOK_EVERY):
            with suppress(OSError):  # a file system that is away for a moment; the last look is outside
                self._look()
                now = time.monotonic()
                if self._live and now - drawn >= DRAW_EVERY:
                    drawn = now
                    self._live.update(self._drawing(), refresh=True)
                elif not self._live and now - self._counts.latest >= LINE_EVERY and self._running:
                    self._print(self._heartbeat())

    def _look(self) -> None:
        with self._lock:
            expected = [*self._expected]
        for name in expected:
            outcome = self._sweep.read_outcome(name)
            if outcome is None or outcome.attempts <= self._attempts[name]:
                continue
            if outcome.status == "waiting":  # its scheduler has put it back into its queue
                self._running.pop(name, None)
                continue
            if outcome.status == "running":
                self._running.setdefault(name, _Running(time.monotonic()))
                continue
            outcome = self._sweep.outcome(name)  # as the table at the end has it
            with self._lock:
                del self._expected[name]
            self._running.pop(name, None)
            self._counts.now += 1
            self._print(self._line(name, outcome))
            if outcome.reason and outcome.status in FAILED:
                self._screen.print(Text(f"    {printable(outcome.reason)}"), soft_wrap=not self._live)

    def _print(self, line: str) -> None:
        """Prints a line: on a terminal one that fits, elsewhere a whole one."""
        self._counts.latest = time.monotonic()
        self._screen.print(self._fitting(line) if self._live else Text(line), soft_wrap=not self._live)

    def _fitting(self, line: str) -> Text:
        """Returns a line whose end, where the overrides are, is left out if the terminal is narrow."""
        text = Text(line, no_wrap=True)
        text.truncate(self._screen.width, overflow="ellipsis")
        return text

    def _line(self, name: str, outcome: Outcome) -> str:
        counts = self._counts
        ended = counts.before + counts.now
        number = f"[{ended:>{len(str(counts.total))}}/{counts.total}]"
        parts = [f"{number} {outcome.status:<11}", self._score(name, outcome), duration(outcome.seconds)]
        if ended < counts.total:
            parts.append(f"{duration(self._seconds_left())} left")
        return "  ".join([*(part for part in parts if part), self._labels[name]])

    def _seconds_left(self) -> float:
        counts = self._counts
        missing = counts.total - counts.before - counts.now
        return (time.monotonic() - self._began) / max(1, counts.now) * missing

    def _score(self, name: str, outcome: Outcome) -> str:
        if outcome.status in FAILED:
            return ""
        with suppress(UserError):
            summary = RunReader(self._sweep.job_directory(name)).summary()
            value = self._measure(summary)
            if value is not None:
                return f"{summary.get('headline')} {value:.4g}"
        return ""

    def _drawing(self) -> Group:
        """Returns a line for each job that runs, and one for the sweep."""
        lines = []
        for name, running in [*self._running.items()][:MOST_SHOWN]:
            self._refresh(name, running)
            lines.append(self._fitting(self._running_line(name, running)))
        if len(self._running) > MOST_SHOWN:
            lines.append(Text(f"  and {len(self._running) - MOST_SHOWN} more"))
        return Group(*lines, self._fitting(self._state()))

    def _running_line(self, name: str, running: _Running) -> str:
        spent = time.monotonic() - running.began
        what = f"running {running.share:4.0%}" if running.share < 1 else LAST_STEPS
        parts = [f"  {what}", running.score, duration(spent)]
        if 0.02 < running.share < 1:
            parts.append(f"{duration(spent / running.share - spent)} left")
        return "  ".join([*(part for part in parts if part), self._labels[name]])

    def _state(self) -> str:
        counts = self._counts
        if counts.before + counts.now == counts.total:
            return f"{counts.total:,} of {counts.total:,} ended; drawing the last pictures"
        left = f", {duration(self._seconds_left())} left" if counts.now else ""
        return (
            f"{counts.before + counts.now:,} of {counts.total:,} ended, {len(self._running):,} running, "
            f"{duration(time.monotonic() - self._began)}{left}"
        )

    def _heartbeat(self) -> str:
        for name, running in self._running.items():
            self._refresh(name, running)
        shown = [*self._running.items()][:3]
        return f"{self._state()}: " + "; ".join(
            f"{self._labels[name]} {f'{one.share:.0%}' if one.share < 1 else LAST_STEPS}" for name, one in shown
        )

    def _refresh(self, name: str, running: _Running) -> None:
        """Reads how far a job is."""
        directory = self._sweep.job_directory(name)
        with suppress(UserError):
            if not running.planned:
                summary = RunReader(directory).summary()
                running.planned, running.headline = summary["planned_updates"], str(summary.get("headline"))
            row, evaluation = last_rows(directory / METRICS_JSONL, f"eval_{running.headline}")
            if running.planned and isinstance(row.get("updates"), int):
                running.share = min(1.0, row["updates"] / running.planned)
            if evaluation is not None:
                running.score = f"{running.headline} {evaluation:.4g}"


def last_rows(path: Path, key: str) -> tuple[dict[str, Any], float | None]:
    """Returns the last row of a metrics.jsonl, and the last number of a column, as far as the end of the file has
    them.

    Raises:
        DataError: it cannot be read.
    """
    with opened(path) as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read(TAIL_BYTES).splitlines()
    rows = []
    for line in lines:  # the first and the last may be parts of one
        with suppress(ValueError, RecursionError):
            rows.append(json.loads(line))
    known = [row for row in rows if isinstance(row, dict)]
    numbers = [row[key] for row in known if isinstance(row.get(key), int | float)]
    return known[-1] if known else {}, numbers[-1] if numbers else None


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
