"""The keys of nested values, as typed on the command line: ``model.hidden_size``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

LONGEST_PLAIN = 8  # characters of a number that is typed without an exponent
# Texts that hydra reads as they stand, unless they are of another type; blanks may be within them.
UNQUOTED = re.compile(r"[A-Za-z0-9_./+@%-]+( +[A-Za-z0-9_./+@%-]+)*")
OF_ANOTHER_TYPE = re.compile(r"null|true|false|nan|[+-]?(inf|[\d._]+(e[+-]?\d+)?)", re.IGNORECASE)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested values by their keys as typed on a command line."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def prefixes(key: str) -> list[str]:
    """Returns the key and the groups that it lies in: a, a.b, a.b.c."""
    parts = key.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def as_typed(value: Any) -> str:
    """Returns a value as it is typed on a command line: 1e9, not 1000000000.0."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    plain = repr(value)
    if "e" not in plain and len(plain) <= LONGEST_PLAIN:
        return plain
    shortest = next(text for text in (f"{value:.{digits}g}" for digits in range(1, 18)) if float(text) == value)
    mantissa, _, exponent = shortest.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else min(shortest, plain, key=len)


def as_override(key: str, text: str) -> str:
    """Returns an override that sets a key to a text, such as a path; in quotes where hydra needs them."""
    if UNQUOTED.fullmatch(text) and not OF_ANOTHER_TYPE.fullmatch(text):
        return f"{key}={text}"
    # A backslash stands for itself, except before a quote.
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + found[2].replace("'", r"\'"), text)
    return f"{key}='{escaped}'"
