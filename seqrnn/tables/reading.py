"""Reads files into columns of numbers, categories and times. Columns that nobody asks for are not kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import DataError, did_you_mean
from seqrnn.tables.blocks import SAMPLE_ROWS, ColumnKind, column_names, declared_kinds, read_blocks
from seqrnn.tables.cells import ReadOptions, as_codes, as_numbers, as_texts, as_times, short, typed
from seqrnn.tables.files import Source
from seqrnn.tables.numbers import number_of
from seqrnn.tables.times import TimeFormat

MOST_COLUMNS = 10_000
FIRST_ROOM = 2**12  # rows
BYTES_PER_NUMBER = 24  # at the peak of reading and preparing: three times a number in double precision


@dataclass(frozen=True)
class Sample:
    """The first rows of a file.

    Args:
        texts: by column, the cells as texts; None where one is missing.
        declared: by column, the kind that the file itself declares (Parquet).
        row_bytes: of the file, on average.
    """

    source: Source
    texts: dict[str, list[str | None]]
    declared: dict[str, ColumnKind]
    row_bytes: float

    @property
    def names(self) -> list[str]:
        return list(self.texts)

    @property
    def rows(self) -> int:
        return len(next(iter(self.texts.values()), ()))


@dataclass
class Table:
    """The columns of a file that somebody asked for.

    Args:
        rows: how many.
        first_row: the number of the first one in the file.
        numbers: (rows,) by column; NaN where one is missing.
        codes: (rows,) by column, indices of ``labels``; −1 where one is missing.
        labels: by column, in the order in which they appear.
        times: (rows,) nanoseconds since 1970 (UTC), of a column that was read as a time; −2⁶³ where one is missing.
    """

    source: Source
    rows: int
    first_row: int
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    codes: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    times: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def row(self, index: int) -> int:
        """Returns the number of a row in the file (see ``seqrnn.tables.cells``)."""
        return self.first_row + index


def read_sample(source: Source, options: ReadOptions) -> Sample:
    """Reads the names of the columns and the first rows of a file.

    Raises:
        DataError: it is empty, has no row below its header, or two columns of one name.
    """
    names = column_names(source, options)
    _check_names(source, names, options)
    declared = declared_kinds(source) if source.is_parquet else {}
    for first, columns in read_blocks(source, names, options, sample=True):
        texts = {name: as_texts(columns[name], source, name, first, options).to_pylist() for name in names}
        texts = {name: cells[:SAMPLE_ROWS] for name, cells in texts.items()}
        size = sum(len(cell or "") + 1 for cells in texts.values() for cell in cells)
        rows = len(texts[names[0]])
        if rows:
            return Sample(source, texts, declared, size / rows)
    raise DataError(
        f"{source.name}: has a header and no row below it; rows are timesteps, and at least two are needed"
    )


def _check_names(source: Source, names: Sequence[str], options: ReadOptions) -> None:
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{source.name}, row 1: {len(names):,} columns; at most {MOST_COLUMNS:,} are read")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            f"{source.name}, row 1: two columns have the name {short(twice[0])!r}; give each column a name of its own"
        )
    if not source.is_parquet and all(number_of(name) is not None for name in names):
        raise DataError(
            f"{source.name}, row 1: {', '.join(map(short, names[:5]))}: numbers, where the names of the columns "
            "should be; put a row of names before them"
        )
    if len(names) == 1:
        mark = _other_delimiter(names[0], options)
        if mark is not None:
            raise DataError(
                f"{source.name}, row 1: one column, {short(names[0])!r}; the header contains {mark!r}: set "
                f"{typed('task.delimiter', mark)}"
            )


def _other_delimiter(header: str, options: ReadOptions) -> str | None:
    """Returns what seems to separate the cells of a header that is read as one cell."""
    return next((mark for mark in ";\t|," if mark in header and mark != options.delimiter), None)


def read_table(
    source: Source,
    wanted: Mapping[str, ColumnKind],
    options: ReadOptions,
    time_format: TimeFormat,
    available: int | None,
) -> Table:
    """Reads columns of a file.

    Args:
        wanted: the columns by name, and what each is read as.
        time_format: how the texts of columns that are times are read.
        available: bytes of memory that the numbers may take; None: as many as they need.

    Raises:
        DataError: a column is missing, a cell is wrong, or there are more numbers than memory for them.
    """
    types = {"number": np.float64, "category": np.int32, "time": np.int64}
    columns = {name: _Column(types[kind]) for name, kind in wanted.items()}
    labels: dict[str, dict[str, int]] = {name: {} for name, kind in wanted.items() if kind == "category"}
    rows = 0
    names = list(wanted)
    for first, block in read_blocks(source, names, options):
        rows += len(block[names[0]])
        check_memory(source, rows, len(wanted), available)
        for name, kind in wanted.items():
            if kind == "number":
                columns[name].append(as_numbers(block[name], source, name, first, options))
            elif kind == "category":
                texts = as_texts(block[name], source, name, first, options)
                columns[name].append(as_codes(texts, labels[name], source, name))
            else:
                columns[name].append(as_times(block[name], source, name, first, options, time_format))
    table = Table(source, rows, source.first_row)
    for name, kind in wanted.items():
        if kind == "number":
            table.numbers[name] = columns[name].values
        elif kind == "category":
            table.codes[name], table.labels[name] = columns[name].values, list(labels[name])
        else:
            table.times[name] = columns[name].values
    return table


class _Column:
    """An array that grows. Room for rows that do not come yet takes no memory: it is not written to."""

    def __init__(self, dtype: type) -> None:
        self._array: NDArray[Any] = np.empty(FIRST_ROOM, dtype)
        self._count = 0

    def append(self, values: NDArray[Any]) -> None:
        """Adds values at the end."""
        count = self._count + len(values)
        if count > len(self._array):
            larger = np.empty(max(count, 4 * len(self._array)), self._array.dtype)
            larger[: self._count] = self.values
            self._array = larger
        self._array[self._count : count] = values
        self._count = count

    @property
    def values(self) -> NDArray[Any]:
        """What was added."""
        return self._array[: self._count]


def check_memory(source: Source, rows: float, columns: int, available: int | None) -> None:
    """Checks that a file's numbers fit into memory.

    Raises:
        DataError: they do not.
    """
    needed = rows * columns * BYTES_PER_NUMBER
    if available is not None and needed > available:
        raise DataError(
            f"{source.name}: about {rows:,.0f} rows × {columns} columns take {needed / 1e9:,.1f} GB at the peak, and "
            f"{available / 1e9:,.1f} GB of memory are available; name fewer columns with task.inputs, or cut the "
            "file into parts"
        )


def missing_column(source: Source, name: str, names: Sequence[str], key: str) -> DataError:
    """Returns the error of a column that a file does not have."""
    shown = ", ".join(short(each) for each in names[:20])
    return DataError(
        f"{key}={short(name)}: {source.name} has no such column{did_you_mean(name, names)} (there are: {shown})"
    )
