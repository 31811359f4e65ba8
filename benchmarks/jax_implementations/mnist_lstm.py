"""mnist_lstm in JAX: the images are on the device, and all 938 updates in one jit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import implementation
from benchmarks.jax_implementations import common
from benchmarks.jax_implementations.common import jax, jnp

BATCH = 64


def read(data_dir: str, part: str) -> tuple[Any, Any]:
    """Returns images (N, 28, 28) and labels (N,), from the uncompressed files."""
    folder = Path(data_dir) / "MNIST" / "raw"
    images = np.fromfile(folder / f"{part}-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 28, 28)
    labels = np.fromfile(folder / f"{part}-labels-idx1-ubyte", np.uint8)[8:]
    return images, labels.astype(np.int32)


def logits_of(p: Any, images: Any) -> Any:
    """Returns logits (B, 10) for images (B, 28, 28) of bytes."""
    x = images.transpose(1, 0, 2).astype(jnp.float32) / 255  # (T, B, I)
    gi = x @ p["wi"] + p["bi"]

    def step(state: Any, gi: Any) -> tuple[Any, None]:
        return common.lstm_step(p, state, gi), None

    zeros = jnp.zeros((x.shape[1], 64))
    (h, _), _ = jax.lax.scan(step, (zeros, zeros), gi)
    return h @ p["head"] + p["bias"]


def loss_of(p: Any, images: Any, labels: Any) -> Any:
    log_p = jax.nn.log_softmax(logits_of(p, images))
    return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()


def train(p: Any, images: Any, labels: Any, order: Any) -> tuple[Any, Any]:
    """Trains on images in an order (N,); the last batch may be small."""

    def update(state: Any, chosen: Any) -> tuple[Any, Any]:
        p, moments = state
        loss, gradients = jax.value_and_grad(loss_of)(p, images[chosen], labels[chosen])
        return common.adam(p, gradients, moments, lr=0.01), loss

    whole = len(order) // BATCH * BATCH
    state, losses = jax.lax.scan(update, (p, common.adam_start(p)), order[:whole].reshape(-1, BATCH))
    if whole < len(order):
        state, loss = update(state, order[whole:])
        losses = jnp.append(losses, loss)
    return state[0], losses


def prepare(options: implementation.Options) -> tuple[implementation.Train, float]:
    common.use(options.device)
    rng = np.random.default_rng(options.seed)
    p = common.recurrent(rng, 4, 28, 64) | {
        "head": common.uniform(rng, 64, 64, 10),
        "bias": common.uniform(rng, 64, 10),
    }
    images, labels = (jnp.asarray(values) for values in read(options.data_dir, "train"))
    count = max(BATCH, round(len(images) * options.share))
    order = jnp.asarray(rng.permutation(count))
    ready, compile_seconds = common.compiled(train, p, images, labels, order)

    def run(options: implementation.Options) -> implementation.Training:
        (trained, losses), seconds = common.timed(ready, p, images, labels, order)
        test_images, test_labels = read(options.data_dir, "t10k")
        accuracy = float((logits_of(trained, test_images).argmax(axis=1) == test_labels).mean())
        return implementation.Training(
            seconds, len(losses), 28 * count, implementation.last_tenth(losses.tolist()), {"accuracy": accuracy}
        )

    return run, compile_seconds


if __name__ == "__main__":
    implementation.command(prepare)
