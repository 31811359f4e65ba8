"""sine_online in JAX: all 6,000 updates in one jit."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import data, implementation
from benchmarks.jax_implementations import common
from benchmarks.jax_implementations.common import jax, jnp


def step(weights: Any, c: Any, x: Any) -> tuple[Any, Any]:
    """Returns the new context (6,) and the output."""
    W1, W2 = weights
    c = jnp.tanh(jnp.concatenate([x[None], c]) @ W1)
    return c, (c @ W2)[0]


def loss_of(weights: Any, c: Any, x: Any, y: Any) -> tuple[Any, Any]:
    c, output = step(weights, c, x)
    return 0.5 * (output - y) ** 2, c


def train(weights: Any, inputs: Any, targets: Any, epochs: int) -> tuple[Any, Any]:
    def update(state: Any, point: Any) -> tuple[Any, Any]:
        weights, c = state
        (loss, c), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, c, *point)
        return (jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradients), c), loss

    def epoch(weights: Any, _: Any) -> tuple[Any, Any]:
        (weights, _), losses = jax.lax.scan(update, (weights, jnp.zeros(6)), (inputs, targets), unroll=2)
        return weights, losses.sum()

    return jax.lax.scan(epoch, weights, None, length=epochs)


def prepare(options: implementation.Options) -> tuple[implementation.Train, float]:
    common.use(options.device)
    rng = np.random.default_rng(options.seed)
    weights = (
        jnp.asarray(rng.normal(0, 0.4, (7, 6)), jnp.float32),
        jnp.asarray(rng.normal(0, 0.3, (6, 1)), jnp.float32),
    )
    inputs, targets = (jnp.asarray(values) for values in data.sine())
    epochs = max(1, round(300 * options.share))
    ready, compile_seconds = common.compiled(lambda w, x, y: train(w, x, y, epochs), weights, inputs, targets)

    def run(options: implementation.Options) -> implementation.Training:
        (trained, losses), seconds = common.timed(ready, weights, inputs, targets)
        _, outputs = jax.lax.scan(lambda c, x: step(trained, c, x), jnp.zeros(6), inputs)
        mse = float(jnp.square(outputs - targets).mean())
        return implementation.Training(
            seconds, epochs * 20, epochs * 20, implementation.last_tenth(losses.tolist()) / 20, {"mse": mse}
        )

    return run, compile_seconds


if __name__ == "__main__":
    implementation.command(prepare)
