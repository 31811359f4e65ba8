"""Files of the state of a network that is fed one timestep at a time, in the format of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from seqrnn.checkpoints import file
from seqrnn.checkpoints.identity import differences
from seqrnn.errors import DataError
from seqrnn.models.protocol import State

CONTENT = "state of a stream"  # what tells such a file from a checkpoint of a training


def save(path: Path, network: Mapping[str, Any], state: State, timesteps: int) -> None:
    """Writes a state, whole or not at all.

    Args:
        network: what the network is, by name.
        timesteps: of the sequence so far.

    Raises:
        OSError: the file cannot be written.
    """
    file.write(path, {"content": CONTENT, "network": dict(network), "timesteps": timesteps, "state": list(state)})


def restore(path: Path, network: Mapping[str, Any], like: State) -> tuple[State, int]:
    """Returns a state from a file, and the timesteps of its sequence so far.

    Args:
        network: what the network is that will continue from it.
        like: a state of that network.

    Raises:
        DataError: the file cannot be read or is damaged, or it holds the state of another network.
    """
    tree = file.read(path)
    if tree.get("content") != CONTENT:
        raise DataError(f"{path}: holds no state of a stream: was it written by predictor.save or --state?")
    saved, timesteps, state = tree.get("network"), tree.get("timesteps"), tree.get("state")
    if not isinstance(saved, dict) or not isinstance(timesteps, int) or not isinstance(state, list):
        raise DataError(f"{path}: holds no whole state of a stream")
    different = differences(network, saved)
    if different:
        raise DataError(f"{path}: the state of another network: {'; '.join(different)}")
    try:
        check_parts(state, like)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return tuple(state), timesteps


def check_parts(state: Sequence[Any], like: State) -> None:
    """Checks that a state has the parts, the shapes and the type of another one, and finite numbers.

    Raises:
        DataError: it has not.
    """
    expected = [tuple(part.shape) for part in like]
    if not all(isinstance(part, Tensor) for part in state):
        raise DataError("a state should be tensors")
    found = [tuple(part.shape) for part in state]
    if found != expected:
        raise DataError(f"a state of shapes {found}: should be {expected}")
    for part, own in zip(state, like, strict=True):
        if part.dtype != own.dtype:
            raise DataError(f"a state of {part.dtype}: should be {own.dtype}")
        if not part.isfinite().all():
            raise DataError("a state that is not finite")
