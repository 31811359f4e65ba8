"""The coupled oscillatory network, for model=cornn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqrnn.bounds import BelowOne, Layers, NonNegative, Positive, Size
from seqrnn.models.protocol import State, zeros
from seqrnn.models.stack import add_constants, check_dropout, run_layers, uniform
from seqrnn.registry import register


@register("model", "cornn")
class CoRNN(nn.Module):
    """z_t = z_{t−1} + Δt (tanh(W y_{t−1} + 𝒲 z_{t−1} + V x_t + b) − γ y_{t−1} − ε z_{t−1})
    y_t = y_{t−1} + Δt z_t

    Rusch & Mishra (2021), "Coupled Oscillatory Recurrent Neural Network (coRNN)", arXiv:2010.00951, eq. 3, with the
    damping taken at z_{t−1}, as in the authors' code. Each unit is an oscillator y with the velocity z, driven by
    the inputs and by the other oscillators. ``gamma`` is the stiffness of a unit and ``epsilon`` its damping: left
    alone, it turns by about Δt √(γ − ε²/4) radians per timestep, or comes to rest without turning where γ < ε²/4.

    The output is y; the state is (y, z). Weights start uniform in ±1/√(I + 2H), as in the authors' code. ``dropout``
    acts on the outputs of every layer but the last.
    """

    dt: Tensor
    gamma: Tensor
    epsilon: Tensor

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: Size,
        num_layers: Layers,
        dropout: BelowOne,
        dt: Positive,
        gamma: NonNegative,
        epsilon: NonNegative,
    ) -> None:
        super().__init__()
        check_dropout(dropout, num_layers)
        self.output_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        add_constants(self, dt=dt, gamma=gamma, epsilon=epsilon)
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        bounds = [(size + 2 * hidden_size) ** -0.5 for size in sizes]
        self.V = nn.ParameterList(
            uniform(bound, size, hidden_size) for bound, size in zip(bounds, sizes, strict=True)
        )
        self.W = nn.ParameterList(uniform(bound, 2 * hidden_size, hidden_size) for bound in bounds)  # W above 𝒲
        self.b = nn.ParameterList(uniform(bound, hidden_size) for bound in bounds)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return run_layers(self._layer, inputs, state, self.dropout, self.training)

    def _layer(self, number: int, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        W, (y, z), outputs = self.W[number], state, []  # (2H, H), (B, H) each
        for from_input in torch.unbind(inputs @ self.V[number] + self.b[number]):  # (B, H)
            drive = torch.tanh(torch.addmm(from_input, torch.cat([y, z], dim=-1), W))
            z = z + self.dt * (drive - self.gamma * y - self.epsilon * z)
            y = y + self.dt * z
            outputs.append(y)
        return torch.stack(outputs), (y, z)  # (T, B, H), (B, H) each

    def initial_state(self, streams: int) -> State:
        y = zeros(self.W[0], self.num_layers, streams, self.output_size)
        return y, y.clone()

    def recurrent_weights(self) -> Sequence[Tensor]:
        return [block for W in self.W for block in W.data.split(self.output_size)]
