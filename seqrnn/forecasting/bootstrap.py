"""Which timesteps or sequences to draw for a bootstrap interval of any statistic.

Independent sequences are drawn one by one (Efron 1979). The timesteps of a series depend on each other, so they are
drawn in blocks (the moving-block bootstrap, Künsch 1989; of lengths, see Politis & Romano 1994).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
RESAMPLES = 999


def block_length(count: int, horizon: int = 1) -> int:
    """Returns how many neighbours are drawn together: the cube root of their number, the order that has the least
    error (Künsch 1989), but at least twice a horizon of several steps, over which the errors of forecasts overlap; at
    most a third of all."""
    overlap = 2 * horizon if horizon > 1 else 1
    return max(1, min(max(math.ceil(math.cbrt(count)), overlap), count // 3))


def draws(count: int, block: int = 1, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Indices]:
    """Yields indices (count,) of a resample, ``resamples`` times.

    Args:
        count: how many timesteps or sequences there are.
        block: how many neighbours are drawn together; 1: each by itself.
    """
    rng = np.random.default_rng(seed)
    blocks = math.ceil(count / block)
    for _ in range(resamples):
        begins = rng.integers(0, count - block + 1, blocks)
        yield (begins[:, None] + np.arange(block)).ravel()[:count]


def interval(statistics: NDArray[np.float64], confidence: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the middle ``confidence`` of statistics (R, ...): the percentile interval (Efron 1979)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistics, [tail, 1 - tail], axis=0)
    return low, high
