"""How the learning rate changes over a run: a factor on the optimizer's own rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = Literal["constant", "cosine", "onecycle", "step", "plateau"]


class LRDecay:
    """Computes the factor on an optimizer's learning rate.

    constant: 1. cosine: from 1 to ``final`` along half a cosine (Loshchilov & Hutter 2017, eq. 5, one cycle).
    onecycle: up from 1/25 to 1 over the first 30 % of the updates, then down to ``final``, both along half a
    cosine (Smith & Topin 2018; the momentum is left alone). step: times ``reduction`` every ``every`` updates.
    plateau: times ``reduction`` whenever ``patience`` evaluations in a row brought no lower validation loss than any
    before, that of the untrained network included.
    ``warmup`` updates of linear increase come before any of them, and the shape is laid over what remains.

    Args:
        updates: how many updates the whole run will make.
        every: updates between two reductions (step).
        patience: evaluations without improvement before a reduction (plateau).
    """

    def __init__(
        self,
        updates: int,
        shape: Shape,
        *,
        warmup: int,
        final: float,
        reduction: float,
        every: int,
        patience: int,
    ) -> None:
        self.shape, self.warmup, self.final, self.reduction = shape, warmup, final, reduction
        self.every, self.patience = every, patience
        self.decaying = max(1, updates - warmup)
        self.scale = 1.0  # on top of the shape: less than 1 after a rollback
        self.reductions = 0
        self.best = math.inf
        self.evaluations_without_improvement = 0

    def state(self) -> dict[str, float]:
        """Returns what evaluations and rollbacks have changed, for ``restore``."""
        return {
            "scale": self.scale,
            "reductions": self.reductions,
            "best": self.best,
            "evaluations_without_improvement": self.evaluations_without_improvement,
        }

    def restore(self, state: Mapping[str, float]) -> None:
        """Continues from the state of another decay."""
        self.scale, self.best = state["scale"], state["best"]
        self.reductions = int(state["reductions"])
        self.evaluations_without_improvement = int(state["evaluations_without_improvement"])

    def factors(self, first: int, count: int) -> NDArray[np.float64]:
        """Returns the factors for ``count`` updates from number ``first`` on, counted from 0."""
        if self.shape in ("constant", "plateau") and first >= self.warmup:
            return np.full(count, self.scale * self.factor(first))
        return self.scale * np.array([self.factor(update) for update in range(first, first + count)])

    def factor(self, update: int) -> float:
        """Returns the factor for update number ``update``, counted from 0, without ``scale``."""
        if update < self.warmup:
            return (update + 1) / self.warmup
        update -= self.warmup
        done = min(1.0, update / max(1, self.decaying - 1))
        match self.shape:
            case "constant":
                return 1.0
            case "cosine":
                return _cosine(1.0, self.final, done)
            case "onecycle" if done < 0.3:
                return _cosine(1 / 25, 1.0, done / 0.3)
            case "onecycle":
                return _cosine(1.0, self.final, (done - 0.3) / 0.7)
            case "step":
                return self.reduction ** (update // self.every)
            case "plateau":
                return self.reduction**self.reductions

    def evaluated(self, loss: float) -> None:
        """Counts an evaluation. Only the shape ``plateau`` depends on evaluations."""
        if loss < self.best:
            self.best, self.evaluations_without_improvement = loss, 0
            return
        self.evaluations_without_improvement += 1
        if self.evaluations_without_improvement >= self.patience:
            self.reductions, self.evaluations_without_improvement = self.reductions + 1, 0


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
