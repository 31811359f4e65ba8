"""Reads rows of numbers (metrics.jsonl), within the bounds of ``seqrnn.rundir.bounded``.

A run may write any number of rows. They are read one by one, and where they are more than fit into memory, some are
left out, evenly over the whole run.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.rundir.bounded import opened, parse_json, shown

MOST_LINE_BYTES, MOST_COLUMNS = 2**20, 4096
MOST_VALUES = 2**27  # that are kept: 1 GiB

Row = list[float]


def read_rows(path: Path) -> dict[str, NDArray[np.float64]]:
    """Reads a file whose lines are JSON mappings of names to numbers.

    Returns:
        A column for each name of the first line, with NaN where a line has no value. Of more than ``MOST_VALUES``
        values, the last row is kept, and one row of every 2, 4, 8, …: the one with the most values, so that rows with
        an evaluation, which are rare, are kept as long as possible. A last line without an end is left out: the
        process that wrote it was stopped.
    """
    kept: _ThinnedRows | None = None
    with opened(path) as file:
        for number, values in _lines(file):
            kept = kept or _ThinnedRows(list(values))
            kept.add([_number(values.get(name), name, number) for name in kept.names])
    return kept.columns() if kept else {}


def _lines(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields each line's number, from 1, and its mapping.

    Raises:
        ValueError: a line is too long, or is not a mapping.
    """
    for number, line in enumerate(iter(lambda: file.readline(MOST_LINE_BYTES), b""), 1):
        if not line.endswith(b"\n"):
            if len(line) == MOST_LINE_BYTES:
                raise ValueError(f"line {number:,} has more than {MOST_LINE_BYTES:,} bytes")
            return
        values = parse_json(line)
        if not isinstance(values, dict) or not 0 < len(values) <= MOST_COLUMNS:
            raise ValueError(f"line {number:,}: should be a mapping of 1 to {MOST_COLUMNS:,} names to numbers")
        yield number, values


def _number(value: Any, name: str, line: int) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"line {line:,}: {name} should be a number, not {shown(value)}")
    return value


class _ThinnedRows:
    """Rows, of which one of every ``stride`` is kept; the stride doubles whenever there are too many."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.stride = 1
        self._most = max(2, MOST_VALUES // len(names) // 2 * 2)  # rows; even, so that they form pairs
        self._columns = [array("d") for _ in names]
        self._best: Row = []  # of the present group of rows, of which one is kept
        self._in_group = 0
        self._last: Row = []
        self._last_kept: Row = []

    def add(self, row: Row) -> None:
        """Takes the next row."""
        self._last = row
        if not self._best or self.stride == 1 or _count_values(row) >= _count_values(self._best):
            self._best = row
        self._in_group += 1
        if self._in_group == self.stride:
            self._keep(self._best)
            self._best, self._in_group = [], 0
            if len(self._columns[0]) == self._most:
                self._halve()

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Returns the columns of the rows that are kept. No row can be added afterwards."""
        if self._best:
            self._keep(self._best)
        if self._last_kept is not self._last:
            self._keep(self._last)
        return {name: np.frombuffer(column) for name, column in zip(self.names, self._columns, strict=True)}

    def _keep(self, row: Row) -> None:
        self._last_kept = row
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)

    def _halve(self) -> None:
        """Keeps one row of every two: the one with more values, else the later one."""
        counts = sum(~np.isnan(np.frombuffer(column)) for column in self._columns)  # (R,)
        first, second = np.reshape(counts, (-1, 2)).T
        places = 2 * np.arange(len(first)) + (second >= first)
        self._columns = [array("d", np.frombuffer(column)[places].tobytes()) for column in self._columns]
        self.stride *= 2


def _count_values(row: Row) -> int:
    return sum(value == value for value in row)  # NaN is not itself
