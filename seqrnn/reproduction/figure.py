"""A published figure: where it stands, how it is repeated, and which results count as the same."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from seqrnn.results import Run

# quick: seconds; whole: minutes; slow: an hour or more, so only where it is named
Length = Literal["quick", "whole", "slow"]
ALWAYS = ("threads=1", "plots.draw=false")  # settings of all runs, which change no number but the time


@dataclass(frozen=True)
class Figure:
    """A figure that was published, and how it is measured here.

    Everything but the results is written before they are known.

    Args:
        name: as it is typed on the command line.
        what: it is a figure of, with its unit.
        published: the figure.
        source: where it stands.
        overrides: of the runs that repeat it, without seeds; figures with the same overrides share their runs.
        seeds: how many runs: those of the seeds 0, 1, ….
        measure: returns our figure of one run.
        tolerated: the lowest and the highest mean over seeds that count as the same figure.
        tolerance: how ``tolerated`` was chosen.
        length: how long the runs take.
        is_geometric: whether the mean is a geometric one, for errors that spread over orders of magnitude.
        same_seeds: whether the source has run these very seeds, so that none of the difference is chance.
        wrong: what is wrong with the published figure; ``tolerated`` is then around the right one. Empty: nothing is.
        deviations: from the setup of the source.
    """

    name: str
    what: str
    published: float
    source: str
    overrides: tuple[str, ...]
    seeds: int
    measure: Callable[[Run], float]
    tolerated: tuple[float, float]
    tolerance: str
    length: Length
    is_geometric: bool = False
    same_seeds: bool = False
    wrong: str = ""
    deviations: str = ""

    @property
    def is_slow(self) -> bool:
        """Whether its runs take so long that they print what every training prints, with the time that is left."""
        return self.length == "slow"

    def command(self, *others: str) -> str:
        """Returns the line that makes the same runs as a sweep."""
        seeds = "seed=" + ",".join(map(str, range(self.seeds)))
        multirun = ["-m"] if self.seeds > 1 else []
        words = [*multirun, *self.overrides, *ALWAYS, *others, seeds]
        return f"python -m seqrnn.train {' '.join(map(shlex.quote, words))}"

    def directories(self, folder: Path) -> dict[int, Path]:
        """Returns the run directory of each seed. Other overrides have other directories.

        Args:
            folder: of all figures.
        """
        choices = dict(override.split("=", 1) for override in self.overrides)
        label = choices.get("experiment") or f"{choices['task']}-{choices['model']}"
        digest = hashlib.sha256("\n".join(self.overrides).encode()).hexdigest()[:8]
        return {seed: folder / f"{label}-{digest}" / f"seed-{seed}" for seed in range(self.seeds)}


def score(metric: str) -> Callable[[Run], float]:
    """Returns what reads a test score of a run."""
    return lambda run: float(run.summary["test"][metric])


def last_losses(count: int) -> Callable[[Run], float]:
    """Returns what reads the mean training loss of the last ``count`` updates, each before its update; of runs that
    record every update."""

    def measure(run: Run) -> float:
        losses = np.asarray(run.metrics["train_loss"], np.float64)
        return float(losses[np.isfinite(losses)][-count:].mean())

    return measure


def baseline_score(baseline: str, metric: str) -> Callable[[Run], float]:
    """Returns what reads the test score of a trivial predictor."""
    return lambda run: float(run.summary["baselines"][baseline][metric])


def squared_error(position: int, period: int) -> Callable[[Run], float]:
    """Returns what reads the mean squared error of a run at every ``period``-th timestep of its test sequences.

    Args:
        position: the first of these timesteps, from 0.
    """

    def measure(run: Run) -> float:
        arrays = run.predictions
        errors = (arrays["outputs"].astype(float) - arrays["targets"]) ** 2
        return float(errors[position::period].mean())

    return measure
