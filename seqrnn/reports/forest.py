"""The small drawing in each row of the leaderboard: the score of each seed, the mean, and its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, MARGIN = 130.0, 6.0  # units of the drawing
ORDERS = 30  # the largest value is so many times the smallest: the scale is logarithmic


@dataclass(frozen=True)
class Forest:
    """Places on the x-axis of the drawing.

    Args:
        seeds: of the score of each run.
        mean: of the mean.
        interval: of the ends of its confidence interval, cut off where the drawing ends.
        baseline: of the best trivial predictor, if it lies within.
    """

    seeds: list[float]
    mean: float
    interval: tuple[float, float] | None
    baseline: float | None


@dataclass(frozen=True)
class Scale:
    """The x-axis that all rows share, from the lowest score of a run to the highest."""

    low: float
    high: float
    is_log: bool

    @classmethod
    def of(cls, values: Sequence[float]) -> Scale | None:
        """Returns the scale of some values; None if there are none."""
        if not values:
            return None
        low, high = min(values), max(values)
        return cls(low, high, low > 0 and high > ORDERS * low)

    def place(self, value: float) -> float:
        """Returns where a value lies; at the end of the drawing if it lies beyond."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(MARGIN + min(1.0, max(0.0, share)) * (WIDTH - 2 * MARGIN), 1)

    def forest(
        self, values: Sequence[float], mean: float | None, half: float | None, baseline: float | None
    ) -> Forest | None:
        """Returns the drawing of a condition; None if it has no score."""
        if mean is None:
            return None
        ends = None if half is None else (self.place(mean - half), self.place(mean + half))
        is_within = baseline is not None and self.low <= baseline <= self.high
        return Forest(
            [self.place(value) for value in values],
            self.place(mean),
            ends,
            self.place(baseline) if is_within and baseline is not None else None,
        )
