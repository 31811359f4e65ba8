"""The kernels of all cells as one: ``forward`` and ``backward`` call those of the cell that a number stands for."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from seqrnn.errors import ConfigError
from seqrnn.kernels.choice import choice_of
from seqrnn.kernels.specification import compiled_modules

# The arguments of the two kernels of a twin, in order (seqrnn.kernels.cells).
ARGUMENTS = {
    "forward": ("p", "w", "layer", "row", "rows"),
    "backward": ("w", "layer", "row", "rows", "through_time"),
}


def _twin(name: str) -> Any:
    """Imports the module of a twin.

    Raises:
        ConfigError: it cannot be imported, or has no such kernels with such arguments.
    """
    try:
        module = import_module(name)
    except Exception as error:
        raise ConfigError(f"{name}: this compiled twin of a cell cannot be imported: {error}") from error
    problems = [problem for function in ARGUMENTS if (problem := _problem_with(module, function))]
    if problems:
        raise ConfigError(*(f"{name}: this compiled twin of a cell {problem}" for problem in problems))
    return module


def _problem_with(module: Any, name: str) -> str | None:
    """Returns what is wrong with one of the kernels of a twin; None if nothing is."""
    function = getattr(module, name, None)
    if function is None:
        return f"has no {name}({', '.join(ARGUMENTS[name])})"
    source = getattr(function, "py_func", None)  # of what numba compiles
    if source is None:
        return f"has a {name} that is no kernel; write @seqrnn.kernels.compiler.kernel above it"
    found = tuple(inspect.signature(source).parameters)
    if found != ARGUMENTS[name]:
        return f"has {name}({', '.join(found)}); should be {name}({', '.join(ARGUMENTS[name])})"
    return None


_twins = {name: _twin(name) for name in compiled_modules()}
NUMBERS = {name: number for number, name in enumerate(_twins)}
forward = choice_of([twin.forward for twin in _twins.values()])
backward = choice_of([twin.backward for twin in _twins.values()])
