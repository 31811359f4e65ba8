"""Rows of tables as they come, one after another: what the network reads at each. I inputs, K targets."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import DataError, did_you_mean, printable
from seqrnn.streaming.values import START, shown, starts
from seqrnn.tables.cells import LARGEST, MISSING
from seqrnn.tables.encoding import Encoded, encode
from seqrnn.tables.files import Source
from seqrnn.tables.preprocessing import Preprocessing
from seqrnn.tables.reading import Table
from seqrnn.tables.sequences import Sequence, sequences_of
from seqrnn.tables.times import parse_times, show

INPUT = Source(Path("input"))  # what errors name


class RowReader:
    """Reads rows, given as values by column, as the run reads the rows of a file."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        times = preprocessing.time.columns
        self.dates = times if len(times) == 1 and preprocessing.step.unit not in ("number", "row") else ()
        self.categories = {each.column for each in preprocessing.features if each.kind == "category"}
        if preprocessing.kind == "classification":
            self.categories |= set(preprocessing.targets)
        read = [each.column for each in preprocessing.features]
        self.numbers = [name for name in dict.fromkeys([*times, *read, *preprocessing.targets])
                        if name not in self.categories and name not in self.dates]  # fmt: skip

    def check_columns(self, names: Many[str]) -> None:
        """Checks names of columns. As in a file, there may be others besides those that are read.

        Raises:
            DataError: a column is missing.
        """
        for name in self.preprocessing.columns:
            if name not in names:
                raise DataError(
                    f"column {_quoted(name)} is missing{did_you_mean(name, names)} (null stands for a value that is "
                    "not known)"
                )

    def read(self, values: dict[str, Any]) -> tuple[str, Sequence, bool]:
        """Returns the name of the sequence that a row belongs to, the row as a sequence of one timestep, and whether
        a new sequence begins.

        Raises:
            DataError: a value is not what it should be.
        """
        preprocessing = self.preprocessing
        table = Table(INPUT, 1, 1)
        for name in self.numbers:
            table.numbers[name] = np.array([self._number(name, values.get(name))])
        for name in self.categories:
            label = self._text(name, values.get(name))
            table.labels[name] = [] if label is None else [label]
            table.codes[name] = np.array([-1 if label is None else 0], np.int32)
        for name in self.dates:
            table.times[name] = self._time(name, values.get(name))
        (sequence,) = sequences_of(table, preprocessing.time, None, sort=False, several=False)
        key = ""
        if preprocessing.group is not None:
            group = self._text(preprocessing.group, values.get(preprocessing.group))
            if group is None:
                raise DataError(
                    f"{_quoted(preprocessing.group)}: no id; every row needs one, to belong to a sequence"
                )
            key = group
        return key, sequence, starts(values.get(START))

    def _text(self, name: str, value: Any) -> str | None:
        if isinstance(value, str):
            value = value.strip()
        if value is None or value in MISSING or value in self.preprocessing.read.missing_values:
            return None
        if isinstance(value, bool):
            return str(value).lower()  # as in a column of Parquet
        if isinstance(value, float) and np.isfinite(value):
            return repr(value).removesuffix(".0")
        if not isinstance(value, str | int):
            raise DataError(f"{_quoted(name)}: {shown(value)} should be a text")
        return str(value)

    def _number(self, name: str, value: Any) -> float:
        if isinstance(value, str):
            text = self._text(name, value)
            if text is None:
                return np.nan
            number = self.preprocessing.read.number_of(text)
            if number is None:
                raise DataError(f"{_quoted(name)}: {shown(value)} is not a number")
            value = None if np.isnan(number) else number
        if value is None:
            return np.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{_quoted(name)}: {shown(value)} is not a number")
        try:
            number = float(value)
        except OverflowError:
            number = np.inf
        if not np.isfinite(number):
            raise DataError(f"{_quoted(name)}: {shown(value)} should be a finite number, or null if it is not known")
        if abs(number) > LARGEST:
            raise DataError(f"{_quoted(name)}: {shown(value)} is beyond {LARGEST:g}; send null if it is not known")
        return number

    def _time(self, name: str, value: Any) -> NDArray[np.int64]:
        import pandas as pd

        text = self._text(name, value)
        if text is None:
            raise DataError(f"{_quoted(name)}: no time; every row needs one")
        return parse_times(pd.Series([text]), self.preprocessing.time, INPUT.name, name, 1)


class History:
    """What must be known of a sequence's past to encode its next row: its latest row, with the last known value
    wherever a number was missing.

    A row is encoded as the last of two, so that it is encoded as in a file.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.latest: Sequence | None = None

    def encode(self, row: Sequence) -> tuple[Encoded, Sequence]:
        """Returns a row, encoded (its last timestep is the row, unless that is left out), and what ``latest`` is
        after it. Changes nothing.

        Raises:
            DataError: a category is unknown, or its time is not that of the next timestep.
        """
        if self.latest is None:
            return encode(self.preprocessing, row), row
        self._check_time(row)
        return encode(self.preprocessing, joined(self.latest, row)), filled_from(self.latest, row)

    def _check_time(self, row: Sequence) -> None:
        latest, step = self.latest, self.preprocessing.step
        assert latest is not None
        if row.times is None or latest.times is None:
            return
        pair = np.concatenate([latest.times, row.times])
        distance = float(step.positions(pair)[1])
        now, before = (show(time, not row.has_dates) for time in (pair[1], pair[0]))
        if pair[1] <= pair[0]:
            raise DataError(f"its time, {now}, is not after {before}; send rows in the order of their times")
        if self.preprocessing.gaps and abs(distance - 1) > 1e-6:
            is_whole = distance > 1 and abs(distance - round(distance)) < 1e-6
            remedy = (
                "send the rows in between, with null (in CSV: an empty cell) where nothing is known"
                if is_whole
                else f"the rows that the run was trained on are {step.length} apart: send one for each of those times"
            )
            raise DataError(
                f"its time, {now}, is {distance:g} steps of {step.length} after {before}; {remedy}, or start=true "
                "where a new sequence begins"
            )


def joined(first: Sequence, second: Sequence) -> Sequence:
    """Returns two sequences of the same columns as one."""
    codes, labels = {}, {}
    for name in second.codes:
        labels[name] = list(dict.fromkeys([*first.labels[name], *second.labels[name]]))
        codes[name] = np.concatenate([_recoded(part, name, labels[name]) for part in (first, second)])
    times = None if second.times is None or first.times is None else np.concatenate([first.times, second.times])
    numbers = {name: np.concatenate([first.numbers[name], values]) for name, values in second.numbers.items()}
    return replace(second, numbers=numbers, codes=codes, labels=labels, times=times, numbering=0)


def _recoded(part: Sequence, name: str, labels: list[str]) -> NDArray[np.int32]:
    own = part.labels[name]
    return np.array([-1 if code < 0 else labels.index(own[code]) for code in part.codes[name]], np.int32)


def filled_from(before: Sequence, row: Sequence) -> Sequence:
    """Returns a row with the values of the row before it wherever a number is missing."""
    return replace(
        row,
        numbers={
            name: np.where(np.isnan(values), before.numbers[name], values) for name, values in row.numbers.items()
        },
    )


def _quoted(name: str) -> str:
    return repr(printable(name)[:60])
