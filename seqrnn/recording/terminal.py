"""What a run prints: a header, its progress, and a closing table, on the screen and in train.log alike."""

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
from rich.text import Text

from seqrnn.errors import printable
from seqrnn.monitor import Progress
from seqrnn.recording.score_table import ScoreTable

LINE_EVERY = 5.0  # seconds between lines of progress, where there is no terminal
DRAW_EVERY = 0.1  # seconds between updates of the progress bar, where there is one
LOG_WIDTH = 100


class Screen(Console):
    """Standard output. If the process that reads it ends (``| head``), the run continues and prints nothing more."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self.quiet = True


class Terminal:
    """Prints what one run has to tell.

    Args:
        log_path: where everything that is printed is written as well, as plain text.
        metric: the metric of an evaluation that the progress display shows.
        quiet: whether everything is written to the log alone.
    """

    def __init__(self, log_path: Path, metric: str, quiet: bool = False) -> None:
        self.metric = metric
        self._file: IO[str] = log_path.open("a", encoding="utf-8")
        # In a notebook, rich would show each line as an output of its own, and what goes to the log as well.
        self._screen = Screen(highlight=False, quiet=quiet, force_jupyter=False)
        self._bar_console: Console = self._screen
        # A notebook draws a progress bar by ipywidgets.
        notebook = Console(quiet=quiet)
        if notebook.is_jupyter and find_spec("ipywidgets") is not None:
            self._bar_console = notebook
        self._draws_bar = self._screen.is_terminal or self._bar_console is notebook
        self._log = Console(file=self._file, width=LOG_WIDTH, highlight=False, color_system=None, force_jupyter=False)
        self._bar: Bar | None = None
        self._interval = DRAW_EVERY if self._draws_bar else LINE_EVERY
        self._last_shown = 0.0
        self._first: tuple[float, int] | None = None  # when progress was first made, and to which position
        self._ignored: tuple[type[OSError], ...] = ()  # errors of the log

    def header(self, title: str, facts: Mapping[str, str]) -> None:
        """Prints what runs, on what, and where its results are written."""
        self._print(Text(printable(f"seqrnn: {title}"), style="bold"))
        for name, fact in facts.items():
            self.print(f"  {name:<10} {fact}")

    def print(self, text: str) -> None:
        """Prints a line, or several where it is longer than the screen is wide."""
        self._print(Text(printable(text)))

    def print_path(self, path: str) -> None:
        """Prints a path or a command in one line, however long it is, so that it can be copied."""
        self._print(Text(printable(path)), soft_wrap=True)

    def progress(self, progress: Progress) -> None:
        """Shows how far the run is, unless it has just been shown."""
        now = time.monotonic()
        if self._first is None:  # a run that is over at once has no lines; what came before was the start
            self._first = now, progress.position
            self._last_shown = 0.0 if self._draws_bar else now
        if now - self._last_shown < self._interval:
            return
        self._last_shown = now
        self._show(progress)

    def log_evaluation(self, row: Mapping[str, Any]) -> None:
        """Adds a line about an evaluation to the log."""
        numbers = (
            f"{key.removeprefix('eval_')} {value:.4g}" for key, value in row.items() if key.startswith("eval_")
        )
        self._file.write(f"update {row['updates']:,}, timestep {row['timesteps']:,}: {', '.join(numbers)}\n")

    def flush(self) -> None:
        """Writes the log so far to its file, where other processes can read it."""
        self._file.flush()

    def stop_progress(self, progress: Progress) -> None:
        """Shows the progress bar a last time and removes it."""
        if self._bar is not None:
            self._show(progress)
            self._bar.stop()
            self._bar = None

    def print_scores(self, scores: Mapping[str, Mapping[str, float]], loss: str) -> None:
        """Prints a table of test scores: the network first, then the baselines.

        Args:
            loss: the name of the loss.
        """
        if scores:
            self._print(ScoreTable(scores, loss))

    def _show(self, progress: Progress) -> None:
        rate = progress.timesteps / max(progress.train_seconds, 1e-9)
        latest = progress.evaluation.get(self.metric)
        metric = "" if latest is None else f"{self.metric} {latest:.3g}"
        if self._draws_bar:
            if self._bar is None:
                self._bar = _bar(self._bar_console)
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
        began, position = self._first or (0.0, progress.position)
        made, missing = progress.position - position, progress.planned_updates - progress.position
        left = f"  {(time.monotonic() - began) * missing / made:.0f} s left" if made > 0 else ""
        self.print(
            f"{done:4.0%}  {progress.timesteps:,} timesteps  {_short(rate)} steps/s  "
            f"loss {progress.train_loss:.4g}  {metric}{left}"
        )

    def _print(self, renderable: RenderableType, soft_wrap: bool = False) -> None:
        self._screen.print(renderable, soft_wrap=soft_wrap)
        with suppress(*self._ignored):
            self._log.print(renderable, soft_wrap=soft_wrap)
            self._file.flush()

    def ignore_log_errors(self) -> None:
        """Lets later lines be printed to the screen even if the log cannot be written, as on a full disk."""
        self._ignored = (OSError,)

    def close(self) -> None:
        """Closes the log."""
        with suppress(*self._ignored):
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


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
