"""Minimal long short-term memory, for model=minlstm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqrnn.bounds import BelowOne, Layers, Size
from seqrnn.kernels.specification import CellSpecification, GateSpecification, Layer, Recurrence
from seqrnn.models.mingru import positive
from seqrnn.models.protocol import State, zeros
from seqrnn.models.scan import linear_scan
from seqrnn.models.stack import check_dropout, run_layers, uniform
from seqrnn.registry import register


@register("model", "minlstm")
class MinLSTM(nn.Module):
    """f_t = σ(W_f x_t + b_f)                    forget gate
    i_t = σ(W_i x_t + b_i)                    input gate
    n_t = g(W_n x_t + b_n)                    candidate
    h_t = (f_t ⊙ h_{t−1} + i_t ⊙ n_t) / (f_t + i_t)

    Feng et al. (2024), "Were RNNs all we needed?", arXiv:2410.01201, section 3.2. Gates and candidate depend on the
    inputs alone, so the recurrence is linear in h, and there is no second part of the state. g is the identity
    (``candidate=linear``, as in section 3.2), or x + 1/2 for x ≥ 0 and σ(x) below (``candidate=positive``, as in
    appendix B). All timesteps are computed at once; the paper does so in logarithms, and this cell with the numbers
    themselves, which may then have any sign. Layers lie directly above one another, without the paper's
    convolutions and perceptrons in between.

    Weights and biases start uniform in ±1/√I, as in the paper. ``dropout`` acts on the outputs of every layer but
    the last.
    """

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: Size,
        num_layers: Layers,
        dropout: BelowOne,
        candidate: Literal["linear", "positive"],
    ) -> None:
        super().__init__()
        check_dropout(dropout, num_layers)
        self.output_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        self.candidate = candidate
        self.specification = CellSpecification(
            activation=candidate,
            gates=(
                GateSpecification("forget", "sigmoid", is_normalised=True),
                GateSpecification("input", "sigmoid", is_normalised=True),
                GateSpecification("candidate", candidate),
            ),
            state_in_sums=False,
            compiled="seqrnn.kernels.cells.minlstm",
            saved=4,
        )
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.W = nn.ParameterList(uniform(size**-0.5, size, 3 * hidden_size) for size in sizes)
        self.b = nn.ParameterList(uniform(size**-0.5, 3 * hidden_size) for size in sizes)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return run_layers(self._layer, inputs, state, self.dropout, self.training)

    def _layer(self, number: int, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        forget, input_, n = (inputs @ self.W[number] + self.b[number]).chunk(3, dim=-1)  # (T, B, H) each
        kept = torch.sigmoid(F.logsigmoid(forget) - F.logsigmoid(input_))  # f / (f + i), also where both are nearly 0
        h = linear_scan(kept, (1 - kept) * (positive(n) if self.candidate == "positive" else n), state[0])
        return h, (h[-1],)

    def initial_state(self, streams: int) -> State:
        return (zeros(self.W[0], self.num_layers, streams, self.output_size),)

    def recurrent_weights(self) -> Sequence[Tensor]:
        return []

    def recurrence(self) -> Recurrence:
        layers = [Layer(len(W), [W], [b], transposed=False) for W, b in zip(self.W, self.b, strict=True)]
        return Recurrence(self.specification, self.output_size, layers, self.dropout)
