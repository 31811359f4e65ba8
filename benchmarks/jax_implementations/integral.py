"""The integral experiments in JAX: GRU 1 → 50, mlp head, L1, Adam; all updates in one jit."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks import data, implementation
from benchmarks.jax_implementations import common
from benchmarks.jax_implementations.common import jax, jnp

WINDOW = 2


def window_loss(p: Any, h: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Returns the mean loss of a window, x and y (2,), and the state after it."""
    total = 0.0
    for n in range(WINDOW):
        h = common.gru_step(p, h, x[n, None] @ p["wi"] + p["bi"])
        total += jnp.abs(head(p, h) - y[n])
    return total / WINDOW, h


def head(p: Any, h: Any) -> Any:
    """Returns outputs (…) for states (…, 50)."""
    return (jax.nn.relu(h @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"])[..., 0]


def in_order(p: Any, h: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Returns the mean loss of an update's windows, x and y (windows, 2), one after another, and the state after
    them."""

    def step(h: Any, window: Any) -> tuple[Any, Any]:
        loss, h = window_loss(p, jax.lax.stop_gradient(h), *window)
        return h, loss

    if len(x) == 1:
        h, loss = step(h, (x[0], y[0]))
        return loss, h
    h, losses = jax.lax.scan(step, h, (x, y))
    return losses.mean(), h


def folded(p: Any, h: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Returns the same from the same weights: a forward pass finds the state at the start of each window, then all
    windows run side by side."""

    def step(h: Any, x: Any) -> tuple[Any, Any]:
        return common.gru_step(fixed, h, x[None] @ fixed["wi"] + fixed["bi"]), h

    fixed = jax.lax.stop_gradient(p)
    last, before = jax.lax.scan(step, h, x.reshape(-1))  # before: (timesteps, 50)
    losses, _ = jax.vmap(partial(window_loss, p))(before[::WINDOW], x, y)
    return losses.mean(), last


def train(loss_of: Any, p: Any, inputs: Any, targets: Any) -> tuple[Any, Any]:
    """Returns inputs, targets (updates, windows, 2)."""

    def update(state: Any, point: Any) -> tuple[Any, Any]:
        p, moments, h = state
        (loss, h), gradients = jax.value_and_grad(loss_of, has_aux=True)(p, h, *point)
        return (*common.adam(p, gradients, moments, lr=0.0002), h), loss

    (p, _, _), losses = jax.lax.scan(update, (p, common.adam_start(p), jnp.zeros(50)), (inputs, targets))
    return p, losses


def test(p: Any) -> dict[str, float]:
    """Returns the mean absolute error on new sequences."""
    x, y = data.integral_test()  # (T, N)

    def step(h: Any, x: Any) -> tuple[Any, Any]:
        h = common.gru_step(p, h, x[:, None] @ p["wi"] + p["bi"])
        return h, head(p, h)

    _, outputs = jax.lax.scan(step, jnp.zeros((x.shape[1], 50)), x)
    return {"mae": float(jnp.abs(outputs - y).mean())}


def prepare(
    options: implementation.Options, updates: int, windows: int, loss_of: Any = in_order
) -> tuple[implementation.Train, float]:
    common.use(options.device)
    rng = np.random.default_rng(options.seed)
    p = common.recurrent(rng, 3, 1, 50) | {
        "w1": common.uniform(rng, 50, 50, 50),
        "b1": common.uniform(rng, 50, 50),
        "w2": common.uniform(rng, 50, 50, 1),
        "b2": common.uniform(rng, 50, 1),
    }
    updates = max(1, round(updates * options.share))
    timesteps = updates * windows * WINDOW
    inputs, targets = (
        jnp.asarray(values.reshape(updates, windows, WINDOW)) for values in data.integral(options.seed, timesteps)
    )
    ready, compile_seconds = common.compiled(partial(train, loss_of), p, inputs, targets)

    def run(options: implementation.Options) -> implementation.Training:
        (trained, losses), seconds = common.timed(ready, p, inputs, targets)
        return implementation.Training(
            seconds, updates, timesteps, implementation.last_tenth(losses.tolist()), test(trained)
        )

    return run, compile_seconds
