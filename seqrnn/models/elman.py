"""The simple recurrent network written out by hand, for model=elman."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqrnn.bounds import BelowOne, Layers, Size
from seqrnn.kernels.specification import CellSpecification, Layer, Recurrence
from seqrnn.models.protocol import State, zeros
from seqrnn.models.stack import check_dropout, run_layers
from seqrnn.registry import register

SPECIFICATION = CellSpecification(activation="tanh", compiled="seqrnn.kernels.cells.simple")


@register("model", "elman")
class Elman(nn.Module):
    """c_t = tanh([x_t, c_{t−1}] W + b); the output is the context c_t itself.

    Elman (1990), "Finding Structure in Time", Cognitive Science 14, figure 2, with tanh in place of the logistic
    function. Input and context are one vector, so each layer has one matrix W (I + H, H). With ``bias`` the cell
    computes the same as ``torch.nn.RNN``, which has two biases instead of one. Weights start uniform in ±1/√H.
    """

    def __init__(
        self, input_size: int, *, hidden_size: Size, num_layers: Layers, dropout: BelowOne, bias: bool
    ) -> None:
        super().__init__()
        check_dropout(dropout, num_layers)
        self.output_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        bound = hidden_size**-0.5
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.W = nn.ParameterList(
            nn.Parameter(torch.empty(size + hidden_size, hidden_size).uniform_(-bound, bound)) for size in sizes
        )
        self.b = nn.ParameterList(
            nn.Parameter(torch.empty(hidden_size).uniform_(-bound, bound)) for _ in sizes if bias
        )

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return run_layers(self._layer, inputs, state, self.dropout, self.training)

    def _layer(self, number: int, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        W, (c,), contexts = self.W[number], state, []  # (I + H, H), (B, H)
        b = self.b[number] if len(self.b) else None
        for x in inputs:  # (B, I)
            net = torch.cat([x, c], dim=-1) @ W
            c = torch.tanh(net if b is None else net + b)
            contexts.append(c)
        outputs = torch.stack(contexts) if len(contexts) > 1 else c.unsqueeze(0)
        return outputs, (c,)  # (T, B, H), (B, H)

    def initial_state(self, streams: int) -> State:
        return (zeros(self.W[0], self.num_layers, streams, self.output_size),)

    def recurrent_weights(self) -> Sequence[Tensor]:
        return [W.data[-self.output_size :] for W in self.W]

    def recurrence(self) -> Recurrence:
        layers = [
            Layer(len(W) - self.output_size, [W], [self.b[layer]] if len(self.b) else [], transposed=False)
            for layer, W in enumerate(self.W)
        ]
        return Recurrence(SPECIFICATION, self.output_size, layers, self.dropout)
