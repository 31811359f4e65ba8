"""Writes a run directory. Only one process at a time does."""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from pydantic import BaseModel

from seqrnn.errors import ConfigError, DataError
from seqrnn.rundir.atomic import remove_unfinished, replacing
from seqrnn.rundir.lock import Lock, refuse_links
from seqrnn.rundir.names import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    DIAGNOSIS,
    DIAGNOSIS_MD,
    DOCUMENTS,
    FILES,
    FORECAST,
    INTERVALS,
    LOCK,
    LOG,
    LOGGERS,
    METRICS_CSV,
    METRICS_JSONL,
    OVERRIDES,
    OWNER,
    PREDICTIONS,
    SAMPLES,
    SNAPSHOTS,
    SUMMARY,
    WEIGHTS,
)
from seqrnn.rundir.reader import was_not_closed
from seqrnn.rundir.strict_json import to_json

Arrays = Mapping[str, NDArray[Any]]
MetricsPosition = dict[str, Any]  # the columns, and the sizes of the metrics files in bytes


class RunWriter:
    """Writes a run directory; no other process writes it at the same time.

    Args:
        directory: created if it does not exist.
        resuming: whether the directory holds a run that is resumed.
        lock_timeout: seconds to wait at most for another process that writes the directory.

    Raises:
        ConfigError: the directory cannot be written, another process writes it, or it holds a run and ``resuming``
            is False.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        overrides: Sequence[str],
        *,
        resuming: bool = False,
        lock_timeout: float = 0.0,
    ) -> None:
        self.directory = directory
        self._lock = Lock(directory / LOCK, directory / OWNER)
        is_new = not self.checkpoints.exists()
        try:
            refuse_links(directory / name for name in (*FILES, CHECKPOINTS, LOCK, OWNER))
            if not resuming:
                self._lock.check()
                _refuse_another_run(directory)
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(lock_timeout)
            if not resuming:
                _refuse_another_run(directory)  # another process may have finished one in the meantime
            if resuming:
                remove_unfinished(directory, (*FILES, LOGGERS))  # others are drawing, or diagnose it
                remove_unfinished(self.checkpoints)
            else:
                self._write_text(OVERRIDES, OmegaConf.to_yaml(list(overrides)))
                self.write_config(config)  # last: a directory with a config is a run directory
            self._jsonl = (directory / METRICS_JSONL).open("a", encoding="utf-8")
            self._csv = (directory / METRICS_CSV).open("a", encoding="utf-8", newline="")
        except OSError as error:
            self._abandon(remove=is_new and not resuming)
            raise unwritable(directory, error) from None
        except ConfigError:
            self._abandon(remove=False)
            raise
        self._writer: csv.DictWriter[str] | None = None

    def _abandon(self, *, remove: bool) -> None:
        """Releases the lock.

        Args:
            remove: whether to remove what would make the next run in this directory fail.
        """
        self._lock.release()
        with suppress(OSError):
            if remove:
                (self.directory / CONFIG).unlink(missing_ok=True)
                (self.directory / LOCK).unlink(missing_ok=True)
                self.checkpoints.rmdir()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes config.yaml."""
        self._write_text(CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(config))))

    def record(self, row: Mapping[str, Any]) -> None:
        """Adds a row to the metrics files. The keys of the first row are the columns of metrics.csv."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._csv, list(row), restval="")
            self._writer.writeheader()
        self._writer.writerow({key: "" if value is None else value for key, value in row.items()})
        self._jsonl.write(to_json(row) + "\n")

    def flush(self) -> None:
        """Writes the rows so far to their files, where other processes can read them."""
        self._csv.flush()
        self._jsonl.flush()

    @property
    def is_in_place(self) -> bool:
        """Whether the directory is the one that this run has begun to write, under whatever names."""
        try:
            here = (self.directory / METRICS_JSONL).stat()
        except OSError:
            return False
        return os.path.samestat(os.fstat(self._jsonl.fileno()), here) and not self.checkpoints.is_symlink()

    def _check_place(self) -> None:
        """Checks that nothing else is written.

        Raises:
            DataError: the directory has been moved or removed, and something else may have taken its place; or a link
                has taken that of its checkpoints.
        """
        if not self.is_in_place:
            raise DataError(
                f"{self.directory}: was moved, removed or replaced while it was written; nothing is written to what "
                "lies there now; if it was moved, resume the run where it lies now: resume=DIR"
            )

    def position(self, durable: bool = True) -> MetricsPosition:
        """Returns where the metrics files end, for ``rewind``.

        Args:
            durable: whether what they hold must survive a power failure.
        """
        self.flush()
        self._check_place()
        for file in (self._csv, self._jsonl) if durable else ():
            os.fsync(file.fileno())
        return {
            "columns": list(self._writer.fieldnames) if self._writer else [],
            METRICS_CSV: os.fstat(self._csv.fileno()).st_size,
            METRICS_JSONL: os.fstat(self._jsonl.fileno()).st_size,
        }

    def rewind(self, position: MetricsPosition | None) -> list[str]:
        """Removes the rows that were written after ``position``; None: all rows.

        Returns:
            A line for each file that ends before the position, so that rows are missing.
        """
        missing = []
        for name, file in ((METRICS_CSV, self._csv), (METRICS_JSONL, self._jsonl)):
            file.flush()
            size = int(position[name]) if position else 0
            if os.fstat(file.fileno()).st_size < size:
                size = _end_of_last_line(self.directory / name)
                missing.append(
                    f"{name}: rows are missing that were there at the checkpoint; new rows follow the others"
                )
            os.ftruncate(file.fileno(), size)
        self._writer = None
        if position and position["columns"]:
            # What is measured only since then has no column, and is written to metrics.jsonl alone.
            self._writer = csv.DictWriter(self._csv, list(position["columns"]), restval="", extrasaction="ignore")
            if not os.fstat(self._csv.fileno()).st_size:
                self._writer.writeheader()
        return missing

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replaces summary.json, whole or not at all; on a full disk, overwrites the old one, if it fits there."""
        text = to_json(summary, indent=2) + "\n"
        self._check_place()
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
        """Writes predictions.npz."""
        self._save(PREDICTIONS, arrays)

    def write_snapshots(self, arrays: Arrays) -> None:
        """Writes snapshots.npz."""
        self._save(SNAPSHOTS, arrays)

    def write_samples(self, arrays: Arrays) -> None:
        """Writes samples.npz."""
        self._save(SAMPLES, arrays)

    def write_document(self, name: str, document: BaseModel) -> None:
        """Writes a document of the task, one of ``seqrnn.rundir.names.DOCUMENTS``."""
        assert name in DOCUMENTS, name
        self._write_text(name, to_json(document.model_dump(mode="json"), indent=1) + "\n")

    def write_forecast(self, arrays: Arrays, intervals: BaseModel) -> None:
        """Writes forecast.npz and intervals.json."""
        self._save(FORECAST, arrays)
        self._write_text(INTERVALS, intervals.model_dump_json(indent=1) + "\n")

    def write_weights(self, weights: Mapping[str, Any]) -> None:
        """Writes the trained weights, tensors by name, in a format that holds no code."""
        self._save_tensors(WEIGHTS, weights)

    def write_best(self, weights: Mapping[str, Any]) -> None:
        """Writes the weights of the best evaluation, in the same format."""
        self._save_tensors(BEST, weights)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.directory / CHECKPOINTS

    @property
    def log_path(self) -> Path:
        """The file of the log."""
        return self.directory / LOG

    def close(self) -> None:
        """Closes the metrics files and releases the lock."""
        with suppress(OSError), self._csv, self._jsonl:  # a full disk has been reported already
            pass
        self._lock.release()

    def _write_text(self, name: str, text: str) -> None:
        with replacing(self.directory / name) as path:
            path.write_text(text, encoding="utf-8")

    def _save(self, name: str, arrays: Arrays) -> None:
        self._check_place()
        with replacing(self.directory / name) as path, path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    def _save_tensors(self, name: str, tensors: Mapping[str, Any]) -> None:
        from safetensors.torch import save

        self._check_place()
        content = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        with replacing(self.directory / name) as path:
            path.write_bytes(content)


