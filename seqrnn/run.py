"""The run directory: what a run leaves behind, and the only place that knows its file names.

config.yaml        the resolved config            predictions.npz     test inputs, targets, outputs
overrides.yaml     what the command line said     snapshots.npz       the fit as it improved (plots.animation)
metrics.csv        a row per log point            samples.npz         training examples (classification)
metrics.jsonl      the same rows as JSON          weights.safetensors the trained weights
summary.json       status, test scores, versions  train.log           what was printed
diagnosis.md       what a diagnosis says          diagnosis.json      all that it measured
*.png, *.gif       pictures (seqrnn.plots)        best.safetensors    those of the best evaluation
checkpoints/       what the run goes on from (seqrnn.checkpoints)
"""

from __future__ import annotations

import csv
import errno
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from seqrnn import reading
from seqrnn.errors import ConfigError, DataError
from seqrnn.lock import Lock

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
METRICS_CSV = "metrics.csv"
METRICS_JSONL = "metrics.jsonl"
SUMMARY = "summary.json"
PREDICTIONS = "predictions.npz"
SNAPSHOTS = "snapshots.npz"
SAMPLES = "samples.npz"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"
LOG = "train.log"
DIAGNOSIS, DIAGNOSIS_MD = "diagnosis.json", "diagnosis.md"
CHECKPOINTS = "checkpoints"
LOCK = f"{CHECKPOINTS}/.lock"
OWNER = f"{CHECKPOINTS}/.owner"
FILES = (
    CONFIG, OVERRIDES, METRICS_CSV, METRICS_JSONL, SUMMARY, PREDICTIONS, SNAPSHOTS, SAMPLES, WEIGHTS, BEST, LOG,
)  # fmt: skip

Arrays = Mapping[str, NDArray[Any]]
Mark = dict[str, Any]  # how far the metrics files had got


