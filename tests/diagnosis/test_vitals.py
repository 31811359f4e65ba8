"""Vital signs: right where they are known, and without any trace in the training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import make_run

from seqrnn.diagnosis import vitals
from seqrnn.rundir.reader import RunReader

COLUMNS = {"eval_half_life", "eval_truncation", "eval_saturated", "eval_rank"}


@pytest.mark.usefixtures("no_diagnosis")
@pytest.mark.parametrize(
    ("task", "kernel"), [("sine", "torch"), ("sincos", "auto"), ("integral", "auto"), ("mnist", "torch")]
)
def test_a_training_with_vital_signs_is_bit_for_bit_that_without(task: str, kernel: str, tmp_path: Path) -> None:
    line = (f"task={task}", "model=lstm", f"kernel={kernel}", "smoke=true", "schedule.evaluate_every=1")
    plain, watched = (
        RunReader(make_run(tmp_path / name, *line, *more)) for name, more in (("a", ()), ("b", ("diagnose=true",)))
    )
    for name, weight in plain.weights().items():
        assert torch.equal(weight, watched.weights()[name]), name
    before, after = plain.metrics(), watched.metrics()
    assert set(after) - set(before) == COLUMNS
    for name, column in before.items():
        assert name == "seconds" or column.tobytes() == after[name].tobytes(), name


@pytest.mark.usefixtures("no_diagnosis")
def test_whole_sequences_have_the_full_gradient(tmp_path: Path) -> None:
    metrics = RunReader(make_run(tmp_path / "run", "experiment=mnist_lstm", "smoke=true", "diagnose=true")).metrics()
    looked = metrics["eval_truncation"][~torch.isnan(torch.from_numpy(metrics["eval_truncation"].copy())).numpy()]
    assert (abs(looked - 1) < 1e-6).all()
    assert len(looked) > 1


@pytest.mark.usefixtures("no_diagnosis")
def test_a_cell_without_trained_weights_has_nothing_to_cut(tmp_path: Path) -> None:
    line = "task=sine", "model=esn", "schedule=online", "smoke=true", "diagnose=true"
    metrics = RunReader(make_run(tmp_path / "run", *line)).metrics()
    assert metrics["eval_truncation"][-1] == 1
    assert metrics["eval_half_life"][-1] > 0


def test_the_rank_of_states_that_vary_in_two_directions_alike_is_two() -> None:
    angles = torch.linspace(0, 2 * torch.pi, 1001, dtype=torch.float64)[:-1]
    circle = torch.stack([angles.cos(), angles.sin()], dim=1) @ torch.randn(2, 7, dtype=torch.float64).svd().V.T
    assert vitals._effective_rank(circle) == pytest.approx(2)
