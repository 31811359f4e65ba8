"""Numbers as they stand in the columns of a table: all of a column with the same decimals, so that they align."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

MINUS = "\N{MINUS SIGN}"
MOST_DECIMALS, MOST_WHOLE = 6, 1e6
MOST_SECONDS = 1e9  # of a run


def column_format(
    values: Iterable[float | None], digits: int = 3, least: float = 0.0
) -> Callable[[float | None], str]:
    """Returns how the numbers of a column are written: with the decimals that give the smallest of them ``digits``
    significant digits, or as 1.23e-05 if that would take too many.

    Args:
        least: numbers up to this size count as 0.
    """
    sizes = [abs(value) for value in values if value is not None and math.isfinite(value) and abs(value) > least]
    smallest, largest = min(sizes, default=1.0), max(sizes, default=1.0)
    decimals = max(0, digits - 1 - math.floor(math.log10(smallest)))
    if decimals > MOST_DECIMALS or largest >= MOST_WHOLE:
        return lambda value: _written(value, f".{digits - 1}e")
    return lambda value: _written(value, f",.{decimals}f")


def _written(value: float | None, form: str) -> str:
    if value is None:
        return ""
    if not math.isfinite(value):
        return "not finite"
    return f"{value:{form}}".replace("-", MINUS, 1) if value < 0 else f"{value:{form}}"


def signed(text: str) -> str:
    """Returns a number with its sign, if it is one."""
    return text if not text or text.startswith(MINUS) else f"+{text}"


def p_value(p: float | None) -> str:
    """Returns a p-value with two digits."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def count_of(number: int, word: str) -> str:
    """Returns a number of things, such as ``1 run`` and ``2 runs``."""
    return f"{number:,} {word}{'s' * (number != 1)}"


def total_seconds(values: Iterable[Any]) -> float:
    """Returns the sum of those values that are finite numbers; the others come from a damaged file."""
    return sum(float(value) for value in values if isinstance(value, int | float) and 0 <= value < MOST_SECONDS)
