"""Prediction intervals from the errors on other data, without assumptions about their distribution.

Split conformal prediction (Vovk, Gammerman & Shafer 2005; Lei et al. 2018): an interval reaches from the forecast
plus a low quantile of the residuals on calibration data to the forecast plus a high one, for each step of the horizon
and each target by itself. Where calibration and test data are exchangeable, at least the share ``confidence`` of the
actual values lies within. Unlike in Lei et al., the two ends are quantiles of the signed residuals, each with half of
the misses, so that skewed errors have intervals that are as skewed; the guarantee holds for each end.

Time series drift, so ``adaptive`` corrects the level of each end as actual values arrive (adaptive conformal
inference, Gibbs & Candès 2021), with the most recent residuals.

Several series are not equally hard to predict. Their residuals are divided by a scale of each series before they are
put together (a normalised score, as of Papadopoulos et al. 2002), and the ends are multiplied by it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from seqrnn.forecasting import metrics

Array = NDArray[np.float64]
RATE = 0.005  # γ: how far a miss moves the level; the value of Gibbs & Candès
MOST_RECENT = 1000  # residuals that adaptive intervals are made from
MOST_CORRECTIONS = 10_000  # different adaptive intervals
SORT_EVERY = 20  # corrections between two sorts of the residuals
LEAST_SCALE = 0.01  # of a series, before it is shrunk
VARIANCE_OF_ONE = 1.0  # of the logarithm of a mean, from one timestep; 0.57 for normal errors that are independent


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
    tails = np.full((2, *counts.shape), (1 - confidence) / 2)
    low, high = np.where(counts >= least_residuals(confidence), _ends(ordered, counts, tails), np.nan)
    return low, high


def scales(residuals: Array) -> Array:
    """Returns how large the residuals of each series are, as a multiple of those of all series: the mean of absolute
    residuals by step, each divided by its mean over the series.

    The logarithms are shrunk towards their mean by empirical Bayes (Efron & Morris 1975): the more, the fewer
    timesteps a series has, and the more alike the series are.

    Args:
        residuals: (M, N, H, K), on calibration data; NaN is left out.

    Returns:
        (N, K), more than 0; that of all series where nothing is known.
    """
    sizes = np.abs(residuals)
    usual = metrics.mean(sizes, (0, 1))  # (H, K)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = metrics.mean(sizes / np.where(usual > 0, usual, np.nan), (0, 2))  # (N, K)
    counts = (~np.isnan(residuals)).any(axis=2).sum(axis=0)
    logs = np.log(np.maximum(ratios, LEAST_SCALE))
    centre = np.nan_to_num(metrics.mean(logs, 0))  # (K,)
    errors = VARIANCE_OF_ONE / np.maximum(counts, 1)
    spread = np.maximum(metrics.mean((logs - centre) ** 2 - errors, 0), 0.0)
    with np.errstate(invalid="ignore"):
        weights = np.where(np.isnan(logs), 0.0, spread / (spread + errors))
    found: Array = np.exp(centre + weights * np.nan_to_num(logs - centre))
    return found


def adaptive(calibration: Array, residuals: Array, confidence: float, rate: float = RATE) -> tuple[Array, Array]:
    """Returns how far intervals reach from consecutive forecasts, each made with what was known at its origin.

    At timestep t, the actual value h steps after an origin is known of the origins up to t − h. Unlike in Gibbs &
    Candès, an interval is never infinite: where the level asks for that, it ends at the most extreme recent residual.
    The series share their intervals. Of very many forecasts, consecutive ones do, too (at most ``MOST_CORRECTIONS``
    different ones are made).

    Args:
        calibration: (M, N, H, K): residuals before the first forecast, in the order of time.
        residuals: (T, N, H, K): those of the forecasts, of which each is used when it is known. NaN is left out.
        rate: γ of Gibbs & Candès.

    Returns:
        The lower and the upper ends (T + 1, H, K); the last are those of a forecast after the last timestep. NaN
        where fewer than ``least_residuals`` residuals are known.
    """
    timesteps, series, horizon, targets = residuals.shape
    tail, least = (1 - confidence) / 2, least_residuals(confidence)
    steps = np.arange(horizon)
    known = np.full((timesteps + 1, *residuals.shape[1:]), np.nan)  # at [t, :, h]: what becomes known at t
    for step in steps:
        known[step + 1 :, :, step] = residuals[: max(0, timesteps - step), :, step]
    history = np.concatenate([calibration, known])
    window = max(1, MOST_RECENT // series)  # timesteps
    lower = np.full((timesteps + 1, horizon, targets), np.nan)
    upper = lower.copy()
    levels = np.full((2, horizon, targets), tail)  # of misses below and above
    ordered, counts = np.empty((0, horizon, targets)), np.zeros((horizon, targets), np.int64)
    each = -(-(timesteps + 1) // MOST_CORRECTIONS)
    for number, begin in enumerate(range(0, timesteps + 1, each)):
        if number % SORT_EVERY == 0:
            end = len(calibration) + begin + 1
            recent = history[max(0, end - window) : end].reshape(-1, horizon, targets)
            ordered = np.sort(recent, axis=0)  # NaN last
            counts = (~np.isnan(ordered)).sum(axis=0)
        now = np.arange(max(1, begin - each + 1), begin + 1)[:, None]  # (t, 1)
        origins = now - 1 - steps  # (t, H), of the forecasts whose actual values become known
        latest = np.maximum(origins, 0)
        low, high = (np.where(origins[..., None] >= 0, ends[latest, steps], np.nan) for ends in (lower, upper))
        value = known[now[:, 0]]  # (t, N, H, K)
        judged = ~np.isnan(value) & ~np.isnan(low[:, None])
        misses = np.stack([value < low[:, None], value > high[:, None]]) & judged
        count = judged.sum(axis=1)  # (t, H, K)
        shares = misses.sum(axis=2) / np.maximum(count, 1)
        levels = np.clip(levels + np.where(count > 0, rate * (tail - shares), 0.0).sum(axis=1), 0.0, 0.5)
        low, high = _ends(ordered, counts, levels)
        group = slice(begin, begin + each)
        lower[group], upper[group] = np.where(counts >= least, [low, high], np.nan)
    return lower, upper


def _ends(ordered: Array, counts: NDArray[np.int64], levels: Array) -> tuple[Array, Array]:
    """Returns the residuals (H, K) below and above which so many lie as the levels (2, H, K) say, at least one.

    Args:
        ordered: (M, H, K), with NaN last.
        counts: (H, K), of those that are not NaN.
    """
    if not len(ordered):
        return np.full(counts.shape, np.nan), np.full(counts.shape, np.nan)
    ranks = np.maximum(np.floor((counts + 1) * levels + 1e-9).astype(np.int64), 1)
    places = np.clip([ranks[0] - 1, counts - ranks[1]], 0, len(ordered) - 1)
    low, high = np.take_along_axis(ordered[None], places[:, None], axis=1)[:, 0]
    return low, high
