"""What a run says: a header, its progress, and a closing table, on the screen and in train.log alike."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from seqrnn.errors import printable
from seqrnn.monitor import Progress

LINE_EVERY = 5.0  # seconds, where there is no terminal
DRAW_EVERY = 0.1  # seconds, where there is one
LOG_WIDTH = 100


class Screen(Console):
    """Standard output; if what reads it goes away (``| head``), the run goes on in silence."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self.quiet = True


class Terminal:
    """Speaks for one run.

    Args:
        log_path: where everything said goes as well, as plain text.
        metric: the metric of an evaluation that the progress display shows.
        quiet: whether everything goes to the log alone.
    """

    def __init__(self, log_path: Path, metric: str, quiet: bool = False) -> None:
        self.metric = metric
        self._file: IO[str] = log_path.open("a", encoding="utf-8")
        self._screen = Screen(highlight=False, quiet=quiet)
        # A notebook draws a progress bar by ipywidgets.
        is_notebook = self._screen.is_jupyter and find_spec("ipywidgets") is not None
        self._draws_bar = self._screen.is_terminal or is_notebook
        self._log = Console(file=self._file, width=LOG_WIDTH, highlight=False, color_system=None)
        self._bar: Bar | None = None
        self._every = DRAW_EVERY if self._draws_bar else LINE_EVERY
        self._spoke = time.monotonic()
        self._unheard: tuple[type[OSError], ...] = ()  # errors of the log that nobody need hear of

    def header(self, title: str, facts: Mapping[str, str]) -> None:
        """What runs, on what, and where its results go."""
        self._say(Text(printable(f"seqrnn: {title}"), style="bold"))
        for name, fact in facts.items():
            self.say(f"  {name:<10} {fact}")

    def say(self, text: str) -> None:
        """One line, or several where it is longer than the screen."""
        self._say(Text(printable(text)))

    def say_path(self, path: str) -> None:
        """A path, on a line of its own however long it is, so that it can be copied."""
        self._say(Text(printable(path)), soft_wrap=True)

    def progress(self, progress: Progress) -> None:
        """Shows where the run stands, not more often than is of use."""
        now = time.monotonic()
        if now - self._spoke < self._every:
            return
        self._spoke = now
        self._show(progress)

    def evaluated(self, row: Mapping[str, Any]) -> None:
        """Adds an evaluation to the log, a line."""
        numbers = (
            f"{key.removeprefix('eval_')} {value:.4g}" for key, value in row.items() if key.startswith("eval_")
        )
        self._file.write(f"update {row['updates']:,}, timestep {row['timesteps']:,}: {', '.join(numbers)}\n")

    def flush(self) -> None:
        """Lets others read the log so far."""
        self._file.flush()

    def stop_progress(self, progress: Progress) -> None:
        """Takes the progress bar down."""
        if self._bar is not None:
            self._show(progress)
            self._bar.stop()
            self._bar = None

    def closing(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        """A table of test scores: the network first, then the baselines."""
        if not scores:
            return
        metrics = list(next(iter(scores.values())))
        table = Table(box=None, padding=(0, 1), header_style="bold")
        table.add_column("test", no_wrap=True)
        for metric in metrics:
            table.add_column(metric.replace("accuracy_", "").replace("_", " "), justify="right")
        for number, (name, values) in enumerate(scores.items()):
            row = [_score(metric, values[metric]) for metric in metrics]
            table.add_row(Text(printable(name)), *row, style="bold green" if number == 0 else None)
        self._say(table)

    def _show(self, progress: Progress) -> None:
        rate = progress.timesteps / max(progress.train_seconds, 1e-9)
        latest = progress.evaluation.get(self.metric)
        metric = "" if latest is None else f"{self.metric} {latest:.3g}"
        if self._draws_bar:
            if self._bar is None:
                self._bar = _bar(self._screen)
                self._bar.start()
                self._bar.add_task("train", total=progress.planned_updates, loss="", metric="", rate="")
            self._bar.update(
                self._bar.task_ids[0],
                completed=progress.position,
                loss=f"loss {progress.train_loss:.3g}",
                metric=metric,
                rate=f"{_short(rate)} steps/s",
            )
            return
        done = progress.position / max(1, progress.planned_updates)
        left = (progress.train_seconds + progress.evaluate_seconds) * (1 - done) / max(done, 1e-9)
        self.say(
            f"{done:4.0%}  {progress.timesteps:,} timesteps  {_short(rate)} steps/s  "
            f"loss {progress.train_loss:.4g}  {metric}  {left:.0f} s left"
        )

    def _say(self, *parts: RenderableType, soft_wrap: bool = False) -> None:
        for part in parts:
            self._screen.print(part, soft_wrap=soft_wrap)
            with suppress(*self._unheard):
                self._log.print(part, soft_wrap=soft_wrap)
        with suppress(*self._unheard):
            self._file.flush()

    def insist(self) -> None:
        """From now on, what the log cannot take is said on the screen all the same."""
        self._unheard = (OSError,)

    def close(self) -> None:
        with suppress(*self._unheard):
            self._file.close()


def _bar(console: Console) -> Bar:
    return Bar(
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        *(TextColumn("{task.fields[" + name + "]}") for name in ("rate", "loss", "metric")),
        TimeRemainingColumn(compact=True),
        console=console,
        expand=True,
        refresh_per_second=4,
    )


def _score(metric: str, value: float) -> str:
    if metric == "r2" or metric.startswith("accuracy"):
        return f"{value:.4f}"
    return f"{value:.4g}" if abs(value) >= 1e-4 else f"{value:.3g}"  # with an exponent, the table is 80 columns wide


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
