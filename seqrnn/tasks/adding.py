"""task=adding: the sum of two marked numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count
from seqrnn.registry import register
from seqrnn.tasks.drawn import Array, Drawn, DrawnData, constant
from seqrnn.tasks.protocol import Chunk

Length = Annotated[int, Field(ge=2, le=2**24)]


@register("task", "adding")
class Adding:
    """Two inputs per timestep: a number u_t, uniform in [0, 1], and a mark m_t, which is 1 at two timesteps of the
    sequence, and 0 at all others. The target, valid at the last timestep alone, is the sum of the two marked numbers.

    The two timesteps are any two different ones, with equal probability. A network that has learned nothing outputs
    1, the mean of the sum, whose squared error is the variance of two uniform numbers, 1/6.

    Source: Hochreiter & Schmidhuber 1997, experiment 4, in the form of Le, Jaitly & Hinton 2015, section 4.1. The
    original draws numbers from [−1, 1], marks the first and the last timestep with −1, and scales the target.
    """

    input_size = 2
    output_size = 1
    kind: Literal["regression"] = "regression"
    metrics = staticmethod(metrics.regression)

    smoke: ClassVar = {"length": 20, "train_sequences": 64, "validation_sequences": 16, "test_sequences": 16}

    def __init__(
        self,
        seed: int,
        *,
        length: Length,
        train_sequences: Count,
        validation_sequences: Count,
        test_sequences: Count,
        loss: Literal["mse", "l1"],
    ) -> None:
        self.loss, self.reach = loss, length
        sequences = train_sequences, validation_sequences, test_sequences
        data = DrawnData(seed, self.draw, sequences, length=length, size=3)
        self.train, self.validation, self.test = data.train, data.validation, data.test

    def draw(self, rng: np.random.Generator, timesteps: int, streams: int) -> Drawn:
        """Draws sequences."""
        numbers = rng.random((timesteps, streams))
        first = rng.integers(timesteps, size=streams)
        second = (first + rng.integers(1, timesteps, size=streams)) % timesteps
        everyone = np.arange(streams)
        marks: Array = np.zeros_like(numbers)
        marks[first, everyone] = marks[second, everyone] = 1
        total = np.broadcast_to((numbers * marks).sum(axis=0), numbers.shape)
        valid = np.zeros(numbers.shape, np.bool_)
        valid[-1] = True
        return Drawn(np.stack([numbers, marks], axis=-1), total[..., None].copy(), valid)

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        return {"constant (1)": constant(1.0), "last marked number + 1/2": _last_marked}


def _last_marked(chunk: Chunk) -> Tensor:
    """Returns 1/2 plus the marked number that was read last; its squared error is 1/12 at the end of a sequence."""
    numbers, marks = chunk.inputs.unbind(dim=-1)  # (T, B)
    clock = torch.arange(1, len(marks) + 1).unsqueeze(1)
    latest = (clock * marks).long().cummax(dim=0).values  # (T, B) timestep of the last mark, from 1; 0: none yet
    found = numbers.gather(0, (latest - 1).clamp_min(0))
    return torch.where(latest > 0, found + 0.5, torch.ones_like(found)).unsqueeze(-1)