def _refuse_another_run(directory: Path) -> None:
    """Refuses a directory that holds a run already.

    Raises:
        ConfigError: the directory holds a run.
    """
    present = [name for name in FILES if os.path.lexists(directory / name)]  # also a link that leads nowhere
    if present == [OVERRIDES] and was_not_closed(directory):
        return  # the process was killed before there was a run
    if present or any((directory / CHECKPOINTS).glob("[!.]*")):
        raise ConfigError(
            f"{directory}: already holds a run, or files with the names of its files; choose another directory with "
            f"hydra.run.dir=DIR (a sweep: hydra.sweep.dir=DIR), or resume it with resume={directory} (each run of "
            "a sweep: resume=auto)"
        )


def _end_of_last_line(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1


def unwritable(directory: Path, error: OSError) -> ConfigError:
    """Returns the error for a run directory that cannot be written."""
    return ConfigError(
        f"hydra.run.dir={directory}: cannot be written: {error.strerror or error}; "
        "choose another with hydra.run.dir=DIR"
    )


def write_diagnosis(directory: Path, values: Mapping[str, Any], text: str) -> None:
    """Replaces diagnosis.json and diagnosis.md, each whole or not at all.

    Raises:
        DataError: they cannot be written.
    """
    for name, content in ((DIAGNOSIS, to_json(values, indent=1) + "\n"), (DIAGNOSIS_MD, text)):
        try:
            with replacing(directory / name) as path:
                path.write_text(content, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{directory / name}: cannot be written: {error.strerror or error}") from None
