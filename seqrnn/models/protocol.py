"""What every recurrence looks like from outside.

T timesteps, B streams, I inputs, H hidden units, L layers; time comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

State = tuple[Tensor, ...]  # tensors (L, B, H): all that a recurrence remembers, one entry per stream along B


class Cell(Protocol):
    """A recurrence of one or more layers; a ``torch.nn.Module``."""

    output_size: int  # H of the last layer

    def __call__(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Inputs (T, B, I) and the state before them -> outputs (T, B, H) and the state after them."""

    def initial_state(self, streams: int) -> State:
        """The state in which every sequence starts."""

    def recurrent_weights(self) -> Sequence[Tensor]:
        """The matrices (H, H) that act on the previous state, one per gate and layer, as views to write to;
        none where units hear only themselves."""


def zeros(parameter: Tensor, layers: int, streams: int, size: int) -> Tensor:
    """A state of zeros (L, B, H), on the device and in the type of the parameter."""
    return torch.zeros(layers, streams, size, device=parameter.device, dtype=parameter.dtype)


def detached(state: State) -> State:
    """The same state, cut off from the graph that led to it."""
    return tuple(part.detach() for part in state)


def restarted(state: State, starts: Tensor, initial: State) -> State:
    """The state with those streams at their initial state in which a new sequence starts; ``starts`` is (B,) bool."""
    starts = starts.to(state[0].device).unsqueeze(-1)  # (B, 1)
    return tuple(torch.where(starts, fresh, old) for fresh, old in zip(initial, state, strict=True))
