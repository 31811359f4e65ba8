"""task=csv as a run: suggested lengths, what is printed and written, scores in the units of the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import Finished, task_settings

from seqrnn import metrics, registry, smoke
from seqrnn.components import problems_of, resolve_suggestions
from seqrnn.errors import ConfigError
from seqrnn.evaluation import Predictions, score
from seqrnn.losses import LOSSES
from seqrnn.settings import composed_values
from seqrnn.tables.preprocessing import Preprocessing
from seqrnn.tasks.csv import Csv


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of 300 days: a yearly wave with noise, and the weather of the day before."""
    rng = np.random.default_rng(0)
    dates = np.datetime64("2020-01-01") + np.arange(300)
    weather = rng.integers(0, 2, 300)
    values = 40 + 10 * np.sin(np.arange(300) / 20) + 3 * np.roll(weather, 1) + rng.standard_normal(300)
    lines = [f"{a},{b:.3f},{'sr'[c]}" for a, b, c in zip(dates, values, weather, strict=True)]
    file = tmp_path / "sales.csv"
    file.write_text("\n".join(["day,sales,weather", *lines]) + "\n")
    return file


def csv_task(path: Path | None, **changes: Any) -> Csv:
    settings = task_settings("csv", **{"path": None if path is None else str(path), **changes})
    task: Csv = registry.build("task", settings, 0)
    return task


def test_the_config_of_a_run_holds_the_lengths_that_the_data_suggests(path: Path) -> None:
    values = composed_values(["task=csv", f"task.path={path}"])
    assert set(values["suggested"].values()) == {"auto"}
    assert problems_of(values) == []
    resolved = resolve_suggestions(values)
    expected = csv_task(path).suggest()._asdict()
    assert resolved["suggested"] == expected
    assert {key: resolved["schedule"][key] for key in expected} == expected
    assert values["suggested"]["epochs"] == "auto"  # what was given is left as it was
    assert resolve_suggestions(resolved) == resolved


def test_the_command_line_has_the_last_word(path: Path) -> None:
    values = composed_values(["task=csv", f"task.path={path}", "schedule.window=7", "suggested.epochs=3"])
    resolved = resolve_suggestions(values)
    assert resolved["schedule"]["window"] == 7
    assert resolved["schedule"]["epochs"] == resolved["suggested"]["epochs"] == 3
    assert resolved["suggested"]["window"] == csv_task(path).suggest().window


def test_other_schedules_take_the_suggestions_as_well(path: Path) -> None:
    for schedule in ("full", "tbptt", "minibatch", "online", "accumulate"):
        resolved = resolve_suggestions(composed_values(["task=csv", f"task.path={path}", f"schedule={schedule}"]))
        assert problems_of(resolved) == []
        assert "auto" not in resolved["schedule"].values()


def test_lengths_of_other_tasks_cannot_be_auto() -> None:
    problems = problems_of(composed_values(["task=sine", "suggested.epochs=auto"]))
    assert any(problem.startswith("schedule.epochs=auto") for problem in problems)


def test_smoke_needs_no_file_and_keeps_one_that_is_given(path: Path) -> None:
    without = smoke.shrink(resolve_suggestions(composed_values(["task=csv", "smoke=true"])))
    assert registry.build("task", without["task"], 0).data_note.startswith("synthetic.csv")
    given = smoke.shrink(resolve_suggestions(composed_values(["task=csv", "smoke=true", f"task.path={path}"])))
    assert registry.build("task", given["task"], 0).data_note.startswith("sales.csv")


def test_the_diagnosis_learns_which_setting_reads_all_columns(path: Path) -> None:
    assert csv_task(path).all_inputs == {}
    assert csv_task(path, inputs=[]).all_inputs == {"inputs": "auto"}
    assert csv_task(path).is_forecast
    assert not csv_task(path, kind="regression").is_forecast


def test_a_run_writes_what_was_done_to_the_table(command: Callable[..., Finished], path: Path) -> None:
    finished = command("task=csv", f"task.path={path}", "task.target=sales", "smoke=true", "plots.draw=false")
    assert finished.exit_code == 0, finished.err
    assert "target" not in finished.out.partition("note: time")[0]  # it was given, not guessed
    assert "inputs: weather" in finished.out
    config = yaml.safe_load((finished.directory / "config.yaml").read_text())
    assert all(isinstance(value, int) for value in config["suggested"].values())
    text = (finished.directory / "preprocessing.json").read_text()
    assert Preprocessing.model_validate_json(text, strict=True) == csv_task(path, target="sales").preprocessing
    data = json.loads((finished.directory / "data.json").read_text())
    assert data["rows"] == 300
    assert data["files"] == [{"name": "sales.csv", "rows": 300}]
    assert data["sha256"] == csv_task(path).fingerprint()
    assert {"persistence", "ridge autoregression", "mean"} <= set(finished.summary["baselines"])
    second = command("task=csv", f"task.path={path}", "smoke=true", "plots.draw=false")
    assert second.exit_code == 2  # a directory that holds a run is not written to


