"""The weights of the best evaluation so far, by the metric that ``checkpoint.best`` names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from seqrnn.errors import ConfigError, did_you_mean
from seqrnn.metrics import is_higher_better
from seqrnn.strategies.strategy_state import cpu_copy
from seqrnn.tasks.protocol import Task


def check_metric(metric: str | None, task: Task, evaluate: Callable[[], Mapping[str, float]]) -> None:
    """Checks that evaluations of a task have a metric, and that its direction is declared.

    Args:
        metric: as ``checkpoint.best`` names it.
        evaluate: returns the metrics of an evaluation; called only if their names are needed.

    Raises:
        ConfigError: there is no such metric, or neither seqrnn nor the task declares its direction.
    """
    if metric is None or metric == "loss":
        return
    names = list(evaluate())
    if metric not in names:
        raise ConfigError(
            f"checkpoint.best={metric}: no such metric{did_you_mean(metric, names)} (there are: {', '.join(names)})"
        )
    declared = getattr(task, "higher_is_better", None)
    if isinstance(declared, str) or is_higher_better(metric, declared) is None:
        what = "is not declared" if declared is None else f"does not follow from {declared!r}, which is no collection"
        raise ConfigError(
            f"checkpoint.best={metric}: whether a higher or a lower {metric} is better {what}; give the class "
            f"{type(task).__name__} an attribute higher_is_better with the names of all its metrics that are better "
            f'when they are higher, such as higher_is_better = ("{metric}",), or () if there is none'
        )


class Best:
    """Keeps a copy of a network's weights as they were at its best evaluation.

    Args:
        metric: by which evaluations are compared; None: no weights are kept.
    """

    def __init__(self, network: nn.Module, metric: str | None, task: Task) -> None:
        self.network, self.metric = network, metric
        declared = getattr(task, "higher_is_better", None)
        self.sign = -1 if metric and is_higher_better(metric, declared) else 1  # the best has the least sign · value
        self.value: float | None = None
        self.updates = 0
        self.weights: dict[str, Tensor] = {}
        self.is_written = True

    def consider(self, row: Mapping[str, Any]) -> None:
        """Copies the weights if a row of metrics is that of the best evaluation so far. One without a finite value is
        never the best."""
        value = row.get(f"eval_{self.metric}")
        if value is None or not math.isfinite(value):
            return
        if self.value is None or self.sign * value < self.sign * self.value:
            self.value, self.updates, self.is_written = value, int(row["updates"]), False
            self.weights = {name: cpu_copy(weight) for name, weight in self.network.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Returns everything, for ``restore``."""
        return {"metric": self.metric, "value": self.value, "updates": self.updates, "weights": self.weights}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from the state of another object, unless that compared evaluations by another metric."""
        same = state["metric"] == self.metric
        self.value, self.updates = (state["value"], state["updates"]) if same else (None, 0)
        self.weights = dict(state["weights"]) if same else {}
        self.is_written = not self.weights
