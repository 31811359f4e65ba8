"""Minimal long short-term memory, for model=minlstm."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from seqrnn.bounds import BelowOne, Layers, Size
from seqrnn.kernels.specification import CellSpecification, GateSpecification
from seqrnn.models.minimal import MinimalCell
from seqrnn.registry import register


@register("model", "minlstm")
class MinLSTM(MinimalCell):
    """f_t = σ(W_f x_t + b_f)                    forget gate
    i_t = σ(W_i x_t + b_i)                    input gate
    n_t = g(W_n x_t + b_n)                    candidate
    h_t = (f_t ⊙ h_{t−1} + i_t ⊙ n_t) / (f_t + i_t)

    Feng et al. (2024), section 3.2; see ``seqrnn.models.minimal``. There is no second part of the state. g is the
    identity (``candidate=linear``, as in section 3.2), or x + 1/2 for x ≥ 0 and σ(x) below (``candidate=positive``,
    as in appendix B).
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
        gates = (
            GateSpecification("forget", "sigmoid"),
            GateSpecification("input", "sigmoid"),
            GateSpecification("candidate", candidate),
        )
        specification = CellSpecification(
            activation=candidate, gates=gates, state_in_sums=False, compiled="seqrnn.kernels.cells.minlstm", saved=4
        )
        super().__init__(input_size, hidden_size, num_layers, dropout, specification)

    def factors_and_terms(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        forget, input_, n = sums.chunk(3, dim=-1)
        kept = torch.sigmoid(F.logsigmoid(forget) - F.logsigmoid(input_))  # f / (f + i), also where both are nearly 0
        return kept, (1 - kept) * self.candidate_of(n)
