"""Orders the rows of tables into sequences: one for each file, or one for each id of the group column."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import DataError, printable
from seqrnn.tables.cells import cell_error
from seqrnn.tables.files import Source
from seqrnn.tables.reading import Table
from seqrnn.tables.times import DAY, MOST_NAMED, NO_TIME, Step, TimeFormat, localized, show, wall_clock, with_offsets

INSERTED = -1  # in place of the number of a row: the timestep was not in the file
LEAST_GROUP = 3  # rows that a group has on average, where a column is named that may tell groups apart
MOST_INSERTED = 10  # times as many timesteps as there are rows


@dataclass
class Sequence:
    """Rows that follow each other in time.

    Args:
        key: the file, the group, or both, by name.
        numbers, codes, labels: see ``seqrnn.tables.reading.Table``.
        times: (T,) nanoseconds since 1970, or numbers; None: there is no time column.
        numbering: (T,) the number of each row in the file, ``INSERTED`` where it was not there; or that of the first
            one, where they are consecutive.
    """

    key: str
    source: Source
    numbers: dict[str, NDArray[np.float64]]
    codes: dict[str, NDArray[np.int32]]
    labels: dict[str, list[str]]
    times: NDArray[Any] | None
    numbering: NDArray[np.int64] | int

    def __len__(self) -> int:
        for columns in (self.numbers, self.codes):
            for values in columns.values():
                return len(values)
        return 0 if self.times is None else len(self.times)

    @property
    def has_dates(self) -> bool:
        return self.times is not None and self.times.dtype == np.int64

    def row(self, index: int) -> int:
        """Returns the number of a row in the file, or of the last one before it that was in the file."""
        if isinstance(self.numbering, int):
            return self.numbering + index
        before = self.numbering[: index + 1]
        return int(before[before != INSERTED][-1])

    def error(self, index: int, column: str, value: str, problem: str) -> DataError:
        """Returns the error of a cell: where it is, what it holds, and what is wrong."""
        return cell_error(self.source, self.row(index), column, value, problem)

    def clock(self, timezone: str | None) -> NDArray[np.int64] | None:
        """Returns what a clock shows at each timestep, in nanoseconds; None: there are no dates."""
        if self.times is None or not self.has_dates:
            return None
        return wall_clock(self.times, timezone) if timezone else self.times

    def taken(self, rows: NDArray[np.int64] | slice) -> Sequence:
        """Returns some of the rows, in another order perhaps."""
        numbering = self.numbering
        every = numbering + np.arange(len(self)) if isinstance(numbering, int) else numbering
        return replace(
            self,
            numbers={name: values[rows] for name, values in self.numbers.items()},
            codes={name: values[rows] for name, values in self.codes.items()},
            times=None if self.times is None else self.times[rows],
            numbering=every[rows],
        )


def sequences_of(
    table: Table, time_format: TimeFormat, group: str | None, *, sort: bool, several: bool, average: bool = False
) -> list[Sequence]:
    """Returns the sequences of a table, each in the order of its times.

    Args:
        sort: whether rows are put into that order; otherwise other orders are an error.
        several: whether there are other files, so that a key needs the file's name.
        average: whether rows of one time are averaged later, so that a time may come twice.

    Raises:
        DataError: a time is missing, comes twice, or is out of order.
    """
    times = _times(table, time_format)
    whole = Sequence(
        table.source.key,
        table.source,
        {name: values for name, values in table.numbers.items() if name not in time_format.columns},
        table.codes,
        table.labels,
        times,
        table.first_row,
    )
    parts = [whole] if group is None else _by_group(whole, group, several)
    return [_in_order(part, time_format, sort, average) for part in parts]


def _times(table: Table, time_format: TimeFormat) -> NDArray[Any] | None:
    if not time_format.columns:
        return None
    if len(time_format.columns) > 1:
        return _assembled(table, time_format.columns)
    (name,) = time_format.columns
    times: NDArray[Any] = table.times[name] if name in table.times else table.numbers[name]
    missing = np.flatnonzero(times == NO_TIME) if times.dtype == np.int64 else np.flatnonzero(np.isnan(times))
    if len(missing):
        raise cell_error(
            table.source, table.row(int(missing[0])), name, None,
            f"no time{f' (and in {len(missing) - 1:,} more rows)' if len(missing) > 1 else ''}; every row needs one",
        )  # fmt: skip
    return times


def _assembled(table: Table, columns: tuple[str, ...]) -> NDArray[np.int64]:
    """Returns the times that columns named year, month, day and so on make up."""
    import pandas as pd

    parts = {name.lower(): table.numbers[name] for name in columns}
    for name in columns:
        missing = np.flatnonzero(np.isnan(table.numbers[name]))
        if len(missing):
            raise cell_error(table.source, table.row(int(missing[0])), name, None, "no value; every row needs a time")
    frame = pd.DataFrame({"day": np.ones(table.rows), "month": np.ones(table.rows), **parts})
    parsed = pd.to_datetime(frame, errors="coerce")
    wrong = np.flatnonzero(parsed.isna().to_numpy())
    if len(wrong):
        value = " ".join(f"{table.numbers[name][wrong[0]]:g}" for name in columns)
        raise cell_error(table.source, table.row(int(wrong[0])), ", ".join(columns), value, "is no date")
    times: NDArray[np.int64] = parsed.to_numpy().astype("datetime64[ns]").astype(np.int64)
    return times


def _by_group(whole: Sequence, group: str, several: bool) -> list[Sequence]:
    codes, labels = whole.codes[group], whole.labels[group]
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        raise whole.error(int(missing[0]), group, "", "no id; every row needs one, to belong to a sequence")
    order = np.argsort(codes, kind="stable")
    bounds = np.flatnonzero(np.diff(codes[order])) + 1
    prefix = f"{whole.key}/" if several else ""
    return [
        replace(whole.taken(rows), key=f"{prefix}{printable(labels[codes[rows[0]]])}")
        for rows in np.split(order, bounds)
    ]


def _in_order(sequence: Sequence, time_format: TimeFormat, sort: bool, average: bool) -> Sequence:
    times = sequence.times
    if times is None:
        return sequence
    if time_format.timezone and not time_format.offsets and sequence.has_dates:
        times = localized(times, time_format.timezone, sequence.source.name)
        sequence = replace(sequence, times=times)
    differences = np.diff(times)
    if sort and (differences < 0).any():
        sequence = sequence.taken(np.argsort(times, kind="stable"))
        assert sequence.times is not None
        differences = np.diff(sequence.times)
    _check_order(sequence, differences, time_format, average)
    return sequence


def _check_order(sequence: Sequence, differences: NDArray[Any], time_format: TimeFormat, average: bool) -> None:
    times = sequence.times
    assert times is not None
    name, is_number = ", ".join(time_format.columns), not sequence.has_dates
    backward = np.flatnonzero(differences < 0)
    if len(backward):
        index = int(backward[0]) + 1
        raise sequence.error(
            index, name, show(times[index], is_number),
            f"comes after {show(times[index - 1], is_number)}{_more(len(backward))}; times should ascend"
            f"{_within(sequence)}: sort the rows, or set task.sort=true, or {_naming_a_group(sequence)}",
        )  # fmt: skip
    repeated = np.flatnonzero(differences == 0)
    if len(repeated) and not average:
        index = int(repeated[0]) + 1
        local = (
            "; if an hour comes twice because summer time ends, set task.timezone, such as Europe/Berlin"
            if sequence.has_dates and not time_format.offsets and not time_format.timezone
            else ""
        )
        raise sequence.error(
            index, name, show(times[index], is_number),
            f"comes twice{_more(len(repeated))}; each time should come once{_within(sequence)}: "
            f"{_naming_a_group(sequence)}{averaging(sequence, 'regular steps')}{local}",
        )  # fmt: skip


def _naming_a_group(sequence: Sequence) -> str:
    """Returns what to do where rows may be of several series: which column could tell them apart, if one could."""
    columns: dict[str, NDArray[Any]] = {name: codes for name, codes in sequence.codes.items() if (codes >= 0).all()}
    for name, values in sequence.numbers.items():
        if (values == np.rint(values)).all():
            columns[name] = values
    groups = {name: _count_ordered_groups(sequence, column) for name, column in columns.items()}
    found = [name for name in groups if 1 < groups[name] <= len(sequence) / LEAST_GROUP]
    if not found:
        return "name the column that tells sequences apart with task.group"
    name = printable(min(found, key=lambda one: groups[one]))
    return f"set task.group={name}, if {name} tells sequences apart (within each {name}, times ascend)"


def _count_ordered_groups(sequence: Sequence, column: NDArray[Any]) -> int:
    """Returns how many values a column has, if times ascend within the rows of each; otherwise 0."""
    times, order = sequence.times, np.argsort(column, kind="stable")
    assert times is not None
    is_same = np.diff(column[order]) == 0
    ascends = bool((np.diff(times[order])[is_same] > 0).all())
    return int((~is_same).sum()) + 1 if ascends else 0


def averaging(sequence: Sequence, steps: str, example: str = "") -> str:
    """Returns the end of an advice: to average over such steps, unless times are numbers, which are not resampled."""
    return f", or average over {steps} with task.resample{example}" if sequence.has_dates else ""


def _within(sequence: Sequence) -> str:
    return f" in {sequence.key}" if not isinstance(sequence.numbering, int) else ""


def _more(count: int) -> str:
    return f" (and {count - 1:,} more such rows)" if count > 1 else ""


def gaps_of(sequence: Sequence, step: Step) -> tuple[int, list[str]]:
    """Returns how many timesteps are missing, and a line for each of the first gaps.

    Raises:
        DataError: times are not whole steps apart.
    """
    if sequence.times is None or len(sequence) < 2:
        return 0, []
    positions, is_number = step.positions(sequence.times), not sequence.has_dates
    distances = np.diff(positions)
    wrong = np.flatnonzero((np.abs(distances - np.round(distances)) > 1e-6) | (distances < 0.5))
    times = sequence.times
    if len(wrong):
        lines = [
            f"row {sequence.row(int(n) + 1)}: {show(times[n + 1], is_number)} after {show(times[n], is_number)}"
            for n in wrong[:MOST_NAMED]
        ]
        clocks = sequence.has_dates and step.timezone is None and step.nominal >= DAY
        raise DataError(
            f"{sequence.source.name}: most rows are {step.length} apart{_within(sequence)}, and {len(wrong):,} are "
            f"not: {'; '.join(lines)}; take the rows as they come with task.gaps=ignore"
            f"{averaging(sequence, 'regular steps', ', such as task.resample=1h')}"
            f"{', or set task.timezone if it is summer time that makes the difference' if clocks else ''}"
        )
    found = np.flatnonzero(distances > 1.5)
    lines = [
        f"row {sequence.row(int(n) + 1)}: {show(times[n + 1], is_number)} after {show(times[n], is_number)} "
        f"({round(distances[n]) - 1:,} missing)"
        for n in found[:MOST_NAMED]
    ]
    return int(np.round(distances[found] - 1).sum()), lines


def filled(sequence: Sequence, step: Step) -> Sequence:
    """Returns a sequence in which missing timesteps are there, with missing values.

    Raises:
        DataError: there are too many of them.
    """
    if sequence.times is None or len(sequence) < 2:
        return sequence
    positions = np.round(step.positions(sequence.times)).astype(np.int64)
    count = int(positions[-1]) + 1
    if count == len(sequence):
        return sequence
    if count > MOST_INSERTED * len(sequence):
        raise DataError(
            f"{sequence.source.name}: {count - len(sequence):,} timesteps are missing between {len(sequence):,} rows"
            f"{_within(sequence)}; set task.gaps=ignore{averaging(sequence, 'longer steps')}"
        )
    numbering = np.full(count, INSERTED)
    own = sequence.numbering
    numbering[positions] = own + np.arange(len(sequence)) if isinstance(own, int) else own
    return replace(
        sequence,
        numbers={name: _spread(values, positions, count, np.nan) for name, values in sequence.numbers.items()},
        codes={name: _spread(values, positions, count, -1) for name, values in sequence.codes.items()},
        times=step.times_at(sequence.times[0], np.arange(count)),
        numbering=numbering,
    )


def _spread(values: NDArray[Any], positions: NDArray[np.int64], count: int, empty: float) -> NDArray[Any]:
    spread = np.full(count, empty, values.dtype)
    spread[positions] = values
    return spread


def resampled(sequence: Sequence, rule: str, timezone: str | None = None) -> Sequence:
    """Returns a sequence of regular timesteps: the mean of the numbers, and the last category, of each.

    Args:
        rule: the length of a timestep, as pandas writes it, such as ``1h``, ``7D`` or ``MS``.
        timezone: in whose calendar days and months begin.

    Raises:
        DataError: there are no dates, or the rule is none.
    """
    import pandas as pd

    if not sequence.has_dates:
        raise DataError(
            f"task.resample={printable(rule)}: {sequence.source.name} has no column of dates; see task.time"
        )
    assert sequence.times is not None
    index = with_offsets(sequence.times, timezone)
    try:
        _check_count(sequence, rule, _estimated_count(sequence.times, rule))  # before so many are made
        bins = pd.Series(np.arange(len(sequence)), index).resample(rule)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise DataError(
            f"task.resample={printable(rule)}: {printable(str(error).partition(chr(10))[0])}; write it as pandas "
            "does, such as 15min, 1h, 1D, 7D or MS"
        ) from None
    last = bins.last()
    _check_count(sequence, rule, len(last))
    has_rows = last.notna().to_numpy()
    rows = last.fillna(0).to_numpy().astype(np.int64)
    own = sequence.numbering
    numbering = own + rows if isinstance(own, int) else own[rows]
    return replace(
        sequence,
        numbers={
            name: pd.Series(values, index).resample(rule).mean().to_numpy()
            for name, values in sequence.numbers.items()
        },
        codes={name: np.where(has_rows, values[rows], -1) for name, values in sequence.codes.items()},
        times=last.index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64),
        numbering=np.where(has_rows, numbering, INSERTED),
    )


def _estimated_count(times: NDArray[Any], rule: str) -> int:
    """Returns how many timesteps of equal length lie between the first time and the last one; 0 where those of the
    rule are not equal, as months are, or have no length."""
    import pandas as pd

    try:
        length = int(pd.tseries.frequencies.to_offset(rule).nanos)
    except (ValueError, AttributeError):
        return 0
    return (int(times.max()) - int(times.min())) // length if length > 0 else 0


def _check_count(sequence: Sequence, rule: str, count: int) -> None:
    if count > MOST_INSERTED * len(sequence):
        raise DataError(
            f"task.resample={printable(rule)}: {len(sequence):,} rows would become {count:,} timesteps; take longer "
            "ones"
        )
