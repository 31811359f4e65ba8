"""Forecasts that need no training, or hardly any: persistence, seasonal persistence, and the mean (Hyndman &
Athanasopoulos 2021, section 5.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seqrnn.forecasting import metrics
from seqrnn.forecasting.origins import last_known

Array = NDArray[np.float64]


def persistence(levels: Array, horizon: int) -> Array:
    """Returns the forecast that nothing changes.

    Args:
        levels: (T, N, K), the targets as they are known at each timestep; where one is missing, the one before it
            stands.

    Returns:
        (T, N, horizon, K); NaN before the first known value.
    """
    return np.repeat(last_known(levels)[:, :, None], horizon, axis=2)


def seasonal_naive(levels: Array, horizon: int, period: int) -> Array:
    """Returns the forecast that each value is that of the latest season known at the origin.

    Args:
        levels: (T, N, K), as for ``persistence``.
        period: timesteps of a season.

    Returns:
        (T, N, horizon, K); persistence where a whole season is not yet known, NaN before the first known value.
    """
    if period < 1:
        raise ValueError(f"period={period}: should be at least 1")
    known = last_known(levels)
    result = persistence(levels, horizon)
    for step in range(horizon):
        back = (step // period + 1) * period - (step + 1)  # timesteps from the origin to the value that is repeated
        repeated = known[: max(0, len(known) - back)]
        result[back:, :, step] = np.where(np.isnan(repeated), result[back:, :, step], repeated)
    return result


def best_period(training: Array, candidates: Sequence[int]) -> int | None:
    """Returns the candidate whose season, repeated, has the least mean absolute error on the training data.

    Args:
        training: (T, ...).

    Returns:
        None where no candidate fits at least twice into the data.
    """
    fitting = [period for period in candidates if 2 * period <= len(training)]
    errors = {period: float(metrics.mean(metrics.naive_scale(training, period))) for period in fitting}
    known = {period: error for period, error in errors.items() if np.isfinite(error)}
    return min(known, key=known.__getitem__) if known else None