class Run:
    """A run directory being written, by nobody else at the same time.

    Args:
        directory: made if need be.
        again: whether it holds a run already, which goes on.
        patience: seconds to wait at most for another process that writes it.

    Raises:
        ConfigError: the directory cannot be written, or another process writes it; it holds a run already (or none,
            where one is to go on).
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        overrides: Sequence[str],
        *,
        again: bool = False,
        patience: float = 0.0,
    ) -> None:
        self.directory = directory
        self._lock = Lock(directory / LOCK, directory / OWNER)
        is_new = not self.checkpoints.exists()
        try:
            _refuse_links(directory)
            if not again:
                _refuse_a_second(directory)
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock.take(patience)
            if not again:
                _refuse_a_second(directory)  # it may have come while we waited
            if again:
                self._tidy()
            else:
                self._write_text(OVERRIDES, OmegaConf.to_yaml(list(overrides)))
                self.write_config(config)  # last: with it, there is a run
            self._jsonl = (directory / METRICS_JSONL).open("a", encoding="utf-8")
            self._csv = (directory / METRICS_CSV).open("a", encoding="utf-8", newline="")
        except OSError as error:
            self._give_up(is_new and not again)
            raise unwritable(directory, error) from None
        except ConfigError:
            self._give_up(False)
            raise
        self._writer: csv.DictWriter[str] | None = None

    def _tidy(self) -> None:
        """Removes what a process that was killed was about to write."""
        begun = [path for name in FILES for path in self.directory.glob(f"{name}.*.tmp")]
        begun += self.directory.glob(".*.*.tmp.*")  # pictures
        for path in (*begun, *self.checkpoints.glob("*.safetensors.*.tmp")):
            path.unlink()

    def _give_up(self, remove: bool) -> None:
        """What could not be filled must not stand in the way of the next try."""
        self._lock.release()
        with suppress(OSError):
            if remove:
                (self.directory / CONFIG).unlink(missing_ok=True)
                (self.directory / LOCK).unlink(missing_ok=True)
                self.checkpoints.rmdir()

    def write_config(self, config: Mapping[str, Any]) -> None:
        self._write_text(CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(config))))

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

    def mark(self, lasting: bool = True) -> Mark:
        """How far the metrics files have got, for ``rewind``; what they hold outlasts a power failure then, if it is
        ``lasting``."""
        self.flush()
        for file in (self._csv, self._jsonl) if lasting else ():
            os.fsync(file.fileno())
        return {
            "columns": list(self._writer.fieldnames) if self._writer else [],
            METRICS_CSV: os.fstat(self._csv.fileno()).st_size,
            METRICS_JSONL: os.fstat(self._jsonl.fileno()).st_size,
        }

    def rewind(self, mark: Mark | None) -> list[str]:
        """Cuts off what was written to the metrics files after ``mark``; None: all of it.

        Returns:
            What is missing from before, a line each.
        """
        missing = []
        for name, file in ((METRICS_CSV, self._csv), (METRICS_JSONL, self._jsonl)):
            file.flush()
            size, there = (int(mark[name]) if mark else 0), os.fstat(file.fileno()).st_size
            if there < size:
                size = _end_of_last_line(self.directory / name)
                missing.append(f"{name}: rows are missing that were there at the checkpoint; the others go on")
            os.ftruncate(file.fileno(), size)
        self._writer = None
        if mark and mark["columns"]:
            # What is measured only since then has no column, and goes to metrics.jsonl alone.
            self._writer = csv.DictWriter(self._csv, list(mark["columns"]), restval="", extrasaction="ignore")
            if not os.fstat(self._csv.fileno()).st_size:
                self._writer.writeheader()
        return missing

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json anew, whole or not at all; on a full disk, over the old one, if it fits there."""
        text = to_json(summary, indent=2) + "\n"
        try:
            self._write_text(SUMMARY, text)
        except OSError as error:
            path = self.directory / SUMMARY
            if error.errno != errno.ENOSPC or not path.exists():
                raise
            with path.open("r+", encoding="utf-8") as file:
                file.write(text)
                file.truncate()

    def write_predictions(self, arrays: Arrays) -> None:
        self._save(PREDICTIONS, arrays)

    def write_snapshots(self, arrays: Arrays) -> None:
        self._save(SNAPSHOTS, arrays)

    def write_samples(self, arrays: Arrays) -> None:
        self._save(SAMPLES, arrays)

    def write_weights(self, weights: Mapping[str, Any]) -> None:
        """Saves the trained weights, tensors by name, in a format that holds no code."""
        self._save_tensors(WEIGHTS, weights)

    def write_best(self, weights: Mapping[str, Any]) -> None:
        """The same for those of the best evaluation."""
        self._save_tensors(BEST, weights)

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.directory / CHECKPOINTS

    @property
    def log_path(self) -> Path:
        return self.directory / LOG

    def close(self) -> None:
        with suppress(OSError), self._csv, self._jsonl:  # what a full disk did not take has been reported already
            pass
        self._lock.release()

    def _write_text(self, name: str, text: str) -> None:
        with self._whole(name) as path:
            path.write_text(text, encoding="utf-8")

    def _save(self, name: str, arrays: Arrays) -> None:
        with self._whole(name) as path, path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    def _save_tensors(self, name: str, tensors: Mapping[str, Any]) -> None:
        from safetensors.torch import save

        content = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        with self._whole(name) as path:
            path.write_bytes(content)

    @contextmanager
    def _whole(self, name: str) -> Iterator[Path]:
        """A file to be written, that takes its place when it is."""
        temporary = self.directory / f"{name}.{os.getpid()}.tmp"
        try:
            yield temporary
            temporary.replace(self.directory / name)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def left_behind(directory: Path) -> bool:
    """Whether the process that wrote a run directory last was killed, or still writes it."""
    return (directory / OWNER).exists()


def _refuse_links(directory: Path) -> None:
    """Links lead somewhere else: a directory from somebody else could have files be written there."""
    for name in (*FILES, CHECKPOINTS, LOCK, OWNER):
        if (directory / name).is_symlink():
            raise ConfigError(f"{directory / name}: is a link; nothing is written through one: copy the file there")


def _refuse_a_second(directory: Path) -> None:
    present = [name for name in FILES if os.path.lexists(directory / name)]  # a link leads somewhere else
    if present == [OVERRIDES] and left_behind(directory):
        return  # by a process that was killed before there was a run
    if present or any((directory / CHECKPOINTS).glob("[!.]*")):
        raise ConfigError(
            f"{directory}: holds a run already, or files named like one's; choose another with hydra.run.dir=DIR "
            "(a sweep: hydra.sweep.dir=DIR), or go on with it: resume=DIR"
        )


def _end_of_last_line(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1


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

    def weights(self, name: str = WEIGHTS) -> dict[str, Any]:
        """The trained weights, or those in another such file, tensors by name, on the CPU."""
        return reading.read_tensors(reading.inside(self.directory, name))

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
