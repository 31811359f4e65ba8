"""The minimal gated recurrent unit, for model=mingru."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from seqrnn.bounds import BelowOne, Layers, Size
from seqrnn.kernels.specification import CellSpecification, GateSpecification
from seqrnn.models.minimal import MinimalCell
from seqrnn.registry import register


@register("model", "mingru")
class MinGRU(MinimalCell):
    """z_t = σ(W_z x_t + b_z)                    update gate
    n_t = g(W_n x_t + b_n)                    candidate
    h_t = (1 − z_t) ⊙ h_{t−1} + z_t ⊙ n_t

    Feng et al. (2024), section 3.1; see ``seqrnn.models.minimal``. g is the identity (``candidate=linear``, as in
    section 3.1), or x + 1/2 for x ≥ 0 and σ(x) below (``candidate=positive``, as in appendix B).
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
        gates = GateSpecification("update", "sigmoid"), GateSpecification("candidate", candidate)
        specification = CellSpecification(
            activation=candidate, gates=gates, state_in_sums=False, compiled="seqrnn.kernels.cells.mingru"
        )
        super().__init__(input_size, hidden_size, num_layers, dropout, specification)

    def factors_and_terms(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        update, n = sums.chunk(2, dim=-1)
        z = torch.sigmoid(update)
        return 1 - z, z * self.candidate_of(n)
