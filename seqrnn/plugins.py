"""Imports the modules that register components: built-in ones, installed plugins, and those that a config names."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from seqrnn.errors import ConfigError

ENTRY_POINTS = "seqrnn.plugins"


@cache
def _installed() -> tuple[EntryPoint, ...]:
    """Returns the entry points of installed plugins. Finding them reads the metadata of every installed package."""
    return tuple(entry_points(group=ENTRY_POINTS))


def load_components(plugins: Iterable[str] = ()) -> None:
    """Imports the built-in components, installed plugins (entry points), and the modules named in ``plugins``.

    Raises:
        ConfigError: a plugin could not be imported.
    """
    for package in ("seqrnn.tasks", "seqrnn.models", "seqrnn.recording.loggers"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            importlib.import_module(f"{package}.{module.name}")
    importlib.import_module("seqrnn.optimizers")
    problems = []
    for entry in _installed():
        try:
            entry.load()
        except (Exception, SystemExit) as error:
            problems.append(f"the installed plugin {entry.value} cannot be imported: {error}")
    for plugin in plugins:
        try:
            importlib.import_module(plugin)
        except (Exception, SystemExit) as error:
            absent = isinstance(error, ModuleNotFoundError) and error.name == plugin.partition(".")[0]
            reason = f"{error}; is it on PYTHONPATH?" if absent else f"{type(error).__name__}: {error}"
            problems.append(f"plugins={plugin}: cannot be imported: {reason}")
    if problems:
        raise ConfigError(*problems)
