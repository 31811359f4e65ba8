"""Confidence intervals: nothing that a diagnosis says stands without one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
RESAMPLES = 999
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval at ``LEVEL``. A bound that is no number is none at all, so that nothing
    is found where nothing is known."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        for name, unbounded in (("low", -math.inf), ("high", math.inf)):
            if math.isnan(getattr(self, name)):
                object.__setattr__(self, name, unbounded)

    def __str__(self) -> str:
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]"


def number(value: float) -> str:
    """For people: three digits that count."""
    if not math.isfinite(value):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{digits}f}"


def of_mean(values: Sequence[float] | Numbers) -> Interval:
    """The mean of independent values, by Student's t. With fewer than two, or one that is NaN or infinite, nothing is
    known of their spread, and the interval is without bounds."""
    array = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):
        mean = float(array.mean()) if len(array) else math.nan
    if len(array) < 2 or not math.isfinite(mean):
        return Interval(mean, -math.inf, math.inf)
    spread = float(array.std(ddof=1)) / math.sqrt(len(array)) * float(stats.t.ppf((1 + LEVEL) / 2, len(array) - 1))
    return Interval(mean, mean - spread, mean + spread)


def of_ratio(values: Sequence[float] | Numbers, others: Sequence[float] | Numbers) -> Interval:
    """The geometric mean of the ratios values / others of positive pairs, by Student's t on their logarithms."""
    logs = of_mean(np.log(np.asarray(values, np.float64)) - np.log(np.asarray(others, np.float64)))
    with np.errstate(over="ignore"):
        return Interval(*(float(np.exp(part)) for part in (logs.value, logs.low, logs.high)))


def bootstrapped(count: int, statistic: Callable[[NDArray[np.int64]], float]) -> Interval:
    """A statistic of ``count`` independent cases, by the percentile bootstrap (Efron 1979).

    Args:
        statistic: is given indices of cases, with repetitions.
    """
    value = float(statistic(np.arange(count)))
    if count < 2 or math.isnan(value):
        return Interval(value, -math.inf, math.inf)
    drawn = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    return Interval(value, *_percentiles(np.array([statistic(chosen) for chosen in drawn], np.float64)))


def _percentiles(samples: Numbers) -> tuple[float, float]:
    """Between them lies the middle of the samples; one that is no number might be anything."""
    unknown = np.isnan(samples)
    low = np.quantile(np.where(unknown, -math.inf, samples), (1 - LEVEL) / 2, method="lower")
    high = np.quantile(np.where(unknown, math.inf, samples), (1 + LEVEL) / 2, method="higher")
    return float(low), float(high)


def in_blocks(values: Numbers, blocks: int) -> Numbers:
    """Means (blocks, …) of stretches of neighbours, which depend on each other less than the values (N, …) do; what
    does not fill a block is left out."""
    blocks = min(blocks, len(values))
    each = len(values) // blocks
    means: Numbers = values[: blocks * each].reshape(blocks, each, *values.shape[1:]).mean(axis=1)
    return means


def resampled(cases: Numbers, resamples: int = RESAMPLES, seed: int = 0) -> Numbers:
    """Sums (resamples, …) over as many cases as there are (N, …), drawn with repetition: the bootstrap of whatever is
    a function of sums."""
    count = len(cases)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)  # (R, N)
    # By torch, which keeps to the threads that it was given; NumPy's own take every core there is.
    sums: Numbers = (torch.from_numpy(drawn).double() @ torch.from_numpy(cases).reshape(count, -1)).numpy()
    return sums.reshape(resamples, *cases.shape[1:])


def spread(value: float, samples: Numbers, cases: int) -> Interval:
    """What ``bootstrapped`` gives, from statistics (resamples,) of ``resampled`` sums of so many cases."""
    if cases < 2 or not math.isfinite(value):
        return Interval(value, -math.inf, math.inf)
    low, high = _percentiles(samples)
    return Interval(value, min(low, value), max(high, value))
