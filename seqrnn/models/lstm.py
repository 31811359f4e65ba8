"""Long short-term memory, for model=lstm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqrnn.bounds import BelowOne, Layers, Real, Size
from seqrnn.kernels.specification import CellSpecification, GateSpecification, Recurrence
from seqrnn.models.protocol import State
from seqrnn.models.stack import check_dropout, gate_matrices, layers_of, zero_state
from seqrnn.registry import register

SPECIFICATION = CellSpecification(
    gates=(
        GateSpecification("input", "sigmoid"),
        GateSpecification("forget", "sigmoid"),
        GateSpecification("candidate", "tanh"),
        GateSpecification("output", "sigmoid"),
    ),
    state=("h", "c"),
    compiled="seqrnn.kernels.cells.lstm",
    saved=5,
    # torch has this cell from oneDNN: as fast where matrices are large, faster where nothing has to be saved.
    faster_up_to=256,
    forward_faster_up_to=(64, 8),
)


@register("model", "lstm")
class LSTM(nn.Module):
    """i_t = σ(W_ii x_t + b_ii + W_hi h_{t−1} + b_hi)     input gate
    f_t = σ(W_if x_t + b_if + W_hf h_{t−1} + b_hf)     forget gate
    g_t = tanh(W_ig x_t + b_ig + W_hg h_{t−1} + b_hg)  candidate
    o_t = σ(W_io x_t + b_io + W_ho h_{t−1} + b_ho)     output gate
    c_t = f_t ⊙ c_{t−1} + i_t ⊙ g_t
    h_t = o_t ⊙ tanh(c_t)

    Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000), computed by ``torch.nn.LSTM``. The
    state is (h, c). ``forget_bias`` is the sum of the forget gate's two biases before training (Jozefowicz et al.
    2015 recommend 1); None leaves torch's random biases. ``dropout`` acts on the outputs of every layer but the last.
    """

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
        self.output_size = hidden_size
        self.stack = nn.LSTM(input_size, hidden_size, num_layers, dropout=dropout)
        if forget_bias is not None:
            for layer in range(num_layers):
                for name, value in (("bias_ih", float(forget_bias)), ("bias_hh", 0.0)):
                    with torch.no_grad():
                        getattr(self.stack, f"{name}_l{layer}")[hidden_size : 2 * hidden_size] = value

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, (h, c) = self.stack(inputs, (state[0], state[1]))
        return outputs, (h, c)

    def initial_state(self, streams: int) -> State:
        h = zero_state(self.stack, streams)
        return h, torch.zeros_like(h)

    def recurrent_weights(self) -> Sequence[Tensor]:
        return gate_matrices(self.stack)

    def recurrence(self) -> Recurrence:
        return Recurrence(SPECIFICATION, self.output_size, layers_of(self.stack), self.stack.dropout)
