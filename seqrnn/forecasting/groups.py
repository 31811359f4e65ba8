"""Which of the timesteps that are judged are drawn together for a bootstrap interval (``bootstrap``).

Many sequences are independent of each other, so each is a group, as is each one that has a single timestep to judge,
such as the class of a recording. Of few sequences, each time is a group (with all sequences that have it), and
neighbouring times are drawn together, because their errors depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.forecasting import bootstrap
from seqrnn.forecasting.residuals import MOST_CORRELATED, autocorrelation, white_noise_band

MANY = 20  # sequences that are independent groups
MOST_ROWS = 3e8  # over all draws, of which there are fewer for very long tests
FEWEST_DRAWS = 199
MOST_LAGS = 1000
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """The timesteps that count, in groups.

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

    def chosen(self) -> Iterator[Rows]:
        """Yields the groups of each draw; nothing where there are too few groups for an interval."""
        count = len(self.counts)
        if count < 3 * self.block or count < 2:
            return
        number = int(np.clip(MOST_ROWS / max(len(self.order), 1), FEWEST_DRAWS, bootstrap.RESAMPLES))
        yield from bootstrap.draws(count, self.block, number)

    def draws(self) -> Iterator[Rows]:
        """Yields the rows of each draw; nothing where there are too few groups for an interval."""
        for chosen in self.chosen():
            yield self.rows(chosen)

    def rows(self, chosen: Rows) -> Rows:
        """Returns the rows of groups, with repetitions."""
        counts = self.counts[chosen]
        begins = np.cumsum(self.counts) - self.counts
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found: Rows = self.order[np.repeat(begins[chosen], counts) + inside]
        return found

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the sum of the rows' values (N', …) over each group."""
        return np.asarray(np.add.reduceat(values[self.order], np.cumsum(self.counts) - self.counts, axis=0))


def group(times: NDArray[Any], sequences: Rows, losses: NDArray[np.float64], horizon: int) -> Groups:
    """Groups the timesteps that count.

    Args:
        times: (N',) when each is, which sequences share; without dates, which timestep of its sequence it is.
        sequences: (N',) of which sequence each is.
        losses: (N',) how far off the prediction of each is.
        horizon: steps of a forecast, over which errors overlap.
    """
    found, numbers = np.unique(sequences, return_inverse=True)
    steps, steps_of = np.unique(times, return_inverse=True)
    if len(found) >= MANY or 1 < len(found) == len(numbers):
        return Groups(np.argsort(numbers, kind="stable"), np.bincount(numbers), 1, f"{len(found):,} sequences")
    counts = np.bincount(steps_of)
    means = np.bincount(steps_of, losses) / np.maximum(counts, 1)
    block = max(bootstrap.block_length(len(steps), horizon), _memory(means))
    block = max(1, min(block, len(steps) // 3))
    what = f"{len(steps):,} timestep{'s' * (len(steps) != 1)}"
    order = np.argsort(steps_of, kind="stable")
    return Groups(order, counts, block, f"{what} in blocks of {block:,}" if block > 1 else what)


def _memory(losses: NDArray[np.float64]) -> int:
    """Returns how many neighbouring losses depend on each other: twice the lags up to which their autocorrelation is
    more than that of noise, as in Politis & White (2004)."""
    losses = losses[-MOST_CORRELATED:]
    lags = min(MOST_LAGS, len(losses) // 4)
    if lags < 1:
        return 1
    correlation = autocorrelation(losses, lags)[1:]
    within = np.abs(np.nan_to_num(correlation)) < white_noise_band(len(losses))
    return 2 * (int(np.argmax(within)) if within.any() else lags)
