"""The keys of nested values, as typed on the command line: ``model.hidden_size``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
