"""What a task gives to the loop: sequences to read in parallel, and how its results are judged.

T timesteps, B streams, I inputs, O outputs; time comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Chunk:
    """A stretch of timesteps of B sequences.

    Args:
        inputs: (T, B, I), floating point.
        targets: (T, B, O) floating point, or (T, B) int64 class indices.
        valid: (T, B) bool: whether the target counts, in the loss and in the metrics.
        starts: (T, B) bool, always on the CPU: whether a new sequence begins here, and the state is reset.
    """

    inputs: Tensor
    targets: Tensor
    valid: Tensor
    starts: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Chunk:
        """On another device, with floating-point values in ``dtype``."""
        targets_dtype = dtype if self.targets.is_floating_point() else self.targets.dtype
        return Chunk(
            self.inputs.to(device, dtype),
            self.targets.to(device, targets_dtype),
            self.valid.to(device),
            self.starts,
        )

    def between(self, start: int, stop: int) -> Chunk:
        """Its timesteps ``start`` to ``stop``, as views."""
        return Chunk(
            self.inputs[start:stop], self.targets[start:stop], self.valid[start:stop], self.starts[start:stop]
        )


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Chunks of the same streams, one after another."""
    return Chunk(
        torch.cat([chunk.inputs for chunk in chunks]),
        torch.cat([chunk.targets for chunk in chunks]),
        torch.cat([chunk.valid for chunk in chunks]),
        torch.cat([chunk.starts for chunk in chunks]),
    )


class Batch(Protocol):
    """B sequences of one length that are read side by side, each from the network's initial state.

    Reading is pure: the same timesteps come out however often, and in whatever order, they are asked for.
    """

    @property
    def streams(self) -> int: ...

    @property
    def timesteps(self) -> int: ...

    def read(self, start: int, stop: int) -> Chunk:
        """Timesteps ``start`` to ``stop``."""


class Task(Protocol):
    """A task. Its constructor is cheap, and reads no data.

    What is drawn at random depends on the seed, the epoch and the position alone, so that training data can
    be read again from any point.

    A task may also have ``smoke``, a mapping of its settings to what smoke=true lowers them to (numbers) or sets
    them to (flags), ``data_note``, a line that readers of its results must not miss, or None, and ``fingerprint()``,
    a hash of the files that it reads, which is compared when a run is resumed. ``higher_is_better`` is a collection
    of the names of its own metrics that are better when they are higher; where there is one, its other metrics are
    better when they are lower (see ``seqrnn.metrics``). For a diagnosis it may have

    - ``reach``, how many of the latest timesteps, the present one included, have inputs that a target depends on, so
      how long a window must be to see them all; None where there is no saying;
    - ``rollout(timesteps, streams)``, a batch of new sequences (as many as there are, up to ``streams``) that go on
      for so long, or None where sequences of this task have an end. Without the method, the test sequences are used.
    """

    input_size: int  # I
    output_size: int  # O
    loss: str  # a name in seqrnn.losses
    kind: Literal["regression", "classification"]

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        """The training data of an epoch, in batches of at most ``streams`` sequences; in every epoch as many
        batches, of the same lengths."""

    def validation(self) -> Sequence[Batch]:
        """What is evaluated during training; all batches have the same length."""

    def test(self) -> Sequence[Batch]:
        """What is evaluated at the end; all batches have the same length."""

    def metrics(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Judges valid outputs (N, O) against targets (N, O) or (N,), in the order of the test data."""

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        """Trivial predictors by name: each maps a chunk to outputs (T, B, O). One whose name begins with ``floor`` is
        not one to beat, but the best that any predictor can do."""


@dataclass(frozen=True)
class Stored:
    """A batch that is in memory, all of it."""

    chunk: Chunk

    @property
    def streams(self) -> int:
        return self.chunk.inputs.shape[1]

    @property
    def timesteps(self) -> int:
        return self.chunk.inputs.shape[0]

    def read(self, start: int, stop: int) -> Chunk:
        return self.chunk if stop - start == self.timesteps else self.chunk.between(start, stop)


def stored(inputs: Tensor, targets: Tensor, valid: Tensor | None = None) -> Stored:
    """Whole sequences in memory: every stream starts at the first timestep, and every target is valid unless
    ``valid`` (T, B) says otherwise."""
    shape = inputs.shape[:2]
    starts = torch.zeros(shape, dtype=torch.bool)
    starts[0] = True
    return Stored(Chunk(inputs, targets, torch.ones(shape, dtype=torch.bool) if valid is None else valid, starts))
