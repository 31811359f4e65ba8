"""The run directory: what a run leaves behind, and the only place that knows its file names.

config.yaml        the resolved config            predictions.npz     test inputs, targets, outputs
overrides.yaml     what the command line said     snapshots.npz       the fit as it improved (plots.animation)
metrics.csv        a row per log point            samples.npz         training examples (classification)
metrics.jsonl      the same rows as JSON          weights.safetensors the trained weights
summary.json       status, test scores, versions  train.log           what was printed
diagnosis.md       what a diagnosis says         diagnosis.json      all that it measured
*.png, *.gif       pictures (seqrnn.plots)
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from seqrnn import reading
from seqrnn.errors import ConfigError, DataError

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
METRICS_CSV = "metrics.csv"
METRICS_JSONL = "metrics.jsonl"
SUMMARY = "summary.json"
PREDICTIONS = "predictions.npz"
SNAPSHOTS = "snapshots.npz"
SAMPLES = "samples.npz"
WEIGHTS = "weights.safetensors"
LOG = "train.log"
DIAGNOSIS, DIAGNOSIS_MD = "diagnosis.json", "diagnosis.md"
FILES = (
    CONFIG, OVERRIDES, METRICS_CSV, METRICS_JSONL, SUMMARY, PREDICTIONS, SNAPSHOTS, SAMPLES, WEIGHTS, LOG,
)  # fmt: skip

Arrays = Mapping[str, NDArray[Any]]


class Run:
    """A run directory being written.

    Args:
        directory: made if need be. It is claimed by creating its config.yaml, so of two runs that are given the
            same directory only one goes on.

    Raises:
        ConfigError: the directory holds a run already, or cannot be written.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            present = [name for name in FILES if os.path.lexists(directory / name)]  # a link leads somewhere else
            if present:
                raise FileExistsError(present[0])
            with (directory / CONFIG).open("x", encoding="utf-8") as file:
                file.write(OmegaConf.to_yaml(OmegaConf.create(dict(config))))
            (directory / OVERRIDES).write_text(OmegaConf.to_yaml(list(overrides)), encoding="utf-8")
            self._jsonl = (directory / METRICS_JSONL).open("w", encoding="utf-8")
            self._csv = (directory / METRICS_CSV).open("w", encoding="utf-8", newline="")
        except FileExistsError:
            raise ConfigError(
                f"{directory}: holds a run already, or files named like one's; choose another with hydra.run.dir=DIR "
                "(a sweep: hydra.sweep.dir=DIR)"
            ) from None
        except OSError as error:
            with suppress(OSError):  # what could not be filled must not stand in the way of the next try
                (directory / CONFIG).unlink(missing_ok=True)
            raise unwritable(directory, error) from None
        self._writer: csv.DictWriter[str] | None = None

    def record(self, row: Mapping[str, Any]) -> None:
        """Adds a row to the metrics files. The first row's keys are the columns; it must have them all."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._csv, list(row), restval="")
            self._writer.writeheader()
        self._writer.writerow({key: "" if value is None else value for key, value in row.items()})
        self._jsonl.write(to_json(row) + "\n")

    def flush(self) -> None:
        """Lets others read the rows so far."""
        self._csv.flush()
        self._jsonl.flush()

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json anew, whole or not at all."""
        temporary = self.directory / f"{SUMMARY}.{os.getpid()}.tmp"
        try:
            temporary.write_text(to_json(summary, indent=2) + "\n", encoding="utf-8")
            temporary.replace(self.directory / SUMMARY)
        finally:
            temporary.unlink(missing_ok=True)

    def write_predictions(self, arrays: Arrays) -> None:
        _save(self.directory / PREDICTIONS, arrays)

    def write_snapshots(self, arrays: Arrays) -> None:
        _save(self.directory / SNAPSHOTS, arrays)

    def write_samples(self, arrays: Arrays) -> None:
        _save(self.directory / SAMPLES, arrays)

    def write_weights(self, weights: Mapping[str, Any]) -> None:
        """Saves tensors by name, in a format that holds no code."""
        from safetensors.torch import save_file

        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, self.weights_path)

    @property
    def weights_path(self) -> Path:
        return self.directory / WEIGHTS

    @property
    def log_path(self) -> Path:
        return self.directory / LOG

    def close(self) -> None:
        with suppress(OSError), self._csv, self._jsonl:  # what a full disk did not take has been reported already
            pass


def unwritable(directory: Path, error: OSError) -> ConfigError:
    """The error for an output directory that cannot be written."""
    return ConfigError(
        f"hydra.run.dir={directory}: cannot be written: {error.strerror or error}; "
        "choose another with hydra.run.dir=DIR"
    )


def write_diagnosis(directory: Path, values: Mapping[str, Any], text: str) -> None:
    """Writes diagnosis.json and diagnosis.md anew, each whole or not at all.

    Raises:
        DataError: they cannot be written.
    """
    for name, content in ((DIAGNOSIS, to_json(values, indent=1) + "\n"), (DIAGNOSIS_MD, text)):
        temporary = directory / f"{name}.{os.getpid()}.tmp"
        try:
            temporary.write_text(content, encoding="utf-8")
            temporary.replace(directory / name)
        except OSError as error:
            raise DataError(f"{directory / name}: cannot be written: {error.strerror or error}") from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _save(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinity become null."""
    return json.dumps(_strict(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class RunReader:
    """A run directory being read, which may come from anyone: nothing in it is run, imported, unpickled or resolved,
    and nothing outside of it is read (see ``seqrnn.reading``).

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
        path = reading.inside(self.directory, CONFIG)
        values = reading.read_yaml(path)
        reading.check(values, CONFIG_KINDS, path)
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
        return reading.read_words(reading.inside(self.directory, OVERRIDES))

    def summary(self) -> dict[str, Any]:
        path = reading.inside(self.directory, SUMMARY)
        values = reading.read_json(path)
        reading.check(values, SUMMARY_KINDS, path)
        return values

    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """The columns of metrics.jsonl; NaN where a row has no value. None at all before the first row."""
        return reading.read_rows(reading.inside(self.directory, METRICS_JSONL))

    def diagnosis(self) -> dict[str, Any]:
        return reading.read_json(reading.inside(self.directory, DIAGNOSIS))

    def predictions(self) -> dict[str, NDArray[Any]]:
        return self._arrays(PREDICTIONS)

    def snapshots(self) -> dict[str, NDArray[Any]] | None:
        """The fit as it improved; None if the run was made without plots.animation."""
        return self._arrays(SNAPSHOTS) if self.has(SNAPSHOTS) else None

    def weights(self) -> dict[str, Any]:
        """The trained weights, tensors by name, on the CPU."""
        return reading.read_tensors(reading.inside(self.directory, WEIGHTS))

    def samples(self) -> dict[str, NDArray[Any]]:
        """Inputs (T, 10, I) and targets (10,) of the first training sequences of a classification task."""
        return self._arrays(SAMPLES)

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        return reading.read_arrays(reading.inside(self.directory, name))


_COUNT = (int, type(None))
_SCORES = {"*": (float, type(None))}
CONFIG_KINDS: dict[str, reading.Kind] = {  # of what is read from a config; see seqrnn.settings for the rest
    "seed": int,
    "smoke": bool,
    "plugins": list,
    "task": {"name": str},
    "model": {"name": str},
    "optimizer": {"name": str, "lr": float},
    "schedule": {"streams": int, "window": _COUNT, "stride": _COUNT, "update_every": _COUNT, "carry": bool},
}
SUMMARY_KINDS: dict[str, reading.Kind] = {
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
