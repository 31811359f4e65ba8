"""The shapes of the arrays in a run directory, which are checked before anything is drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import DataError

Arrays = dict[str, NDArray[Any]]
# The axes of each array: the same letter is the same size; the size of a small letter may be 0.
SEQUENCES = {"inputs": "TNI", "targets": "TNO", "outputs": "TNO", "valid": "TN", "starts": "TN"}
FORECAST = {"times": "TN", "actual": "TNHK", "forecast": "TNHK", "lower": "TNHK", "upper": "TNHK"}
CLASSES = {"outputs": "nO", "targets": "n", "examples": "e", "example_inputs": "TeI"}
TEXT = {"outputs": "nO", "targets": "n", "sequences": "n", "sample": "s"}
SEQUENCE_FRAMES = {"timesteps": "F", "inputs": "TNI", "targets": "TNO", "outputs": "FTNO"}
CLASS_FRAMES = {"timesteps": "F", "inputs": "TNI", "targets": "KN", "outputs": "FKNO"}
SAMPLES = {"inputs": "TNI", "targets": "N"}
MOST_CLASSES = 4096  # a confusion matrix has a square of it


def checked(arrays: Arrays, axes: Mapping[str, str], path: Path, classes: bool = False) -> Arrays:
    """Returns the arrays that ``axes`` names, checked.

    Args:
        axes: the axes of each array, a letter for each.
        path: the file that they are from.
        classes: whether ``targets`` are classes, of which there are as many as the last axis O of ``outputs`` says.

    Raises:
        DataError: some are missing, or do not fit together.
    """
    missing = [name for name in axes if name not in arrays]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}; was it written by another version of seqrnn?")
    sizes: dict[str, int] = {}
    for name, letters in axes.items():
        shape = arrays[name].shape
        fits = len(shape) == len(letters) and all(
            sizes.setdefault(letter, size) == size and (size > 0 or letter.islower())
            for letter, size in zip(letters, shape, strict=True)
        )
        if not fits:
            known = ", ".join(f"{letter}={size}" for letter, size in sizes.items())
            raise DataError(f"{path}: {name} is {shape}; expected ({', '.join(letters)}) with {known or 'sizes'}")
    if classes:
        most = sizes.get("O", MOST_CLASSES)
        if most > MOST_CLASSES:
            raise DataError(f"{path}: outputs for {most:,} classes; {MOST_CLASSES:,} are the most that are drawn")
        for name in {"targets", "sample"} & set(axes):
            _check_indices(arrays, name, most, path)
    if "examples" in axes:
        _check_indices(arrays, "examples", sizes["n"], path)
    if "timesteps" in axes:
        _check_indices(arrays, "timesteps", 2**63, path)
    return {name: arrays[name] for name in axes}


def _check_indices(arrays: Arrays, name: str, count: int, path: Path) -> None:
    values = arrays[name]
    if values.dtype.kind not in "iu":
        raise DataError(f"{path}: {name} holds {values.dtype}; expected whole numbers")
    if values.size and not 0 <= int(values.min()) <= int(values.max()) < count:
        raise DataError(f"{path}: {name} are {values.min()} to {values.max()}; expected 0 to {count - 1}")


def check_columns(columns: Mapping[str, NDArray[np.float64]], path: Path) -> None:
    """Checks that rows of metrics have the timesteps at which they were written.

    Raises:
        DataError: they do not.
    """
    timesteps = columns.get("timesteps", np.array([np.nan]))
    if not (np.isfinite(timesteps).all() and (np.abs(timesteps) <= 2**63).all()):
        raise DataError(f"{path}: its rows have no timesteps, or none that could be counted")
