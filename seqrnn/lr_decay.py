"""How the learning rate changes over a run: a factor on the optimizer's own rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = Literal["constant", "cosine", "onecycle", "step", "plateau"]


class LRDecay:
    """The factor on an optimizer's learning rate.

    constant: 1. cosine: from 1 to ``final`` along half a cosine (Loshchilov & Hutter 2017, eq. 5, one cycle).
    onecycle: up from 1/25 to 1 over the first 30 % of the updates, then down to ``final``, both along half a
    cosine (Smith & Topin 2018; the momentum is left alone). step: times ``reduction`` every ``step`` updates.
    plateau: times ``reduction`` whenever ``step`` evaluations in a row brought no improvement.
    ``warmup`` updates of linear increase come before any of them, and the shape is laid over what remains.

    Args:
        updates: how many updates the whole run will make.
        step: updates (step) or evaluations (plateau) between two reductions.
    """

    def __init__(
        self,
        updates: int,
        shape: Shape,
        *,
        warmup: int,
        final: float,
        reduction: float,
        step: int,
    ) -> None:
        self.shape, self.warmup, self.final, self.reduction, self.step = shape, warmup, final, reduction, step
        self.decaying = max(1, updates - warmup)
        self.scale = 1.0  # on top of the shape: less than 1 once a run that diverged was taken back
        self.reductions = 0
        self.best = math.inf
        self.waited = 0

    def state(self) -> dict[str, float]:
        """What evaluations and setbacks have changed, for ``restore``."""
        return {"scale": self.scale, "reductions": self.reductions, "best": self.best, "waited": self.waited}

    def restore(self, state: Mapping[str, float]) -> None:
        """Goes on from the state of another one."""
        self.scale, self.best = state["scale"], state["best"]
        self.reductions, self.waited = int(state["reductions"]), int(state["waited"])

    def factors(self, first: int, count: int) -> NDArray[np.float64]:
        """The factors for ``count`` updates from number ``first`` on, counted from 0."""
        if self.shape in ("constant", "plateau") and first >= self.warmup:
            return np.full(count, self.scale * self.factor(first))
        return self.scale * np.array([self.factor(update) for update in range(first, first + count)])

    def factor(self, update: int) -> float:
        """The factor for update number ``update``, counted from 0, without ``scale``."""
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
                return self.reduction ** (update // self.step)
            case "plateau":
                return self.reduction**self.reductions

    def evaluated(self, loss: float) -> None:
        """Takes note of an evaluation; only ``plateau`` minds."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited >= self.step:
            self.reductions, self.waited = self.reductions + 1, 0


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
