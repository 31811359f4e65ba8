"""The simple recurrent network of torch, for model=rnn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from seqrnn.bounds import BelowOne, Layers, Size
from seqrnn.kernels.specification import CellSpecification, Recurrence
from seqrnn.models.protocol import State
from seqrnn.models.stack import check_dropout, gate_matrices, layers_of, zero_state
from seqrnn.registry import register


@register("model", "rnn")
class RNN(nn.Module):
    """h_t = φ(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh), with φ = tanh or relu (Elman 1990).

    Computed by ``torch.nn.RNN``; ``dropout`` acts on the outputs of every layer but the last.
    """

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: Size,
        num_layers: Layers,
        dropout: BelowOne,
        nonlinearity: Literal["tanh", "relu"],
    ) -> None:
        super().__init__()
        check_dropout(dropout, num_layers)
        self.output_size = hidden_size
        self.specification = CellSpecification(activation=nonlinearity, compiled="seqrnn.kernels.cells.simple")
        self.stack = nn.RNN(input_size, hidden_size, num_layers, nonlinearity=nonlinearity, dropout=dropout)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, h = self.stack(inputs, state[0])
        return outputs, (h,)

    def initial_state(self, streams: int) -> State:
        return (zero_state(self.stack, streams),)

    def recurrent_weights(self) -> Sequence[Tensor]:
        return gate_matrices(self.stack)

    def recurrence(self) -> Recurrence:
        return Recurrence(self.specification, self.output_size, layers_of(self.stack), self.stack.dropout)
