"""task=parity: whether the number of ones is odd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count, Size
from seqrnn.errors import ConfigError
from seqrnn.registry import register
from seqrnn.tasks.drawn import Array, Drawn, DrawnData, class_shares, since
from seqrnn.tasks.protocol import Chunk


@register("task", "parity")
class Parity:
    """The input is a fair random bit. The target is the parity of the latest ``bits`` of them, valid from timestep
    ``bits`` − 1 on; with ``bits=null``, that of all bits since the sequence began.

    Any ``bits`` − 1 of the inputs say nothing about the target, so a network has a cross-entropy of ln 2 and an
    accuracy of 1/2 until it uses all of them.

    Source: the temporal parity of Bertschinger & Natschläger 2004, "Real-time computation at the edge of chaos in
    recurrent neural networks" (3 bits); of all bits: Hochreiter & Schmidhuber 1997, section 3.
    """

    input_size = 1
    output_size = 2
    kind: Literal["classification"] = "classification"
    loss = "cross_entropy"
    metrics = staticmethod(metrics.classification)

    smoke: ClassVar = {"length": 40, "train_sequences": 16, "validation_sequences": 4, "test_sequences": 4}

    def __init__(
        self,
        seed: int,
        *,
        bits: Size | None,
        length: Count,
        train_sequences: Count,
        validation_sequences: Count,
        test_sequences: Count,
    ) -> None:
        if (bits or 1) > length:
            raise ConfigError(f"task.bits={bits}: should be at most task.length={length}")
        self.bits = bits
        self.reach = bits or length
        sequences = train_sequences, validation_sequences, test_sequences
        data = DrawnData(seed, self.draw, sequences, length=length, size=2)
        self.train, self.validation, self.test = data.train, data.validation, data.test
        self.rollout = data.rollout

    def draw(self, rng: np.random.Generator, timesteps: int, streams: int) -> Drawn:
        """Draws sequences."""
        bits = rng.integers(2, size=(timesteps, streams))
        ones: Array = bits.cumsum(axis=0)
        if self.bits is not None:
            ones[self.bits :] -= ones[: -self.bits].copy()
        inputs = bits[:, :, None].astype(np.float64)
        return Drawn(inputs, ones % 2, since((self.bits or 1) - 1, timesteps, streams))

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        return {"constant (equal probabilities)": class_shares([0.5, 0.5])}
