"""What is known at each timestep, the origin of a forecast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def last_known(values: NDArray[Any]) -> Array:
    """Returns the latest value up to each timestep that is not missing: (T, ...) -> (T, ...); NaN before the
    first. Where none is missing, these are ``values`` themselves, without a copy."""
    known = ~np.isnan(values)
    if known.all():
        return np.asarray(values, np.float64)
    times = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    latest = np.maximum.accumulate(np.where(known, times, 0), axis=0)
    return np.take_along_axis(np.asarray(values, np.float64), latest, axis=0)
