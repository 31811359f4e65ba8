"""The times of a table: how they are read, the distance between timesteps, and calendar cycles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tables import days, everything, make_csv, write_csv

from seqrnn.errors import DataError
from seqrnn.tables import times
from seqrnn.tables.times import Step, guess_format, infer_step, other_format


@pytest.mark.parametrize(
    ("texts", "pattern"),
    [
        (["2020-01-01", "2020-01-02"], "ISO8601"),
        (["2020-01-01T10:00:00Z"], "ISO8601"),
        (["31/01/2020", "01/02/2020"], "%d/%m/%Y"),
        (["01/31/2020", "02/01/2020"], "%m/%d/%Y"),
        (["01/02/2020", "02/02/2020", "03/02/2020"], "%m/%d/%Y"),  # days or months: other_format tells
        (["01/12/2020", "02/12/2020", "03/12/2020", "01/01/2021"], "%d/%m/%Y"),
        (["01.02.2020 13:30", "01.02.2020 14:30"], "%d.%m.%Y %H:%M"),
        (["abc"], None),
        (["1", "2"], None),
        (["20.5"], None),
        ([None, None], None),
        ([], None),
    ],
)
def test_formats_of_times_are_guessed(texts: list[str | None], pattern: str | None) -> None:
    assert guess_format(texts) == pattern


@pytest.mark.parametrize("pattern", ["%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d.%m.%Y %H:%M"])
@pytest.mark.parametrize("frequency", ["MS", "QS", "W-MON", "D"])
def test_days_and_months_are_distinguished_by_the_steps(pattern: str, frequency: str) -> None:
    texts = list(pd.date_range("2006-02-01", periods=60, freq=frequency).strftime(pattern))
    assert guess_format(texts) == pattern
    assert other_format(texts) is None


def test_dates_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    months = [f"{n:02}/01/2020" for n in range(1, 13)]  # or the first days of January
    path = write_csv(tmp_path / "a.csv", "date,y", (f"{month},{n % 5}" for n, month in enumerate(months)))
    with pytest.raises(DataError, match=r"%m/%d/%Y and as %d/%m/%Y.*task.time_format='%m/%d/%Y' or"):
        _ = make_csv(path).data
    assert str(make_csv(path, time_format="%m/%d/%Y").data.summary.step) == "month"
    assert str(make_csv(path, time_format="%d/%m/%Y").data.summary.step) == "day"
    dotted = [month.replace("/", ".") for month in months]
    assert guess_format(dotted) == "%d.%m.%Y"
    assert other_format(dotted) is None


def test_many_missing_timesteps_may_be_dates_that_were_read_wrongly(tmp_path: Path) -> None:
    dates = [f"{day:02}.01.{year}" for year in (2020, 2021) for day in range(1, 21)]
    path = write_csv(tmp_path / "a.csv", "date,y", (f"{date},{n}" for n, date in enumerate(dates)))
    with pytest.raises(DataError, match=r"as they were read \(%d.%m.%Y\), give task.time_format"):
        _ = make_csv(path).data


@pytest.mark.parametrize(
    ("frequency", "expected", "words"),
    [
        ("h", Step(unit="nanosecond", count=3600 * 10**9), "hour"),
        ("15min", Step(unit="nanosecond", count=900 * 10**9), "15 minutes"),
        ("D", Step(unit="nanosecond", count=86_400 * 10**9), "day"),
        ("B", Step(unit="weekday", count=1), "weekday"),
        ("MS", Step(unit="month", count=1, day=1), "month"),
        ("ME", Step(unit="month", count=1, day=31), "month"),
        ("QS", Step(unit="month", count=3, day=1), "quarter"),
        ("YS", Step(unit="month", count=12, day=1), "year"),
        ("7D", Step(unit="nanosecond", count=7 * 86_400 * 10**9), "7 days"),
    ],
)
def test_the_distance_between_timesteps_is_found_and_counted(frequency: str, expected: Step, words: str) -> None:
    moments = pd.date_range("2019-12-31", periods=60, freq=frequency).to_numpy().astype("datetime64[ns]")
    numbers = moments.astype(np.int64)
    step = infer_step([numbers], False)
    assert step == expected
    assert str(step) == words
    np.testing.assert_array_equal(step.positions(numbers), np.arange(60))
    np.testing.assert_array_equal(step.times_at(numbers[0], np.arange(60)), numbers)
    without = np.delete(numbers, [7, 8])
    np.testing.assert_array_equal(step.positions(without), np.delete(np.arange(60), [7, 8]))


def test_calendar_cycles_are_those_that_the_rows_span_and_resolve(tmp_path: Path) -> None:
    moments = np.datetime64("2020-01-01T00") + np.arange(24 * 40)
    path = write_csv(tmp_path / "a.csv", "time,y", (f"{time},{np.sin(n)}" for n, time in enumerate(moments)))
    task = make_csv(path)
    assert task.preprocessing.calendar == ("day", "week")
    inputs = everything(task)[0][:, 0]
    hours = 2 * np.pi * (np.arange(len(inputs)) + 1) / 24  # of the timestep that is predicted
    np.testing.assert_allclose(inputs[:, 1], np.sin(hours), atol=1e-5)
    np.testing.assert_allclose(inputs[:, 2], np.cos(hours), atol=1e-5)
    assert make_csv(path, calendar="none").preprocessing.calendar == ()
    assert make_csv(path, kind="forecast", time=None, target="y", inputs=[]).preprocessing.calendar == ()


def test_years_without_dates_are_numbers(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "year,spots", (f"{1700 + n},{np.sin(n)}" for n in range(120)))
    data = make_csv(path).data
    assert data.summary.step == "1"
    assert data.times[0] == 1700
    (batch,) = make_csv(path, warmup=0).test()
    assert batch.times[0, 0] == 1700 + 95
    assert times.show(data.times[5], True) == "1705"


def test_a_column_that_is_named_for_something_else_is_not_guessed_to_be_the_time(tmp_path: Path) -> None:
    rows = [f"{day},{np.sin(n):.4f}" for day in days(3) for n in range(30)]
    data = make_csv(write_csv(tmp_path / "a.csv", "date,y", rows), group="date").data
    assert data.keys == ["2020-01-01", "2020-01-02", "2020-01-03"]
    assert data.times is None


def test_columns_that_make_up_a_date(tmp_path: Path) -> None:
    moments = np.datetime64("2019-12-30T22") + np.arange(100)
    rows = [f"{t.astype(object):%Y,%m,%d,%H},{np.sin(n)}" for n, t in enumerate(moments)]
    data = make_csv(write_csv(tmp_path / "a.csv", "year,month,day,hour,y", rows)).data
    np.testing.assert_array_equal(data.times, moments.astype("datetime64[ns]").astype(np.int64))
