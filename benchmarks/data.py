"""The training data of the source experiments, as arrays, made the plain way."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # of float32


def sine() -> tuple[Array, Array]:
    """Returns 20 points of a sine and the points that follow them, (20,) each."""
    wave = np.sin(np.linspace(2, 10, 21)).astype(np.float32)
    return wave[:-1], wave[1:]


def sincos(first: int, last: int) -> tuple[Array, Array]:
    """Returns sine and cosine in half waves ``first`` to ``last``, 10 points each: (last - first, 10)."""
    times = np.stack([np.linspace(n * math.pi, (n + 1) * math.pi, 10) for n in range(first, last)])
    return np.sin(times).astype(np.float32), np.cos(times).astype(np.float32)


def integral(seed: int, timesteps: int) -> tuple[Array, Array]:
    """Returns an input that jumps and its saturating integral, (timesteps,) each."""
    rng = random.Random(seed)
    inputs, outputs = [], []
    x = y = 0.0
    for _ in range(timesteps):
        if rng.random() < 0.1:
            x = rng.random()
        y = min(max(y + 0.1 * (x - 0.5), 0.0), 1.0)
        inputs.append(x)
        outputs.append(y)
    return np.array(inputs, np.float32), np.array(outputs, np.float32)


def integral_test() -> tuple[Array, Array]:
    """Returns 20 test sequences of 1,500 timesteps, (1500, 20) each."""
    sequences = [integral(10_000 + n, 1500) for n in range(20)]
    return np.stack([x for x, _ in sequences], axis=1), np.stack([y for _, y in sequences], axis=1)
