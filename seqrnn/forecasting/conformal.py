"""Prediction intervals from the errors on other data, without assumptions about their distribution.

Split conformal prediction (Vovk, Gammerman & Shafer 2005; Lei et al. 2018): an interval reaches from the forecast
plus a low quantile of the residuals on calibration data to the forecast plus a high one, for each step of the horizon
and each target by itself. Where calibration and test data are exchangeable, at least the share ``confidence`` of the
actual values lies within. Unlike in Lei et al., the two ends are quantiles of the signed residuals, each with half of
the misses, so that skewed errors have intervals that are as skewed; the guarantee holds for each end.

Time series drift, so ``adaptive`` corrects the level of each end as actual values arrive (adaptive conformal
inference, Gibbs & Candès 2021), with the most recent residuals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RATE = 0.01  # γ of Gibbs & Candès: how far a miss moves the level
MOST_RECENT = 1000  # residuals that adaptive intervals are made from
SORT_EVERY = 20  # forecasts between two sorts of them


def least_residuals(confidence: float) -> int:
    """Returns how many residuals an interval of a confidence needs: with fewer, its ends would be infinite."""
    return math.ceil(2 / (1 - confidence) - 1 - 1e-9)


def split(residuals: Array, confidence: float) -> tuple[Array, Array]:
    """Returns how far an interval reaches from its forecast.

    Args:
        residuals: (M, H, K): actual value − forecast, on calibration data; NaN is left out.
        confidence: the share of actual values that should lie within, between 0 and 1.

    Returns:
        The lower and the upper end (H, K), to be added to a forecast; NaN where there are fewer than
        ``least_residuals`` residuals.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: should be between 0 and 1")
    ordered = np.sort(residuals, axis=0)  # NaN last
    counts = (~np.isnan(ordered)).sum(axis=0)
    rank = np.floor((counts + 1) * (1 - confidence) / 2 + 1e-9).astype(np.int64)  # from either end, counted from 1
    last = max(len(ordered) - 1, 0)
    if not len(ordered):
        return np.full(counts.shape, np.nan), np.full(counts.shape, np.nan)
    low = np.take_along_axis(ordered, np.clip(rank - 1, 0, last)[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.clip(counts - rank, 0, last)[None], axis=0)[0]
    return np.where(rank >= 1, low, np.nan), np.where(rank >= 1, high, np.nan)


def adaptive(calibration: Array, residuals: Array, confidence: float, rate: float = RATE) -> tuple[Array, Array]:
    """Returns how far intervals reach from consecutive forecasts, each made with what was known at its origin.

    At timestep t, the actual value h steps after an origin is known of the origins up to t − h. Unlike in Gibbs &
    Candès, an interval is never infinite: where the level asks for that, it ends at the most extreme recent residual.

    Args:
        calibration: (M, H, K): residuals before the first forecast, in the order of time.
        residuals: (T, H, K): those of the forecasts, of which each is used when it is known. NaN is left out.
        rate: γ of Gibbs & Candès.

    Returns:
        The lower and the upper ends (T, H, K); NaN where fewer than ``least_residuals`` residuals are known.
    """
    steps, horizon, targets = residuals.shape
    tail = (1 - confidence) / 2
    least = least_residuals(confidence)
    known = np.full((steps, horizon, targets), np.nan)  # at [t, h]: the residual that becomes known at t
    for step in range(horizon):
        known[step + 1 :, step] = residuals[: max(0, steps - step - 1), step]
    history = np.concatenate([calibration, known])
    begin = len(calibration)
    lower, upper = np.full(residuals.shape, np.nan), np.full(residuals.shape, np.nan)
    all_steps = np.arange(horizon)
    levels = np.full((2, horizon, targets), tail)  # of misses below and above
    ordered = counts = np.empty(0)
    for t in range(steps):
        if t % SORT_EVERY == 0:
            recent = history[max(0, begin + t + 1 - MOST_RECENT) : begin + t + 1]
            ordered = np.sort(recent, axis=0)
            counts = (~np.isnan(ordered)).sum(axis=0)
        origins = t - 1 - all_steps  # of the forecasts whose values become known now
        steps_now, origins = all_steps[origins >= 0], origins[origins >= 0]
        value, low, high = (values[origins, steps_now] for values in (residuals, lower, upper))
        misses = np.where(np.isnan(value) | np.isnan(low), tail, np.stack([value < low, value > high]))
        levels[:, steps_now] = np.clip(levels[:, steps_now] + rate * (tail - misses), 0.0, 0.5)
        ranks = np.floor((counts + 1) * levels + 1e-9).astype(np.int64)
        ranks = np.maximum(ranks, 1)
        enough = counts >= least
        last = len(ordered) - 1
        low = np.take_along_axis(ordered, np.clip(ranks[0] - 1, 0, last)[None], axis=0)[0]
        high = np.take_along_axis(ordered, np.clip(counts - ranks[1], 0, last)[None], axis=0)[0]
        lower[t], upper[t] = np.where(enough, low, np.nan), np.where(enough, high, np.nan)
    return lower, upper


def quantiles(residuals: Array, levels: Sequence[float]) -> Array:
    """Returns quantiles (L, H, K) of residuals (M, H, K) without those that are NaN; NaN where there is none."""
    found = np.full((len(levels), *residuals.shape[1:]), np.nan)
    for place in np.ndindex(residuals.shape[1:]):
        column = residuals[(slice(None), *place)]
        column = column[~np.isnan(column)]
        if len(column):
            found[(slice(None), *place)] = np.quantile(column, levels)
    return found
