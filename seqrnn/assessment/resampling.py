"""Scores with confidence intervals: the percentile bootstrap over whole sequences, or over blocks of time.

The valid targets of a test are grouped: many sequences are independent of each other, so each is a group; of few
sequences, each timestep is a group (with all sequences), and neighbouring ones are drawn together, because their
errors depend on each other (``seqrnn.forecasting.bootstrap``). A score is computed anew for every draw, so this works
for every metric. What a draw holds is the same for all predictors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.forecasting import bootstrap
from seqrnn.forecasting.residuals import autocorrelation, white_noise_band

MANY = 20  # sequences that are independent groups
MOST_ROWS = 3e8  # over all draws, of which there are fewer for very long tests
FEWEST_DRAWS = 199
MOST_LAGS = 1000
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A score and its confidence interval; both bounds are NaN where it cannot be known."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Groups:
    """The valid targets of a test, in groups.

    Args:
        order: the rows of all groups, one group behind the other.
        counts: rows of each group.
        block: groups that are drawn together.
        description: what is drawn.
    """

    order: Rows
    counts: Rows
    block: int
    description: str

    @property
    def draws(self) -> int:
        """How many draws there are."""
        return int(np.clip(MOST_ROWS / max(len(self.order), 1), FEWEST_DRAWS, bootstrap.RESAMPLES))

    def rows(self, drawn: Rows) -> Rows:
        """Returns the rows of groups, with repetitions."""
        counts = self.counts[drawn]
        begins = np.cumsum(self.counts) - self.counts
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found: Rows = self.order[np.repeat(begins[drawn], counts) + inside]
        return found


def groups_of(valid: NDArray[np.bool_], losses: NDArray[np.float64], horizon: int = 1) -> Groups:
    """Groups valid targets.

    Args:
        valid: (T, N).
        losses: (N',) of the valid targets, in the order of ``valid``.
        horizon: steps of a forecast: neighbouring forecasts predict the same values.
    """
    times, sequences = np.nonzero(valid)
    found, numbers = np.unique(sequences, return_inverse=True)
    if len(found) >= MANY or (len(np.unique(times)) == 1 and len(found) > 1):
        counts = np.bincount(numbers)
        order = np.argsort(numbers, kind="stable")
        return Groups(order, counts, 1, f"{len(counts):,} sequences")
    steps, numbers = np.unique(times, return_inverse=True)
    counts = np.bincount(numbers)
    means = np.bincount(numbers, losses) / counts
    block = max(bootstrap.block_length(len(steps), horizon), _memory(means))
    block = max(1, min(block, len(steps) // 3))
    what = f"{len(steps):,} timesteps"
    return Groups(np.arange(len(times)), counts, block, f"{what} in blocks of {block:,}" if block > 1 else what)


def _memory(losses: NDArray[np.float64]) -> int:
    """Returns how many neighbouring losses depend on each other: twice the lags up to which their autocorrelation is
    more than that of noise, as in Politis & White (2004)."""
    lags = min(MOST_LAGS, len(losses) // 4)
    if lags < 1:
        return 1
    correlation = autocorrelation(losses, lags)[1:]
    within = np.abs(np.nan_to_num(correlation)) < white_noise_band(len(losses))
    return 2 * (int(np.argmax(within)) if within.any() else lags)


def estimate(
    score: Callable[[Rows], Mapping[str, float]], groups: Groups, confidence: float, seed: int = 0
) -> dict[str, Estimate]:
    """Returns scores with confidence intervals.

    Args:
        score: returns the metrics of some of the rows, with repetitions.
        confidence: such as 0.95.
    """
    count = len(groups.counts)
    values = score(groups.rows(np.arange(count)))
    if count < 3 * groups.block or count < 2:
        return {name: Estimate(value, np.nan, np.nan) for name, value in values.items()}
    drawn = [score(groups.rows(chosen)) for chosen in bootstrap.draws(count, groups.block, groups.draws, seed)]
    estimates = {}
    for name, value in values.items():
        statistics = np.array([one.get(name, np.nan) for one in drawn], np.float64)
        known = np.isfinite(value) and np.isfinite(statistics).all()
        low, high = bootstrap.interval(statistics, confidence) if known else (np.nan, np.nan)
        estimates[name] = Estimate(value, float(low), float(high))
    return estimates


def scorer(outputs: NDArray[Any], targets: NDArray[Any], losses: NDArray[np.float64], metrics: Any) -> Any:
    """Returns a function for ``estimate``: the mean loss of rows, and the metrics of their outputs and targets."""

    def score(rows: Rows) -> dict[str, float]:
        return {"loss": float(losses[rows].mean()), **metrics(outputs[rows], targets[rows])}

    return score
