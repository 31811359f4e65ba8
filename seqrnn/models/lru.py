"""The linear recurrent unit, for model=lru."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqrnn.bounds import BelowOne, Layers, Positive, Size
from seqrnn.errors import ConfigError
from seqrnn.models.protocol import State, zeros
from seqrnn.models.stack import check_dropout, run_layers, uniform
from seqrnn.registry import register


@register("model", "lru")
class LRU(nn.Module):
    """u_t = LayerNorm(v_t)
    h_t = λ ⊙ h_{t−1} + γ ⊙ (B u_t)                    complex; λ = exp(−exp(ν) + i exp(θ))
    y_t = Re(C h_t) + D ⊙ u_t
    o_t = v_t + (W_1 gelu(y_t) + b_1) ⊙ σ(W_2 gelu(y_t) + b_2)

    Orvieto et al. (2023), "Resurrecting Recurrent Neural Networks for Long Sequences", arXiv:2303.06349, section 3
    and table 10; the block around the recurrence is that of section 2.2. v_t is a linear function of the inputs in
    the lowest layer, and the output o_t of the layer below in the others. The block normalises each timestep by
    itself (LayerNorm), where the paper also has batch normalisation, which would tie streams and windows together.
    Each layer has H complex units and is H wide. The state is (Re h, Im h).

    |λ| starts such that λ is uniform on the ring from ``radius_min`` to ``radius_max``, with a phase from 0 to
    ``phase_max``; γ starts at √(1 − |λ|²) and is trained in its logarithm (eq. 7). All timesteps are computed at
    once: with λ constant over time, ⌈log₂ T⌉ steps, each of which reaches twice as far back as the one before.
    ``dropout`` acts on the outputs of every layer but the last.

    Among the parameters, B is [Re B, Im B] and C is [Re C; −Im C], of which a row belongs to a number that is
    multiplied, so that Re(C h) is one product; W is [W_1, W_2]. gelu is the exact one, and LayerNorm adds 1e-5 to the
    variance, as torch does.
    """

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: Size,
        num_layers: Layers,
        dropout: BelowOne,
        radius_min: BelowOne,
        radius_max: BelowOne,
        phase_max: Positive,
    ) -> None:
        super().__init__()
        check_dropout(dropout, num_layers)
        if not radius_min < radius_max:
            raise ConfigError(
                f"model.radius_min={radius_min}: must be below model.radius_max={radius_max}, and that below 1"
            )
        self.output_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        H = hidden_size
        self.encoder = nn.Linear(input_size, H)
        self.norms = nn.ModuleList(nn.LayerNorm(H) for _ in range(num_layers))
        self.nu, self.theta, self.log_gamma = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        self.B, self.C, self.D = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        self.W, self.b = nn.ParameterList(), nn.ParameterList()
        for _ in range(num_layers):
            between = (1 - torch.rand(H)) * (radius_max**2 - radius_min**2) + radius_min**2  # |λ|², above 0
            self.nu.append(nn.Parameter((-0.5 * between.log()).log()))
            self.theta.append(nn.Parameter((phase_max * (1 - torch.rand(H))).log()))  # above 0
            self.log_gamma.append(nn.Parameter(0.5 * (1 - between).log()))
            self.B.append(
                nn.Parameter(torch.randn(H, 2 * H) / math.sqrt(2 * H))
            )  # (inputs, real and imaginary units)
            self.C.append(nn.Parameter(torch.randn(2 * H, H) / math.sqrt(H)))
            self.D.append(nn.Parameter(torch.randn(H)))
            self.W.append(uniform(H**-0.5, H, 2 * H))
            self.b.append(uniform(H**-0.5, 2 * H))

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return run_layers(self._layer, self.encoder(inputs), state, self.dropout, self.training)

    def _layer(self, number: int, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        u = self.norms[number](inputs)  # (T, B, H)
        gamma = self.log_gamma[number].exp().repeat(2)  # (2H,)
        radius, phase = torch.exp(-self.nu[number].exp()), self.theta[number].exp()
        h = rotating_scan(radius * phase.cos(), radius * phase.sin(), gamma * (u @ self.B[number]), state)
        y = h @ self.C[number] + self.D[number] * u  # C's imaginary half holds −Im C
        gated = F.glu(F.gelu(y) @ self.W[number] + self.b[number], dim=-1)
        real, imaginary = h[-1].chunk(2, dim=-1)
        return inputs + gated, (real, imaginary)

    def initial_state(self, streams: int) -> State:
        h = zeros(self.D[0], self.num_layers, streams, self.output_size)
        return h, h.clone()

    def recurrent_weights(self) -> Sequence[Tensor]:
        return []  # λ is a vector


def rotating_scan(real: Tensor, imaginary: Tensor, terms: Tensor, start: State) -> Tensor:
    """Returns h_t = λ ⊙ h_{t−1} + b_t for all timesteps, with the imaginary parts behind the real ones, (T, B, 2H).

    Args:
        real, imaginary: λ, (H,) each.
        terms: b, (T, B, 2H).
        start: (Re h, Im h) before the first timestep, (B, H) each.
    """

    def turned(h: Tensor) -> Tensor:
        a, b = h.chunk(2, dim=-1)
        return torch.cat([real * a - imaginary * b, real * b + imaginary * a], dim=-1)

    h = torch.cat([terms[:1] + turned(torch.cat(start, dim=-1)), terms[1:]])
    reach = 1
    while reach < len(h):
        h = torch.cat([h[:reach], h[reach:] + turned(h[:-reach])])
        real, imaginary = real**2 - imaginary**2, 2 * real * imaginary  # λ to the power of twice the reach
        reach *= 2
    return h
