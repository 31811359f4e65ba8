"""Checks plain values against kinds. To be removed with its last user, seqrnn.plots.measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from seqrnn.errors import DataError
from seqrnn.rundir.bounded import MOST_NAME_CHARACTERS as LONGEST_NAME
from seqrnn.rundir.bounded import MOST_PROBLEMS
from seqrnn.rundir.bounded import shown as _said


@dataclass(frozen=True)
class Many:
    """A list of values of a kind."""

    kind: Kind


@dataclass(frozen=True)
class Maybe:
    """A value of a kind, or null."""

    kind: Kind


@dataclass(frozen=True)
class Text:
    """Words of any length, as far as a file may have them."""


Kind = type | tuple[type, ...] | frozenset[str] | Mapping[str, Any] | Many | Maybe | Text


def check(values: Mapping[str, Any], kinds: Mapping[str, Kind], path: Path, whole: bool = False) -> None:
    """Those of the ``values`` that are there are of the kinds that their readers rely on: a type, several, one of
    some words, a mapping of such kinds by key (``"*"``: any other key), or ``Many``, ``Maybe`` or ``Text``.

    Args:
        whole: every key that has a kind must be there, in every mapping.

    Raises:
        DataError: some are not: a line each.
    """
    found = islice(_mistaken(values, kinds, "", whole), MOST_PROBLEMS)
    problems = [f"{path}: {problem}" for problem in found]
    if problems:
        raise DataError(*problems)


def _mistaken(values: Mapping[str, Any], kinds: Mapping[str, Kind], before: str, whole: bool) -> Iterator[str]:
    for key in kinds if whole else ():
        if key not in values and key != "*":
            yield f"has no {before}{key}; was it written by another version of seqrnn?"
    for key, value in values.items():
        kind, name = kinds.get(key, kinds.get("*")), before + key
        if kind is None:
            continue
        if len(key) > LONGEST_NAME:
            yield f"{_said(name)}: a name of {len(key):,} characters; {LONGEST_NAME} are the most"
        else:
            yield from _wrong(value, kind, name, whole)


def _wrong(value: Any, kind: Kind, name: str, whole: bool) -> Iterator[str]:
    if isinstance(kind, Maybe):
        if value is not None:
            yield from _wrong(value, kind.kind, name, whole)
    elif isinstance(kind, Many):
        if isinstance(value, list):
            for number, part in enumerate(value):
                yield from _wrong(part, kind.kind, f"{name}[{number}]", whole)
        else:
            yield f"{name} should be a list, not {_said(value)}"
    elif isinstance(kind, Mapping):
        if isinstance(value, Mapping):
            yield from _mistaken(value, kind, f"{name}.", whole)
        else:
            yield f"{name} should be a mapping, not {_said(value)}"
    elif isinstance(kind, frozenset):
        if not isinstance(value, str) or value not in kind:
            yield f"{name} should be {' or '.join(sorted(kind))}, not {_said(value)}"
    elif isinstance(kind, Text):
        if not isinstance(value, str):
            yield f"{name} should be words, not {_said(value)}"
    elif not _is(value, kind):
        kind = kind if isinstance(kind, tuple) else (kind,)
        yield f"{name} should be {' or '.join(_NAMES[one] for one in kind)}, not {_said(value)}"


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: f"a name of at most {LONGEST_NAME} characters",
    list: "a list",
    type(None): "null",
}


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, str):
        return str in kinds and len(value) <= LONGEST_NAME
    return (float in kinds and isinstance(value, int)) or isinstance(value, kinds)
