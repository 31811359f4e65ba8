"""task=xor: the temporal exclusive or of Elman (1990)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count
from seqrnn.registry import register
from seqrnn.tasks.drawn import Drawn, DrawnData, constant, delayed
from seqrnn.tasks.protocol import Chunk


@register("task", "xor")
class Xor:
    """A sequence of bits in groups of three: two fair random bits, and their exclusive or. The input is a bit, and
    the target the next bit of the sequence.

    Only every third bit can be predicted. The best prediction of the others is 1/2, so the squared errors repeat
    0 (the exclusive or), 1/4, 1/4: the floor is 1/6, and the constant 1/2 has 1/4. A sequence begins with a
    group, so that where a group begins can be known by counting alone; Elman's single sequence of 3,000 bits is read
    again and again.

    Source: Elman 1990, "Finding structure in time", section "Exclusive-OR".
    """

    input_size = 1
    output_size = 1
    kind: Literal["regression"] = "regression"
    metrics = staticmethod(metrics.regression)

    reach = None  # two inputs make the target, but which two is known only from where the sequence began

    smoke: ClassVar = {"length": 40, "train_sequences": 16, "validation_sequences": 4, "test_sequences": 4}

    def __init__(
        self,
        seed: int,
        *,
        length: Count,
        train_sequences: Count,
        validation_sequences: Count,
        test_sequences: Count,
        loss: Literal["mse", "half_mse"],
    ) -> None:
        self.loss = loss
        sequences = train_sequences, validation_sequences, test_sequences
        data = DrawnData(seed, self.draw, sequences, length=length, size=2)
        self.train, self.validation, self.test = data.train, data.validation, data.test
        self.rollout = data.rollout

    def draw(self, rng: np.random.Generator, timesteps: int, streams: int) -> Drawn:
        """Draws sequences."""
        groups = -(-(timesteps + 1) // 3)
        bits = rng.integers(2, size=(groups, 3, streams))
        bits[:, 2] = bits[:, 0] ^ bits[:, 1]
        sequence = bits.reshape(3 * groups, streams, 1).astype(np.float64)
        return Drawn(sequence[:timesteps], sequence[1 : timesteps + 1])

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        return {"constant (1/2)": constant(0.5), "floor (exclusive or known)": _best}


def _best(chunk: Chunk) -> Tensor:
    """Returns the exclusive or where the next bit is one, and 1/2 elsewhere."""
    bits = chunk.inputs
    position = torch.arange(len(bits)).reshape(-1, 1, 1) % 3
    return torch.where(position == 1, (bits - delayed(bits, 1)).abs(), torch.full_like(bits, 0.5))
