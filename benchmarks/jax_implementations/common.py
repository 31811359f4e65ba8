"""What the implementations in JAX share: cells, Adam, and compiling ahead of time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

# One thread, as for everything else; read when JAX starts.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
import numpy as np

Parameters = dict[str, Any]


def use(device: str) -> None:
    """Chooses where JAX computes."""
    jax.config.update("jax_platforms", device)


def uniform(rng: np.random.Generator, size: int, *shape: int) -> Any:
    """Returns torch's initial weights: uniform in ±1/√size."""
    return jnp.asarray(rng.uniform(-(size**-0.5), size**-0.5, shape), jnp.float32)


def recurrent(rng: np.random.Generator, gates: int, inputs: int, hidden: int) -> Parameters:
    """Returns the weights of a cell with so many gates."""
    return {
        "wi": uniform(rng, hidden, inputs, gates * hidden),
        "wh": uniform(rng, hidden, hidden, gates * hidden),
        "bi": uniform(rng, hidden, gates * hidden),
        "bh": uniform(rng, hidden, gates * hidden),
    }


def rnn_step(p: Parameters, h: Any, gi: Any) -> Any:
    """Makes a step of torch's RNN; gi is x wi + bi."""
    return jnp.tanh(gi + h @ p["wh"] + p["bh"])


def gru_step(p: Parameters, h: Any, gi: Any) -> Any:
    """Makes a step of torch's GRU; gi is x wi + bi."""
    gh = h @ p["wh"] + p["bh"]
    ri, zi, ni = jnp.split(gi, 3, axis=-1)
    rh, zh, nh = jnp.split(gh, 3, axis=-1)
    z = jax.nn.sigmoid(zi + zh)
    n = jnp.tanh(ni + jax.nn.sigmoid(ri + rh) * nh)
    return (1 - z) * n + z * h


def lstm_step(p: Parameters, state: Any, gi: Any) -> Any:
    """Makes a step of torch's LSTM; the state is (h, c), gi is x wi + bi."""
    h, c = state
    i, f, g, o = jnp.split(gi + h @ p["wh"] + p["bh"], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def adam_start(parameters: Parameters) -> tuple[Any, Any, Any]:
    """Returns first and second moments, and the number of steps."""
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    return zeros, zeros, jnp.zeros((), jnp.float32)


def adam(parameters: Any, gradients: Any, moments: Any, lr: float) -> tuple[Any, Any]:
    """Makes a step of Adam with torch's defaults; returns parameters and moments."""
    m, v, steps = moments
    steps = steps + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
    first, second = 1 - 0.9**steps, 1 - 0.999**steps
    parameters = jax.tree.map(lambda p, m, v: p - lr / first * m / (jnp.sqrt(v / second) + 1e-8), parameters, m, v)
    return parameters, (m, v, steps)


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], float]:
    """Returns a function compiled for such arguments, and the seconds that its compilation took."""
    began = time.perf_counter()
    ready = jax.jit(function).lower(*arguments).compile()
    return ready, time.perf_counter() - began


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Returns the result of a function when all of it is there, and the seconds that it took."""
    began = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - began
