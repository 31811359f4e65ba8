"""task=add_memory: a random bit whose probability depends on two inputs of the past."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count, Size
from seqrnn.errors import ConfigError
from seqrnn.registry import register
from seqrnn.tasks.drawn import Drawn, DrawnData, class_shares, delayed, since
from seqrnn.tasks.protocol import Chunk

BASE, FIRST, SECOND = 0.5, 0.5, -0.25  # the probability of a one, and what each of the two inputs adds to it


@register("task", "add_memory")
class AddMemory:
    """The input x_t is a fair random bit. The target is a random bit that is 1 with probability
    0.5 + 0.5 x_{t − first} − 0.25 x_{t − second}, and not valid before timestep ``second``.

    No predictor is certain, and the cross-entropy says what a network has found: with h(p) the entropy of a bit,
    h(5/8) = 0.662 nats without a dependency, (h(7/8) + h(3/8)) / 2 = 0.519 with the first, and
    (h(1/2) + h(1) + h(1/4) + h(3/4)) / 4 = 0.454, the floor, with both.

    Source: Pitis 2016, "Recurrent neural networks in Tensorflow I" (delays of 3 and 8); Marschall, Cho & Savin 2020,
    "A unified framework of online learning algorithms for training recurrent neural networks", the Add task
    (``Add_Memory_Task`` of github.com/omarschall/vanilla-rtrl), whose targets are the probabilities themselves, and
    whose inputs are one-hot.
    """

    input_size = 1
    output_size = 2
    kind: Literal["classification"] = "classification"
    loss = "cross_entropy"
    metrics = staticmethod(metrics.classification)
    headline = "loss"

    smoke: ClassVar = {"length": 40, "train_sequences": 16, "validation_sequences": 4, "test_sequences": 4}

    def __init__(
        self,
        seed: int,
        *,
        first: Size,
        second: Size,
        length: Count,
        train_sequences: Count,
        validation_sequences: Count,
        test_sequences: Count,
    ) -> None:
        if not first < second < length:
            raise ConfigError(
                f"task.first={first}, task.second={second}, task.length={length}: each should be below the next"
            )
        self.first, self.second, self.reach = first, second, second + 1
        sequences = train_sequences, validation_sequences, test_sequences
        data = DrawnData(seed, self.draw, sequences, length=length, size=2)
        self.train, self.validation, self.test = data.train, data.validation, data.test
        self.rollout = data.rollout

    def draw(self, rng: np.random.Generator, timesteps: int, streams: int) -> Drawn:
        """Draws sequences."""
        x = torch.from_numpy(rng.integers(2, size=(timesteps, streams, 1)).astype(np.float64))
        targets = rng.random((timesteps, streams)) < self.probability(x).numpy()
        return Drawn(x.numpy(), targets.astype(np.int64), since(self.second, timesteps, streams))

    def probability(self, x: Tensor) -> Tensor:
        """Returns the probability (T, B) of a one, of inputs (T, B, 1)."""
        bits = x.squeeze(-1)
        return BASE + FIRST * delayed(bits, self.first) + SECOND * delayed(bits, self.second)

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        mean = BASE + (FIRST + SECOND) / 2

        def with_first(chunk: Chunk) -> Tensor:
            return _logits(BASE + SECOND / 2 + FIRST * delayed(chunk.inputs.squeeze(-1), self.first))

        return {
            "constant (no dependency)": class_shares([1 - mean, mean]),
            "first dependency": with_first,
            "floor (both dependencies)": lambda chunk: _logits(self.probability(chunk.inputs)),
        }


def _logits(probability: Tensor) -> Tensor:
    """Returns logits (T, B, 2) of the probability (T, B) of a one."""
    return torch.stack([1 - probability, probability], dim=-1).clamp_min(1e-12).log()
