"""What compiled code knows of a cell: its kind, and the parameters of its layers.

T timesteps, B streams, I inputs, H hidden units, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch.nn import Parameter


@dataclass(frozen=True)
class Layer:
    """The parameters of one layer of a recurrence.

    Args:
        inputs: I.
        matrices: the one of the inputs and the one of the state, or a single one with the former on top; a unit that
            hears only itself has a number in place of a row, so that of the state is a vector (H,).
        biases: the one of the inputs and the one of the state, or a single one, or none.
        transposed: whether the matrices are (outputs, inputs), as torch has them, and not (inputs, outputs).
    """

    inputs: int
    matrices: Sequence[Parameter]
    biases: Sequence[Parameter]
    transposed: bool


@dataclass(frozen=True)
class Recurrence:
    """What a cell computes, for those who compute it themselves. A cell whose equations are one of these kinds'
    may have a method ``recurrence`` that returns it; gates stand in torch's order."""

    kind: Literal["tanh", "relu", "gru", "lstm", "ind_tanh", "ind_relu", "ind_clip"]
    size: int  # H
    layers: Sequence[Layer]
    dropout: float  # between layers
