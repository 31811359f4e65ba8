"""What is wrong with a command line that hydra will not compose, and what was meant.

hydra stops at the first override it cannot apply; here each is tried by itself, so that all are reported at once.
What it raises for a broken line or file is of many kinds, from its own errors to YAML's and Python's.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from seqrnn.errors import did_you_mean


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong, a line each; if nothing is, the arguments in a form that hydra composes."""

    problems: list[str]
    arguments: list[str]


def diagnose(error: Exception, arguments: Sequence[str], config_directory: str) -> Diagnosis:
    """Why hydra raised ``error`` on a command line's ``arguments``.

    In a sweep over groups, hydra wants every key to exist in what the sweep starts from, although
    ``-m experiment=mnist_lstm,mnist_lstm_best task.data_dir=DIR`` makes sense. Where a key exists in some of the
    sweep's configs, the override becomes one that adds the key; in a job that knows no such key, the checks of that
    job refuse it.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    for flags in (("--config-dir", "-cd"), ("--config-name", "-cn"), ("--config-path", "-cp"), ("--package", "-p")):
        parser.add_argument(*flags)
    known, _ = parser.parse_known_args([argument for argument in arguments if argument != "--"])
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(known.config_path or config_directory, version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            extra = [f"hydra.searchpath=['file://{Path(known.config_dir).resolve()}']"] if known.config_dir else []
            problems, partial = _try_each(loader, known.config_name or "config", extra, known.overrides)
    except Exception:  # not even the start composes, so no single override is to blame
        problems, partial = [], []
    if not problems and not partial:
        problems = [_first_lines(error)]
    return Diagnosis(problems, [f"++{argument}" if argument in partial else argument for argument in arguments])


def _try_each(
    loader: ConfigLoader, name: str, extra: list[str], overrides: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Problems, and the overrides that apply to some configs of a sweep, or to all but what it starts from."""
    groups = set(loader.list_groups(""))
    problems, partial = [], []
    start = extra  # what hydra composes first: without the groups that are swept over
    bases = [extra]  # a choice of groups for each value that one of them is swept over
    # What chooses a group comes first: it decides which keys there are.
    for override in sorted(overrides, key=lambda text: _key(text) not in groups):
        try:
            choices = list(_choices(override))
        except Exception as error:
            problems.append(f"{override}: {_first_lines(error)}")
            continue
        tried = [_refusal(name, [*base, choice]) for base in bases for choice in choices]
        refusals = [error for error in tried if error is not None]
        if _key(override) in groups and not refusals:
            bases = [[*base, choices[0]] for base in bases] + [[*bases[0], choice] for choice in choices[1:]]
            start = start if len(choices) > 1 else [*start, override]
        elif refusals and (len(refusals) == len(tried) or _key(override) in groups):
            problems.append(_explain(loader, name, bases[0], override, refusals[0]))
        elif refusals or (start not in bases and _refusal(name, [*start, choices[0]])):
            partial.append(override)
    return problems, partial


def _refusal(name: str, overrides: list[str]) -> Exception | None:
    try:
        compose(name, overrides)
    except Exception as error:
        return error
    return None


def _choices(override: str) -> Iterator[str]:
    """Each value of a sweep, as an override of its own."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        yield override
        return
    for value in parsed.sweep_string_iterator():
        yield f"{parsed.get_key_element()}={value}"


def _explain(loader: ConfigLoader, name: str, base: list[str], override: str, error: Exception) -> str:
    key, groups = _key(override), loader.list_groups("")
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
    keys = [*groups, *_keys(OmegaConf.to_container(compose(name, base), resolve=False))]
    if key not in keys and not override.startswith("+") and key.partition(".")[0] != "hydra":
        nearest = did_you_mean(key, keys) or did_you_mean(key.rpartition(".")[2], keys)
        return f"{key}: no such key{nearest or '; --cfg job shows them all'}"
    return f"{override}: {_first_lines(error)}"


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _keys(values: Any, prefix: str = "") -> Iterator[str]:
    for key, value in values.items() if isinstance(values, dict) else ():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")


def _first_lines(error: Exception) -> str:
    nameless = re.match(r"Interpolation key '(task|model)\.name' not found", str(error))
    if nameless:  # what the run directory is named after
        return (
            f"{nameless[1]}: none is chosen, or its file says no name (a task's begins with # @package _global_); "
            f"say {nameless[1]}=NAME"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or repr(error)
