"""The gated recurrent unit, for model=gru."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from seqrnn.bounds import BelowOne, Layers, Size
from seqrnn.kernels.specification import CellSpecification, GateSpecification, Recurrence
from seqrnn.models.protocol import State
from seqrnn.models.stack import check_dropout, gate_matrices, layers_of, zero_state
from seqrnn.registry import register

SPECIFICATION = CellSpecification(
    gates=(
        GateSpecification("reset", "sigmoid"),
        GateSpecification("update", "sigmoid"),
        GateSpecification("candidate", "tanh", state_scale="reset"),
    ),
    compiled="seqrnn.kernels.cells.gru",
)


@register("model", "gru")
class GRU(nn.Module):
    """r_t = σ(W_ir x_t + b_ir + W_hr h_{t−1} + b_hr)            reset gate
    z_t = σ(W_iz x_t + b_iz + W_hz h_{t−1} + b_hz)            update gate
    n_t = tanh(W_in x_t + b_in + r_t ⊙ (W_hn h_{t−1} + b_hn))  candidate
    h_t = (1 − z_t) ⊙ n_t + z_t ⊙ h_{t−1}

    Cho et al. (2014), arXiv:1406.1078, eqs. 5 to 8, computed by ``torch.nn.GRU``. It deviates from the
    paper in two points: the reset gate multiplies the product with the recurrent matrix, not h_{t−1}, and there are
    biases.
    ``dropout`` acts on the outputs of every layer but the last.
    """

    def __init__(self, input_size: int, *, hidden_size: Size, num_layers: Layers, dropout: BelowOne) -> None:
        super().__init__()
        check_dropout(dropout, num_layers)
        self.output_size = hidden_size
        self.stack = nn.GRU(input_size, hidden_size, num_layers, dropout=dropout)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, h = self.stack(inputs, state[0])  # (T, B, I), (L, B, H) -> (T, B, H), (L, B, H)
        return outputs, (h,)

    def initial_state(self, streams: int) -> State:
        return (zero_state(self.stack, streams),)

    def recurrent_weights(self) -> Sequence[Tensor]:
        return gate_matrices(self.stack)

    def recurrence(self) -> Recurrence:
        return Recurrence(SPECIFICATION, self.output_size, layers_of(self.stack), self.stack.dropout)
