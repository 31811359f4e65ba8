"""Calls the kernels of the cell that a number stands for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from seqrnn.errors import ConfigError
from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.simd import alwaysinline
from seqrnn.kernels.specification import compiled_modules


def choice_of(functions: Sequence[Any]) -> Any:
    """Returns a kernel that calls the function that its first argument is the number of, with the other arguments.

    Numba takes what the kernels below have from outside as constants, so LLVM sees one chain of comparisons.
    """
    chosen = _last(functions[-1])
    for number, function in reversed(list(enumerate(functions[:-1]))):
        chosen = _this_or(number, function, chosen)
    return chosen


def _last(function: Any) -> Any:
    @kernel
    def call(number, *arguments):
        alwaysinline()
        function(*arguments)

    return call


def _this_or(own_number: int, function: Any, otherwise: Any) -> Any:
    @kernel
    def call(number, *arguments):
        alwaysinline()
        if number == own_number:
            function(*arguments)
        else:
            otherwise(number, *arguments)

    return call


def _twin(name: str) -> Any:
    """
    Raises:
        ConfigError: the module cannot be imported, or lacks a kernel.
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
