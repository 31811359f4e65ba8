"""Composes a config from overrides by hydra, and explains what is wrong with overrides that hydra refuses.

hydra stops at the first override that it cannot apply. Here each is tried by itself, so that all problems are
reported at once. What hydra raises for a broken override or file is of many kinds: its own, YAML's and Python's.

Imports nothing that is slow, so that --help and errors come at once.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from seqrnn import config_files
from seqrnn.errors import ConfigError, did_you_mean, shell_quoted

# Mappings whose keys users name: an override may add a key to one without hydra's "+".
OPEN_MAPPINGS = ("model.init_std",)
MOST_SUGGESTIONS = 3

# Two processes may start in the same microsecond, so run directories are named after the process too.
OmegaConf.register_new_resolver("pid", os.getpid, replace=True)
# The directory of a sweep by another sweeper than ours, which names it after its line.
OmegaConf.register_new_resolver(
    "sweep_name", lambda: f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}-{os.getpid()}", replace=True, use_cache=True
)


def compose(overrides: Sequence[str], config_dir: str | Path | None = None) -> DictConfig:
    """Returns the config that ``overrides`` describe, with hydra's own part under ``hydra``; interpolations are kept.

    Args:
        config_dir: a directory with more config files.

    Raises:
        ConfigError: everything that is wrong with the overrides.
    """
    overrides = extending_open_mappings(overrides)
    if config_dir is not None and not Path(config_dir).expanduser().is_dir():
        raise ConfigError(f"config_dir={config_dir}: there is no such directory")
    with _hydra_of(config_files.config_directory()):
        try:
            return hydra.compose("config", [*_search_path(config_dir), *overrides], return_hydra_config=True)
        except Exception as error:
            flags = ["--config-dir", str(config_dir)] if config_dir is not None else []
            problems = explain(error, [*flags, *overrides]).problems
            raise ConfigError(*(problems or [_first_lines(error)])) from None


def extending_open_mappings(arguments: Sequence[str]) -> list[str]:
    """Returns ``arguments`` with ``++`` before each override of an open mapping, which is hydra's form."""
    return [f"++{text}" if text.startswith(_open_starts()) else text for text in arguments]


def _open_starts() -> tuple[str, ...]:
    return tuple(f"{key}{end}" for key in OPEN_MAPPINGS for end in (".", "="))


@contextmanager
def _hydra_of(config_directory: str) -> Iterator[None]:
    """Lets hydra read ``config_directory`` within its block; afterwards, the one before is put back."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(config_directory, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()
        if before is not None:
            GlobalHydra.instance().initialize(before)


def _search_path(config_dir: str | Path | None) -> list[str]:
    if config_dir is None:
        return []
    path = str(Path(config_dir).expanduser().resolve()).replace("'", r"\'")
    return [f"hydra.searchpath=['file://{path}']"]


@dataclass(frozen=True)
class Explanation:
    """Why hydra refused a command line.

    Args:
        problems: what is wrong with it, a line each.
        arguments: if nothing is wrong with it, the arguments in a form that hydra composes.
    """

    problems: list[str]
    arguments: list[str]


def explain(error: Exception, arguments: Sequence[str]) -> Explanation:
    """Explains why hydra raised ``error`` for a command line's ``arguments``.

    In a sweep over groups, hydra requires every key in the config that the sweep starts from, although
    ``-m experiment=A,B task.data_dir=DIR`` makes sense. Where a key exists in some of the
    sweep's configs, the override becomes one that adds the key; a job that has no such key reports it by its own
    checks.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    for flags in (("--config-dir", "-cd"), ("--config-name", "-cn"), ("--config-path", "-cp"), ("--package", "-p")):
        parser.add_argument(*flags)
    parser.add_argument("--multirun", "-m", action="store_true")
    known, _ = parser.parse_known_intermixed_args([argument for argument in arguments if argument != "--"])
    if known.config_dir is not None and not Path(known.config_dir).expanduser().is_dir():
        return Explanation([f"--config-dir {known.config_dir}: there is no such directory"], [*arguments])
    try:
        with _hydra_of(known.config_path or config_files.config_directory()):
            loader = GlobalHydra.instance().config_loader()
            problems, partial = _try_each(
                loader, known.config_name or "config", _search_path(known.config_dir), known.overrides
            )
    except Exception:  # not even the start composes, so no single override is to blame
        problems, partial = [], []
    if not known.multirun:
        problems += [_not_a_sweep(text) for text in known.overrides if _is_sweep(text)]
    if not problems and not partial:
        problems = [_first_lines(error)]
    return Explanation(problems, [f"++{argument}" if argument in partial else argument for argument in arguments])


def _is_sweep(override: str) -> bool:
    try:
        return bool(OverridesParser.create().parse_override(override).is_sweep_override())
    except Exception:
        return False


def _not_a_sweep(override: str) -> str:
    key, _, values = override.partition("=")
    return (
        f"{override}: several values are a sweep, which is asked for with -m (from Python, call seqrnn.run for each "
        f"value); a list is written {key}=[{values}]"
    )


