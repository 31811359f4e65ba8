"""What the minimal gated cells (minGRU, minLSTM) have in common. T timesteps, B streams, H hidden units, N gates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from seqrnn.kernels.specification import CellSpecification, Layer, Recurrence
from seqrnn.models.protocol import State, zeros
from seqrnn.models.scan import linear_scan
from seqrnn.models.stack import check_dropout, run_layers, uniform


class MinimalCell(nn.Module):
    """h_t = a_t ⊙ h_{t−1} + b_t, with a_t and b_t from gates that depend on the inputs alone.

    Feng et al. (2024), "Were RNNs all we needed?", arXiv:2410.01201. All timesteps are computed at once; the paper
    does so in logarithms, and this cell with the numbers themselves, which may then have any sign. Layers lie
    directly above one another, without the paper's convolutions and perceptrons in between.

    Weights and biases start uniform in ±1/√I, as in the paper. ``dropout`` acts on the outputs of every layer but
    the last.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, dropout: float, specification: CellSpecification
    ) -> None:
        super().__init__()
        check_dropout(dropout, num_layers)
        self.output_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        self.specification = specification
        sizes, width = [input_size] + [hidden_size] * (num_layers - 1), len(specification.gates) * hidden_size
        self.W = nn.ParameterList(uniform(size**-0.5, size, width) for size in sizes)
        self.b = nn.ParameterList(uniform(size**-0.5, width) for size in sizes)

    @abstractmethod
    def factors_and_terms(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Returns a and b, (T, B, H) each, of a layer from the sums W x + b of its gates, (T, B, N · H)."""

    def candidate_of(self, sums: Tensor) -> Tensor:
        return positive(sums) if self.specification.activation == "positive" else sums

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return run_layers(self._layer, inputs, state, self.dropout, self.training)

    def _layer(self, number: int, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        h = linear_scan(*self.factors_and_terms(inputs @ self.W[number] + self.b[number]), state[0])
        return h, (h[-1],)

    def initial_state(self, streams: int) -> State:
        return (zeros(self.W[0], self.num_layers, streams, self.output_size),)

    def recurrent_weights(self) -> Sequence[Tensor]:
        return []

    def recurrence(self) -> Recurrence:
        layers = [Layer(len(W), [W], [b], transposed=False) for W, b in zip(self.W, self.b, strict=True)]
        return Recurrence(self.specification, self.output_size, layers, self.dropout)


def positive(x: Tensor) -> Tensor:
    """Returns x + 1/2 for x ≥ 0, and σ(x) below: continuous with its slope, and above 0 (Feng et al. 2024, appendix
    B)."""
    return F.relu(x) + x.clamp(max=0).sigmoid()
