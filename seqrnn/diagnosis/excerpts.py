"""Parts of a run's data that are measured on. T timesteps, B streams, N segments, I inputs, O outputs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seqrnn.models.protocol import State
from seqrnn.tasks.protocol import Chunk


@dataclass(frozen=True)
class Excerpt:
    """Consecutive timesteps of training data.

    Args:
        chunk: T timesteps of B streams.
        state: that the network has before the first of them.
    """

    chunk: Chunk
    state: State


@dataclass(frozen=True)
class Segments:
    """N segments of T timesteps from validation sequences, side by side, each ending at a valid target.

    Args:
        inputs: (T, N, I).
        targets: (N, O) or (N,), at the last timestep.
        state: of the trained network, before the first timestep.
        sequences: how many different sequences they come from.
    """

    inputs: Tensor
    targets: Tensor
    state: State
    sequences: int
