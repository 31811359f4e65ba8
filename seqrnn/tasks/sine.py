"""task=sine: predict the next point of a sine wave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Moderate
from seqrnn.registry import register
from seqrnn.rundir.formats import Picture
from seqrnn.tasks.protocol import Batch, Chunk, stored

Points = Annotated[int, Field(ge=2, le=2**24)]


@register("task", "sine")
class Sine:
    """One sequence: s = sin(t) at ``points`` values of t from ``start`` to ``stop``; input s_n, target s_{n+1}, so
    there are ``points`` − 1 timesteps.

    Training, validation and test data are this same sequence, as in the textbook experiment: the question is whether
    the network can reproduce the wave at all. There is one stream, also where schedule.streams is larger.
    """

    input_size = 1
    output_size = 1
    kind: Literal["regression"] = "regression"
    metrics = staticmethod(metrics.regression)

    reach = 2  # s_{n+1} = 2 cos(step) s_n − s_{n−1}

    data_note = "training, validation and test data are the same sequence"
    validation_is_test = True

    smoke: ClassVar = {"points": 50}

    def __init__(
        self, seed: int, *, start: Moderate, stop: Moderate, points: Points, loss: Literal["half_mse", "mse", "l1"]
    ) -> None:
        self.loss = loss
        self.start, self.stop, self.points = start, stop, points
        self.step = (stop - start) / (points - 1)
        self.picture = Picture(name="points", axis="t", start=start + self.step, step=self.step, target="sin t")

    @cached_property
    def wave(self) -> Tensor:
        """(points, 1, 1)."""
        times = torch.linspace(self.start, self.stop, self.points, dtype=torch.float64)
        return torch.sin(times).reshape(-1, 1, 1)

    @cached_property
    def batches(self) -> Sequence[Batch]:
        return [stored(self.wave[:-1], self.wave[1:])]

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        return self.batches

    def validation(self) -> Sequence[Batch]:
        return self.batches

    def test(self) -> Sequence[Batch]:
        return self.batches

    def rollout(self, timesteps: int, streams: int) -> Batch:
        """Returns the wave from ``start`` on, continued beyond ``stop``."""
        times = self.start + self.step * torch.arange(timesteps + 1, dtype=torch.float64)
        wave = torch.sin(times).reshape(-1, 1, 1)
        return stored(wave[:-1], wave[1:])

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        mean = self.wave[1:].mean()
        return {
            "constant (mean)": lambda chunk: torch.full_like(chunk.targets, float(mean)),
            "persistence": lambda chunk: chunk.inputs,
        }
