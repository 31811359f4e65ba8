"""Errors of forecasts. Arrays of actual values and of forecasts have the same shape.

An actual value that is NaN is not judged; a forecast that is NaN, where there is an actual value, makes a score NaN,
and so does nothing to judge.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Axes = int | tuple[int, ...] | None  # over which a score is averaged; None: all


def mean(values: ArrayLike, axes: Axes = None) -> Array:
    """Returns the mean over ``axes`` of the values that are not NaN; NaN where there is none."""
    return judged(values, values, axes)


def judged(values: ArrayLike, actual: ArrayLike, axes: Axes = None) -> Array:
    """Returns the mean over ``axes`` of the values whose actual value is not NaN; NaN where there is none."""
    known = ~np.isnan(np.asarray(actual, np.float64))
    total = np.where(known, np.asarray(values, np.float64), 0.0).sum(axis=axes)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Array = np.asarray(total / known.sum(axis=axes))
    return result


def over_targets(scores: ArrayLike, actual: ArrayLike) -> float:
    """Returns the mean of the scores (K,) of those targets of which ``actual`` (..., K) has a value; NaN where it has
    none."""
    values = np.asarray(actual, np.float64)
    return float(judged(scores, mean(values, tuple(range(values.ndim - 1)))))


def mae(actual: ArrayLike, forecast: ArrayLike, axes: Axes = None) -> Array:
    """Returns the mean absolute error."""
    return judged(np.abs(_difference(actual, forecast)), actual, axes)


def rmse(actual: ArrayLike, forecast: ArrayLike, axes: Axes = None) -> Array:
    """Returns the root of the mean squared error."""
    return np.sqrt(judged(_difference(actual, forecast) ** 2, actual, axes))


def smape(actual: ArrayLike, forecast: ArrayLike, axes: Axes = None) -> Array:
    """Returns the symmetric mean absolute percentage error, from 0 to 200.

    The mean of 200 |y − f| / (|y| + |f|), as in the M3 and M4 competitions (Makridakis & Hibon 2000). A forecast of 0
    for an actual 0 has no error.
    """
    actual, forecast = np.asarray(actual, np.float64), np.asarray(forecast, np.float64)
    size = np.abs(actual) + np.abs(forecast)
    with np.errstate(invalid="ignore"):  # NaN where the sum overflows
        error = 200 * np.abs(actual - forecast) / np.where(size == 0, 1.0, size)
    return judged(error, actual, axes)


def mase(actual: ArrayLike, forecast: ArrayLike, scale: ArrayLike, axes: Axes = None) -> Array:
    """Returns the mean absolute scaled error (Hyndman & Koehler 2006).

    Args:
        scale: what ``naive_scale`` returns for the training data, in a shape that broadcasts against ``actual``.
            Where it is 0, the error is not defined, and does not count.
    """
    scale = np.broadcast_to(np.asarray(scale, np.float64), np.shape(actual))
    known = np.where(scale > 0, actual, np.nan)
    return judged(np.abs(_difference(actual, forecast)) / np.where(scale > 0, scale, 1.0), known, axes)


def naive_scale(training: ArrayLike, period: int = 1) -> Array:
    """Returns the mean absolute error of the naive forecast on the training data itself (Hyndman & Koehler 2006).

    Args:
        training: (T, ...), values in the order of time.
        period: 1 for the forecast "as at the timestep before"; else "as one season before".

    Returns:
        (...): a scale for each series and target.
    """
    values = np.asarray(training, np.float64)
    if period < 1:
        raise ValueError(f"period={period}: should be at least 1")
    return mean(np.abs(values[period:] - values[:-period]), 0)


def crps(actual: ArrayLike, forecast: ArrayLike, residuals: ArrayLike) -> Array:
    """Returns the continuous ranked probability score of each forecast, whose distribution is the forecast plus each
    of the residuals with the same probability.

    E|X − y| − E|X − X'| / 2, with X and X' drawn from the distribution (Gneiting & Raftery 2007, equation 21), is
    computed exactly. It has the unit of the data, and is the absolute error where all residuals are 0.

    Args:
        actual, forecast: (..., H, K).
        residuals: (M, H, K): actual value − forecast, on other data; NaN is left out.

    Returns:
        (..., H, K); NaN where a value is missing, or there is no residual.
    """
    error = _difference(actual, forecast)
    drawn = np.asarray(residuals, np.float64)
    scores = np.full(error.shape, np.nan)
    for step, target in np.ndindex(drawn.shape[1:]):
        ordered = np.sort(drawn[:, step, target])
        ordered = ordered[~np.isnan(ordered)]
        count = len(ordered)
        if not count:
            continue
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        value = error[..., step, target]
        below = np.searchsorted(ordered, value)
        distance = (value * (2 * below - count) - 2 * sums[below] + sums[-1]) / count
        spread = (2 * np.arange(1, count + 1) - count - 1) @ ordered / count**2
        scores[..., step, target] = distance - spread
    return scores


def _difference(actual: ArrayLike, forecast: ArrayLike) -> Array:
    result: Array = np.asarray(actual, np.float64) - np.asarray(forecast, np.float64)
    return result
