"""``init_from``: a run that starts from the weights of another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from seqrnn.errors import ConfigError, DataError
from seqrnn.rundir.names import WEIGHTS
from seqrnn.rundir.reader import RunReader
from seqrnn.strategies.strategy_state import cpu_copy

Origin = dict[str, str]


def start_from(source: str, network: nn.Module) -> Origin:
    """Gives a network the weights of a run directory, or of a .safetensors file in one.

    Returns:
        Where they are from, and their hash.

    Raises:
        DataError: they cannot be read, or are not those of a network like this one.
    """
    check_source(source)
    path = Path(source).expanduser()
    directory, name = (path, WEIGHTS) if path.is_dir() else (path.parent, path.name)
    try:
        weights = RunReader(directory).weights(name)
    except DataError as error:
        raise DataError(*(f"init_from={source}: {problem}" for problem in error.problems)) from None
    load_weights(network, weights, f"init_from={source}: ")
    return {"path": source, "sha256": weights_hash(weights)}


def check_source(source: str | None) -> None:
    """Checks that ``init_from`` names something that exists; nothing is read.

    Raises:
        ConfigError: it does not.
    """
    if source is not None and not Path(source).expanduser().exists():
        raise ConfigError(f"init_from={source}: there is no such directory or file; it takes a run directory")


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of weights, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(cpu_copy(weights[name]).reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], where: str = "") -> None:
    """Gives a network other weights.

    Args:
        where: what stands before each problem.

    Raises:
        DataError: they are not those of a network like this one; names each parameter that does not fit.
    """
    check_weights(network, weights, where)
    network.load_state_dict(dict(weights))


def check_weights(network: nn.Module, weights: Mapping[str, Tensor], where: str = "") -> None:
    """Checks names and shapes of weights against those of a network.

    Args:
        where: what the errors begin with.

    Raises:
        DataError: they are not those of such a network; each parameter that does not fit is named.
    """
    own = network.state_dict()
    problems = [f"{where}{name}: is missing" for name in own if name not in weights]
    problems += [f"{where}{name}: this network has no such parameter" for name in weights if name not in own]
    problems += [
        f"{where}{name}: has the shape {tuple(weights[name].shape)}, and this network's {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        raise DataError(*problems)
