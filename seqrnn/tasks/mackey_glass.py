"""task=mackey_glass: predict a chaotic delay differential equation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count, Natural, Positive, Size
from seqrnn.registry import register
from seqrnn.tasks.drawn import Array, Drawn, DrawnData, constant, delay_line
from seqrnn.tasks.protocol import Chunk

LAGS = 50  # inputs that the linear baseline reads


@register("task", "mackey_glass")
class MackeyGlass:
    """The input is x_t − 1, and the target x_{t + horizon} − 1, of

        dx/dt = beta x(t − tau) / (1 + x(t − tau)^exponent) − gamma x(t)

    at t = 0, 1, 2, … (1 is the unstable fixed point for beta = 2 gamma). Each sequence starts from its own constant
    history, uniform in [1.1, 1.3], and its first ``washout`` timesteps are left out. With the usual numbers the
    series is periodic for tau < 16.8, and chaotic for tau = 17 and tau = 30.

    The equation is solved by the classical Runge-Kutta method of order 4 with ``steps`` steps per timestep; x(t −
    tau) half way between two steps comes from the cubic that has their values and derivatives. Errors are reported as
    shares of the targets' standard deviation (nrmse) as well.

    Source: Mackey & Glass 1977, "Oscillation and chaos in physiological control systems". Prediction 15 ahead of
    tau = 17: Voelker, Kajić & Eliasmith 2019, "Legendre memory units", section 3.3.
    """

    input_size = 1
    output_size = 1
    kind: Literal["regression"] = "regression"
    metrics = staticmethod(metrics.series)
    headline = "nrmse"
    is_forecast = True

    smoke: ClassVar = {
        "length": 40,
        "washout": 20,
        "train_sequences": 16,
        "validation_sequences": 4,
        "test_sequences": 4,
    }

    def __init__(
        self,
        seed: int,
        *,
        tau: Size,
        horizon: Size,
        beta: Positive,
        gamma: Positive,
        exponent: Positive,
        steps: Size,
        washout: Natural,
        length: Count,
        train_sequences: Count,
        validation_sequences: Count,
        test_sequences: Count,
        loss: Literal["mse", "l1"],
    ) -> None:
        self.loss = loss
        self.tau, self.horizon, self.steps, self.washout = tau, horizon, steps, washout
        self.beta, self.gamma, self.exponent = beta, gamma, exponent
        self.reach = tau + 1  # the future depends on the last ``tau`` time units alone
        sequences = train_sequences, validation_sequences, test_sequences
        data = DrawnData(seed, self.draw, sequences, length=length, size=2, extra=washout + horizon + tau * steps)
        self.train, self.validation, self.test = data.train, data.validation, data.test
        self.rollout = data.rollout
        self.data = data

    def draw(self, rng: np.random.Generator, timesteps: int, streams: int) -> Drawn:
        """Draws sequences."""
        history = rng.uniform(1.1, 1.3, streams)
        x = self.solve(history, self.washout + timesteps + self.horizon)[self.washout :, :, None] - 1
        return Drawn(x[:timesteps].copy(), x[self.horizon : self.horizon + timesteps].copy())

    def solve(self, history: Array, timesteps: int) -> Array:
        """Returns x (T, B) at t = 0, …, T − 1; x is ``history`` (B,) up to t = 0.

        The delayed term of a stretch of ``tau`` comes from the stretch before. Given that term, the equation is
        linear in x, and so is a step: x' = keep · x + start · g(t) + middle · g(t + h/2) + end · g(t + h).
        """
        h, count = 1 / self.steps, self.tau * self.steps  # length of a step; steps of a stretch
        keep, start, middle, end = (self._step(*unit) for unit in np.eye(4))
        x = np.repeat(history[None], count + 1, axis=0)  # at the steps of a stretch
        between = x[1:]  # half way between them
        stretches = [history[None]]
        for _ in range(-(-(timesteps - 1) // self.tau)):
            forcing, halfway = self._feedback(x), self._feedback(between)
            added = start * forcing[:-1] + middle * halfway + end * forcing[1:]
            x = np.concatenate([x[-1:], added])
            for number in range(count):
                x[number + 1] += keep * x[number]
            slope = forcing - self.gamma * x
            between = (x[:-1] + x[1:]) / 2 + h / 8 * (slope[:-1] - slope[1:])
            stretches.append(x[self.steps :: self.steps])
        return np.concatenate(stretches)[:timesteps]

    def _feedback(self, delayed: Array) -> Array:
        """Returns the term of the equation that depends on x(t − tau)."""
        feedback: Array = self.beta * delayed / (1 + delayed**self.exponent)
        return feedback

    def _step(self, x: float, start: float, middle: float, end: float) -> float:
        """Returns x after a step of the Runge-Kutta method, for values of the delayed term at its start, middle and
        end."""
        h = 1 / self.steps
        first = start - self.gamma * x
        second = middle - self.gamma * (x + h / 2 * first)
        third = middle - self.gamma * (x + h / 2 * second)
        fourth = end - self.gamma * (x + h * third)
        return x + h / 6 * (first + 2 * second + 2 * third + fourth)

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        sample = self.data.sample()
        return {
            "constant (mean)": constant(float(sample.targets.mean())),
            "persistence": lambda chunk: chunk.inputs,
            f"linear ({LAGS} inputs)": delay_line(sample, LAGS),
        }
