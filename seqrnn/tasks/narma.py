"""task=narma: a nonlinear moving average of order 10."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count
from seqrnn.errors import ConfigError
from seqrnn.registry import register
from seqrnn.tasks.drawn import Array, Drawn, DrawnData, constant, delay_line
from seqrnn.tasks.protocol import Chunk

ORDER = 10
HIGHEST = 1.0  # y stays below in almost all short sequences; those that pass it grow without bound
LONGEST = 100_000  # timesteps: one sequence of six stays below HIGHEST; of 1,000,000 timesteps, one of 60 million
LAGS = 30  # inputs that the linear baseline reads


@register("task", "narma")
class Narma:
    """The input u_t is uniform in [0, 0.5]. The target is y_{t+1}, with y_t = 0 up to the first timestep and

        y_{t+1} = 0.3 y_t + 0.05 y_t (y_t + … + y_{t−9}) + 1.5 u_{t−9} u_t + 0.1,

    where inputs before the first timestep are 0. In rare sequences y grows without bound; a sequence in which it
    passes 1 is drawn again. The longer sequences are, the fewer stay below: they have 100,000 timesteps at most.
    Errors are reported as shares of the targets' standard deviation (nrmse) as well.

    Source: Atiya & Parlos 2000, "New results on recurrent network training", equation 86 (NARMA-10).
    """

    input_size = 1
    output_size = 1
    kind: Literal["regression"] = "regression"
    metrics = staticmethod(metrics.series)
    headline = "nrmse"

    reach = None  # y depends on all inputs, and on those of long ago ever less

    smoke: ClassVar = {"length": 40, "train_sequences": 16, "validation_sequences": 4, "test_sequences": 4}

    def __init__(
        self,
        seed: int,
        *,
        length: Count,
        train_sequences: Count,
        validation_sequences: Count,
        test_sequences: Count,
        loss: Literal["mse", "l1"],
    ) -> None:
        _check_length("task.length", length)
        self.loss = loss
        sequences = train_sequences, validation_sequences, test_sequences
        data = DrawnData(seed, self.draw, sequences, length=length, size=2)
        self.train, self.validation, self.test = data.train, data.validation, data.test
        self.rollout = data.rollout
        self.data = data

    def draw(self, rng: np.random.Generator, timesteps: int, streams: int) -> Drawn:
        """Draws sequences.

        Raises:
            ConfigError: they would be too long.
        """
        _check_length("timesteps", timesteps)
        inputs = rng.uniform(0, 0.5, (timesteps, streams))
        targets = narma(inputs)
        while (diverging := ~(np.abs(targets).max(axis=0) <= HIGHEST)).any():
            inputs[:, diverging] = rng.uniform(0, 0.5, (timesteps, int(diverging.sum())))
            targets[:, diverging] = narma(inputs[:, diverging])
        return Drawn(inputs[..., None], targets[..., None])

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        sample = self.data.sample()
        return {
            "constant (mean)": constant(float(sample.targets.mean())),
            f"linear ({LAGS} inputs)": delay_line(sample, LAGS),
        }


def _check_length(key: str, timesteps: int) -> None:
    """Refuses sequences so long that hardly one stays below ``HIGHEST``: drawing one would not end.

    Args:
        key: how the user has chosen the length.
    """
    if timesteps > LONGEST:
        raise ConfigError(
            f"{key}={timesteps}: almost all sequences of narma that are this long grow without bound, and are of no "
            f"use; make them shorter: {LONGEST:,} timesteps at most"
        )


def narma(inputs: Array) -> Array:
    """Returns y_{t+1} (T, B) of inputs u_t (T, B)."""
    timesteps, streams = inputs.shape
    u = np.concatenate([np.zeros((ORDER - 1, streams)), inputs])
    y = np.zeros((ORDER + timesteps, streams))
    with np.errstate(over="ignore", invalid="ignore"):  # those that grow without bound
        for t in range(timesteps):
            latest = y[t + ORDER - 1]
            total = y[t : t + ORDER].sum(axis=0)
            y[t + ORDER] = 0.3 * latest + 0.05 * latest * total + 1.5 * u[t] * u[t + ORDER - 1] + 0.1
    return y[ORDER:]
