"""Sequences of a table are cut at the same dates, unless one of them has nothing on a side of these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import days, make_csv, write_csv

from seqrnn.errors import ConfigError, DataError
from seqrnn.tables.splits import TEST, TRAINING, VALIDATION
from seqrnn.tasks.csv import Csv


def grouped(path: Path, spans: dict[str, tuple[str, int]]) -> Path:
    """Writes a table of daily sequences, given by the first day and the number of days of each."""
    rows = [
        f"{key},{day},{np.sin(number):.3f}"
        for key, (first, count) in spans.items()
        for number, day in enumerate(days(count, first))
    ]
    return write_csv(path, "shop,date,y", rows)


UNEQUAL = {"a": ("2020-01-01", 300), "b": ("2020-06-01", 148), "c": ("2020-01-01", 300)}


def dates_of(task: Csv, part: int) -> list[list[np.datetime64]]:
    """Returns the first and the last day of a part in each sequence that has it."""
    data = task.data
    assert data.times is not None
    spans = [span for span in data.regions[:, part] if span[0] >= 0]
    dates = data.times.astype("datetime64[ns]").astype("datetime64[D]")
    return [[dates[begin], dates[end - 1]] for begin, end in spans]


@pytest.mark.parametrize(
    ("spans", "settings"),
    [
        (UNEQUAL, {"split": "time"}),
        ({**UNEQUAL, "early": ("2019-01-01", 100)}, {}),  # it ends before the test begins
        ({**UNEQUAL, "late": ("2020-10-24", 4)}, {"horizon": 2}),
    ],
)
def test_otherwise_the_end_of_each_sequence_is_held_out(
    tmp_path: Path, spans: dict[str, tuple[str, int]], settings: dict[str, Any]
) -> None:
    path = grouped(tmp_path / "a.csv", spans)
    if "late" in spans:
        with pytest.raises(DataError, match=r"sequence late of .* has 4 timesteps"):
            _ = make_csv(path, group="shop", target="y", **settings).data
        return
    task = make_csv(path, group="shop", target="y", **settings)
    assert len(dates_of(task, TEST)) == len(spans)
    assert len({first for first, _ in dates_of(task, TEST)}) > 1
    assert any("split: each sequence by itself, as 1 of 4" in note for note in task.notes) == (
        "split" not in settings
    )


def test_who_asks_for_a_date_gets_it_even_if_a_sequence_lies_on_one_side(tmp_path: Path) -> None:
    spans = {**UNEQUAL, "early": ("2019-01-01", 100), "late": ("2020-10-20", 8)}
    task = make_csv(grouped(tmp_path / "a.csv", spans), group="shop", target="y", split="date")
    assert [len(dates_of(task, part)) for part in (TRAINING, VALIDATION, TEST)] == [4, 3, 4]
    assert len({first for first, _ in dates_of(task, TEST)[:3]}) == 1
    apart = grouped(tmp_path / "b.csv", {"a": ("2019-01-01", 100), "b": ("2021-01-01", 100)})
    with pytest.raises(DataError, match=r"task\.split=date: .* no sequence has data on all sides"):
        _ = make_csv(apart, group="shop", target="y", split="date", horizon=30).data


def test_a_date_needs_times(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "shop,y", (f"{n % 2},{np.sin(n):.3f}" for n in range(200)))
    with pytest.raises(DataError, match=r"task\.split=date: .*has no column of times"):
        _ = make_csv(path, group="shop", target="y", split="date").data
    with pytest.raises(ConfigError, match=r"task\.split=date"):
        make_csv(path, group="shop", target="y", split="date", time=None)
    with pytest.raises(ConfigError, match=r"task\.split=date: a classification"):
        make_csv(path, kind="classification", split="date")
