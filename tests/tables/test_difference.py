"""task.difference=auto: changes are predicted where a network would have to leave the range that it is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_task
from numpy.typing import NDArray


def table(path: Path, values: NDArray[Any]) -> Path:
    path.write_text("y\n" + "".join(f"{value!r}\n" for value in values.tolist()))
    return path


def noise(count: int = 400) -> NDArray[Any]:
    return np.random.default_rng(0).standard_normal(count)


@pytest.mark.parametrize(
    ("slope", "difference"), [(0.0, False), (0.1, True), (-0.1, True)], ids=["no trend", "rising", "falling"]
)
def test_a_trend_is_predicted_by_its_changes(slope: float, difference: bool, tmp_path: Path) -> None:
    task = make_task("csv", path=str(table(tmp_path / "y.csv", noise() + slope * np.arange(400))))
    assert task.preprocessing.difference == difference
    assert any("task.difference" in note for note in task.notes) == difference


def test_only_training_values_decide(tmp_path: Path) -> None:
    values = noise()
    values[280:] += 100.0  # validation and test rows
    assert not make_task("csv", path=str(table(tmp_path / "y.csv", values))).preprocessing.difference


def test_the_user_decides_otherwise(tmp_path: Path) -> None:
    rising = str(table(tmp_path / "y.csv", noise() + np.arange(400)))
    assert not make_task("csv", path=rising, difference=False).preprocessing.difference
    level = str(table(tmp_path / "level.csv", noise()))
    assert make_task("csv", path=level, difference=True).preprocessing.difference


def test_a_network_predicts_a_trend_that_leaves_the_training_range(tmp_path: Path) -> None:
    path = str(table(tmp_path / "y.csv", 0.1 * noise() + 0.05 * np.arange(400)))
    task = make_task("csv", path=path)
    (batch,) = task.test()
    chunk = batch.read(0, batch.timesteps)
    assert chunk.inputs.abs().max() < 10  # changes, not levels, in units of their deviation
    assert chunk.targets[chunk.valid].abs().max() < 10
