"""The interface of every cell: a recurrence of one or more layers.

T timesteps, B streams, I inputs, H hidden units, L layers; time comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from seqrnn.kernels.specification import CellSpecification, recurrence_of

State = tuple[Tensor, ...]  # tensors (L, B, H): all that a recurrence remembers, one entry per stream along B


class Cell(Protocol):
    """A recurrence of one or more layers; a ``torch.nn.Module``.

    A cell whose equations are known to others has another method, which is optional:

        def recurrence(self) -> seqrnn.kernels.specification.Recurrence

    It returns the specification of the cell's kind and the parameters of its layers. Compiled code needs it (if the
    specification names a compiled twin), and so do the parts of the diagnosis that look at gates and saturation.
    ``__call__`` must compute the same by torch's own operations.

    A cell with gates whose sums are not those of a specification, because they are normalised for instance, has two
    other members instead, which the diagnosis reads:

        specification: seqrnn.kernels.specification.CellSpecification
        def gate_sums(self, layer: int, inputs: Tensor, h: Tensor) -> Tensor

    The method returns the sums (N, G · H) that the G gates of a layer act on, one gate beside another in the order of
    the specification, from N inputs (N, I) of the layer and its outputs (N, H) of the timestep before.

    A cell that looks back a fixed number of timesteps has that number, the present timestep included, which the
    diagnosis reads:

        receptive_field: int
    """

    output_size: int  # H of the last layer

    def __call__(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Computes the outputs (T, B, H) and the state after them from inputs (T, B, I) and the state before them."""

    def initial_state(self, streams: int) -> State:
        """Returns the state in which every sequence starts: zeros, if the cell has a method ``recurrence``."""

    def recurrent_weights(self) -> Sequence[Tensor]:
        """Returns the matrices (H, H) that act on the previous state, one per gate and layer, as views to write to.
        There are none where each unit receives only itself from the state."""


def specification_of(cell: Any) -> CellSpecification | None:
    """Returns the specification of a cell's kind, if the cell has one: of its ``recurrence``, or as an attribute."""
    recurrence = recurrence_of(cell)
    found: CellSpecification | None = recurrence.specification if recurrence else getattr(cell, "specification", None)
    return found


def zeros(parameter: Tensor, layers: int, streams: int, size: int) -> Tensor:
    """Returns a part of a state, zeros (L, B, H), on the device and in the type of the parameter."""
    return torch.zeros(layers, streams, size, device=parameter.device, dtype=parameter.dtype)


def detached(state: State) -> State:
    """Returns the same state without the graph that led to it."""
    return tuple(part.detach() for part in state)


def restarted(state: State, starts: Tensor, initial: State) -> State:
    """Returns the state with the initial one for those streams in which a new sequence starts.

    Args:
        starts: (B,), boolean.
    """
    starts = starts.to(state[0].device).unsqueeze(-1)  # (B, 1)
    return tuple(torch.where(starts, fresh, old) for fresh, old in zip(initial, state, strict=True))
