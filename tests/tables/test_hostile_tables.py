"""Tables of any bytes are read, or refused in a line that names the file or the setting; some train a network.

``SEQRNN_FUZZ=20 uv run pytest -m long tests/tables/test_hostile_tables.py`` tries twenty times as many, other ones
each time.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_tables import hostile_file
from tables import make_csv
from test_configs import composed

import seqrnn
from seqrnn import api, predict
from seqrnn.components import problems_of
from seqrnn.errors import ConfigError, DataError, Diverged, printable
from seqrnn.rundir.request import RunRequest
from seqrnn.tasks.checks import check_data

MORE = int(os.environ.get("SEQRNN_FUZZ", "1"))
TABLES, PARTS = 200 * MORE, 2
WHOLE = 100  # one of so many tables that can be read trains a network
SLOWEST = 30.0  # seconds


@cache
def usual() -> dict[str, Any]:
    return composed("task=csv", "model=gru", "model.hidden_size=3", "schedule.max_updates=2", "plots.draw=false")


def config_of(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    values = copy.deepcopy(usual())
    values["task"] |= {"path": str(path), **settings}
    return {**values, "device": "cpu", "threads": 1}


def read(path: Path, settings: dict[str, Any]) -> Sequence[str]:
    """Returns why a table is refused, a line each; none if it is read."""
    problems = problems_of(config_of(path, settings))
    if problems:
        return problems
    try:
        task = make_csv(path, **settings)
        check_data(task, task.suggest().streams, torch.float32)
    except (ConfigError, DataError) as error:
        return error.problems
    assert task.notes
    assert task.data_note
    return ()


def train(path: Path, settings: dict[str, Any], folder: Path) -> None:
    """Trains a network on a table and predicts with it."""
    try:
        api.carry_out(RunRequest(config_of(path, settings), folder, []), quiet=True)
    except Diverged:
        return
    json.dumps(seqrnn.load(folder).summary["test"], allow_nan=False)
    predict.main([str(folder), "--data", str(path), "--out", str(folder / "out.csv")])
    assert (folder / "out.csv").stat().st_size


@pytest.mark.long
@pytest.mark.timeout(300 * MORE)
@pytest.mark.parametrize("part", range(PARTS))
def test_any_bytes_are_read_or_refused_in_a_line(
    part: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng, found = random.Random(part if MORE == 1 else f"{time.time()} {part}"), Counter[str]()
    for _ in range(TABLES // PARTS):
        seed = rng.randrange(2**32)
        folder = tmp_path / str(seed)
        folder.mkdir()
        one, begun = random.Random(seed), time.monotonic()
        path, settings = hostile_file(one, folder)
        what = f"seed {seed}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas, about dates that it parses one by one
            try:
                refusal = read(path, settings)
                if not refusal and one.random() < 1 / WHOLE:
                    train(path, settings, folder / "run")
                    found["trained"] += 1
            except BaseException as error:
                raise AssertionError(f"{what}: {error!r}") from error
        for line in refusal:
            assert "task." in line or path.name in line or printable(path.name) in line, f"{what}: {line}"
            assert len(line) < 2_000, f"{what}: {line[:300]}"
        assert time.monotonic() - begun < SLOWEST, what
        found["refused" if refusal else "read"] += 1
        shutil.rmtree(folder)
    assert found["read"] > TABLES // PARTS // 10, found
