"""A cell from outside the package, with a compiled twin in momentum_rnn_compiled.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqrnn.bounds import BelowOne, Layers, Size
from seqrnn.kernels.specification import CellSpecification, Layer, Recurrence, register_compiled
from seqrnn.models.protocol import State, zeros
from seqrnn.registry import register

SPECIFICATION = CellSpecification(state=("h", "v"), compiled=register_compiled("momentum_rnn_compiled"))


@register("model", "momentum")
class MomentumRNN(nn.Module):
    """v_t = v_{t−1} / 2 + W x_t + U h_{t−1} + b, h_t = tanh(v_t)."""

    def __init__(self, input_size: int, *, hidden_size: Size, num_layers: Layers, dropout: BelowOne) -> None:
        super().__init__()
        self.output_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.W = nn.ParameterList(nn.Parameter(0.5 * torch.randn(hidden_size, size)) for size in sizes)
        self.U = nn.ParameterList(nn.Parameter(0.5 * torch.randn(hidden_size, hidden_size)) for _ in sizes)
        self.b = nn.ParameterList(nn.Parameter(torch.zeros(hidden_size)) for _ in sizes)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        ends = []
        for layer, (W, U, b) in enumerate(zip(self.W, self.U, self.b, strict=True)):
            h, v = (part[layer] for part in state)  # (B, H)
            outputs = []
            for x in inputs:
                v = 0.5 * v + x @ W.T + h @ U.T + b
                h = torch.tanh(v)
                outputs.append(h)
            inputs = torch.stack(outputs)  # (T, B, H)
            ends.append((h, v))
        return inputs, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))

    def initial_state(self, streams: int) -> State:
        h = zeros(self.b[0], self.num_layers, streams, self.output_size)
        return h, h.clone()

    def recurrent_weights(self) -> Sequence[Tensor]:
        return [U.data for U in self.U]

    def recurrence(self) -> Recurrence:
        layers = [
            Layer(W.shape[1], [W, U], [b], transposed=True) for W, U, b in zip(self.W, self.U, self.b, strict=True)
        ]
        return Recurrence(SPECIFICATION, self.output_size, layers, self.dropout)
