"""Days and months are those of the calendar in ``task.timezone``, whatever summer time does to their lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest
from tables import make_csv, write_csv

from seqrnn.errors import DataError
from seqrnn.tables.times import Step, infer_step, localized, wall_clock

ZONE = "Europe/Berlin"


def zoned(first: str, periods: int, freq: str) -> pandas.DatetimeIndex:
    return pandas.date_range(first, periods=periods, freq=freq, tz=ZONE)


def in_utc(index: pandas.DatetimeIndex) -> np.ndarray:
    return index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)


@pytest.mark.parametrize(
    ("first", "freq", "unit"),
    [
        ("2020-02-01", "D", "nanosecond"),
        ("2020-02-01", "7D", "nanosecond"),
        ("2020-02-03", "B", "weekday"),
        ("2019-12-31", "ME", "month"),
        ("2020-01-01", "MS", "month"),
        ("2019-12-31", "QE", "month"),
    ],
)
def test_steps_of_the_calendar_cross_summer_time(first: str, freq: str, unit: str) -> None:
    times = in_utc(zoned(first, 400, freq))
    step = infer_step([times[:100]], is_number=False, timezone=ZONE)
    assert (step.unit, step.timezone) == (unit, ZONE)
    np.testing.assert_array_equal(step.positions(times), np.arange(400))
    np.testing.assert_array_equal(step.times_at(times[7], np.arange(390)), times[7:397])


def test_hours_are_equally_long() -> None:
    times = in_utc(zoned("2020-03-01", 1000, "h"))
    step = infer_step([times], is_number=False, timezone=ZONE)
    assert step == Step(unit="nanosecond", count=3600 * 10**9)


def test_a_clock_that_does_not_show_a_time_is_put_forward() -> None:
    night = in_utc(pandas.DatetimeIndex(["2020-03-28 02:30"]).tz_localize(ZONE))
    step = Step(unit="nanosecond", count=86_400 * 10**9, timezone=ZONE)
    shown = wall_clock(step.times_at(night[0], np.arange(3)), ZONE).astype("datetime64[ns]").astype("datetime64[m]")
    assert [str(one) for one in shown] == ["2020-03-28T02:30", "2020-03-29T03:00", "2020-03-30T02:30"]


@pytest.mark.parametrize("offsets", [False, True])
def test_a_daily_table_of_a_zone_has_no_gaps(tmp_path: Path, offsets: bool) -> None:
    index = zoned("2020-01-01", 400, "D")
    texts = [one.isoformat() if offsets else str(one.date()) for one in index]
    path = write_csv(tmp_path / "a.csv", "time,y", (f"{text},{n % 7}" for n, text in enumerate(texts)))
    data = make_csv(path, timezone=ZONE).data
    assert data.summary.inserted == 0
    assert data.season == 7
    np.testing.assert_array_equal(data.times, in_utc(index))
    if offsets:
        with pytest.raises(DataError, match=r"set task\.timezone if it is summer time"):
            _ = make_csv(path).data


def test_a_day_that_rows_are_averaged_over_begins_at_midnight_in_the_zone(tmp_path: Path) -> None:
    index = zoned("2020-03-01", 24 * 60, "h")
    path = write_csv(tmp_path / "a.csv", "time,y", (f"{one.isoformat()},{one.day}" for one in index))
    data = make_csv(path, timezone=ZONE, resample="1D").data
    assert data.summary.step == "day"
    expected = [one.day for one in zoned("2020-03-01", 59, "D")]
    np.testing.assert_allclose(data.targets[:59, 0], expected)
    first = wall_clock(data.times[:40], ZONE) % (86_400 * 10**9)
    assert not first.any()


def test_times_that_a_clock_never_shows_are_refused() -> None:
    never = np.array(["2020-03-29T02:30"], "datetime64[ns]").astype(np.int64)
    with pytest.raises(DataError, match=r"task\.timezone=Europe/Berlin"):
        localized(never, ZONE, "a.csv")
