"""Jobs of a sweep as members of populations: each leaves the run directory that it leaves alone."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Finished
from safetensors.numpy import load_file

from seqrnn.population import compatibility
from seqrnn.population.members import Population
from seqrnn.rundir.reader import RunReader
from seqrnn.settings import composed_values
from seqrnn.sweeping.directory import SweepDirectory

Command = Callable[..., Finished]
QUICK = ("-m", "experiment=sine_online", "smoke=true", "plots.draw=false", "schedule.epochs=2", "kernel=torch",
         "precision=float64", "sweep.report=false", "checkpoint.every=5")  # fmt: skip
POPULATION = ("hydra/launcher=population", "hydra.sweep.dir=together")


def jobs(directory: str) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in sorted(Path(directory).glob("*/job.json"))}


def assert_same_runs(one: str, other: str) -> None:
    """Compares the files of all jobs of two sweeps."""
    first, second = jobs(one), jobs(other)
    assert first.keys() == second.keys()
    for name, directory in first.items():
        alone = second[name]
        assert {path.name for path in directory.iterdir()} == {path.name for path in alone.iterdir()}
        weights, expected = (load_file(path / "weights.safetensors") for path in (directory, alone))
        for key, value in expected.items():
            np.testing.assert_allclose(weights[key], value, rtol=0, atol=1e-9)
        rows, expected_rows = (
            [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
            for path in (directory, alone)
        )
        assert [row["updates"] for row in rows] == [row["updates"] for row in expected_rows]
        for row, expected_row in zip(rows, expected_rows, strict=True):
            for key in row.keys() - {"seconds"}:
                assert row[key] == pytest.approx(expected_row[key], abs=1e-9), key
        summary, expected_summary = (RunReader(path).summary() for path in (directory, alone))
        assert summary["test"] == pytest.approx(expected_summary["test"])
        assert summary["status"] == expected_summary["status"]
        assert RunReader(directory).config() == RunReader(alone).config()


def test_members_leave_the_run_directories_that_they_leave_alone(command: Command) -> None:
    line = (*QUICK, "seed=0,1", "optimizer.lr=0.05,0.02", "schedule.clip_norm=0.1")
    together = command(*line, *POPULATION)
    assert together.exit_code == 0, together.err
    assert together.out.count("] finished") == 4
    assert command(*line, "hydra.sweep.dir=alone", "sweep.jobs=1").exit_code == 0
    assert_same_runs("together", "alone")


def test_a_member_that_diverges_leaves_the_others_alone(command: Command) -> None:
    line = (*QUICK, "optimizer.lr=0.05,1e200")
    together = command(*line, *POPULATION)
    assert together.exit_code == 1
    assert command(*line, "hydra.sweep.dir=alone", "sweep.jobs=1").exit_code == 1
    assert_same_runs("together", "alone")
    statuses = {RunReader(path).summary()["status"] for path in jobs("together").values()}
    assert statuses == {"finished", "diverged"}
    reasons = [
        {name: SweepDirectory(Path(where)).outcome(name).reason for name in jobs(where)}
        for where in ("together", "alone")
    ]
    assert reasons[0] == reasons[1]


def test_an_interrupted_population_resumes_where_it_was(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    line = (*QUICK, "seed=0,1,2", "schedule.epochs=4")
    advance, calls = Population.advance, []

    def interrupted(self: Population, members: Any) -> None:
        calls.append(len(members))
        advance(self, members)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Population, "advance", interrupted)
        stopped = command(*line, *POPULATION)
    assert stopped.exit_code == 130
    assert {RunReader(path).summary()["status"] for path in jobs("together").values()} == {"interrupted"}
    assert command(*line, *POPULATION).exit_code == 0
    assert command(*line, "hydra.sweep.dir=alone", "sweep.jobs=1").exit_code == 0
    for path in jobs("together").values():
        assert RunReader(path).summary()["resumed"] == 1
    for name, path in jobs("together").items():
        weights, expected = (load_file(Path(one, "weights.safetensors")) for one in (path, Path("alone", name)))
        for key, value in expected.items():
            np.testing.assert_allclose(weights[key], value, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["kernel=compiled"], "kernel=compiled: a population computes through torch"),
        (["optimizer=ridge", "model=esn"], "optimizer.name=ridge"),
        (["schedule.gradient=rtrl"], "schedule.gradient=rtrl"),
        (["model=lstm", "model.num_layers=2", "model.dropout=0.1"], "model.name=lstm: dropout"),
        (["model=elman", "model.num_layers=2", "model.dropout=0.1"], "model.name=elman: random numbers"),
        (["diagnose=true"], "diagnose=true"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_runs_that_can_be_no_members_are_named(overrides: list[str], expected: str) -> None:
    values = composed_values(["experiment=sine_online", *overrides])
    assert expected in str(compatibility.obstacle(values))


def test_only_what_an_update_consists_of_divides_runs_into_populations() -> None:
    def alike(*overrides: str) -> str:
        return compatibility.alike(composed_values(["experiment=sine_online", "optimizer=adam", *overrides]))

    for override in ("seed=7", "optimizer.lr=0.5", "optimizer.weight_decay=0.1", "schedule.clip_norm=3",
                     "schedule.epochs=3", "schedule.lr_decay=cosine", "model.recurrent_init=orthogonal",
                     "optimizer.beta1=0.5", "schedule.patience=3"):  # fmt: skip
        assert alike(override) == alike(), override
    for override in ("model.hidden_size=7", "model=gru", "optimizer=sgd", "optimizer.amsgrad=true",
                     "schedule.window=3", "task=integral", "precision=float64", "model.head=mlp"):  # fmt: skip
        assert alike(override) != alike(), override
