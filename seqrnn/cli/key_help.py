"""Adds the comments of conf/ to the keys that --help lists: what they mean, and which values they take."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

KEY = re.compile(r"(?P<indent> *)(?P<key>[\w.]+):(?P<value>[^#]*)(# *(?P<comment>.*))?$")
CONTINUED = re.compile(r" +# *(?P<comment>.*)$")
COMPONENTS = ("task", "model", "optimizer")


KEY_WIDTH = 30  # characters of a key and its value, which comments stand beside


def with_comments(text: str, conf: Path, width: int | None = None) -> str:
    """Returns a config in YAML with the comments of the files in ``conf`` beside its keys.

    Args:
        text: YAML, with other text before and after it, of which long lines are wrapped.
        width: of a line in characters; None: of the terminal, 80 where there is none.
    """
    width = width or shutil.get_terminal_size((80, 24)).columns
    known = comments(conf / "config.yaml")
    values = {key: value for _, key, value, _ in _keys(text)}
    for path in sorted((conf / "schedule").glob("*.yaml")):  # all have the same keys, and one explains them
        known |= comments(path, "schedule.")
    for group in COMPONENTS:  # the file of a component is named after it; a task's has its keys at the top
        path = conf / group / f"{values.get(f'{group}.name')}.yaml"
        if path.is_file():
            known |= comments(path, "" if group == "task" else f"{group}.")
    lines = text.splitlines()
    numbers = {number: key for number, key, _, _ in _keys(text)}
    for number, line in enumerate(lines):
        key = numbers.get(number)
        if key is not None and key in known:
            lines[number] = _beside(line, known[key], width)
        else:
            lines[number] = _wrapped(line, width)
    return "\n".join([*lines, ""])


def _beside(line: str, comment: str, width: int) -> str:
    """Returns a key with its comment beside it, in as many lines as it needs; below a key that is too long."""
    pieces = textwrap.wrap(comment, max(20, width - KEY_WIDTH - 4)) or [""]
    if len(line) > KEY_WIDTH:
        return "\n".join([line, *(f"{'':{KEY_WIDTH}}  # {piece}" for piece in pieces)])
    return "\n".join(
        f"{start:<{KEY_WIDTH}}  # {piece}"
        for start, piece in zip([line, *[""] * (len(pieces) - 1)], pieces, strict=True)
    )


def _wrapped(line: str, width: int) -> str:
    """Returns a line in several that are indented below it, where it is too long."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    wrapped = textwrap.wrap(
        line, width, subsequent_indent=indent, drop_whitespace=True, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(wrapped) if len(line) > width else line


def comments(path: Path, prefix: str = "") -> dict[str, str]:
    """Returns the comments of a YAML file by key, as typed on the command line; one may fill several lines."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found: dict[str, str] = {}
    for number, key, _, comment in _keys(text):
        if not comment:
            continue
        for line in lines[number + 1 :]:
            more = CONTINUED.match(line)
            if not more:
                break
            comment += f" {more['comment']}"
        found[f"{prefix}{key}"] = comment
    return found


def _keys(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Yields the line, the whole key, the value and the comment of each key of a YAML text."""
    outer: list[tuple[int, str]] = []  # the mappings around a line, with their indents
    for number, line in enumerate(text.splitlines()):
        match = KEY.match(line)
        if not match:
            continue
        indent = len(match["indent"])
        while outer and outer[-1][0] >= indent:
            outer.pop()
        outer.append((indent, match["key"]))
        yield number, ".".join(key for _, key in outer), match["value"].strip(), match["comment"] or ""
