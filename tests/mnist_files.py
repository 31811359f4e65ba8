"""Files in MNIST's format with random images, for tests."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers import make_task

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape) + values.tobytes()


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random images, whose first two pixels encode the number of the image, and random labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    return images, rng.integers(0, 10, count, dtype=np.uint8)


TRAINING, TESTING = digits(300, 0), digits(40, 1)


def write_mnist(folder: Path, zipped: bool = False) -> Path:
    """Writes the four files into ``folder``/MNIST/raw, and returns that folder."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, values in zip((IMAGES, LABELS, TEST_IMAGES, TEST_LABELS), (*TRAINING, *TESTING), strict=True):
        if zipped:
            (raw / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
        else:
            (raw / name).write_bytes(idx(values))
    return raw


def make_mnist(folder: Path, seed: int = 0, **changes: Any) -> Any:
    values = {"data_dir": str(folder), "download": False, "synthetic": False, "validation_images": 0, **changes}
    return make_task("mnist", seed, **values)


def which(batches: Sequence[Any]) -> list[int]:
    """Returns the numbers of the images in the batches, in order."""
    first_row = torch.cat([batch.read(0, 1).inputs[0] for batch in batches]) * 255  # (N, 28)
    return (first_row[:, 0] + 256 * first_row[:, 1]).round().int().tolist()
