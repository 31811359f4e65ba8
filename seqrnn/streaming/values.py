"""What rows of all kinds have in common: how their values are read and shown."""

from __future__ import annotations

from typing import Any

from seqrnn.errors import DataError

START = "start"  # a column of every row: whether a new sequence begins
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def starts(value: Any) -> bool:
    """Returns whether a row begins a new sequence, by its column ``start``.

    Raises:
        DataError: the value is neither true nor false.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    found = BOOLEANS.get(str(value).lower())
    if found is None:
        raise DataError(f"{START}: {shown(value)} should be true or false")
    return found


def shown(value: Any) -> str:
    """Returns a value as errors show it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def shortest(value: Any) -> float:
    """Returns the number with the fewest digits that tell it from its neighbours in its own precision."""
    return float(str(value))
