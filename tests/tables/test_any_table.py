"""Any table with any keys is read, or refused with an error that a user can mend."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tables import days, make_csv

from seqrnn.errors import UserError
from seqrnn.tasks.checks import check_data

JUNK = (
    "", "NA", "abc", "1e400", "-inf", "nan", "2020-13-45", "2020-01-01", "1,2", '"x', '"a,b"', "é", "\t", ";", "0",
    "-1", "1e30", "1e-300", "2020-01-01T00:00:00+01:00", "99999-01-01", "0001-01-01", "True", "=1+1", "\u202e",
    "a" * 5000, "12:30", "1.1.2020", "١",
)  # fmt: skip
NAMES = ("y", "x", "wind", "id", "label", "year", "month", "", "1")


def random_table(rng: random.Random, path: Path) -> list[str]:
    """Writes a table of numbers and categories in which some cells are anything; returns the names of its columns."""
    rows, columns = rng.choice([3, 10, 40, 40, 120, 120]), rng.randint(1, 4)
    header = ["date", *(rng.sample(NAMES, columns) if rng.random() < 0.8 else rng.choices(NAMES, k=columns))]
    cells = [
        [str(day), *(f"{np.sin(n + c):.3f}" if c % 2 == 0 else "abc"[n % 3] for c in range(columns))]
        for n, day in enumerate(days(rows))
    ]
    for _ in range(rng.choice([0, 0, 0, 1, 3, 20])):
        cells[rng.randrange(rows)][rng.randrange(columns + 1)] = rng.choice(JUNK)
    end = rng.choice(["", "\n", "\n", "\n", "\n\n"])
    path.write_text("\n".join(",".join(row) for row in (header, *cells)) + end, encoding="utf-8")
    return header


def random_settings(rng: random.Random, header: list[str]) -> dict[str, Any]:
    choices: dict[str, list[Any]] = {
        "kind": ["forecast", "forecast", "regression", "classification"],
        "missing": ["mask", "interpolate", "drop"],
        "horizon": [1, 1, 1, 2, 7, 50],
        "mode": ["direct", "direct", "recursive"],
        "group": [None, None, None, *header],
        "log": [False, False, True],
        "difference": ["auto", True, False],
        "resample": [None, None, None, "7D", "1h", "MS", "bogus"],
        "gaps": ["auto", "fill", "ignore", "error"],
        "sort": [False, True],
        "timezone": [None, None, None, "Europe/Berlin", "Nowhere"],
        "target": ["auto", "auto", *header],
        "known": [[], [], [rng.choice(header)]],
        "time": ["auto", "auto", "auto", None, rng.choice(header)],
        "delimiter": [",", ",", ",", ",", ";", "\t"],
    }
    changed = rng.sample(sorted(choices), rng.choice([0, 1, 1, 2, 4]))  # with all of them, hardly any table is read
    return {key: rng.choice(choices[key]) for key in changed}


SEEDS = [range(60), *(pytest.param(range(n, n + 50), marks=pytest.mark.long) for n in range(60, 1560, 50))]


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_a_table_is_read_or_refused(tmp_path: Path, seeds: range) -> None:
    path, refused = tmp_path / "a.csv", 0
    for seed in seeds:
        rng = random.Random(seed)
        settings = random_settings(rng, random_table(rng, path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas, about dates that it parses one by one
            try:
                task = make_csv(path, **settings)
                check_data(task, task.suggest().streams, torch.float32)
            except UserError:
                refused += 1
                continue
            except Exception as error:
                raise AssertionError(f"seed {seed}, {settings}") from error
        assert task.notes, seed
        assert task.data_note, seed
    assert len(seeds) / 5 < refused < 0.95 * len(seeds)
