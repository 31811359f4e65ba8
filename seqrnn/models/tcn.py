"""The temporal convolutional network, for model=tcn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from seqrnn.bounds import BelowOne, Size
from seqrnn.models.protocol import State, zeros
from seqrnn.models.stack import check_dropout, uniform
from seqrnn.registry import register

Blocks = Annotated[int, Field(ge=1, le=20)]  # the dilation doubles with each
KernelSize = Annotated[int, Field(ge=2, le=1000)]


@register("model", "tcn")
class TCN(nn.Module):
    """v_t = relu(Σ_j W_j x_{t−jd} + b)
    w_t = relu(Σ_j W'_j v_{t−jd} + b')
    o_t = relu(w_t + x_t)

    for each of ``num_layers`` blocks, with j from 0 to ``kernel_size`` − 1 and the dilation d = 1, 2, 4, … from block
    to block: causal convolutions, so that an output depends on the present and on earlier inputs alone, on the last
    1 + 2 (kernel_size − 1) (2^num_layers − 1) of them. Bai, Kolter & Koltun (2018), "An Empirical Evaluation of
    Generic Convolutional and Recurrent Networks for Sequence Modeling", arXiv:1803.01271, section 3. Weights are
    normalised, W = g v / ‖v‖ for each unit (Salimans & Kingma 2016). Where x_t and w_t differ in size, a matrix with
    a bias adapts x_t.

    The state is what a convolution needs of the past: for each of them, the last (kernel_size − 1) d timesteps of its
    inputs, in one part (1, B, timesteps · inputs). It starts as zeros, which is the paper's padding. The outputs
    for a sequence are therefore the same at once, in windows and one timestep at a time. Gradients flow through a
    convolution to the timesteps of the present window, and not into the state that a window begins with.

    Among the parameters, v holds the V of a unit in a row, the oldest of its timesteps first.

    It deviates from the paper in the start of the weights, uniform in ±1/√(kernel_size · inputs), and in
    ``dropout``, which acts on the outputs of every block but the last, as between the layers of the other cells, and
    not after each convolution.
    """

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: Size,
        num_layers: Blocks,
        dropout: BelowOne,
        kernel_size: KernelSize,
    ) -> None:
        super().__init__()
        check_dropout(dropout, num_layers)
        self.output_size, self.dropout, self.kernel_size = hidden_size, dropout, kernel_size
        self.sizes = [input_size] + [hidden_size] * (2 * num_layers - 1)  # inputs of each convolution
        self.v = nn.ParameterList(
            uniform((kernel_size * size) ** -0.5, hidden_size, kernel_size * size) for size in self.sizes
        )
        self.g = nn.ParameterList(nn.Parameter(v.detach().norm(dim=1, keepdim=True)) for v in self.v)
        self.b = nn.ParameterList(uniform((kernel_size * size) ** -0.5, hidden_size) for size in self.sizes)
        self.adapt = nn.Identity() if input_size == hidden_size else nn.Linear(input_size, hidden_size)

    @property
    def receptive_field(self) -> int:
        """How many of the latest inputs an output depends on."""
        return 1 + 2 * (self.kernel_size - 1) * ((1 << len(self.sizes) // 2) - 1)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        ends: list[Tensor] = []
        for block in range(len(self.v) // 2):
            if block:
                inputs = F.dropout(inputs, self.dropout, self.training)
            outputs = inputs
            for number in (2 * block, 2 * block + 1):
                outputs, end = self._convolve(number, outputs, state[number])
                ends.append(end)
            inputs = torch.relu(outputs + (inputs if block else self.adapt(inputs)))
        return inputs, tuple(ends)

    def _convolve(self, number: int, inputs: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
        (timesteps, streams, size), dilation = inputs.shape, 2 ** (number // 2)
        before = part[0].reshape(streams, -1, size).transpose(0, 1)  # ((kernel_size − 1) · dilation, B, I)
        known = torch.cat([before, inputs])
        taps = [known[begin : begin + timesteps] for begin in range(0, self.kernel_size * dilation, dilation)]
        W = self.v[number] * (self.g[number] / self.v[number].norm(dim=1, keepdim=True))  # (H, kernel_size · I)
        outputs = torch.relu(F.linear(torch.cat(taps, dim=-1), W, self.b[number]))  # (T, B, H)
        end = known[timesteps:].transpose(0, 1).reshape(1, streams, -1)
        return outputs, end

    def initial_state(self, streams: int) -> State:
        return tuple(
            zeros(self.b[0], 1, streams, (self.kernel_size - 1) * 2 ** (number // 2) * size)
            for number, size in enumerate(self.sizes)
        )

    def recurrent_weights(self) -> Sequence[Tensor]:
        return []
