"""Puts a command line into the form that hydra's parser reads."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from seqrnn import __version__, composition

# hydra's flags that are followed by a value.
WITH_VALUE = (
    "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p",
    "--experimental-rerun",
)  # fmt: skip
WITH_OPTIONAL_VALUE = {"--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")}
WITH_OPTIONAL_VALUE["-i"] = WITH_OPTIONAL_VALUE["--info"]
DRY_RUN = "--dry-run"  # ours: an override for hydra
INFORMATIVE = {"--hydra-help", "--info", "-i"}  # flags that run nothing


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the flags, each followed by its value, and the overrides, in the order in which they were typed."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return flags, overrides + rest
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flags.append(word)
        if rest and (word in WITH_VALUE or rest[0] in WITH_OPTIONAL_VALUE.get(word, ())):
            flags.append(rest.pop(0))
    return flags, overrides


def arranged(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with all flags before all overrides, as hydra's parser requires, and with overrides of
    open mappings in hydra's form."""
    flags, overrides = split(arguments)
    if DRY_RUN in flags:
        flags, overrides = [flag for flag in flags if flag != DRY_RUN], [*overrides, "sweep.dry_run=true"]
    return [*flags, *composition.extending_open_mappings(overrides)]


def value_of(flags: Sequence[str], *names: str) -> str | None:
    """Returns the value that follows one of the names among ``flags``, or None."""
    for number, flag in enumerate(flags[:-1]):
        if flag in names:
            return flags[number + 1]
    return next((flag.partition("=")[2] for flag in flags if flag.partition("=")[0] in names and "=" in flag), None)


def versions() -> str:
    """Returns the versions of seqrnn, torch and Python, in a line."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "unknown"
    return f"seqrnn {__version__} (torch {torch}, Python {platform.python_version()})"
