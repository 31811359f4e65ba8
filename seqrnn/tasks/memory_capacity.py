"""task=memory_capacity: every input of the past, up to a delay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count, Size
from seqrnn.errors import ConfigError
from seqrnn.registry import register
from seqrnn.tasks.drawn import Drawn, DrawnData, constant, since
from seqrnn.tasks.protocol import Chunk


@register("task", "memory_capacity")
class MemoryCapacity:
    """The input u_t is uniform in [−0.5, 0.5]. Target k = 1, …, ``delays`` is u_{t − k}; targets are valid from
    timestep ``delays`` on.

    The memory capacity is the sum over k of the squared correlation of output k with its target, each between 0 and
    1. A network of H units with a linear readout has at most H, for all k together. The squared error of a network
    that has learned nothing is the variance of the input, 1/12.

    Source: Jaeger 2001, "Short term memory in echo state networks", GMD report 152, equations 6 and 7.
    """

    input_size = 1
    kind: Literal["regression"] = "regression"
    higher_is_better = ("memory_capacity", "r2")
    headline = "memory_capacity"

    smoke: ClassVar = {
        "length": 40,
        "delays": 5,
        "train_sequences": 16,
        "validation_sequences": 4,
        "test_sequences": 4,
    }

    def __init__(
        self,
        seed: int,
        *,
        delays: Size,
        length: Count,
        train_sequences: Count,
        validation_sequences: Count,
        test_sequences: Count,
        loss: Literal["mse", "l1"],
    ) -> None:
        if delays >= length:
            raise ConfigError(f"task.delays={delays}: should be below task.length={length}")
        self.loss, self.delays = loss, delays
        self.output_size, self.reach = delays, delays + 1
        sequences = train_sequences, validation_sequences, test_sequences
        data = DrawnData(seed, self.draw, sequences, length=length, size=delays + 1, extra=delays)
        self.train, self.validation, self.test = data.train, data.validation, data.test
        self.rollout = data.rollout

    def draw(self, rng: np.random.Generator, timesteps: int, streams: int) -> Drawn:
        """Draws sequences."""
        u = rng.random((self.delays + timesteps, streams)) - 0.5  # the first ``delays`` come before the sequence
        targets = np.stack([u[self.delays - k :][:timesteps] for k in range(1, self.delays + 1)], axis=-1)
        return Drawn(u[self.delays :, :, None], targets, since(self.delays, timesteps, streams))

    def metrics(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Returns the memory capacity, and the metrics of a regression."""
        outputs64, targets64 = outputs.astype(np.float64), targets.astype(np.float64)
        outputs64, targets64 = outputs64 - outputs64.mean(axis=0), targets64 - targets64.mean(axis=0)
        shared = (outputs64 * targets64).mean(axis=0) ** 2  # (O,)
        variances = (outputs64**2).mean(axis=0) * (targets64**2).mean(axis=0)
        capacities = np.divide(shared, variances, out=np.zeros_like(shared), where=variances > 0)
        return {"memory_capacity": float(capacities.sum()), **metrics.regression(outputs, targets)}

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        return {"constant (0)": constant(0.0), "input itself": lambda chunk: chunk.inputs.expand_as(chunk.targets)}
