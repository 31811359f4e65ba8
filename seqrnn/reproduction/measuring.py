"""Makes the runs behind a figure, and decides from their directories whether it is reproduced."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import seqrnn
from seqrnn.diagnosis import intervals
from seqrnn.diagnosis.intervals import Interval
from seqrnn.errors import DataError, Diverged
from seqrnn.keys import as_override
from seqrnn.reproduction.figure import ALWAYS, Figure
from seqrnn.results import Run

FINISHED, DIVERGED = "finished", "diverged"
Verdict = Literal["reproduced", "not reproduced", "published figure is wrong"]


@dataclass(frozen=True)
class Result:
    """Our figure.

    Args:
        values: of the seeds 0, 1, …; infinite where a run diverged.
        ours: their mean, with its 95 % confidence interval by Student's t.
        cpu_seconds: of all runs together, without starting Python.
        revision: of the source code that made the last run, where it is known.
    """

    values: tuple[float, ...]
    ours: Interval
    verdict: Verdict
    cpu_seconds: float
    revision: str | None


def make(figure: Figure, folder: Path, others: Sequence[str], announce: Callable[[int], None]) -> None:
    """Trains the runs of a figure that have not ended; one that was interrupted is resumed.

    Args:
        folder: of all figures.
        others: overrides that change no number, such as where data lie.
        announce: is given each seed before its run.

    Raises:
        UserError: a run cannot be made. A run that diverges is a result.
    """
    for seed, directory in figure.directories(folder).items():
        if _ended(directory):
            continue
        announce(seed)
        where = as_override("hydra.run.dir", str(directory))
        overrides = [*figure.overrides, *ALWAYS, *others, f"seed={seed}", "resume=auto", where]
        try:
            seqrnn.run(overrides, quiet=not figure.is_slow)
        except Diverged:
            continue  # summary.json says so


def result_of(figure: Figure, folder: Path) -> Result | None:
    """Returns our figure, from the directories of its runs alone; None where one of them has not ended.

    Args:
        folder: of all figures.

    Raises:
        DataError: a run directory is damaged.
    """
    runs = [_ended(directory) for directory in figure.directories(folder).values()]
    ended = [run for run in runs if run is not None]
    if len(ended) < len(runs):
        return None
    values = tuple(figure.measure(run) if run.summary["status"] == FINISHED else math.inf for run in ended)
    ours = mean_of(figure, values)
    seconds = sum(float(run.summary["cpu_seconds"]) for run in ended)
    return Result(values, ours, judge(figure, ours), seconds, ended[-1].summary["git_revision"])


def mean_of(figure: Figure, values: Sequence[float]) -> Interval:
    """Returns the mean over seeds that the figure asks for, with its interval."""
    if not all(map(math.isfinite, values)):
        return Interval(math.inf, -math.inf, math.inf)
    return intervals.of_ratio(values, [1.0] * len(values)) if figure.is_geometric else intervals.of_mean(values)


def judge(figure: Figure, ours: Interval) -> Verdict:
    """Decides: a figure is reproduced where our mean lies in the tolerated range, and our interval is no wider than
    that range, so that it could have failed. The interval plays no part for a single run, which has none, and for
    seeds that the source has run as well."""
    low, high = figure.tolerated
    is_sharp = figure.same_seeds or figure.seeds == 1 or ours.high - ours.low <= high - low
    if not (low <= ours.value <= high and is_sharp):
        return "not reproduced"
    return "published figure is wrong" if figure.wrong else "reproduced"


def needs_mnist(figure: Figure) -> bool:
    """Returns whether the runs of a figure read MNIST."""
    return any(override in ("task=mnist", "experiment=mnist_lstm") for override in figure.overrides)


def _ended(directory: Path) -> Run | None:
    """Returns the run of a directory if it has finished or diverged."""
    try:
        run = seqrnn.load(directory)
        return run if run.summary["status"] in (FINISHED, DIVERGED) else None
    except DataError:
        return None  # there is none, or it was interrupted before it wrote a summary
