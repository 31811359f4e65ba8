"""Writes JSON as the standard defines it, without NaN and infinity."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(value: Any, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """Returns ``value`` as strict JSON, with null for NaN and infinity."""
    return json.dumps(_strict(value), indent=indent, separators=separators, allow_nan=False, ensure_ascii=False)


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
