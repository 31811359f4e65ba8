"""task=delayed_echo: repeat the symbol of some timesteps ago."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count, Size
from seqrnn.errors import ConfigError
from seqrnn.registry import register
from seqrnn.tasks.drawn import Drawn, DrawnData, class_shares, since
from seqrnn.tasks.protocol import Chunk


@register("task", "delayed_echo")
class DelayedEcho:
    """The input is one of ``symbols`` symbols, one-hot, each with equal probability. The target is the symbol of
    ``delay`` timesteps ago, and is valid from timestep ``delay`` on.

    A network that has learned nothing has a cross-entropy of ln(``symbols``), and an accuracy of 1 / ``symbols``.

    Source: the delayed recall of Jaeger 2001, "Short term memory in echo state networks", with symbols for numbers
    and with one delay.
    """

    kind: Literal["classification"] = "classification"
    loss = "cross_entropy"
    metrics = staticmethod(metrics.classification)

    smoke: ClassVar = {"length": 40, "train_sequences": 16, "validation_sequences": 4, "test_sequences": 4}

    def __init__(
        self,
        seed: int,
        *,
        delay: Count,
        symbols: Size,
        length: Count,
        train_sequences: Count,
        validation_sequences: Count,
        test_sequences: Count,
    ) -> None:
        if delay >= length:
            raise ConfigError(f"task.delay={delay}: should be below task.length={length}")
        self.delay, self.symbols = delay, symbols
        self.input_size = self.output_size = symbols
        self.reach = delay + 1
        sequences = train_sequences, validation_sequences, test_sequences
        data = DrawnData(seed, self.draw, sequences, length=length, size=symbols + 1, extra=delay)
        self.train, self.validation, self.test = data.train, data.validation, data.test
        self.rollout = data.rollout

    def draw(self, rng: np.random.Generator, timesteps: int, streams: int) -> Drawn:
        """Draws sequences."""
        symbols = rng.integers(self.symbols, size=(self.delay + timesteps, streams))
        inputs = np.eye(self.symbols)[symbols[self.delay :]]
        return Drawn(inputs, symbols[:timesteps], since(self.delay, timesteps, streams))

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        return {"constant (equal probabilities)": class_shares([1 / self.symbols] * self.symbols)}
