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
    FORECAST,
    METRICS_JSONL,
    OVERRIDES,
    OWNER,
    PREDICTIONS,
    SAMPLES,
    SNAPSHOTS,
    SUMMARY,
    WEIGHTS,
)


def was_not_closed(directory: Path) -> bool:
    """Returns whether the last process that wrote a run directory was killed, or is still writing it."""
    return (directory / OWNER).exists()


class RunReader:
    """Reads a run directory, which may come from anyone: nothing in it is run, imported, unpickled or resolved, and
    nothing outside of it is read (see ``seqrnn.rundir.bounded``).

    Raises:
        DataError: it is not a run directory. Every method raises it, too, where its file is missing, damaged, or not
            what it should be.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        if not (directory / CONFIG).is_file():
            lacks = f"it has no {CONFIG}" if directory.is_dir() else "there is no such directory"
            raise DataError(f"{directory}: not a run directory: {lacks}")

    def has(self, name: str) -> bool:
        """Returns whether there is a file of this name, or a link."""
        return os.path.lexists(self.directory / name)

    def config(self) -> dict[str, Any]:
        """Reads config.yaml. The values that readers rely on have been checked (``seqrnn.rundir.formats``)."""
        path = resolve_inside(self.directory, CONFIG)
        values = read_yaml(path)
        check(values, ConfigValues, path)
        return values

    def check_plugins(self, named: Collection[str]) -> None:
        """Checks that the config asks to import no other modules than those that the user has named. Importing a
        module runs its code, so a command that reads a run imports the latter, and never what the run asks for.

        Args:
            named: the modules that the user has named.

        Raises:
            DataError: the config asks for others.
        """
        path = self.directory / CONFIG
        plugins = self.config().get("plugins", [])
        if not all(isinstance(plugin, str) for plugin in plugins):
            raise DataError(f"{path}: plugins={plugins}: should be a list of module names")
        refused = [plugin for plugin in plugins if plugin not in named]
        if refused:
            raise DataError(
                f"{path}: asks to import {', '.join(refused)}, which would run code that is not seqrnn's; if you "
                f"know it and trust it, say so: {' '.join(f'--plugins {plugin}' for plugin in refused)}"
            )

    def overrides(self) -> list[str]:
        """Reads the overrides of the command line."""
        return read_texts(resolve_inside(self.directory, OVERRIDES))

    def summary(self) -> dict[str, Any]:
        """Reads summary.json. The values that readers rely on have been checked (``seqrnn.rundir.formats``)."""
        path = resolve_inside(self.directory, SUMMARY)
        values = read_json(path)
        check(values, SummaryValues, path)
        return values

    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """Reads the columns of metrics.jsonl; NaN where a row has no value. Empty before the first row. See
        ``bounded_rows.read_rows`` for very long runs."""
        return read_rows(resolve_inside(self.directory, METRICS_JSONL))

    def diagnosis(self, model: type[Model]) -> Model:
        """Reads diagnosis.json into a pydantic model of it."""
        return read_model(resolve_inside(self.directory, DIAGNOSIS), model)

    def document(self, name: str, model: type[Model]) -> Model:
        """Reads a document of the task (``seqrnn.rundir.names.DOCUMENTS``) into a pydantic model of it."""
        return read_model(resolve_inside(self.directory, name), model)

    def predictions(self) -> dict[str, NDArray[Any]]:
        """Reads predictions.npz (``seqrnn.recording.arrays`` has the shapes)."""
        return self._arrays(PREDICTIONS)

    def snapshots(self) -> dict[str, NDArray[Any]] | None:
        """Reads snapshots.npz, the fit as it improved; None if the run was made without plots.animation."""
        return self._arrays(SNAPSHOTS) if self.has(SNAPSHOTS) else None

    def forecast(self) -> dict[str, NDArray[Any]]:
        """Reads forecast.npz (``seqrnn.plots.arrays`` has the shapes)."""
        return self._arrays(FORECAST)

    def weights(self, name: str = WEIGHTS) -> dict[str, Any]:
        """Reads the trained weights, or another file of weights: tensors by name, on the CPU."""
        return read_tensors(resolve_inside(self.directory, name))

    def samples(self) -> dict[str, NDArray[Any]]:
        """Reads inputs (T, 10, I) and targets (10,) of the first training sequences of a classification task."""
        return self._arrays(SAMPLES)

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        return read_arrays(resolve_inside(self.directory, name))
