"""Jobs of a sweep as members of populations: each leaves the run directory that it leaves alone."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Finished, model_settings
from safetensors.numpy import load_file

from seqrnn.monitor import Monitor, Pace
from seqrnn.population import compatibility
from seqrnn.population.updates import Population
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
            np.testing.assert_allclose(weights[key], value, rtol=1e-9, atol=1e-9)
        rows, expected_rows = (
            [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
            for path in (directory, alone)
        )
        assert [row["updates"] for row in rows] == [row["updates"] for row in expected_rows]
        for row, expected_row in zip(rows, expected_rows, strict=True):
            assert row.keys() == expected_row.keys()
            for key in row.keys() - {"seconds"}:
                if expected_row[key] is None:
                    assert row[key] is None
                else:
                    assert row[key] == pytest.approx(expected_row[key], rel=1e-9, abs=1e-9), key
        summary, expected_summary = (RunReader(path).summary() for path in (directory, alone))
        assert summary["test"] == pytest.approx(expected_summary["test"])
        assert summary["status"] == expected_summary["status"]
        assert RunReader(directory).config() == RunReader(alone).config()


def test_members_leave_the_run_directories_that_they_leave_alone(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces: list[Pace] = []

    class Noting(Monitor):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            paces.append(settings["pace"])
            super().__init__(*arguments, **settings)

    monkeypatch.setattr("seqrnn.api.Monitor", Noting)
    line = (*QUICK, "seed=0,1", "schedule.epochs=1")
    together = command(*line, *POPULATION)
    assert together.exit_code == 0, together.err
    assert together.out.count("] finished") == 2
    assert command(*line, "hydra.sweep.dir=alone", "sweep.jobs=1").exit_code == 0
    assert_same_runs("together", "alone")
    assert [pace.seconds for pace in paces] == [
        1.0,
        1.0,
        0.1,
        0.1,
    ]  # what a block costs each member is paid less often
    assert paces[0] is paces[1]  # so that their blocks have the same updates
    assert paces[2] is not paces[3]


@pytest.mark.long
def test_a_member_that_diverges_leaves_the_others_alone(command: Command) -> None:
    line = ("-m", "task=sine", "smoke=true", "plots.draw=false", "kernel=torch", "sweep.report=false",
            "precision=float64", "model=rnn", "model.nonlinearity=relu", "optimizer=sgd", "optimizer.lr=0.01,1e18",
            "schedule.clip_norm=null", "schedule.lr_decay=constant")  # fmt: skip
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


@pytest.mark.long
def test_an_interrupted_population_resumes_where_it_was(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    line = (*QUICK, "seed=0,1,2", "schedule.epochs=12")
    advance, calls = Population.advance, []

    def interrupted(self: Population, members: Any) -> None:
        calls.append(len(members))
        advance(self, members)
        if len(calls) == 2:  # the first blocks of updates are the shortest
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
            np.testing.assert_allclose(weights[key], value, rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return composed_values(["experiment=sine_online", "optimizer=adam"])


def changed(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A config with other values; ``group__key`` is a key of a group."""
    new = copy.deepcopy(values)
    for name, value in changes.items():
        group, _, key = name.rpartition("__")
        (new[group] if group else new)[key] = value
    return new


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kernel": "compiled"}, "kernel=compiled: a population computes through torch"),
        ({"optimizer": {"name": "ridge", "ridge": 1.0, "washout": 0}}, "optimizer.name=ridge: computes the head"),
        ({"schedule__gradient": "rtrl"}, "schedule.gradient=rtrl"),
        ({"precision": "bf16-mixed"}, "precision=bf16-mixed"),
        ({"model": model_settings("lstm", num_layers=2, dropout=0.1)}, "model.name=lstm: dropout"),
        ({"model": model_settings("elman", num_layers=2, dropout=0.1)}, "model.name=elman: random numbers"),
        ({"diagnose": True}, "diagnose=true"),
        ({"logger": ["tensorboard", "mlflow"]}, "logger=mlflow"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_runs_that_can_be_no_members_are_named(
    changes: dict[str, Any], expected: str, values: dict[str, Any]
) -> None:
    assert compatibility.obstacle(values) is None
    assert expected in str(compatibility.obstacle(changed(values, **changes)))


def test_only_what_an_update_consists_of_divides_runs_into_populations(values: dict[str, Any]) -> None:
    def is_alike(changes: dict[str, Any]) -> bool:
        return compatibility.alike(changed(values, **changes)) == compatibility.alike(values)

    own: Any = {"seed": 7, "optimizer__lr": 0.5, "optimizer__weight_decay": 0.1, "optimizer__beta1": 0.5,
                "schedule__clip_norm": 3.0, "schedule__epochs": 3, "schedule__lr_decay": "cosine",
                "schedule__patience": 3, "model__recurrent_init": "orthogonal"}  # fmt: skip
    shared: Any = {"model__hidden_size": 7, "model": model_settings("gru"), "optimizer__amsgrad": True,
                   "schedule__window": 3, "task__name": "integral", "precision": "float64",
                   "schedule__carry": False}  # fmt: skip
    assert [key for key, value in own.items() if not is_alike({key: value})] == []
    assert [key for key, value in shared.items() if is_alike({key: value})] == []
