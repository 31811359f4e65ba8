"""Times that cannot be used, or that must be put in order first, are named with their row and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import changed, daily, days, make_csv, refusal, write_csv

from seqrnn.errors import ConfigError


def test_dates_out_of_order(tmp_path: Path) -> None:
    error = changed(tmp_path / "a.csv", 12, "2019-12-24,1")
    assert "a.csv, row 12, column date: '2019-12-24' comes after 2020-01-10" in error
    assert "task.sort=true" in error


@pytest.mark.parametrize("shops", [("north", "south"), (1, 2)])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_column_that_could_tell_series_apart_is_named(tmp_path: Path, mixed: bool, shops: tuple[Any, ...]) -> None:
    rows = [(day, shop) for shop in shops for day in days(50)]
    rows = sorted(rows) if mixed else rows
    path = write_csv(
        tmp_path / "a.csv", "date,shop,y", (f"{day},{shop},{n % 7}.5" for n, (day, shop) in enumerate(rows))
    )
    message = refusal(path)
    assert "a.csv, row 3, column date" in message if mixed else "a.csv, row 52, column date" in message
    assert "set task.group=shop, if shop tells sequences apart (within each shop, times ascend)" in message
    assert make_csv(path, group="shop").data.summary.sequences == 2


def test_rows_are_sorted_if_that_is_asked_for(tmp_path: Path) -> None:
    path = daily(tmp_path / "a.csv", value=lambda n: n * n)
    header, *rows = path.read_text().splitlines()
    mixed = write_csv(tmp_path / "b.csv", header, [*rows[50:], *rows[:50]])
    for one, other in zip(make_csv(path).data.targets, make_csv(mixed, sort=True).data.targets, strict=True):
        assert one == other


def test_dates_that_come_twice(tmp_path: Path) -> None:
    error = changed(tmp_path / "a.csv", 12, "2020-01-10,1")
    assert "a.csv, row 12, column date: '2020-01-10' comes twice" in error
    assert "task.group" in error


def test_dates_in_two_formats(tmp_path: Path) -> None:
    error = changed(tmp_path / "a.csv", 12, "11/01/2020,1")
    assert "a.csv, row 12, column date: '11/01/2020' is no time in the format of the first rows, ISO8601" in error


def test_times_with_and_without_an_offset(tmp_path: Path) -> None:
    hours = [f"2020-01-01T{n:02}:00+01:00,{n}" for n in range(20)]
    hours[7] = "2020-01-01T07:00,1"
    error = refusal(write_csv(tmp_path / "a.csv", "time,y", hours))
    assert "row 9, column time: '2020-01-01T07:00' is a time without an offset from UTC" in error


def test_summer_time(tmp_path: Path) -> None:
    """At the end of summer time an hour comes twice; at its beginning one is missing."""
    import pandas as pd

    index = pd.date_range("2020-10-20", "2020-11-10", freq="h", tz="Europe/Berlin")
    rows = [f"{time:%Y-%m-%d %H:%M},{n % 24}" for n, time in enumerate(index)]
    path = write_csv(tmp_path / "a.csv", "time,y", rows)
    error = refusal(path)
    assert "comes twice" in error
    assert "row 125, column time: '2020-10-25 02:00'" in error
    assert "task.timezone" in error
    data = make_csv(path, timezone="Europe/Berlin").data
    assert set(np.diff(data.times)) == {3_600 * 10**9}
    assert data.times[0] == np.datetime64("2020-10-19T22:00", "ns").astype(np.int64)
    with_offsets = write_csv(
        tmp_path / "b.csv", "time,y", (f"{time.isoformat()},{n % 24}" for n, time in enumerate(index))
    )
    np.testing.assert_array_equal(make_csv(with_offsets).data.times, data.times)
    for zone in ("Europe/Atlantis", "", "..", "/etc/passwd"):
        with pytest.raises(ConfigError, match="no such time zone"):
            make_csv(path, timezone=zone)


def test_gaps(tmp_path: Path) -> None:
    header, *rows = daily(tmp_path / "a.csv").read_text().splitlines()
    del rows[20:30]
    path = write_csv(tmp_path / "b.csv", header, rows)
    error = refusal(path)
    assert "b.csv: 10 timesteps are missing (one day each): row 22: 2020-01-31 after 2020-01-20 (10 missing)" in error
    assert "task.gaps=fill" in error
    assert len(make_csv(path, gaps="fill").data.here) == 100
    assert len(make_csv(path, gaps="ignore").data.here) == 90


def test_irregular_times(tmp_path: Path) -> None:
    times = [f"2020-01-{n // 24 + 1:02} {n % 24:02}:{17 if n == 33 else 0:02}" for n in range(200)]
    path = write_csv(tmp_path / "a.csv", "time,y", (f"{time},{n % 5}" for n, time in enumerate(times)))
    error = refusal(path)
    assert "most rows are one hour apart" in error
    assert "row 35: 2020-01-02 09:17 after 2020-01-02 08:00" in error
    assert "task.resample" in error
    assert len(make_csv(path, resample="1h").data.here) == 200


@pytest.mark.parametrize(
    ("times", "settings", "found"),
    [
        ([*range(40), 40.5], {}, "most rows are 1 apart, and 1 are not"),
        ([*range(41), 40, 41], {}, "comes twice"),
        ([*range(40), 50], {"gaps": "error"}, "10 timesteps are missing"),
        ([*range(40), 900], {"gaps": "fill"}, "860 timesteps are missing"),
    ],
)
def test_numbers_that_are_times_cannot_be_averaged_over(
    tmp_path: Path, times: list[float], settings: dict[str, Any], found: str
) -> None:
    path = write_csv(tmp_path / "a.csv", "step,y", (f"{time},{n % 7}" for n, time in enumerate(times)))
    error = refusal(path, time="step", **settings)
    assert found in error
    assert "task.resample" not in error
    days_of = (np.datetime64("2020-01-01T00") + np.timedelta64(int(2 * time), "h") for time in times)
    dated = write_csv(tmp_path / "b.csv", "step,y", (f"{time},{n % 7}" for n, time in enumerate(days_of)))
    assert "task.resample" in refusal(dated, time="step", **settings)


def test_texts_that_are_no_times_are_named_by_the_row_of_the_first(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "when,y", [",1", ",2", *(f"{word},{n}" for n, word in enumerate("abab"))])
    assert "a.csv, row 4: 'a' is in no format of times that is known" in refusal(path, time="when")
