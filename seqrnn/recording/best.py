"""The weights of the best evaluation so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from seqrnn.errors import ConfigError, did_you_mean

HIGHER_IS_BETTER = ("accuracy", "r2")  # what the names of such metrics begin with


class Best:
    """Keeps a copy of a network's weights as they were at its best evaluation.

    Args:
        metric: by which it is judged; None: no weights are kept.
    """

    def __init__(self, network: nn.Module, metric: str | None) -> None:
        self.network, self.metric = network, metric
        self.value: float | None = None
        self.updates = 0
        self.weights: dict[str, Tensor] = {}
        self.is_written = True

    def consider(self, row: Mapping[str, Any]) -> None:
        """Takes note of a row of metrics.

        Raises:
            ConfigError: it is of an evaluation, and lacks the metric.
        """
        if self.metric is None or "eval_loss" not in row:
            return
        value = row.get(f"eval_{self.metric}")
        if value is None:
            names = [key.removeprefix("eval_") for key in row if key.startswith("eval_")]
            raise ConfigError(
                f"checkpoint.best={self.metric}: no such metric{did_you_mean(self.metric, names)} (there are: "
                f"{', '.join(names)})"
            )
        sign = -1 if self.metric.startswith(HIGHER_IS_BETTER) else 1
        if self.value is None or sign * value < sign * self.value:
            self.value, self.updates, self.is_written = value, int(row["updates"]), False
            self.weights = {
                name: weight.detach().to("cpu", copy=True) for name, weight in self.network.state_dict().items()
            }

    def state(self) -> dict[str, Any]:
        return {"metric": self.metric, "value": self.value, "updates": self.updates, "weights": self.weights}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from the state of another one; one that judged by another metric says nothing."""
        same = state["metric"] == self.metric
        self.value, self.updates = (state["value"], state["updates"]) if same else (None, 0)
        self.weights = dict(state["weights"]) if same else {}
        self.is_written = not self.weights
