"""Metrics by kind of task, on NumPy arrays: (outputs (N, O), targets (N, O) or (N,)) -> numbers by name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]


def regression(outputs: Array, targets: Array) -> dict[str, float]:
    """mse, mae, rmse, max_error (largest absolute error) and r2 = 1 − SSE / SST.

    r2 is NaN where the targets do not vary, and so not defined.
    """
    targets64 = np.asarray(targets, np.float64)
    error = np.asarray(outputs, np.float64) - targets64
    mse = float(np.mean(error**2))
    varies = bool(np.any(targets64 != targets64[0]))
    variance = float(np.mean((targets64 - targets64.mean(axis=0)) ** 2))
    return {
        "mse": mse,
        "mae": float(np.mean(np.abs(error))),
        "rmse": mse**0.5,
        "max_error": float(np.max(np.abs(error))),
        "r2": 1 - mse / variance if varies and variance > 0 else float("nan"),
    }


def classification(outputs: Array, targets: Array) -> dict[str, float]:
    """accuracy: the share of targets whose class has the largest output."""
    return {"accuracy": float(np.mean(np.argmax(outputs, axis=-1) == targets))}