def test_a_run_of_the_same_data_is_resumed_and_one_of_other_data_is_not(
    command: Callable[..., Finished], path: Path
) -> None:
    overrides = ["task=csv", f"task.path={path}", "task.target=sales", "smoke=true", "plots.draw=false"]
    assert command(*overrides, "schedule.max_updates=2").exit_code == 0
    longer = command("resume=run", "schedule.max_updates=4")
    assert longer.exit_code == 0, longer.err
    assert longer.summary["updates"] == 4
    path.write_text(path.read_text().replace("40.", "41."))
    other = command("resume=run", "schedule.max_updates=5")
    assert other.exit_code == 2
    assert "Traceback" not in other.err


@pytest.mark.parametrize(
    "changes", [{}, {"horizon": 4}, {"difference": True}, {"log": True}, {"kind": "regression"}], ids=str
)
def test_scores_are_in_the_units_of_the_table(path: Path, changes: dict[str, Any]) -> None:
    task = csv_task(path, target="sales", **changes)
    batches = task.test()
    chunk = batches[0].read(0, batches[0].timesteps)
    noise = 0.1 * torch.randn(chunk.targets.shape, generator=torch.Generator().manual_seed(0))
    arrays = (chunk.inputs, chunk.targets, chunk.targets + noise, chunk.valid, chunk.starts)
    predictions = Predictions(*(array.numpy() for array in arrays), batches)
    found = scores_of(task, predictions)
    (batch,) = batches
    forecast = task.preprocessing.to_units(predictions.outputs, batch.origins)[predictions.valid]
    expected = metrics.regression(forecast[..., 0], batch.actual[predictions.valid][..., 0])
    for name in {"mae", "rmse"} & set(found):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)
    assert "rmse" in found


def scores_of(task: Csv, predictions: Predictions) -> dict[str, float]:
    return score(predictions, task, LOSSES[task.loss])


def test_persistence_is_the_value_of_the_day_before(path: Path) -> None:
    values = np.array([float(line.split(",")[1]) for line in path.read_text().splitlines()[1:]])
    error = np.sqrt(np.mean(np.diff(values)[-60:] ** 2))
    for changes in ({}, {"difference": True}, {"log": True}, {"inputs": []}):
        task = csv_task(path, target="sales", **changes)
        (batch,) = task.test()
        chunk = batch.read(0, batch.timesteps)
        outputs = task.baselines()["persistence"](chunk).numpy()
        arrays = (chunk.inputs.numpy(), chunk.targets.numpy(), outputs, chunk.valid.numpy(), chunk.starts.numpy())
        assert scores_of(task, Predictions(*arrays, [batch]))["rmse"] == pytest.approx(error, rel=1e-4)


def test_several_targets_are_predicted_together(tmp_path: Path) -> None:
    lines = [f"{np.sin(n / 5):.4f},{100 * np.cos(n / 5):.4f}" for n in range(200)]
    (tmp_path / "a.csv").write_text("\n".join(["a,b", *lines]))
    task = csv_task(tmp_path / "a.csv", target=["b", "a"], horizon=2)
    assert task.preprocessing.targets == ("b", "a")
    assert task.output_size == 4
    (batch,) = task.test()
    chunk = batch.read(0, batch.timesteps)
    arrays = (chunk.inputs, chunk.targets, torch.zeros_like(chunk.targets), chunk.valid, chunk.starts)
    found = scores_of(task, Predictions(*(array.numpy() for array in arrays), [batch]))
    assert found["rmse_b"] == pytest.approx(70, rel=0.2)
    assert found["rmse_a"] == pytest.approx(0.7, rel=0.2)
    assert found["rmse"] == pytest.approx(1, rel=0.2)  # in standard deviations of each


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"target": []}, "task.target=[]"),
        ({"kind": "classification", "target": ["a", "b"]}, "a classification has one label"),
        ({"kind": "regression", "target": "a", "inputs": ["a"]}, "task.inputs: a is the target"),
        ({"kind": "regression", "horizon": 3}, "task.horizon=3: only task.kind=forecast has a horizon"),
        ({"kind": "regression", "difference": True}, "task.difference=true"),
        ({"kind": "classification", "log": True}, "task.log=true"),
        ({"kind": "classification", "split": "time"}, "task.split=time"),
        ({"target": "a", "known": ["a"]}, "task.known: a is the target, which is not known in advance"),
        ({"time": "t", "inputs": ["t"]}, "task.inputs: t is the column of task.time"),
        ({"group": "g", "known": ["g"]}, "task.known: g is the column of task.group"),
        ({"group": "t", "time": "t"}, "task.group: t is the column of task.time"),
        ({"validation": 0.5, "test": 0.5}, "nothing is left to train on"),
    ],
)
def test_settings_that_do_not_fit_together(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match="task") as error:
        csv_task(None, **changes)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("output_scale", [[0.0]], "greater than 0"),
        ("output_mean", [[0.0, 1.0]], "output_mean: should have 1 rows of 1 numbers"),
        ("target_levels", [], "target_levels: should have 1 numbers"),
        ("features", [], "a forecast's begin with its targets"),
        ("step", {"unit": "nanosecond", "count": 0}, "greater than 0"),
        ("horizon", 10**9, "less than or equal"),
        ("code", "import os", "Extra inputs"),
    ],
)
def test_a_preprocessing_from_anyone_is_checked(path: Path, key: str, value: Any, problem: str) -> None:
    from pydantic import ValidationError

    values = json.loads(csv_task(path, target="sales").preprocessing.model_dump_json())
    with pytest.raises(ValidationError, match=problem):
        Preprocessing.model_validate_json(json.dumps({**values, key: value}), strict=True)
