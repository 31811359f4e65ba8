"""A cell and an optimizer from outside the package, which train through torch, and the recipes that measure them.

The cell is that of docs/extending.md. There is no compiled code for either of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from seqrnn.bounds import Fraction, Positive, Size
from seqrnn.models.protocol import State, zeros
from seqrnn.optimizers import light
from seqrnn.registry import register
from seqrnn.settings import Values, composed_values

UPDATES = {"outside_cell": 2_500, "outside_optimizer": 2_500}
WINDOW = 10  # one stream of the integral task, an update after every window
HIDDEN = 50


class Leaky(nn.Module):
    """h_t = (1 − leak) h_{t−1} + leak tanh(W x_t + U h_{t−1} + b)."""

    def __init__(self, input_size: int, *, hidden_size: Size, leak: Fraction) -> None:
        super().__init__()
        self.output_size, self.leak = hidden_size, leak
        self.W, self.U = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        h, outputs = state[0][0], []  # (B, H)
        for x in self.W(inputs):  # (B, H)
            h = (1 - self.leak) * h + self.leak * torch.tanh(x + self.U(h))
            outputs.append(h)
        return torch.stack(outputs), (h[None],)

    def initial_state(self, streams: int) -> State:
        return (zeros(self.U.weight, 1, streams, self.output_size),)

    def recurrent_weights(self) -> Sequence[Tensor]:
        return [self.U.weight.data]


def adadelta(parameters: Iterable[nn.Parameter], *, lr: Positive) -> torch.optim.Optimizer:
    """Adadelta (Zeiler 2012)."""
    return light(torch.optim.Adadelta)(parameters, lr=lr)


@cache
def registered() -> None:
    """Registers both, once; importing this module leaves the registry as it is."""
    register("model", "leaky")(Leaky)
    register("optimizer", "adadelta")(adadelta)


def values(recipe: str, words: Sequence[str]) -> Values:
    """Returns the config of a recipe.

    Args:
        words: overrides that all recipes share.
    """
    registered()
    found: dict[str, Any] = composed_values([
        "task=integral", "model=gru", "schedule=tbptt", "schedule.streams=1", f"schedule.window={WINDOW}",
        "schedule.clip_norm=null", f"schedule.max_updates={UPDATES[recipe]}", f"model.hidden_size={HIDDEN}",
        "optimizer=adam", "optimizer.lr=0.001", "suggested.epochs=1", f"schedule.evaluate_every={UPDATES[recipe]}",
        f"task.train_timesteps={WINDOW * UPDATES[recipe]}", "task.validation_sequences=2", "task.test_sequences=4",
        *words,
    ])  # fmt: skip
    if recipe == "outside_cell":
        own = {"name": "leaky", "hidden_size": HIDDEN, "leak": 0.2}
        shared = ("head", "head_size", "head_bias", "recurrent_init", "init_std")
        found["model"] = own | {key: found["model"][key] for key in shared}
    else:
        found["optimizer"] = {"name": "adadelta", "lr": 0.1}
        found["kernel"] = "torch"
    return found
