"""Reads YAML of plain values, within the bounds of ``seqrnn.rundir.bounded``.

Refused are tags and aliases, and in a config interpolations, of which a recorded one has none: they could stand for
objects, for more than there is memory for, and for what is in the environment of whoever reads them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any

import yaml

from seqrnn.rundir.bounded import MOST_DEPTH, checked_mapping, opened

MOST_BYTES = 2**18
MOST_CHARACTERS = 10_000  # of a key or a value


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Loads YAML's plain values as OmegaConf does: 1e-8 is a number, and a key may be given once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise ValueError(f"line {node.start_mark.line + 1}: a key is given twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a mapping of plain values (mappings, lists, texts, numbers, true, false, null)."""
    with opened(path, MOST_BYTES) as file:
        return checked_mapping(_parsed(file, interpolations=False), path)


def read_texts(path: Path) -> list[str]:
    """Reads a list of texts. One that looks like an interpolation is a text like any other: it is never resolved."""
    with opened(path, MOST_BYTES) as file:
        values = _parsed(file, interpolations=True)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError("it should hold a list of texts")
        return values


def _parsed(file: IO[bytes], *, interpolations: bool) -> Any:
    text = file.read(MOST_BYTES).decode()
    _check_events(text, interpolations)
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _check_events(text: str, interpolations: bool) -> None:
    """Refuses what is not plain while it is parsed, before anything is made of it.

    Args:
        interpolations: whether values may hold what looks like one.

    Raises:
        ValueError: the line, and what stands there.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        where = f"line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"{where}: aliases are not read; write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MOST_DEPTH:
                raise ValueError(f"{where}: more than {MOST_DEPTH} mappings and lists within one another")
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.NodeEvent) and getattr(event, "tag", None):
            raise ValueError(f"{where}: the tag {event.tag} is not read; plain values have none")
        if isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MOST_CHARACTERS:
                raise ValueError(f"{where}: a value of {len(event.value):,} characters")
            if "${" in event.value and not interpolations:
                raise ValueError(
                    f"{where}: {event.value[:80]}: interpolations are not resolved here; a run records its config "
                    "with every value resolved"
                )
