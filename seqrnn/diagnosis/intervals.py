"""Confidence intervals: every number that a diagnosis reports has one.

scipy and torch are imported where they are used: a result is also read, and drawn, without either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from seqrnn.diagnosis.record import Number

LEVEL = 0.95
RESAMPLES = 999
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval at ``LEVEL``. A bound that is NaN becomes infinite, so that no finding
    rests on a bound that is not known."""

    value: Number
    low: Number
    high: Number

    def __post_init__(self) -> None:
        for name, unbounded in (("low", -math.inf), ("high", math.inf)):
            if math.isnan(getattr(self, name)):
                object.__setattr__(self, name, unbounded)

    def __str__(self) -> str:
        """Returns the estimate and its bounds as a reader sees them; words where there is nothing to show."""
        low, high = (math.isfinite(bound) for bound in (self.low, self.high))
        if not math.isfinite(self.value):
            if low and self.low > 0:
                return f"at least {number(self.low)}"
            return f"at most {number(self.high)}" if high else "could not be measured"
        if self.low == self.high:
            return number(self.value)
        if not high and (not low or self.low == 0):  # of a ratio, the least bound is 0
            return f"{number(self.value)} (too few samples for an interval)"
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]"

    def times(self, factor: float) -> Interval:
        """Returns the interval of a positive multiple."""
        return Interval(factor * self.value, factor * self.low, factor * self.high)


UNKNOWN = Interval(math.nan, -math.inf, math.inf)


def number(value: float) -> str:
    """Returns a number with three significant digits, and a whole number without a fraction."""
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2g}"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def part_of_length(part: float) -> str:
    """Returns a part of a run's length in words."""
    if part == 1:
        return "the whole length"
    return f"1/{round(1 / part)} of the length" if 1e-6 < part < 1 else f"{number(part)} of the length"


def percent(share: Interval) -> str:
    """Returns an interval of shares in percent."""
    value, low, high = (
        f"{round(100 * part)}" if abs(part) < 10 else number(100 * part)
        for part in (share.value, share.low, share.high)
    )
    return f"{value} % [{low}, {high}]" if share.low < share.high else f"{value} %"


def of_mean(values: Sequence[float] | Numbers) -> Interval:
    """Returns the mean of independent values, by Student's t. With fewer than two values, or one that is NaN or
    infinite, nothing is known of their spread, and the interval has no bounds."""
    array = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):
        mean = float(array.mean()) if len(array) else math.nan
    if len(array) < 2 or not math.isfinite(mean):
        return Interval(mean, -math.inf, math.inf)
    from scipy import stats

    spread = float(array.std(ddof=1)) / math.sqrt(len(array)) * float(stats.t.ppf((1 + LEVEL) / 2, len(array) - 1))
    return Interval(mean, mean - spread, mean + spread)


def of_ratio(values: Sequence[float] | Numbers, others: Sequence[float] | Numbers) -> Interval:
    """Returns the geometric mean of the ratios values / others of positive pairs, by Student's t on logarithms."""
    logs = of_mean(np.log(np.asarray(values, np.float64)) - np.log(np.asarray(others, np.float64)))
    with np.errstate(over="ignore"):
        return Interval(*(float(np.exp(part)) for part in (logs.value, logs.low, logs.high)))


def bootstrapped(count: int, statistic: Callable[[NDArray[np.int64]], float]) -> Interval:
    """Returns a statistic of ``count`` independent samples, by the percentile bootstrap (Efron 1979).

    Args:
        statistic: is given indices of samples, with repetitions.
    """
    value = float(statistic(np.arange(count)))
    if count < 2 or math.isnan(value):
        return Interval(value, -math.inf, math.inf)
    drawn = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    return Interval(value, *_percentiles(np.array([statistic(chosen) for chosen in drawn], np.float64)))


def _percentiles(statistics: Numbers) -> tuple[float, float]:
    """Returns the bounds of the middle ``LEVEL`` of the statistics; one that is NaN could be anything."""
    unknown = np.isnan(statistics)
    low = np.quantile(np.where(unknown, -math.inf, statistics), (1 - LEVEL) / 2, method="lower")
    high = np.quantile(np.where(unknown, math.inf, statistics), (1 + LEVEL) / 2, method="higher")
    return float(low), float(high)


def in_blocks(values: Numbers, blocks: int) -> Numbers:
    """Returns the means (blocks, …) of blocks of neighbouring values (N, …), which depend on each other less than the
    values do; values that do not fill a block are left out."""
    blocks = min(blocks, len(values))
    each = len(values) // blocks
    means: Numbers = values[: blocks * each].reshape(blocks, each, *values.shape[1:]).mean(axis=1)
    return means


def resampled(samples: Numbers, resamples: int = RESAMPLES, seed: int = 0) -> Numbers:
    """Returns sums (resamples, …) over as many samples as there are (N, …), drawn with repetition: the bootstrap of
    every function of sums."""
    import torch

    count = len(samples)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)  # (R, N)
    # By torch, which keeps to the number of threads that it was given; NumPy takes every core.
    sums: Numbers = (torch.from_numpy(drawn).double() @ torch.from_numpy(samples).reshape(count, -1)).numpy()
    return sums.reshape(resamples, *samples.shape[1:])


def spread(value: float, statistics: Numbers, samples: int) -> Interval:
    """Returns the interval that ``bootstrapped`` gives, from statistics (resamples,) of ``resampled`` sums of so many
    samples."""
    if samples < 2 or not math.isfinite(value):
        return Interval(value, -math.inf, math.inf)
    low, high = _percentiles(statistics)
    return Interval(value, min(low, value), max(high, value))
