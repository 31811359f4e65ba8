"""Builds a kernel that calls one of several others by its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.simd import alwaysinline


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
