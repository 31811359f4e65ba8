"""Turns overrides with several values into a set of overrides for each job: combined, in step, from a file, or left
out."""

from __future__ import annotations

import csv
import itertools
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from seqrnn.errors import ConfigError, did_you_mean
from seqrnn.keys import as_typed
from seqrnn.sweeping.options import SweepOptions

MOST_JOBS = 100_000
Axes = dict[str, list[tuple[str, ...]]]  # what is combined: overrides that are given together, by key
FILES = (".txt", ".yaml", ".yml", ".csv")


def key_of(override: str) -> str:
    """Returns the key of an override, without what hydra writes before it."""
    return override.partition("=")[0].lstrip("+~")


def combine(arguments: Sequence[str], options: SweepOptions, loader: Any) -> list[list[str]]:
    """Returns the overrides of each job, one value for each key; the last key varies fastest.

    Args:
        arguments: the overrides of the command line, without those of hydra and of the sweep itself.
        loader: hydra's loader of configs, which knows the choices of each group.

    Raises:
        ConfigError: everything that is wrong with them.
    """
    parser, problems = OverridesParser.create(config_loader=loader), []
    values: dict[str, list[str]] = {}  # by key; a key that is given twice has its last value, as in a single run
    for text in arguments:
        (override,) = parser.parse_overrides([text])
        if override.is_sweep_override() and not override.is_discrete_sweep():
            problems.append(
                f"{text}: an interval has no end of values; write a list or a range, or search it with "
                "sweep.search=optuna"
            )
            continue
        values[key_of(text)] = list(_choices(override, text))
        if not values[key_of(text)]:
            problems.append(_matches_nothing(text, loader))
    axes: Axes = {key: [(value,) for value in choices] for key, choices in values.items()}
    problems += _zip(axes, options.zip)
    lines = read_sets(Path(options.file).expanduser()) if options.file else {}
    for where, texts in lines.items():
        problems += [f"{where}: {text}: also given on the command line" for text in texts if key_of(text) in values]
    if problems:
        raise ConfigError(*problems)
    products = [*axes.values()]
    if options.file:
        products.append([tuple(texts) for texts in lines.values()])
    count = math.prod(map(len, products))
    if count > MOST_JOBS:
        raise ConfigError(f"{count:,} combinations; {MOST_JOBS:,} are the most that a sweep takes")
    return [[text for part in parts for text in part] for parts in itertools.product(*products)]


def _choices(override: Override, text: str) -> Iterator[str]:
    """Yields an override for each value."""
    if not override.is_sweep_override():
        yield text
        return
    for value in values_of(override):
        yield f"{override.get_key_element()}={value}"


def values_of(override: Override) -> Iterator[str]:
    """Yields the values of an override that has several, as typed."""
    for text in override.sweep_string_iterator():
        value = OverridesParser.create().parse_override(f"x={text}").value()
        yield as_typed(value) if isinstance(value, bool | float) else text


def _matches_nothing(text: str, loader: Any) -> str:
    options = loader.get_group_options(key_of(text))
    return f"{text}: matches nothing" + (f" (there are: {', '.join(options)})" if options else "")


def _zip(axes: Axes, keys: Sequence[str]) -> list[str]:
    """Replaces the axes of ``keys`` by one, in the place of the first; returns what is wrong with them."""
    problems = [
        f"sweep.zip: {key} has no values on the command line{did_you_mean(key, axes)}"
        for key in keys
        if key not in axes
    ]
    if problems or not keys:
        return problems
    lengths = {key: len(axes[key]) for key in keys}
    if len({*lengths.values()}) > 1:
        counts = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        return [f"sweep.zip: needs as many values of each key; {counts}"]
    together = [
        tuple(text for part in parts for text in part) for parts in zip(*(axes[key] for key in keys), strict=True)
    ]
    first = next(key for key in axes if key in keys)
    rest = {key: together if key == first else axis for key, axis in axes.items() if key == first or key not in keys}
    axes.clear()
    axes.update(rest)
    return []


def read_sets(path: Path) -> dict[str, list[str]]:
    """Reads a file of overrides: a set of them in each line (.txt, quoted as in a shell), item (.yaml: a mapping, or
    a text as in a .txt) or row (.csv: keys at the top; an empty cell leaves its key out).

    Returns:
        The overrides by where they stand.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        match path.suffix.lower():
            case ".txt":
                found = {
                    f"{path}, line {number}": shlex.split(line, comments=True)
                    for number, line in enumerate(text.splitlines(), 1)
                }
            case ".yaml" | ".yml":
                items = yaml.load(text, Loader=yaml.BaseLoader)  # every value is a text, as on a command line
                if not isinstance(items, list):
                    raise ConfigError(f"{path}: should hold a list, with a set of overrides in each item")
                found = {f"{path}, item {number}": _from_item(item, path) for number, item in enumerate(items, 1)}
            case ".csv":
                rows = list(csv.reader(text.splitlines(), strict=True))
                found = {
                    f"{path}, row {number}": _from_row(rows[0], row, f"{path}, row {number}")
                    for number, row in enumerate(rows[1:], 2)
                }
            case _:
                raise ConfigError(f"sweep.file={path}: its name should end in {', '.join(FILES)}")
    except (OSError, ValueError, csv.Error, yaml.YAMLError) as error:
        raise ConfigError(f"sweep.file={path}: cannot be read: {' '.join(str(error).split())}") from None
    found = {where: texts for where, texts in found.items() if texts}
    problems = [f"{where}: {problem}" for where, texts in found.items() for problem in _set_problems(texts)]
    if not found:
        problems = [f"sweep.file={path}: holds no overrides"]
    if problems:
        raise ConfigError(*problems)
    return found


def _from_item(item: Any, path: Path) -> list[str]:
    if isinstance(item, str):
        return shlex.split(item)
    if isinstance(item, dict) and all(isinstance(value, str) for value in item.values()):
        return [f"{key}={value or 'null'}" for key, value in item.items()]
    raise ConfigError(f"{path}: {item}: should be a mapping of keys to values, or a text such as 'model=gru seed=1'")


def _from_row(head: Sequence[str], row: Sequence[str], where: str) -> list[str]:
    if row and len(row) != len(head):
        raise ConfigError(f"{where}: has {len(row)} cells; the first row has {len(head)} keys")
    return [f"{key.strip()}={cell.strip()}" for key, cell in zip(head, row, strict=False) if cell.strip()]


def _set_problems(texts: Sequence[str]) -> Iterator[str]:
    """Yields what is wrong with the overrides of one job."""
    keys = [key_of(text) for text in texts]
    for text, key in zip(texts, keys, strict=True):
        try:
            override = OverridesParser.create().parse_override(text)
        except Exception:
            yield f"{text}: not an override; write key=value"
            continue
        if override.is_sweep_override():
            yield f"{text}: several values; each set has one of each key (a list is written {key}=[…])"
        if key.partition(".")[0] in ("hydra", "sweep") or key.startswith("hydra/"):
            yield f"{text}: is for the whole sweep; give it on the command line"
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{key}: given twice"
