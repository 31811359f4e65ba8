"""Small files and their data sets, for the tests of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import task_settings
from numpy.typing import NDArray

from seqrnn import registry
from seqrnn.errors import DataError
from seqrnn.tasks.csv import Csv


def write_csv(path: Path, header: str, rows: Iterable[str], *, encoding: str = "utf-8") -> Path:
    """Writes a file of lines, and returns its path."""
    path.write_bytes(("\n".join([header, *rows]) + "\n").encode(encoding))
    return path


def days(count: int, first: str = "2020-01-01") -> NDArray[np.datetime64]:
    return np.datetime64(first) + np.arange(count)


def daily(path: Path, count: int = 100, value: Callable[[int], object] = lambda n: np.sin(n) + 0.1 * n) -> Path:
    """Writes ``count`` days and a value for each."""
    return write_csv(path, "date,y", (f"{day},{value(n)}" for n, day in enumerate(days(count))))


def make_csv(path: Path | str | None, **changes: Any) -> Csv:
    """The task of a file, with the settings of conf/task/csv.yaml and ``changes``."""
    values = {"synthetic": path is None, "path": None if path is None else str(path), **changes}
    task: Csv = registry.build("task", task_settings("csv", **values), 0)
    return task


def everything(task: Csv) -> tuple[torch.Tensor, ...]:
    """Returns inputs, targets, valid and starts of one stream of all training rows."""
    (batch,) = task.train(0, 1)
    chunk = batch.read(0, batch.timesteps)
    return chunk.inputs, chunk.targets, chunk.valid, chunk.starts


def refusal(path: Path | str, **changes: Any) -> str:
    """Returns the error of a file that is read."""
    with pytest.raises(DataError) as error:
        _ = make_csv(path, **changes).data
    return str(error.value)


def changed(path: Path, row: int, line: str, **changes: Any) -> str:
    """Returns the error of a good daily file in which one row, numbered as an editor does, is another line."""
    lines = daily(path).read_text().splitlines()
    lines[row - 1] = line
    path.write_text("\n".join(lines) + "\n")
    return refusal(path, **changes)
