"""Adds the comments of conf/ to the keys that --help lists: what they mean, and which values they take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

KEY = re.compile(r"(?P<indent> *)(?P<key>[\w.]+):(?P<value>[^#]*)(# *(?P<comment>.*))?$")
CONTINUED = re.compile(r" +# *(?P<comment>.*)$")
COMPONENTS = ("task", "model", "optimizer")


def with_comments(text: str, conf: Path) -> str:
    """Returns a config in YAML with the comments of the files in ``conf`` behind its keys.

    Args:
        text: YAML, with other text before and after it.
    """
    known = comments(conf / "config.yaml")
    values = {key: value for _, key, value, _ in _keys(text)}
    for path in sorted((conf / "schedule").glob("*.yaml")):  # all have the same keys, and one explains them
        known |= comments(path, "schedule.")
    for group in COMPONENTS:  # the file of a component is named after it; a task's has its keys at the top
        path = conf / group / f"{values.get(f'{group}.name')}.yaml"
        if path.is_file():
            known |= comments(path, "" if group == "task" else f"{group}.")
    lines = text.splitlines()
    for number, key, _, _ in _keys(text):
        if key in known:
            lines[number] = f"{lines[number]:<30}  # {known[key]}"
    return "\n".join([*lines, ""])


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
