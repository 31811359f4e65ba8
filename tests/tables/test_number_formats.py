"""Numbers with a decimal comma or with separated thousands: what is found in a cell, and which key reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tables import days, make_csv, refusal, write_csv

from seqrnn.errors import ConfigError


def revenues(path: Path, *cells: str) -> Path:
    """Writes days, revenues of 1.077,33 and the like, and another column."""
    made = [f"{1 + n % 3}.{n % 10}77,{n:02}" for n in range(60)]
    rows = [f"{day};{cell};{n % 4}" for n, (day, cell) in enumerate(zip(days(60), made, strict=True))]
    return write_csv(path, "date;revenue;promotion", [*rows, *cells])


def test_separated_thousands(tmp_path: Path) -> None:
    path = revenues(tmp_path / "a.csv")
    for changes in ({}, {"target": "revenue"}, {"known": "revenue"}):
        error = refusal(path, delimiter=";", decimal=",", **changes)
        assert """a.csv, row 2, column revenue: '1.077,00' is not a number (and 59 more cells nearby)""" in error
        assert error.endswith("""set "task.thousands='.'\"""")
    error = refusal(path, delimiter=";")
    assert error.endswith("""set "task.decimal=','" and set "task.thousands='.'\"""")
    task = make_csv(path, delimiter=";", decimal=",", thousands=".", target="revenue")
    np.testing.assert_allclose(task.data.targets[:3, 0], [1077.0, 2177.01, 3277.02])
    assert task.preprocessing.read.thousands == "."


@pytest.mark.parametrize("sign", ["'", " ", "\u00a0", "\u2019", ","])
def test_signs_that_separate_thousands(tmp_path: Path, sign: str) -> None:
    rows = [f"{day};{n % 7 + 1}{sign}077.5" for n, day in enumerate(days(60))]
    path = write_csv(tmp_path / "a.csv", "date;y", rows)
    chosen = {"\u00a0": " ", "\u2019": "'"}.get(sign, sign)
    assert "task.thousands=" in refusal(path, delimiter=";")
    np.testing.assert_allclose(make_csv(path, delimiter=";", thousands=chosen).data.targets[0], [1077.5])


def test_a_point_is_no_decimal_mark_where_a_comma_is(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "date;y", [f"{day};{n % 7}.500" for n, day in enumerate(days(60))])
    error = refusal(path, delimiter=";", decimal=",")
    assert "row 2, column y: '0.500' is not a number" in error
    assert """set "task.decimal='.'\"""" in error
    mixed = write_csv(tmp_path / "b.csv", "date;y", [f"{day};1.077" for day in days(60)] + ["2020-03-01;1.5"])
    assert "row 62, column y: '1.5' is not a number" in refusal(mixed, delimiter=";", decimal=",", thousands=".")


def test_the_thousands_cannot_be_separated_by_the_decimal_mark(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"task.thousands=,: is the decimal mark"):
        make_csv(tmp_path / "a.csv", decimal=",", thousands=",")
