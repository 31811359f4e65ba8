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
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Adapted:
    """How far adaptive intervals reach from their forecasts.

    Args:
        lower, upper: (T, N, H, K); NaN where too few residuals were known, and where there is no forecast.
        last: the lower and the upper end, (H, K) each, of a forecast that comes after all of these.
    """

    lower: Array
    upper: Array
    last: tuple[Array, Array]


def forecasts_made(residuals: Array, times: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns (T, N) which timesteps of each series have a forecast: not those before its first residual, which set
    the state, nor those that repeat its last time, which pad it.

    Args:
        residuals: (T, N, H, K).
        times: (T, N).
    """
    made: NDArray[np.bool_] = np.maximum.accumulate(~np.isnan(residuals).all(axis=(2, 3)), axis=0)
    made[1:] &= times[1:] > times[:-1]
    return made


def adaptive(
    calibration: Array,
    residuals: Array,
    times: NDArray[Any],
    confidence: float,
    *,
    rate: float = RATE,
    most: int = MOST_CORRECTIONS,
) -> Adapted:
    """Returns how far intervals reach from forecasts, each made with what was known at its origin.

    The actual value h steps after an origin is known h timesteps of its series later. The series share their
    intervals: one of some time is corrected by the values of all series that were known by then, so that their rows
    need not be those of the same times. Unlike in Gibbs & Candès, an interval is never infinite: where the level asks
    for that, it ends at the most extreme recent residual.

    Args:
        calibration: (M, H, K): residuals that are known before the first forecast, in the order of time.
        residuals: (T, N, H, K): those of the forecasts, of which each is used when it is known. NaN is left out.
        times: (T, N), of the origins, ascending in each series; repeated where a series is padded at its end.
        rate: γ of Gibbs & Candès.
        most: different intervals. Where there are more times, consecutive ones share one.
    """
    series, horizon, targets = residuals.shape[1:]
    tail, least = (1 - confidence) / 2, least_residuals(confidence)
    steps = np.arange(horizon)
    made = forecasts_made(residuals, times)
    moments = np.zeros(times.shape, np.int64)  # the number of each time among all of them
    moments[made] = np.unique(times[made], return_inverse=True)[1].ravel()
    count = int(moments[made].max(initial=-1)) + 1

    # Residuals become known at a forecast of their series, or behind its last one, which is after all times.
    rows, columns = np.nonzero(made)
    behind = np.where(made.any(axis=0), len(made) - made[::-1].argmax(axis=0), 0)
    rows, columns = np.concatenate([rows, behind]), np.concatenate([columns, np.arange(series)])
    when = np.concatenate([moments[made], np.full(series, count)])
    order = np.argsort(when, kind="stable")
    rows, columns, when = rows[order], columns[order, None], when[order]
    origins = rows[:, None] - 1 - steps  # (R, H)
    known = np.where(
        (origins >= 0)[..., None], residuals[np.maximum(origins, 0), columns, steps], np.nan
    )  # (R, H, K)
    made_at = moments[np.maximum(origins, 0), columns]  # (R, H)
    begins = np.searchsorted(when, np.arange(count + 2))

    history = np.concatenate([calibration, known])
    lower = np.full((count + 1, horizon, targets), np.nan)  # by moment, the last one after all times
    upper = lower.copy()
    levels = np.full((2, horizon, targets), tail)  # of misses below and above
    ordered, counts = np.empty((0, horizon, targets)), np.zeros((horizon, targets), np.int64)
    each = -(-(count + 1) // most)
    for number, moment in enumerate(range(0, count + 1, each)):
        if number % SORT_EVERY == 0:
            latest, end = len(calibration) + begins[moment : moment + 2]
            ordered = np.sort(history[max(0, min(latest, end - MOST_RECENT)) : end], axis=0)  # NaN last
            counts = (~np.isnan(ordered)).sum(axis=0)
        bounds = begins[max(0, moment - each + 1) : moment + 2]
        now, firsts = slice(bounds[0], bounds[-1]), bounds[:-1] - bounds[0]
        low, high = (ends[made_at[now], steps] for ends in (lower, upper))  # (R, H, K)
        judged = ~np.isnan(known[now]) & ~np.isnan(low)
        misses = np.stack([known[now] < low, known[now] > high]) & judged
        judged_then = np.add.reduceat(judged.astype(np.int64), firsts, axis=0)  # (moments, H, K)
        shares = np.add.reduceat(misses.astype(np.int64), firsts, axis=1) / np.maximum(judged_then, 1)
        levels = np.clip(levels + np.where(judged_then > 0, rate * (tail - shares), 0.0).sum(axis=1), 0.0, 0.5)
        low, high = _ends(ordered, counts, levels)
        group = slice(moment, moment + each)
        lower[group], upper[group] = np.where(counts >= least, [low, high], np.nan)
    at_rows = [np.where(made[..., None, None], ends[moments], np.nan) for ends in (lower, upper)]
    return Adapted(at_rows[0], at_rows[1], (lower[-1], upper[-1]))


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
