"""Layer-normalised long short-term memory, for model=lnlstm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqrnn.bounds import BelowOne, Layers, Real, Size
from seqrnn.kernels.specification import CellSpecification
from seqrnn.models import lstm
from seqrnn.models.protocol import State, zeros
from seqrnn.models.stack import check_dropout, run_layers, uniform
from seqrnn.registry import register


@register("model", "lnlstm")
class LayerNormLSTM(nn.Module):
    """(i, f, g, o)_t = LN(W x_t + a; α_x) + LN(U h_{t−1}; α_h) + b
    c_t = σ(f_t) ⊙ c_{t−1} + σ(i_t) ⊙ tanh(g_t)
    h_t = σ(o_t) ⊙ tanh(LN(c_t; α_c, β_c))

    Ba, Kiros & Hinton (2016), "Layer Normalization", arXiv:1607.06450, eqs. 20 to 22. LN(v; α, β) subtracts the mean
    of a vector, divides by its standard deviation, and returns α times that, plus β. The four gates are normalised
    as one vector of 4H numbers, as there. It deviates in two points. The biases of the first two normalisations and b
    add up, so b is the only one. And there is a bias a before the first normalisation: without it, the size of
    x_t would be lost, and of a single input all but its sign.

    LN adds 1e-5 to the variance, as torch does. The state is (h, c). α starts at 1, β_c at 0, W, U, a and b uniform
    in ±1/√H; ``forget_bias`` is that part of b which belongs to f, before training (None: random as the others).
    ``dropout`` acts on the outputs of every layer but the last.
    """

    specification = CellSpecification(gates=lstm.SPECIFICATION.gates, state=lstm.SPECIFICATION.state)

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: Size,
        num_layers: Layers,
        dropout: BelowOne,
        forget_bias: Real | None,
    ) -> None:
        super().__init__()
        check_dropout(dropout, num_layers)
        self.output_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        H, bound = hidden_size, hidden_size**-0.5
        layers = range(num_layers)
        self.W = nn.ParameterList(uniform(bound, 4 * H, H if layer else input_size) for layer in layers)
        self.a = nn.ParameterList(uniform(bound, 4 * H) for _ in layers)
        self.U = nn.ParameterList(uniform(bound, 4 * H, H) for _ in layers)
        self.b = nn.ParameterList(uniform(bound, 4 * H) for _ in layers)
        self.alpha_x, self.alpha_h = (
            nn.ParameterList(nn.Parameter(torch.ones(4 * H)) for _ in layers) for _ in range(2)
        )
        self.alpha_c = nn.ParameterList(nn.Parameter(torch.ones(H)) for _ in layers)
        self.beta_c = nn.ParameterList(nn.Parameter(torch.zeros(H)) for _ in layers)
        if forget_bias is not None:
            for b in self.b:
                with torch.no_grad():
                    b[H : 2 * H] = float(forget_bias)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return run_layers(self._layer, inputs, state, self.dropout, self.training)

    def _layer(self, number: int, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        U, alpha_h = self.U[number], self.alpha_h[number]
        H, alpha_c, beta_c = (self.output_size,), self.alpha_c[number], self.beta_c[number]
        (h, c), outputs = state, []  # (B, H) each
        for from_input in torch.unbind(self._from_inputs(number, inputs)):  # (B, 4H)
            i, f, g, o = (scaled(F.linear(h, U), alpha_h) + from_input).chunk(4, dim=-1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(F.layer_norm(c, H, alpha_c, beta_c))
            outputs.append(h)
        return torch.stack(outputs), (h, c)  # (T, B, H), (B, H) each

    def _from_inputs(self, layer: int, inputs: Tensor) -> Tensor:
        """Returns LN(W x + a; α_x) + b (…, 4H) of inputs (…, I)."""
        sums: Tensor = scaled(F.linear(inputs, self.W[layer], self.a[layer]), self.alpha_x[layer]) + self.b[layer]
        return sums

    def gate_sums(self, layer: int, inputs: Tensor, h: Tensor) -> Tensor:
        return scaled(F.linear(h, self.U[layer]), self.alpha_h[layer]) + self._from_inputs(layer, inputs)

    def initial_state(self, streams: int) -> State:
        h = zeros(self.U[0], self.num_layers, streams, self.output_size)
        return h, h.clone()

    def recurrent_weights(self) -> Sequence[Tensor]:
        return [block for U in self.U for block in U.data.split(self.output_size)]


def scaled(sums: Tensor, alpha: Tensor) -> Tensor:
    """Returns LN(v; α) of sums v (…, N)."""
    normalised: Tensor = F.layer_norm(sums, alpha.shape, alpha)
    return normalised