def _try_each(
    loader: ConfigLoader, name: str, extra: list[str], overrides: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Returns problems, and the overrides that apply to some configs of a sweep, or to all but the one that it starts
    from."""
    groups = _groups(loader)
    problems, partial = [], []
    start = extra  # what hydra composes first: without the groups that are swept over
    bases = [extra]  # a choice of groups for each value that one of them is swept over
    # What chooses a group comes first: it decides which keys there are.
    for override in sorted(overrides, key=lambda text: _key(text) not in groups):
        try:
            choices = list(_choices(override, loader))
        except Exception as error:
            problems.append(_unreadable(override, error))
            continue
        tried = [_error_of(name, [*base, choice]) for base in bases for choice in choices]
        errors = [error for error in tried if error is not None]
        if _key(override) in groups and not errors:
            bases = [[*base, choices[0]] for base in bases] + [[*bases[0], choice] for choice in choices[1:]]
            start = start if len(choices) > 1 else [*start, override]
        elif errors and (len(errors) == len(tried) or _key(override) in groups):
            problems.append(_explain_override(loader, name, bases[0], override, errors[0]))
        elif errors or (start not in bases and _error_of(name, [*start, choices[0]])):
            partial.append(override)
    return problems, partial


def _groups(loader: ConfigLoader) -> set[str]:
    """Returns the groups of config files, those of hydra's own part, such as ``hydra/launcher``, included."""
    return {*loader.list_groups(""), *(f"hydra/{group}" for group in loader.list_groups("hydra"))}


def _error_of(name: str, overrides: list[str]) -> Exception | None:
    """Returns the error of composing a config, or None."""
    try:
        hydra.compose(name, overrides)
    except Exception as error:
        return error
    return None


def _choices(override: str, loader: ConfigLoader) -> Iterator[str]:
    """Yields each value of a sweep, or both ends of an interval that is searched, as an override of its own."""
    (parsed,) = OverridesParser.create(config_loader=loader).parse_overrides([override])
    if not parsed.is_sweep_override():
        yield override
        return
    interval = parsed.value()
    ends = (interval.start, interval.end) if isinstance(interval, IntervalSweep) else None
    for value in ends or parsed.sweep_string_iterator():
        yield f"{parsed.get_key_element()}={value}"


def _unreadable(override: str, error: Exception) -> str:
    """Returns what is wrong with an override that hydra cannot parse; where quotes would mend it, the quoted line."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: not an override; write key=value"
    quoted = f"{key}='{value}'"
    try:
        OverridesParser.create().parse_override(quoted)
    except Exception:
        return f"{override}: {_first_lines(error)}"
    return f"{override}: hydra reads such a value only in quotes; write {shell_quoted(quoted)}"


def _explain_override(loader: ConfigLoader, name: str, base: list[str], override: str, error: Exception) -> str:
    """Returns what is wrong with an override that can be parsed and not applied."""
    key, groups = _key(override), _groups(loader)
    if isinstance(error, MissingConfigException):
        if key not in groups:
            return _first_lines(error)
        options = loader.get_group_options(key)
        missing = (error.missing_cfg_file or "").rpartition("/")[2]
        return f"{key}={missing}: no such {key}{did_you_mean(missing, options)} (there are: {', '.join(options)})"
    if key in groups and isinstance(error, TypeError | ValueError):
        return f"{override}: should be one of {', '.join(loader.get_group_options(key))}"
    if "=" not in override:
        return f"{override}: not an override; write key=value"
    is_hydras = key.partition(".")[0] == "hydra"
    config = hydra.compose(name, base, return_hydra_config=is_hydras)
    keys = [*sorted(groups), *_keys(OmegaConf.to_container(config, resolve=False))]
    if is_hydras and key not in keys and (nearest := _nearest_of_hydra(key, keys)):
        return f"{key}: no such key{nearest}"
    if key not in keys and not override.startswith("+") and not is_hydras:
        return f"{key}: no such key{_nearest_keys(key, keys) or '; --cfg job shows them all'}"
    return f"{override}: {_first_lines(error)}"


def _nearest_keys(key: str, keys: Sequence[str]) -> str:
    """Returns ``'; did you mean optimizer.lr?'`` for ``lr`` or ``optimzer.lr``, or an empty string."""
    last = key.rpartition(".")[2]
    same = [known for known in keys if known.rpartition(".")[2] == last][:MOST_SUGGESTIONS]
    if same:
        return f"; did you mean {' or '.join(same)}?"
    return did_you_mean(key, keys) or did_you_mean(last, keys)


def _nearest_of_hydra(key: str, keys: Sequence[str]) -> str:
    """Returns the same for a key of hydra's own part, whose long beginnings make all of its keys alike."""
    group, _, last = key.rpartition(".")
    if group not in keys:
        return did_you_mean(key, keys)
    nearest = difflib.get_close_matches(
        last, [known.rpartition(".")[2] for known in keys if known.rpartition(".")[0] == group], n=1
    )
    return f"; did you mean {group}.{nearest[0]}?" if nearest else ""


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _keys(values: Any, prefix: str = "") -> Iterator[str]:
    for key, value in values.items() if isinstance(values, dict) else ():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")


def _first_lines(error: Exception) -> str:
    unnamed = re.match(r"Interpolation key '(task|model)\.name' not found", str(error))
    if unnamed:  # the run directory is named after them
        return (
            f"{unnamed[1]}: none is chosen, or its file has no name (a task's begins with # @package _global_); "
            f"write {unnamed[1]}=NAME"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or repr(error)
