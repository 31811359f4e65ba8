"""Reads a run directory, which may come from anyone."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import DataError
from seqrnn.rundir.bounded import Model, check, read_json, read_model, resolve_inside
from seqrnn.rundir.bounded_arrays import read_arrays, read_tensors
from seqrnn.rundir.bounded_rows import read_rows
from seqrnn.rundir.bounded_yaml import read_texts, read_yaml
from seqrnn.rundir.formats import ConfigValues, SummaryValues
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
        path = resolve_inside(self.directory, CONFIG)
        values = read_yaml(path)
        check(values, ConfigValues, path)
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
        return read_texts(resolve_inside(self.directory, OVERRIDES))

    def summary(self) -> dict[str, Any]:
        path = resolve_inside(self.directory, SUMMARY)
        values = read_json(path)
        check(values, SummaryValues, path)
        return values

    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """The columns of metrics.jsonl; NaN where a row has no value. None at all before the first row."""
        return read_rows(resolve_inside(self.directory, METRICS_JSONL))

    def diagnosis(self, model: type[Model]) -> Model:
        """Reads diagnosis.json into a pydantic model of it."""
        return read_model(resolve_inside(self.directory, DIAGNOSIS), model)

    def predictions(self) -> dict[str, NDArray[Any]]:
        return self._arrays(PREDICTIONS)

    def snapshots(self) -> dict[str, NDArray[Any]] | None:
        """The fit as it improved; None if the run was made without plots.animation."""
        return self._arrays(SNAPSHOTS) if self.has(SNAPSHOTS) else None

    def weights(self, name: str = WEIGHTS) -> dict[str, Any]:
        """The trained weights, or those in another such file, tensors by name, on the CPU."""
        return read_tensors(resolve_inside(self.directory, name))

    def samples(self) -> dict[str, NDArray[Any]]:
        """Inputs (T, 10, I) and targets (10,) of the first training sequences of a classification task."""
        return self._arrays(SAMPLES)

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        return read_arrays(resolve_inside(self.directory, name))
