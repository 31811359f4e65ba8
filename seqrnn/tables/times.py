"""Times of rows: how their texts are read, how far apart timesteps are, and whether they are in order and complete.

Times are nanoseconds since 1970. With offsets in the texts, or with ``task.timezone``, they are UTC; else they are
what the clock showed.
"""

from __future__ import annotations

import re
import warnings
import zoneinfo
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from seqrnn.errors import ConfigError, DataError, printable

NO_TIME = np.iinfo(np.int64).min
SECOND = 10**9
DAY = 86_400 * SECOND
YEAR = 365.2425 * DAY  # on average
MONTH = YEAR / 12
HAS_OFFSET = r"(?:\d\s?Z|\d\s?UTC|:\d\d[^+-]*[+-]\d\d:?\d\d)$"
MOST_NAMED = 3  # gaps, duplicates and the like that an error names
UNITS = (("day", DAY), ("hour", 3600 * SECOND), ("minute", 60 * SECOND), ("second", SECOND), ("millisecond", 10**6))


class TimeFormat(BaseModel, frozen=True, extra="forbid"):
    """How times are read.

    Args:
        columns: one that holds times, or several that hold year, month, day and so on; none: there are no times.
        pattern: of the texts, as for ``strptime``; ``ISO8601``; None: the column holds numbers, or times already.
        offsets: whether the texts hold offsets from UTC.
        timezone: of texts without offsets, such as ``Europe/Berlin``; also decides what hour of the day it is.
    """

    columns: tuple[str, ...] = ()
    pattern: str | None = None
    offsets: bool = False
    timezone: str | None = None

    @property
    def is_utc(self) -> bool:
        """Whether times are UTC, and not what a clock showed."""
        return self.offsets or self.timezone is not None


