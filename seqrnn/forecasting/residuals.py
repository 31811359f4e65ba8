"""What residuals have left unexplained: their autocorrelation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MOST_CORRELATED = 2**18  # residuals whose autocorrelation is computed, the latest: of more, it would hardly differ


def autocorrelation(residuals: Array, lags: int) -> Array:
    """Returns the autocorrelation of residuals at lags 0 to ``lags`` (Box & Jenkins 1970).

    Args:
        residuals: (T,), in the order of time; NaN is a gap, over which no product counts.

    Returns:
        (lags + 1,); NaN at all lags where the residuals do not vary, and where no two are that far apart.
    """
    known = ~np.isnan(residuals)
    if not known.any():
        return np.full(lags + 1, np.nan)
    centred = np.where(known, residuals - residuals[known].mean(), 0.0)
    size = 2 ** math.ceil(math.log2(2 * len(residuals)))
    products = _correlation(centred, size, lags)
    pairs = np.rint(_correlation(known.astype(np.float64), size, lags))
    # As usual, each sum is divided by the number of residuals, not of pairs, which keeps them positive definite; with
    # gaps, by the number that there would be at this density.
    whole = np.maximum(len(residuals) - np.arange(lags + 1), 1) / len(residuals)
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = np.where(pairs > 0, products / pairs * whole, np.nan)
        variance = products[0] / pairs[0]
        result: Array = covariance / variance if variance > 0 else np.full(lags + 1, np.nan)
    return result


def _correlation(values: Array, size: int, lags: int) -> Array:
    """Returns Σ values[t] · values[t + lag] of lags 0 to ``lags``, by the fast Fourier transform."""
    spectrum = np.fft.rfft(values, size)
    found = np.fft.irfft(np.abs(spectrum) ** 2, size)[: min(lags + 1, len(values))]
    return np.pad(found, (0, lags + 1 - len(found)))


def white_noise_band(count: int) -> float:
    """Returns within which ± 95 % of the autocorrelations of ``count`` independent residuals lie."""
    return 1.96 / math.sqrt(count) if count else math.nan


def ljung_box(correlation: Array, count: int) -> float:
    """Returns the probability that independent residuals have autocorrelations at least as large (Ljung & Box 1978).

    Args:
        correlation: at lags 0, 1, …
        count: of the residuals.
    """
    lags = np.arange(1, len(correlation))
    lags = lags[(lags < count) & np.isfinite(correlation[1:])]
    if not len(lags):
        return math.nan
    from scipy import stats

    statistic = count * (count + 2) * float((correlation[lags] ** 2 / (count - lags)).sum())
    return float(stats.chi2.sf(statistic, len(lags)))
