"""The independently recurrent network, for model=indrnn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqrnn.bounds import BelowOne, Count, Layers, NonNegative, Positive, Size
from seqrnn.errors import ConfigError
from seqrnn.kernels.specification import CellSpecification, Layer, Recurrence
from seqrnn.models.protocol import State, zeros
from seqrnn.models.stack import check_dropout, run_layers
from seqrnn.registry import register

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "clip": partial(F.hardtanh, min_val=0.0, max_val=1.0),
}


@register("model", "indrnn")
class IndRNN(nn.Module):
    """h_t = φ(W x_t + u ⊙ h_{t−1} + b), with φ = relu, tanh, or clip to [0, 1].

    Li et al. (2018), arXiv:1803.04831, eq. 2. The slope of clip is 1 strictly between its limits and 0 elsewhere, at
    0 and 1 themselves too, as relu's is 0 at 0.

    Units are connected only through the next layer, so a gradient that flows back n timesteps through unit j is
    multiplied by u_j^n and n slopes of φ. u starts uniform between ``init_least^(1/init_timesteps)`` and
    ``init_most^(1/init_timesteps)``: where the slopes are 1, a gradient that has flowed back ``init_timesteps``
    timesteps is multiplied by a number between ``init_least`` and ``init_most`` (section 3.2, where the upper limit
    is called γ; the lower one, ε, is meant for a last layer that has to remember). Training does not limit u; the
    paper keeps it below the upper limit. W and b start uniform in ±1/√H, as those of the other cells. ``dropout``
    acts on the outputs of every layer but the last.
    """

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: Size,
        num_layers: Layers,
        dropout: BelowOne,
        activation: Literal["relu", "tanh", "clip"],
        init_timesteps: Count,
        init_least: NonNegative,
        init_most: Positive,
    ) -> None:
        super().__init__()
        check_dropout(dropout, num_layers)
        if init_least > init_most:
            raise ConfigError(f"model.init_least={init_least}: must not be above model.init_most={init_most}")
        self.output_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        self.activation = activation
        self.specification = CellSpecification(
            activation=activation, independent=True, compiled="seqrnn.kernels.cells.independent"
        )
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        bound = hidden_size**-0.5
        low, high = (float(share) ** (1 / init_timesteps) for share in (init_least, init_most))
        self.W = nn.ParameterList(
            nn.Parameter(torch.empty(size, hidden_size).uniform_(-bound, bound)) for size in sizes
        )
        self.u = nn.ParameterList(nn.Parameter(torch.empty(hidden_size).uniform_(low, high)) for _ in sizes)
        self.b = nn.ParameterList(nn.Parameter(torch.empty(hidden_size).uniform_(-bound, bound)) for _ in sizes)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return run_layers(self._layer, inputs, state, self.dropout, self.training)

    def _layer(self, number: int, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        activate = ACTIVATIONS[self.activation]
        u, (h,), outputs = self.u[number], state, []  # (H,), (B, H)
        for from_input in torch.unbind(inputs @ self.W[number] + self.b[number]):  # (B, H)
            h = activate(torch.addcmul(from_input, u, h))
            outputs.append(h)
        return torch.stack(outputs), (h,)  # (T, B, H), (B, H)

    def initial_state(self, streams: int) -> State:
        return (zeros(self.W[0], self.num_layers, streams, self.output_size),)

    def recurrent_weights(self) -> Sequence[Tensor]:
        return []  # u is a vector

    def recurrence(self) -> Recurrence:
        layers = [
            Layer(len(W), [W, u], [b], transposed=False) for W, u, b in zip(self.W, self.u, self.b, strict=True)
        ]
        return Recurrence(self.specification, self.output_size, layers, self.dropout)
