"""sincos_lstm in JAX: all 100 updates in one jit."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import data, implementation
from benchmarks.jax_implementations import common
from benchmarks.jax_implementations.common import jax, jnp


def forward(p: Any, x: Any) -> Any:
    """Returns outputs (T,) for inputs (T,), from a zero state."""
    gi = x[:, None] @ p["wi"] + p["bi"]

    def step(state: Any, gi: Any) -> tuple[Any, Any]:
        state = common.lstm_step(p, state, gi)
        return state, state[0]

    _, h = jax.lax.scan(step, (jnp.zeros(32), jnp.zeros(32)), gi, unroll=2)
    return (h @ p["head"] + p["bias"])[:, 0]


def loss_of(p: Any, x: Any, y: Any) -> Any:
    return jnp.square(forward(p, x) - y).mean()


def train(p: Any, inputs: Any, targets: Any) -> tuple[Any, Any]:
    def update(state: Any, window: Any) -> tuple[Any, Any]:
        p, moments = state
        loss, gradients = jax.value_and_grad(loss_of)(p, *window)
        return common.adam(p, gradients, moments, lr=0.02), loss

    (p, _), losses = jax.lax.scan(update, (p, common.adam_start(p)), (inputs, targets))
    return p, losses


def prepare(options: implementation.Options) -> tuple[implementation.Train, float]:
    common.use(options.device)
    rng = np.random.default_rng(options.seed)
    p = common.recurrent(rng, 4, 1, 32) | {
        "head": common.uniform(rng, 32, 32, 1),
        "bias": common.uniform(rng, 32, 1),
    }
    windows = max(1, round(100 * options.share))
    inputs, targets = (jnp.asarray(values) for values in data.sincos(0, windows))
    ready, compile_seconds = common.compiled(train, p, inputs, targets)

    def run(options: implementation.Options) -> implementation.Training:
        (trained, losses), seconds = common.timed(ready, p, inputs, targets)
        x, y = data.sincos(100, 120)
        mse = float(jnp.square(jax.vmap(lambda x: forward(trained, x))(x) - y).mean())
        return implementation.Training(
            seconds, windows, 10 * windows, implementation.last_tenth(losses.tolist()), {"mse": mse}
        )

    return run, compile_seconds


if __name__ == "__main__":
    implementation.command(prepare)
