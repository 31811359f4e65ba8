"""Rolling origins: each timestep of the held-out end is the origin of a forecast, which is compared with what came
(Tashman 2000)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def future(values: NDArray[Any], horizon: int) -> Array:
    """Returns what comes after each timestep: (T, ...) -> (T, horizon, ...), with values[t + h + 1] at [t, h]; NaN
    beyond the last timestep."""
    padded = np.concatenate([values, np.full((horizon, *values.shape[1:]), np.nan)]).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(padded[1:], horizon, axis=0)  # (T, ..., horizon)
    return np.moveaxis(windows[: len(values)], -1, 1)


def last_known(values: NDArray[Any]) -> Array:
    """Returns the latest value up to each timestep that is not missing: (T, ...) -> (T, ...); NaN before the
    first. Where none is missing, these are ``values`` themselves, without a copy."""
    known = ~np.isnan(values)
    if known.all():
        return np.asarray(values, np.float64)
    times = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    latest = np.maximum.accumulate(np.where(known, times, 0), axis=0)
    return np.take_along_axis(np.asarray(values, np.float64), latest, axis=0)
