"""Which of the timesteps that are judged are drawn together for a bootstrap interval (``bootstrap``).

Many sequences are independent of each other, so each is a group, as is each one that has a single timestep to judge,
such as the class of a recording. Of few sequences, each time is a group (with all sequences that have it), and
neighbouring times are drawn together, because their errors depend on each other.

Many sequences that are judged at the same times depend on each other through the times: on a day that is hard to
predict, all shops have large errors. Times and sequences are then both drawn, each by itself, and a timestep comes as
often as its time was drawn, times as often as its sequence was: the pigeonhole bootstrap (Owen 2007, "The pigeonhole
bootstrap", Annals of Applied Statistics 1). Its intervals hold whichever of the two makes errors depend on each
other, and are too wide where neither does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.forecasting import bootstrap
from seqrnn.forecasting.residuals import MOST_CORRELATED, autocorrelation, white_noise_band

MANY = 20  # sequences that are drawn
FEWEST_TIMES = 5  # that are drawn beside sequences; fewer do not show how much errors depend on the time
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
        sequences: (N',) of which sequence each row is, counted from 0, where sequences are drawn beside the groups;
            None: only groups are drawn.
    """

    order: Rows
    counts: Rows
    block: int
    description: str
    sequences: Rows | None = None

    def draws(self) -> Iterator[Rows]:
        """Yields the rows of each draw; nothing where there are too few groups for an interval."""
        if self.sequences is None:
            yield from map(self.rows, self._chosen())
            return
        for chosen, times_drawn in zip(self._chosen(), self._sequences_drawn(self.sequences), strict=False):
            rows = self.rows(chosen)
            yield np.repeat(rows, times_drawn[self.sequences[rows]])

    def drawn_sums(self, values: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Yields the sum of the rows' values (N', …) over the rows of each draw. Where a value is not finite, sums of
        which it is no part may be NaN as well."""
        summed, shape, count = values.reshape(len(values), -1)[self.order], values.shape[1:], len(self.counts)
        if self.sequences is None:
            by_group = np.add.reduceat(summed, np.cumsum(self.counts) - self.counts, axis=0)
            weights = (np.bincount(chosen, minlength=count) for chosen in self._chosen())
            yield from (_weighed(one, by_group).reshape(shape) for one in weights)
            return
        sequences = self.sequences[self.order]
        for chosen, times_drawn in zip(self._chosen(), self._sequences_drawn(sequences), strict=False):
            of_times = np.repeat(np.bincount(chosen, minlength=count), self.counts)
            yield _weighed(of_times * times_drawn[sequences], summed).reshape(shape)

    def all_drawn_sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the same of all draws, (R, …); R is 0 where there are too few groups."""
        return np.array([*self.drawn_sums(values)], np.float64).reshape(-1, *values.shape[1:])

    def rows(self, chosen: Rows) -> Rows:
        """Returns the rows of groups, with repetitions."""
        counts = self.counts[chosen]
        begins = np.cumsum(self.counts) - self.counts
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found: Rows = self.order[np.repeat(begins[chosen], counts) + inside]
        return found

    @property
    def _number(self) -> int:
        """How many draws there are."""
        return int(np.clip(MOST_ROWS / max(len(self.order), 1), FEWEST_DRAWS, bootstrap.RESAMPLES))

    def _sequences_drawn(self, sequences: Rows) -> Iterator[Rows]:
        """Yields how often each sequence comes in each draw."""
        count = int(sequences.max()) + 1
        for drawn in bootstrap.draws(count, resamples=self._number, seed=1):
            yield np.bincount(drawn, minlength=count)

    def _chosen(self) -> Iterator[Rows]:
        """Yields the groups of each draw; nothing where there are too few."""
        count = len(self.counts)
        if count >= 3 * self.block and count >= 2:
            yield from bootstrap.draws(count, self.block, self._number)


def _weighed(weights: Rows, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the sum of values (N, K) times weights (N,). A product of matrices would take every core."""
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = np.einsum("n,nk->k", weights.astype(np.float64), values)
    return found


def group(
    times: NDArray[Any], sequences: Rows, losses: NDArray[np.float64], horizon: int, *, share_time: bool
) -> Groups:
    """Groups the timesteps that count.

    Args:
        times: (N',) when each is; without dates, which timestep of its sequence it is.
        sequences: (N',) of which sequence each is.
        losses: (N',) how far off the prediction of each is.
        horizon: steps of a forecast, over which errors overlap.
        share_time: whether equal times of different sequences are the same time, as dates are.
    """
    found, numbers = np.unique(sequences, return_inverse=True)
    steps, steps_of = np.unique(times, return_inverse=True)
    is_many = len(found) >= MANY
    # Where most times belong to one sequence alone, nothing happens to several of them at once.
    draws_both = is_many and share_time and FEWEST_TIMES <= len(steps) <= len(numbers) / 2
    if (is_many and not draws_both) or 1 < len(found) == len(numbers):
        return Groups(np.argsort(numbers, kind="stable"), np.bincount(numbers), 1, f"{len(found):,} sequences")
    counts = np.bincount(steps_of)
    means = np.bincount(steps_of, losses) / np.maximum(counts, 1)
    block = max(bootstrap.block_length(len(steps), horizon), _memory(means))
    block = max(1, min(block, len(steps) // 3))
    what = f"{len(steps):,} timestep{'s' * (len(steps) != 1)}"
    what += f" in blocks of {block:,}" if block > 1 else ""
    order = np.argsort(steps_of, kind="stable")
    if not draws_both:
        return Groups(order, counts, block, what)
    return Groups(order, counts, block, f"{len(found):,} sequences and {what}", numbers)


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
