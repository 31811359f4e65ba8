"""The kernels of all cells as one: ``forward`` and ``backward`` call those of the cell that a number stands for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from seqrnn.errors import ConfigError
from seqrnn.kernels.choice import choice_of
from seqrnn.kernels.specification import compiled_modules


def _twin(name: str) -> Any:
    """Imports the module of a twin.

    Raises:
        ConfigError: it cannot be imported, or has no such kernels.
    """
    try:
        module = import_module(name)
    except Exception as error:
        raise ConfigError(f"{name}: this compiled twin of a cell cannot be imported: {error}") from error
    missing = [function for function in ("forward", "backward") if not hasattr(module, function)]
    if missing:
        raise ConfigError(f"{name}: this compiled twin of a cell has no {' and no '.join(missing)}")
    return module


_twins = {name: _twin(name) for name in compiled_modules()}
NUMBERS = {name: number for number, name in enumerate(_twins)}
forward = choice_of([twin.forward for twin in _twins.values()])
backward = choice_of([twin.backward for twin in _twins.values()])
