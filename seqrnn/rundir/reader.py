"""Reads a run directory, which may come from anyone."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import DataError
from seqrnn.rundir import bounded
from seqrnn.rundir.names import (
    CONFIG,
    DIAGNOSIS,
    METRICS_JSONL,
    OVERRIDES,
    OWNER,
    PREDICTIONS,
    SAMPLES,
    SNAPSHOTS,
    SUMMARY,
    WEIGHTS,
)


def left_behind(directory: Path) -> bool:
    """Whether the process that wrote a run directory last was killed, or still writes it."""
    return (directory / OWNER).exists()


class RunReader:
    """A run directory being read, which may come from anyone: nothing in it is run, imported, unpickled or resolved,
    and nothing outside of it is read (see ``seqrnn.rundir.bounded``).

    Raises:
        DataError: it is not a run directory, or a file of it is missing or damaged, or holds what it should not.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        if not (directory / CONFIG).is_file():
            raise DataError(f"{directory}: not a run directory: it has no {CONFIG}")

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return os.path.lexists(self.directory / name)

    def config(self) -> dict[str, Any]:
        path = bounded.resolve_inside(self.directory, CONFIG)
        values = bounded.read_yaml(path)
        bounded.check(values, CONFIG_KINDS, path)
        return values

    def plugins(self, allowed: Collection[str] = ()) -> list[str]:
        """The modules that the config asks to import. Importing a module runs it, so a command that reads imports
        only those that its user has named.

        Raises:
            DataError: some are not ``allowed``.
        """
        path = self.directory / CONFIG
        plugins = self.config().get("plugins", [])
        if not all(isinstance(plugin, str) for plugin in plugins):
            raise DataError(f"{path}: plugins={plugins}: should be a list of module names")
        refused = [plugin for plugin in plugins if plugin not in allowed]
        if refused:
            raise DataError(
                f"{path}: asks to import {', '.join(refused)}, which would run code that is not seqrnn's; if you "
                f"know it and trust it, say so: {' '.join(f'--plugins {plugin}' for plugin in refused)}"
            )
        return list(plugins)

    def overrides(self) -> list[str]:
        """What the command line said."""
        return bounded.read_words(bounded.resolve_inside(self.directory, OVERRIDES))

    def summary(self) -> dict[str, Any]:
        path = bounded.resolve_inside(self.directory, SUMMARY)
        values = bounded.read_json(path)
        bounded.check(values, SUMMARY_KINDS, path)
        return values

    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """The columns of metrics.jsonl; NaN where a row has no value. None at all before the first row."""
        return bounded.read_rows(bounded.resolve_inside(self.directory, METRICS_JSONL))

    def diagnosis(self) -> dict[str, Any]:
        return bounded.read_json(bounded.resolve_inside(self.directory, DIAGNOSIS))

    def predictions(self) -> dict[str, NDArray[Any]]:
        return self._arrays(PREDICTIONS)

    def snapshots(self) -> dict[str, NDArray[Any]] | None:
        """The fit as it improved; None if the run was made without plots.animation."""
        return self._arrays(SNAPSHOTS) if self.has(SNAPSHOTS) else None

    def weights(self, name: str = WEIGHTS) -> dict[str, Any]:
        """The trained weights, or those in another such file, tensors by name, on the CPU."""
        return bounded.read_tensors(bounded.resolve_inside(self.directory, name))

    def samples(self) -> dict[str, NDArray[Any]]:
        """Inputs (T, 10, I) and targets (10,) of the first training sequences of a classification task."""
        return self._arrays(SAMPLES)

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        return bounded.read_arrays(bounded.resolve_inside(self.directory, name))


_COUNT = (int, type(None))
_SCORES = {"*": (float, type(None))}
CONFIG_KINDS: dict[str, bounded.Kind] = {  # of what is read from a config; see seqrnn.settings for the rest
    "seed": int,
    "smoke": bool,
    "plugins": list,
    "task": {"name": str},
    "model": {"name": str},
    "optimizer": {"name": str, "lr": float},
    "schedule": {"streams": int, "window": _COUNT, "stride": _COUNT, "update_every": _COUNT, "carry": bool},
}
SUMMARY_KINDS: dict[str, bounded.Kind] = {
    "status": str,
    "experiment": (str, type(None)),
    "task": str,
    "model": str,
    "kind": frozenset({"regression", "classification"}),
    "loss": str,
    "input_size": int,
    "output_size": int,
    "data_note": (str, type(None)),
    "smoke": bool,
    "planned_updates": int,
    "updates": int,
    "timesteps": int,
    "train_loss": (float, type(None)),
    "validation": _SCORES,
    "best_validation_loss": (float, type(None)),
    "test": _SCORES,
    "baselines": {"*": _SCORES},
}
