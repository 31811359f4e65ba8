"""Metrics by kind of task, on NumPy arrays: (outputs (N, O), targets (N, O) or (N,)) -> numbers by name.

Everything about the names of metrics is here: which one stands for a run, and which are better when they are higher.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

HEADLINE = {"regression": "mae", "classification": "accuracy"}  # kind of task -> the metric that stands for a run
HEADLINE_OF_LOSS = {"mse": "mse", "half_mse": "mse"}  # losses that have a metric of their own
HIGHER_IS_BETTER = frozenset({"r2", "accuracy"})
LOWER_IS_BETTER = frozenset({"loss", "mse", "mae", "rmse", "nrmse", "max_error", "smape", "mase"})


def headline(kind: str, loss: str) -> str:
    """Returns the metric that stands for a run in one number: on the terminal, in titles.

    Args:
        kind: of the task.
        loss: its name in ``seqrnn.losses``.
    """
    return HEADLINE_OF_LOSS.get(loss, HEADLINE.get(kind, "loss"))


def is_higher_better(metric: str, declared: Collection[str] | None) -> bool | None:
    """Returns whether higher values of a metric are better; None: nobody declares it.

    A name of this module may be followed by ``_`` and more: ``accuracy_first_2000`` is an accuracy.

    Args:
        declared: the ``higher_is_better`` of the task: all of its metrics that are better when they are higher; None:
            it declares none.
    """
    if declared is not None and metric in declared:
        return True
    for names, higher in ((HIGHER_IS_BETTER, True), (LOWER_IS_BETTER, False)):
        if metric in names or metric.startswith(tuple(f"{name}_" for name in names)):
            return higher
    return None if declared is None else False


def regression(outputs: Array, targets: Array) -> dict[str, float]:
    """Returns mse, mae, rmse, max_error (largest absolute error) and r2 = 1 − SSE / SST.

    r2 is NaN where the targets do not vary, and so not defined. Targets that are NaN do not count.
    """
    targets64 = np.asarray(targets, np.float64)
    error = np.asarray(outputs, np.float64) - targets64
    varies = bool(np.any(targets64 != targets64[0]))
    known = ~np.isnan(targets64)
    if known.all():
        deviation = targets64 - targets64.mean(axis=0)
    else:
        deviation = (targets64 - np.nanmean(targets64, axis=0))[known]
        error = error[known]
    mse = float(np.mean(error**2))
    variance = float(np.mean(deviation**2))
    return {
        "mse": mse,
        "mae": float(np.mean(np.abs(error))),
        "rmse": mse**0.5,
        "max_error": float(np.max(np.abs(error))),
        "r2": 1 - mse / variance if varies and variance > 0 else float("nan"),
    }


def series(outputs: Array, targets: Array) -> dict[str, float]:
    """Returns the metrics of ``regression``, and nrmse: the rmse as a share of the targets' standard deviation."""
    found = regression(outputs, targets)
    return {**found, "nrmse": max(0.0, 1 - found["r2"]) ** 0.5}


def classification(outputs: Array, targets: Array) -> dict[str, float]:
    """Returns accuracy: the share of targets whose class has the largest output. With a NaN, no class has."""
    known = ~np.isnan(np.asarray(outputs, np.float64)).any(axis=-1)
    return {"accuracy": float(np.mean((np.argmax(outputs, axis=-1) == targets) & known))}


def probabilities(logits: NDArray[Any]) -> NDArray[Any]:
    """Returns the probabilities (…, O) of the classes."""
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[Any] = grown / grown.sum(axis=-1, keepdims=True)
    return shares
