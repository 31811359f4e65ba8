"""task=lorenz: predict one variable of a chaotic flow from its past."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count, Natural, Positive, Size
from seqrnn.errors import ConfigError
from seqrnn.registry import register
from seqrnn.tasks.drawn import Array, Drawn, DrawnData, constant, delay_line
from seqrnn.tasks.protocol import Chunk

SIGMA, RHO, BETA = 10.0, 28.0, 8 / 3
SCALE = (BETA * (RHO - 1)) ** 0.5  # x at the two unstable fixed points is ± SCALE
LARGEST_STEP = 0.02  # time units; the solution of larger steps is visibly another one, or grows without bound
LAGS = 50  # inputs that the linear baseline reads


@register("task", "lorenz")
class Lorenz:
    """The input is x at one time, and the target x ``horizon`` timesteps later, of

        dx/dt = 10 (y − x),  dy/dt = x (28 − z) − y,  dz/dt = x y − 8/3 z,

    divided by √72, so that the two fixed points on the attractor's wings are at ± 1. The other two variables are not
    seen, and can only be inferred from the past. A timestep is ``interval`` time units. Each sequence starts near (1,
    1, 28), and its first ``washout`` timesteps are left out. The equations are solved by the classical Runge-Kutta
    method of order 4 with ``steps`` steps per timestep. The mean of x is 0, since the equations stay the same when x
    and y change their signs. Errors are reported as shares of the targets' standard deviation (nrmse) as well.

    Source: Lorenz 1963, "Deterministic nonperiodic flow", equations 25 to 27.
    """

    input_size = 1
    output_size = 1
    kind: Literal["regression"] = "regression"
    metrics = staticmethod(metrics.series)
    headline = "nrmse"
    is_forecast = True

    reach = None  # a few past values are enough to infer y and z, and more make it easier

    smoke: ClassVar = {
        "length": 40,
        "washout": 20,
        "train_sequences": 8,
        "validation_sequences": 4,
        "test_sequences": 4,
    }

    def __init__(
        self,
        seed: int,
        *,
        interval: Positive,
        horizon: Size,
        steps: Size,
        washout: Natural,
        length: Count,
        train_sequences: Count,
        validation_sequences: Count,
        test_sequences: Count,
        loss: Literal["mse", "l1"],
    ) -> None:
        if interval / steps > LARGEST_STEP:
            raise ConfigError(
                f"task.interval={interval}, task.steps={steps}: a step of {interval / steps:g} time units is too "
                f"large for the Runge-Kutta method; make it at most {LARGEST_STEP}"
            )
        self.loss = loss
        self.interval, self.horizon, self.steps, self.washout = interval, horizon, steps, washout
        sequences = train_sequences, validation_sequences, test_sequences
        data = DrawnData(seed, self.draw, sequences, length=length, size=2, extra=washout + horizon)
        self.train, self.validation, self.test = data.train, data.validation, data.test
        self.rollout = data.rollout
        self.data = data

    def draw(self, rng: np.random.Generator, timesteps: int, streams: int) -> Drawn:
        """Draws sequences."""
        start = np.array([[1.0], [1.0], [28.0]]) + rng.uniform(-1, 1, (3, streams))
        x = self.solve(start, self.washout + timesteps + self.horizon)[self.washout :, 0, :, None] / SCALE
        return Drawn(x[:timesteps].copy(), x[self.horizon : self.horizon + timesteps].copy())

    def solve(self, start: Array, timesteps: int) -> Array:
        """Returns (x, y, z) (T, 3, B) at the first T timesteps; ``start`` (3, B) is the first of them."""
        h, states = self.interval / self.steps, [start]
        state = start
        for _ in range(timesteps - 1):
            for _ in range(self.steps):
                first = derivative(state)
                second = derivative(state + h / 2 * first)
                third = derivative(state + h / 2 * second)
                state = state + h / 6 * (first + 2 * second + 2 * third + derivative(state + h * third))
            states.append(state)
        return np.stack(states)

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        return {
            "constant (0)": constant(0.0),
            "persistence": lambda chunk: chunk.inputs,
            f"linear ({LAGS} inputs)": delay_line(self.data.sample(), LAGS),
        }


def derivative(state: Array) -> Array:
    """Returns d(x, y, z)/dt of states (3, B)."""
    x, y, z = state
    found = np.empty_like(state)
    found[0], found[1], found[2] = SIGMA * (y - x), x * (RHO - z) - y, x * y - BETA * z
    return found