class Step(BaseModel, frozen=True, extra="forbid"):
    """The distance between two timesteps.

    Args:
        unit: ``nanosecond``; ``month``; ``weekday`` (Monday to Friday); ``number`` where times are numbers; ``row``
            where there are none.
        count: of these units.
        day: of a month: the day of the month, 31 for its last one.
        timezone: in whose calendar days and months are counted, which summer time makes shorter or longer; None: all
            days are equally long.
    """

    unit: Literal["nanosecond", "month", "weekday", "number", "row"]
    count: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    day: Annotated[int, Field(ge=1, le=31)] = 1
    timezone: str | None = None

    @property
    def nominal(self) -> float:
        """Nanoseconds (for ``number`` and ``row``: units of the numbers, rows) between two timesteps, on average."""
        each = {"month": MONTH, "weekday": 1.4 * DAY}.get(self.unit, 1.0)
        return self.count * each

    def __str__(self) -> str:
        count = int(self.count)
        if self.unit == "month":
            known = {1: "month", 3: "quarter", 12: "year"}
            return known.get(count, f"{count} months" if count % 12 else f"{count // 12} years")
        if self.unit == "nanosecond":
            for name, length in UNITS:
                if count % length == 0:
                    return name if count == length else f"{count // length} {name}s"
            return f"{count} ns"
        if self.unit == "number":
            return f"{self.count:g}"
        return self.unit

    @property
    def length(self) -> str:
        """How long it is, for people: ``one hour``, ``7 days``."""
        text = str(self)
        return text if text[0].isdigit() else f"one {text}"

    def seasons(self) -> list[int]:
        """Returns the steps of a day, a week and a year, those of them that are more than one."""
        lengths = (
            (5, 261)
            if self.unit == "weekday"
            else tuple(round(cycle / self.nominal) for cycle in (DAY, 7 * DAY, YEAR))
        )
        most = 400  # the year of an hourly series is too long to be its season
        return [length for length in lengths if 1 < length <= most]

    def positions(self, times: NDArray[Any]) -> NDArray[np.float64]:
        """Returns how many steps each time is from the first, whole numbers where the times are regular."""
        if self.timezone is not None:
            times = wall_clock(times, self.timezone)
        if self.unit == "month":
            months = _months(times)
            return np.asarray((months - months[0]) / self.count, np.float64)
        if self.unit == "weekday":
            days = times.astype("datetime64[ns]").astype("datetime64[D]")
            return np.busday_count(days[0], days).astype(np.float64)
        return np.asarray((times - times[0]) / self.count, np.float64)

    def times_at(self, first: Any, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Returns the times that are ``positions`` steps from ``first``."""
        if self.timezone is not None:
            shown = wall_clock(np.array([first]), self.timezone)[0]
            return _at_clock(self._later(shown, positions), self.timezone)
        return self._later(first, positions)

    def _later(self, first: Any, positions: NDArray[np.int64]) -> NDArray[Any]:
        if self.unit == "month":
            months = np.datetime64(int(first), "ns").astype("datetime64[M]") + positions * int(self.count)
            last = (months + 1).astype("datetime64[D]") - np.timedelta64(1, "D")
            days = np.minimum(months.astype("datetime64[D]") + np.timedelta64(self.day - 1, "D"), last)
            within = int(first) % DAY
            return _nanoseconds(days) + within
        if self.unit == "weekday":
            day = np.datetime64(int(first), "ns").astype("datetime64[D]")
            days = np.busday_offset(day, positions, roll="forward")
            return _nanoseconds(days) + int(first) % DAY
        each = int(self.count) if float(self.count).is_integer() else self.count
        return np.asarray(first + positions * each)


def _nanoseconds(times: NDArray[Any]) -> NDArray[np.int64]:
    nanoseconds: NDArray[np.int64] = times.astype("datetime64[ns]").astype(np.int64)
    return nanoseconds


def _months(times: NDArray[np.int64]) -> NDArray[np.int64]:
    return times.astype("datetime64[ns]").astype("datetime64[M]").astype(np.int64)


def _days_of_month(times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns the day of the month of each time, and whether it is the last of its month."""
    days = times.astype("datetime64[ns]").astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    last = (months + 1).astype("datetime64[D]") - np.timedelta64(1, "D")
    return (days - months.astype("datetime64[D]")).astype(np.int64) + 1, days == last


def infer_step(sequences: Sequence[NDArray[Any]], is_number: bool, timezone: str | None = None) -> Step:
    """Returns the distance between timesteps that is most common in ascending times.

    Args:
        timezone: in whose calendar days and months are counted.
    """
    if timezone is not None and not is_number:
        step = infer_step([wall_clock(times, timezone) for times in sequences], is_number=False)
        if step.unit != "nanosecond" or step.count % DAY == 0:
            return step.model_copy(update={"timezone": timezone})
    differences = np.concatenate([np.diff(times) for times in sequences])
    if not len(differences):
        return Step(unit="number" if is_number else "nanosecond", count=1 if is_number else DAY)
    values, counts = np.unique(differences, return_counts=True)
    most_common = values[counts.argmax()]
    if is_number:
        return Step(unit="number", count=float(most_common))
    times = np.concatenate([times[:10_000] for times in sequences[:100]])
    if most_common >= 28 * DAY:
        number, is_last = _days_of_month(times)
        months = np.concatenate([np.diff(_months(each)) for each in sequences])
        if (is_last.all() or (number == number[0]).all()) and months.min() > 0:
            kinds, how_many = np.unique(months, return_counts=True)
            day = 31 if is_last.all() else int(number[0])
            return Step(unit="month", count=int(kinds[how_many.argmax()]), day=day)
    if most_common == DAY and len(times) >= 10:
        weekday = (times // DAY + 3) % 7  # 1 January 1970 was a Thursday; 0 is Monday
        if (weekday < 5).all():
            return Step(unit="weekday", count=1)
    return Step(unit="nanosecond", count=int(most_common))


def show(time: Any, is_number: bool) -> str:
    """Returns a time for people."""
    if is_number:
        return f"{time:g}"
    moment = np.datetime64(int(time), "ns")
    unit = next(unit for unit in ("D", "m", "s", "ms", "ns") if moment.astype(f"datetime64[{unit}]") == moment)
    return str(moment.astype(f"datetime64[{unit}]")).replace("T", " ")


def guess_format(texts: Sequence[str | None]) -> str | None:
    """Returns the pattern that a column's texts have, ``ISO8601`` or one for ``strptime``; None: they are no times.

    Where day and month could be either way round, the way in which more of the texts are times is taken, then the one
    in which they ascend, then the one with more regular steps; else the month is first, and the day where dots
    stand between them.
    """
    patterns = _guessed_formats(texts)
    return patterns[0] if patterns else None


def other_format(texts: Sequence[str | None]) -> str | None:
    """Returns the other pattern that a column's texts could have as well as that of ``guess_format``, where they are
    other times then and nothing tells which is meant: no dots, no order, and no steps between them."""
    patterns = _guessed_formats(texts)
    if len(patterns) < 2:
        return None
    first = next(text for text in texts if text is not None)
    parsed = [_parsed(_present(texts), pattern) for pattern in patterns]
    if "." in first[:6] or _doubt(parsed[0]) != _doubt(parsed[1]) or parsed[0].equals(parsed[1]):
        return None
    return patterns[1]


def _present(texts: Sequence[str | None]) -> Any:
    import pandas as pd

    return pd.Series([text for text in texts if text is not None])


def _guessed_formats(texts: Sequence[str | None]) -> list[str]:
    """Returns the patterns that a column's texts may have, the likeliest one first."""
    import pandas as pd

    present = _present(texts)
    if present.empty or len(present[0]) < 6 or not any(letter.isdigit() for letter in present[0]):
        return []
    if re.fullmatch(r"[+-]?[\d.,]+(e[+-]?\d+)?", present[0], re.IGNORECASE) and not re.fullmatch(
        r"\d{1,2}\.\d{1,2}\.\d{4}", present[0]
    ):
        return []
    if re.match(r"\d{4}-\d\d", present[0]) and _share_parsed(present, "ISO8601") > 0.5:
        return ["ISO8601"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a day that cannot be first, or a month
        found = dict.fromkeys(
            pd.tseries.api.guess_datetime_format(present[0], dayfirst=dayfirst)
            for dayfirst in ((True, False) if "." in present[0][:6] else (False, True))
        )
    patterns = [pattern for pattern in found if pattern and _share_parsed(present, pattern) > 0.5]
    return sorted(patterns, key=lambda pattern: _doubt(_parsed(present, pattern)))


def _parsed(texts: Any, pattern: str, *, utc: bool = True) -> Any:
    import pandas as pd

    try:
        return pd.to_datetime(texts, format=pattern, errors="coerce", utc=utc)
    except ValueError as error:  # of the pattern: texts that do not fit become NaT
        raise ConfigError(
            f"task.time_format={printable(pattern)}: {printable(str(error))}; write it as '%d.%m.%Y %H:%M'"
        ) from None


def _share_parsed(texts: Any, pattern: str) -> float:
    return float(_parsed(texts, pattern).notna().mean())


def _doubt(parsed: Any) -> tuple[int, int, int]:
    """Returns how many texts are no times, how often the times do not ascend, and how often they are not one
    step after the ones before where they do."""
    times = _nanoseconds(parsed.dropna().dt.tz_localize(None).to_numpy())
    times = times[np.concatenate([[True], np.diff(times) != 0])] if len(times) else times
    falls = np.flatnonzero(np.diff(times) < 0) + 1
    stretches = [each for each in np.split(times, falls) if len(each) > 1]
    if not stretches:
        return int(parsed.isna().sum()), len(falls), 0
    step = infer_step(stretches, is_number=False)
    irregular = [np.abs(np.diff(step.positions(each)) - 1) > 1e-6 for each in stretches]
    return int(parsed.isna().sum()), len(falls), int(sum(map(np.sum, irregular)))


def have_offsets(texts: Sequence[str | None]) -> bool:
    """Returns whether the first text that is there ends with an offset from UTC."""
    first = next((text for text in texts if text is not None), "")
    return re.search(HAS_OFFSET, first) is not None


def parse_times(values: Any, time_format: TimeFormat, where: str, column: str, first_row: int) -> NDArray[np.int64]:
    """Returns times in nanoseconds since 1970, ``NO_TIME`` where one is missing.

    Args:
        values: a pandas Series of texts, or of times.
        where: the name of the file, for errors.
        first_row: the row of the first value in the file, for errors.

    Raises:
        DataError: a text is no time in the format.
    """
    import pandas as pd

    if not pd.api.types.is_datetime64_any_dtype(values):
        values = values.reset_index(drop=True)
        present = values.notna()
        has_offset = values.str.contains(HAS_OFFSET, regex=True, na=False).astype(bool)
        other = np.flatnonzero((present & (has_offset != time_format.offsets)).to_numpy())
        if len(other):
            kind = ("without", "with") if time_format.offsets else ("with", "without")
            raise _wrong_time(
                where, first_row + int(other[0]), column, values[int(other[0])],
                f"is a time {kind[0]} an offset from UTC, and the first ones are {kind[1]}; write all of them in one "
                "form",
            )  # fmt: skip
        parsed = _parsed(values, time_format.pattern or "ISO8601", utc=time_format.offsets)
        wrong = np.flatnonzero((present & parsed.isna()).to_numpy())
        if len(wrong):
            raise _wrong_time(
                where, first_row + int(wrong[0]), column, values[int(wrong[0])],
                f"is no time in the format of the first rows, {time_format.pattern}"
                f"{f' (and {len(wrong) - 1:,} more nearby)' if len(wrong) > 1 else ''}; write all of them in one "
                "format, or give it with task.time_format",
            )  # fmt: skip
        values = parsed
    if getattr(values.dtype, "tz", None) is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    try:
        nanoseconds = values.to_numpy().astype("datetime64[ns]")
    except (OverflowError, ValueError):
        raise DataError(f"{where}, column {printable(column)}: a time before 1678 or after 2262") from None
    back = nanoseconds.astype(values.to_numpy().dtype)
    if len(np.flatnonzero((back != values.to_numpy()) & ~np.isnat(nanoseconds))):
        raise DataError(f"{where}, column {printable(column)}: a time before 1678 or after 2262")
    return _nanoseconds(nanoseconds)


def _wrong_time(where: str, row: int, column: str, value: Any, problem: str) -> DataError:
    return DataError(f"{where}, row {row}, column {printable(column)}: {printable(str(value))[:60]!r} {problem}")


def is_timezone(name: str) -> bool:
    """Returns whether there is a time zone of this name."""
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there; no name of a file; a folder
        return False
    return True


def localized(times: NDArray[np.int64], timezone: str, where: str) -> NDArray[np.int64]:
    """Returns times of a clock in ``timezone`` as UTC. An hour that comes twice when summer time ends is resolved
    by the order of the rows.

    Raises:
        DataError: a time does not exist in the zone, or comes twice there and only once in the rows.
    """
    import pandas as pd

    try:
        index = pd.DatetimeIndex(times.astype("datetime64[ns]")).tz_localize(timezone, ambiguous="infer")
    except Exception as error:  # of ambiguous and nonexistent times: ValueError, or with pandas 2 those of pytz
        raise DataError(f"{where}: task.timezone={timezone}: {printable(str(error).partition(chr(10))[0])}") from None
    return _nanoseconds(index.tz_convert("UTC").tz_localize(None).to_numpy())


def _at_clock(shown: NDArray[np.int64], timezone: str) -> NDArray[np.int64]:
    """Returns the times in UTC at which a clock in ``timezone`` shows what it shows; the first of two, and the end of
    the hour that is left out when summer time begins."""
    import pandas as pd

    index = pd.DatetimeIndex(shown.astype("datetime64[ns]"))
    zoned = index.tz_localize(timezone, ambiguous=np.ones(len(index), bool), nonexistent="shift_forward")
    return _nanoseconds(zoned.tz_convert("UTC").tz_localize(None).to_numpy())


def with_offsets(times: NDArray[np.int64], timezone: str | None) -> Any:
    """Returns times in UTC as those of a zone, with their offsets: a DatetimeIndex. None: that of UTC."""
    import pandas as pd

    return pd.DatetimeIndex(times.astype("datetime64[ns]")).tz_localize("UTC").tz_convert(timezone or "UTC")


def wall_clock(times: NDArray[np.int64], timezone: str) -> NDArray[np.int64]:
    """Returns what a clock in ``timezone`` shows at times in UTC."""
    return _nanoseconds(with_offsets(times, timezone).tz_localize(None).to_numpy())
