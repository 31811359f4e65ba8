"""Forecasts of task=csv in the units of the table: what is judged, the baselines, and the report of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU64, Finished, make_network
from tables import days, make_csv, write_csv

from seqrnn import evaluation, plots
from seqrnn.errors import DataError
from seqrnn.evaluation import Predictions
from seqrnn.forecasting.intervals import Intervals
from seqrnn.forecasting.verdict import LINEAR
from seqrnn.losses import LOSSES, loss_of
from seqrnn.prediction.table_data import read_tables
from seqrnn.prediction.table_predictions import predict_sequence
from seqrnn.rundir.bounded import read_model
from seqrnn.rundir.names import FORECAST, INTERVALS
from seqrnn.rundir.reader import RunReader
from seqrnn.tasks import table_forecasts
from seqrnn.tasks.csv import Csv

TRAIN = ("model.hidden_size=4", "kernel=torch", "threads=1", "device=cpu", "schedule.max_updates=2", "task.warmup=8")


def series(count: int = 300, seed: int = 0) -> np.ndarray:
    """Two positive series with a week in them, the second a hundred times as large."""
    rng = np.random.default_rng(seed)
    season = np.tile([0.0, 1, 3, 1, 0, -1, -2], count // 7 + 1)[:count]
    noise = np.zeros((count, 2))
    for t in range(1, count):
        noise[t] = 0.7 * noise[t - 1] + 0.5 * rng.standard_normal(2)
    return np.array([1.0, 100.0]) * (20 + season[:, None] + noise)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = (f"{day},{a:.6f},{b:.6f}" for day, (a, b) in zip(days(300), series(), strict=True))
    return write_csv(tmp_path / "series.csv", "date,a,b", rows)


def perfect(task: Csv) -> Predictions:
    """What a network would predict that outputs its targets."""
    network = make_network("elman", task.input_size, task.output_size)
    predictions = evaluation.predict(network, task.test(), CPU64)
    return replace(predictions, outputs=predictions.targets)


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize(
    "space", [{}, {"log": True}, {"difference": True}, {"log": True, "difference": True}], ids=str
)
@pytest.mark.parametrize("target", ["b", ["a", "b"]], ids=str)
def test_targets_of_the_network_are_the_values_of_the_table(
    table: Path, horizon: int, space: dict[str, Any], target: Any
) -> None:
    task = make_csv(table, target=target, horizon=horizon, **space)
    outputs, targets = task.judged(perfect(task))
    column = series()[:, [1] if target == "b" else [0, 1]]
    np.testing.assert_allclose(targets, outputs, rtol=1e-4)
    np.testing.assert_allclose(targets[-1], column[-horizon:], rtol=1e-6)  # the last forecast ends with the file
    scores = evaluation.score(perfect(task), task, LOSSES[task.loss])
    assert scores["rmse"] < 1e-3 * column.std()


@pytest.mark.parametrize(
    "space", [{}, {"log": True}, {"difference": True}, {"log": True, "difference": True}], ids=str
)
def test_naive_baselines_repeat_values_of_the_table(table: Path, space: dict[str, Any]) -> None:
    task = make_csv(table, target="b", horizon=3, season=7, **space)
    made = dict(evaluation.predict_baselines(perfect(task), task))
    values = series()[:, 1]
    last = len(values) - 1 - 3  # the last origin
    now, _ = task.judged(made["persistence"])
    week, _ = task.judged(made["seasonal naive (7)"])
    np.testing.assert_allclose(now[-1, :, 0], values[last], rtol=1e-4)
    np.testing.assert_allclose(week[-1, :, 0], values[last + 1 - 7 : last + 4 - 7], rtol=1e-4)


def test_the_linear_model_is_as_good_as_the_process_allows(table: Path) -> None:
    task = make_csv(table, target="a", inputs=[])
    scores = evaluation.score_baselines(perfect(task), task, LOSSES[task.loss])
    assert scores[LINEAR]["rmse"] < 0.65  # the noise has a deviation of 0.5
    assert scores[LINEAR]["rmse"] < min(found["rmse"] for name, found in scores.items() if name != LINEAR)
    assert next(iter(scores)) == LINEAR


def test_the_linear_model_is_fitted_to_training_rows_alone(table: Path, tmp_path: Path) -> None:
    lines = table.read_text(encoding="utf-8").splitlines()
    later = [f"{line.split(',')[0]},5,5" for line in lines[1 + 210 :]]  # validation and test are the last 30 %
    changed = write_csv(tmp_path / "changed.csv", lines[0], [*lines[1 : 1 + 210], *later])
    models = [make_csv(path, target="a").linear for path in (table, changed)]
    assert models[0] is not None
    assert models[1] is not None
    np.testing.assert_array_equal(models[0].coefficients, models[1].coefficients)


def test_scores_of_one_target_are_in_its_units_and_of_several_in_their_deviations(table: Path) -> None:
    one, both = make_csv(table, target="b"), make_csv(table, target=["a", "b"])
    persistence = {
        task: dict(evaluation.score_baselines(perfect(task), task, LOSSES[task.loss]))["persistence"]
        for task in (one, both)
    }
    assert set(persistence[one]) == {"loss", "mae", "rmse", "smape", "mase"}
    values = series()[:, 1]
    held_out = np.diff(values[239:])  # the last 20 % of 300, from the timestep before on
    assert persistence[one]["rmse"] == pytest.approx(np.sqrt(np.mean(held_out**2)), rel=1e-4)
    assert persistence[one]["mase"] == pytest.approx(
        np.mean(np.abs(held_out)) / np.mean(np.abs(np.diff(values[:210])))
    )
    assert persistence[both]["rmse_b"] == pytest.approx(persistence[one]["rmse"], rel=1e-4)
    deviations = series()[:210].std(axis=0)
    expected = (persistence[both]["rmse_a"] / deviations[0] + persistence[both]["rmse_b"] / deviations[1]) / 2
    assert persistence[both]["rmse"] == pytest.approx(expected, rel=1e-4)


def test_several_targets_of_a_regression_are_scored_as_those_of_a_forecast(tmp_path: Path) -> None:
    rows = (f"{day},{a:.6f},{b:.6f},{n % 5}" for n, (day, (a, b)) in enumerate(zip(days(300), series(), strict=True)))
    task = make_csv(write_csv(tmp_path / "x.csv", "date,a,b,x", rows), target=["a", "b"], kind="regression")
    rng = np.random.default_rng(0)
    actual = rng.standard_normal((50, 1, 2))
    made = actual + rng.standard_normal((50, 1, 2)) * [1, 9]
    actual[:20, 0, 1] = np.nan
    scores = task.metrics(made, actual)
    each = [scores["rmse_a"], scores["rmse_b"]] / series()[:210].std(axis=0)
    assert scores["rmse"] == pytest.approx(each.mean())
    actual[:, 0, 1] = np.nan  # nothing to be judged by
    assert task.metrics(made, actual)["rmse"] == pytest.approx(each[0])


def test_a_run_reports_its_forecasts_in_files_summary_and_terminal(table: Path, command: Any) -> None:
    finished: Finished = command("task=csv", f"task.path={table}", "task.target=[a,b]", "task.horizon=3", *TRAIN)
    assert finished.exit_code == 0, finished.err
    summary = finished.summary
    assert summary["problems"] == []
    forecast = summary["forecast"]
    assert forecast["targets"] == ["a", "b"]
    assert forecast["is_dated"]
    assert list(forecast["by_step"]) == ["gru", LINEAR, "persistence", "seasonal naive (7)", "mean"]
    assert len(forecast["by_step"]["gru"]["rmse"]) == 3
    assert summary["test"]["crps"] > summary["baselines"][LINEAR]["crps"] > 0
    intervals = read_model(finished.directory / INTERVALS, Intervals)
    assert (intervals.horizon, intervals.targets) == (3, ["a", "b"])
    assert {path.name for path in finished.directory.glob("*.png")} >= {
        "predictions.png",
        "residuals.png",
        "horizon.png",
    }
    arrays = RunReader(finished.directory).forecast()
    assert arrays["forecast"].shape == (58, 1, 3, 2)  # origins from the day before the last 60 on
    np.testing.assert_allclose(arrays["actual"][0, 0], series()[240:243], atol=1e-5)
    assert arrays["times"][0, 0].astype("datetime64[ns]") == days(300)[239]
    assert summary["test"]["rmse"] > summary["baselines"][LINEAR]["rmse"]  # after two updates
    last = finished.out.splitlines()[-1]
    mine, linear = (scores["rmse"] for scores in (summary["test"], summary["baselines"][LINEAR]))
    assert last == f"does not beat the linear model: RMSE {mine:.4g} against {linear:.4g} ({LINEAR})"
    assert "intervals of 50, 80, 90" in finished.out


def test_of_very_many_forecasts_the_newest_are_reported(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_csv(table, target="b", horizon=3)
    whole, newest = {}, {}
    monkeypatch.setattr(table_forecasts, "LEAST_JUDGED", 5)
    for found, most in ((whole, 2**20), (newest, 30)):
        monkeypatch.setattr(table_forecasts, "MOST_JUDGED", most)
        made = table_forecasts.forecasts_of({"network": perfect(task)})
        found.update(times=made.times, actual=made.actual, forecast=made.made["network"])
    for name, values in newest.items():
        assert len(values) == 10
        np.testing.assert_array_equal(values, whole[name][-10:])


def test_a_regression_is_reported_and_a_classification_is_not(table: Path, command: Any, tmp_path: Path) -> None:
    finished = command(
        "task=csv", f"task.path={table}", "task.kind=regression", "task.target=b", "plots.draw=false", *TRAIN
    )
    assert finished.exit_code == 0, finished.err
    assert finished.summary["forecast"]["lead"] == 0
    assert list(finished.summary["baselines"]) == [LINEAR, "mean"]
    where = f"hydra.run.dir={tmp_path / 'labels'}"
    finished = command("task=csv", "smoke=true", "task.kind=classification", "plots.draw=false", *TRAIN[:-1], where)
    assert finished.exit_code == 0, finished.err
    assert not (tmp_path / "labels" / FORECAST).exists()


def test_groups_of_different_lengths_are_reported_together(tmp_path: Path, command: Any) -> None:
    rows = [f"{group},{n},{np.sin(n) + n % 5}" for group, count in (("x", 150), ("y", 90)) for n in range(count)]
    path = write_csv(tmp_path / "groups.csv", "shop,t,y", rows)
    finished = command("task=csv", f"task.path={path}", "task.group=shop", "task.time=t", "task.target=y", *TRAIN)
    assert finished.exit_code == 0, finished.err
    forecast = finished.summary["forecast"]
    assert forecast["series"] == ["x", "y"]
    assert forecast["origins"] == 30 + 18
    assert finished.summary["problems"] == []


def test_a_damaged_file_of_forecasts_keeps_only_its_pictures_from_being_drawn(table: Path, command: Any) -> None:
    finished = command("task=csv", f"task.path={table}", "task.target=a", "plots.draw=false", *TRAIN)
    path = finished.directory / FORECAST
    arrays = RunReader(finished.directory).forecast()
    np.savez(path, **{**arrays, "lower": arrays["lower"][:-1]})
    with pytest.raises(DataError, match=r"forecast\.npz: lower is"):
        plots.draw(finished.directory)
    assert (finished.directory / "loss.png").exists()
    summary = json.loads((finished.directory / "summary.json").read_text(encoding="utf-8"))
    summary["forecast"]["by_step"] = {"gru": {"rmse": "much"}}
    (finished.directory / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    with pytest.raises(DataError, match=r"forecast\.by_step\.gru"):
        plots.draw(finished.directory)


def test_baselines_of_a_chunk_are_outputs_of_a_network(table: Path) -> None:
    task = make_csv(table, target=["a", "b"], horizon=3)
    (batch,) = task.test()
    chunk = batch.read(0, batch.timesteps)
    for predictor in task.baselines().values():
        outputs = predictor(chunk)
        assert outputs.shape == (batch.timesteps, 1, 6)
        assert outputs.dtype == chunk.targets.dtype
        assert torch.isfinite(outputs[chunk.valid]).all()


@pytest.mark.parametrize("space", [{}, {"log": True}, {"difference": True}], ids=str)
@pytest.mark.parametrize("shops", [1, 2])
def test_recursive_forecasts_are_judged_by_all_their_steps(tmp_path: Path, shops: int, space: dict[str, Any]) -> None:
    """What is evaluated is what the command of predictions makes of the same file, with values missing too."""
    missing = {100, 250, 251}
    rows = (
        f"{day},s{shop},{'' if n in missing else f'{values[0]:.6f}'},{n % 5}"
        for shop in range(shops)
        for n, (day, values) in enumerate(zip(days(300), series(seed=shop), strict=True))
    )
    path = write_csv(tmp_path / "a.csv", "date,shop,a,plan", rows)
    group = "shop" if shops > 1 else None
    settings = {"target": "a", "inputs": [], "known": "plan", "group": group, "mode": "recursive", "horizon": 4}
    task = make_csv(path, warmup=1000, **settings, **space)
    network = make_network("gru", task.input_size, task.output_size).eval()
    validation, test = (evaluation.predict(network, part(), CPU64) for part in (task.validation, task.test))
    assert test.inputs.shape[2] == task.input_size  # what the network reads, for exports
    forecast, actual = table_forecasts.in_units(test)
    data = read_tables(task.preprocessing, [path])
    for number, (sequence, encoded) in enumerate(zip(data.sequences, data.encoded, strict=True)):
        made = predict_sequence(network, sequence, encoded, 4, CPU64)
        valid = test.valid[:, number]
        rows = valid.nonzero()[0]
        assert rows.tolist() == list(range(239, 296))  # 240 is the first value of the test
        np.testing.assert_allclose(forecast[valid, number], made.predicted[rows], rtol=1e-4)
        np.testing.assert_allclose(actual[valid, number], made.actual[rows], rtol=1e-6)
        assert np.isnan(actual[valid, number]).sum() == 8
    report = task.report(
        *({"gru": one, **dict(evaluation.predict_baselines(one, task))} for one in (validation, test))
    )
    assert report is not None
    assert list(report.scores) == ["gru", LINEAR, "persistence", "seasonal naive (7)", *list(report.scores)[4:]]
    assert len(report.summary["by_step"]["gru"]["coverage_90"]) == 4
    ends = report.intervals.with_confidence(0.9)
    assert ends is not None
    assert np.shape(ends.lower) == (4, 1)
    assert np.isfinite(evaluation.score(test, task, loss_of(task.loss, task.missing_targets))["loss"])
    assert np.isfinite(list(report.scores[LINEAR].values())).all()


def test_of_very_long_parts_the_latest_recursive_forecasts_are_judged(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqrnn.tables.opening.MOST_JUDGED", 10)
    task = make_csv(table, target="b", inputs=[], mode="recursive", horizon=3)
    network = make_network("elman", task.input_size, task.output_size)
    predictions = evaluation.predict(network, task.test(), CPU64)
    valid = predictions.valid[:, 0].nonzero()[0]
    assert len(valid) == 10
    assert (predictions.batches[0].times[valid, 0] == days(300)[-13:-3]).all()
    assert any("the latest 10" in note for note in task.notes)
