"""The run directory: what a run leaves behind, and the only place that knows its file names.

config.yaml        the resolved config            predictions.npz     test inputs, targets, outputs
overrides.yaml     what the command line said     snapshots.npz       the fit as it improved (plots.animation)
metrics.csv        a row per log point            samples.npz         training examples (classification)
metrics.jsonl      the same rows as JSON          weights.safetensors the trained weights
summary.json       status, test scores, versions  train.log           what was printed
*.png, *.gif       pictures (seqrnn.plots)     best.safetensors    those of the best evaluation
checkpoints/       what the run goes on from (seqrnn.checkpoints)
"""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

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
            if not again:
                _refuse_a_second(directory)
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock.take(patience)
            if not again:
                _refuse_a_second(directory)  # it may have come while we waited
            if again:
                self._tidy()
            else:
                self.write_config(config)
                self._write_text(OVERRIDES, OmegaConf.to_yaml(list(overrides)))
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
        begun += self.directory.glob(".*.*.*.tmp.*")  # pictures
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

    def mark(self) -> Mark:
        """How far the metrics files have got, for ``rewind``; what they hold is on the disk then."""
        self.flush()
        for file in (self._csv, self._jsonl):
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
            self._writer = csv.DictWriter(self._csv, list(mark["columns"]), restval="")
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


def _refuse_a_second(directory: Path) -> None:
    present = [name for name in FILES if (directory / name).exists()]
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
    """A run directory being read. Nothing in it is run or unpickled.

    Raises:
        DataError: it is not a run directory, or a file of it is missing or damaged.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        if not (directory / CONFIG).is_file():
            raise DataError(f"{directory}: not a run directory: it has no {CONFIG}")

    def config(self) -> dict[str, Any]:
        return self._mapping(CONFIG, lambda path: OmegaConf.to_container(OmegaConf.load(path)))

    def overrides(self) -> list[str]:
        """What the command line said."""
        said = self._load(OVERRIDES, lambda path: OmegaConf.to_container(OmegaConf.load(path)))
        return [str(text) for text in said] if isinstance(said, list) else []

    def summary(self) -> dict[str, Any]:
        return self._mapping(SUMMARY, lambda path: json.loads(path.read_text(encoding="utf-8")))

    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """The columns of metrics.jsonl; NaN where a row has no value."""

        def load(path: Path) -> dict[str, NDArray[np.float64]]:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            if lines and not lines[-1].endswith("\n"):
                lines.pop()  # torn: the run was killed while it wrote
            rows = [json.loads(line) for line in lines]
            columns = list(rows[0]) if rows else []
            return {key: np.array([_number(row.get(key)) for row in rows], np.float64) for key in columns}

        metrics: dict[str, NDArray[np.float64]] = self._load(METRICS_JSONL, load)
        return metrics

    def predictions(self) -> dict[str, NDArray[Any]]:
        return self._arrays(PREDICTIONS)

    def snapshots(self) -> dict[str, NDArray[Any]] | None:
        """The fit as it improved; None if the run was made without plots.animation."""
        return self._arrays(SNAPSHOTS) if (self.directory / SNAPSHOTS).is_file() else None

    def weights(self, name: str = WEIGHTS) -> dict[str, Any]:
        """The trained weights, or those in another such file, tensors by name, on the CPU."""
        from safetensors.torch import load_file

        weights: dict[str, Any] = self._load(name, lambda path: load_file(str(path)))
        return weights

    def samples(self) -> dict[str, NDArray[Any]]:
        """Inputs (T, 10, I) and targets (10,) of the first training sequences of a classification task."""
        return self._arrays(SAMPLES)

    def _mapping(self, name: str, load: Callable[[Path], Any]) -> dict[str, Any]:
        values = self._load(name, load)
        if not isinstance(values, dict):
            raise DataError(f"{self.directory / name}: should hold a mapping, not {type(values).__name__}")
        return {str(key): value for key, value in values.items()}

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        def load(path: Path) -> dict[str, NDArray[Any]]:
            if not zipfile.is_zipfile(path):
                raise ValueError("it is no archive of arrays")
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)

        arrays: dict[str, NDArray[Any]] = self._load(name, load)
        return arrays

    def _load(self, name: str, load: Callable[[Path], Any]) -> Any:
        path = self.directory / name
        try:
            return load(path)
        except Exception as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise DataError(f"{path}: cannot be read: {reason}") from None


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
