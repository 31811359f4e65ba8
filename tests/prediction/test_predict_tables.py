"""``python -m seqrnn.predict RUN_DIR --data FILE`` for runs of task=csv: predictions in the units of new tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from numpy.typing import NDArray
from predicting import Command, MakeRun
from sales_tables import COMMON, recordings, table

from seqrnn.errors import DataError
from seqrnn.forecasting.intervals import Interval, Intervals, as_lists
from seqrnn.prediction import table_data, trained
from seqrnn.results import Run
from seqrnn.tables.opening import open_dataset

PREDICTED = ["sales_predicted", "sales_lower_90", "sales_upper_90"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables")
    table().to_csv(path / "sales.csv", index=False)
    table(80, seed=1).to_csv(path / "new.csv", index=False)
    recordings().to_csv(path / "recordings.csv", index=False)
    return path


@pytest.fixture
def forecast(trained: MakeRun, folder: Path) -> Run:
    return trained(
        *COMMON, f"task.path={folder / 'sales.csv'}", "task.target=sales", "task.horizon=3", "task.known=[promotion]"
    )


@pytest.fixture
def recursive(trained: MakeRun, folder: Path) -> Run:
    return trained(
        *COMMON, f"task.path={folder / 'sales.csv'}", "task.target=sales", "task.horizon=2", "task.mode=recursive",
        "task.known=[promotion,weather]",
    )  # fmt: skip


@pytest.fixture
def regression(trained: MakeRun, folder: Path) -> Run:
    return trained(*COMMON, f"task.path={folder / 'sales.csv'}", "task.target=sales", "task.kind=regression")


@pytest.fixture
def classification(trained: MakeRun, folder: Path) -> Run:
    return trained(
        *COMMON, f"task.path={folder / 'recordings.csv'}", "task.kind=classification", "task.target=kind",
        "task.group=id",
    )  # fmt: skip


def predicted(command: Command, run: Run, *arguments: object, name: str = "p.csv") -> pandas.DataFrame:
    result = command(run.directory, "--data", *arguments, "--out", name)
    assert (result.code, result.err) == (0, ""), result.err
    return pandas.read_parquet(name) if name.endswith("parquet") else pandas.read_csv(name)


def reference(run: Run) -> tuple[Any, NDArray[Any], NDArray[Any]]:
    """The preprocessing, and the predictions and the actual values, (T, H, K), of all rows that the run was trained
    and tested on, by way of the task's own data."""
    task = trained_module(run).task
    data = open_dataset(task.settings, task.seed)
    rows = np.arange(len(data.here))
    network = run.network()
    with torch.inference_mode():
        outputs, _ = network(torch.from_numpy(data.inputs(rows))[:, None], network.initial_state(1))
    values = data.preprocessing.to_units(outputs.numpy(), data.origins(rows)[:, None])[:, 0]
    return data.preprocessing, values, data.actual(rows)


def trained_module(run: Run) -> Any:
    return trained.load(run.directory)


def test_a_forecast_is_that_of_the_network_in_the_units_of_the_table(
    forecast: Run, command: Command, folder: Path
) -> None:
    frame = predicted(command, forecast, folder / "sales.csv")
    _, expected, actual = reference(forecast)
    assert list(frame.columns) == ["origin", "step", "day", "sales", *PREDICTED]
    assert len(frame) == 3 * 120
    np.testing.assert_allclose(frame["sales_predicted"], expected.ravel(), rtol=1e-5)
    np.testing.assert_allclose(frame["sales"], actual.ravel(), rtol=1e-9)
    days = pandas.to_datetime(frame["origin"]) + pandas.to_timedelta(frame["step"], unit="D")
    assert (pandas.to_datetime(frame["day"]) == days).all()
    assert list(frame["day"][-3:]) == ["2024-04-30", "2024-05-01", "2024-05-02"]
    assert frame["sales"][-3:].isna().all()


def test_fewer_steps_are_the_first_of_those_and_more_are_refused(
    forecast: Run, regression: Run, command: Command, folder: Path
) -> None:
    new = folder / "new.csv"
    three = predicted(command, forecast, new)
    one = predicted(command, forecast, new, "--horizon", 1)
    assert list(one.columns) == ["day", "sales", *PREDICTED]
    np.testing.assert_allclose(one["sales_predicted"], three["sales_predicted"][::3])
    command(forecast.directory, "--data", new, "--horizon", 4).refused("was trained to predict 3 steps directly")
    command(regression.directory, "--data", new, "--horizon", 1).refused("--horizon 1: a regression has none")


def test_new_data_is_named_and_compared_with_the_baselines_of_the_run(
    forecast: Run, recursive: Run, command: Command, folder: Path
) -> None:
    own = list(forecast.summary["baselines"])
    out = command(forecast.directory, "--data", folder / "new.csv").out
    rows = [line for line in out.splitlines() if line.startswith(("new data", "gru", *own))]
    assert [line.split("  ")[0] for line in rows] == ["new data", "gru", *own]
    assert "the run was trained on" not in out
    words = " ".join(command(forecast.directory, "--data", folder / "sales.csv").out.split())
    assert "the run was trained on" in words
    out = command(recursive.directory, "--data", folder / "new.csv", "--horizon", 3).out
    assert "persistence" in out
    table(10, seed=1).to_csv("short.csv", index=False)
    words = " ".join(command(forecast.directory, "--data", "short.csv").out.split())
    assert "4 rows set the state before what is judged (the run takes up to 8)" in words


def test_the_latest_forecasts_are_the_future_of_each_sequence(
    forecast: Run, regression: Run, command: Command, folder: Path
) -> None:
    paths = (folder / "sales.csv", folder / "new.csv")
    every = predicted(command, forecast, *paths)
    latest = predicted(command, forecast, *paths, "--latest")
    assert list(latest.columns) == ["sequence", "origin", "step", "day", *PREDICTED]
    assert list(latest["origin"]) == ["2024-04-29"] * 3 + ["2024-03-20"] * 3
    last = every.groupby("sequence", sort=False).tail(3)
    assert last["sales_predicted"].to_list() == latest["sales_predicted"].to_list()
    command(forecast.directory, "--data", folder / "new.csv", "--latest").refused("name the file with --out FILE")
    command(regression.directory, "--data", folder / "new.csv", "--latest", "--out", "p.csv").refused(
        "--latest: a regression predicts no future"
    )


def test_rows_that_are_only_known_in_advance_are_the_future(forecast: Run, command: Command) -> None:
    frame = table(40, seed=2)
    frame.loc[37:, ["weather", "sales"]] = None
    frame.to_csv("future.csv", index=False)
    every = predicted(command, forecast, "future.csv")
    note = "promotion stays as it is there"
    result = command(forecast.directory, "--data", "future.csv", "--latest", "--out", "week.csv")
    latest = pandas.read_csv("week.csv")
    assert list(latest["origin"]) == ["2024-02-06"] * 3
    assert list(latest["day"]) == ["2024-02-07", "2024-02-08", "2024-02-09"]
    expected = every[every["origin"] == "2024-02-06"]
    assert latest["sales_predicted"].to_list() == expected["sales_predicted"].to_list()
    assert note not in " ".join(result.out.split())
    frame[:39].to_csv("future.csv", index=False)  # one day short of the horizon
    assert note in " ".join(
        command(forecast.directory, "--data", "future.csv", "--latest", "--out", "week.csv").out.split()
    )


def test_the_future_of_each_series_is_forecast_from_its_own_last_day(
    trained: MakeRun, command: Command, tmp_path: Path
) -> None:
    frame = pandas.concat([table(60, seed).assign(shop=f"s{seed}") for seed in (1, 2)], ignore_index=True)
    frame.to_csv(tmp_path / "shops.csv", index=False)
    run = trained(
        *COMMON, f"task.path={tmp_path / 'shops.csv'}", "task.target=sales", "task.known=[promotion]",
        "task.group=shop", "task.horizon=2",
    )  # fmt: skip
    frame.loc[[57, 58, 59, 118, 119], ["weather", "sales"]] = None
    frame.to_csv("future.csv", index=False)
    every = predicted(command, run, "future.csv")
    latest = predicted(command, run, "future.csv", "--latest")
    origins = {"s1": "2024-02-26", "s2": "2024-02-27"}
    assert list(zip(latest["shop"], latest["origin"], strict=True)) == [
        (shop, origin) for shop, origin in origins.items() for _ in range(2)
    ]
    expected = pandas.concat([every[(every["shop"] == a) & (every["origin"] == b)] for a, b in origins.items()])
    assert latest["sales_predicted"].to_list() == expected["sales_predicted"].to_list()


def test_predictions_have_at_most_9_digits_and_the_values_of_the_table_all_of_theirs(
    trained: MakeRun, command: Command, tmp_path: Path
) -> None:
    seconds = 1_700_000_000.5 + np.arange(60)
    values = 1_234_567_890.125 + np.random.default_rng(0).standard_normal(60).round(3)
    pandas.DataFrame({"t": seconds, "y": values}).to_csv("long.csv", index=False)
    run = trained(*COMMON, f"task.path={tmp_path / 'long.csv'}", "task.target=y", "task.time=t")
    predicted(command, run, "long.csv")
    frame = pandas.read_csv("p.csv", dtype=str)
    assert frame["t"].astype(float).to_list() == [*seconds[1:], seconds[-1] + 1]
    assert frame["y"].astype(float).to_list()[:-1] == values[1:].tolist()
    for text in frame["y_predicted"]:
        mantissa = text.partition("e")[0].strip("-").replace(".", "")
        assert len(mantissa.strip("0")) <= 9


def test_a_recursive_forecast_is_as_if_each_predicted_row_were_appended(
    recursive: Run, command: Command, tmp_path: Path
) -> None:
    """Row by row: the predicted value is written into the table, and predicted from."""
    frame = table(40, seed=2)
    frame.loc[35:, "weather"] = frame["weather"][35]  # what is not known stays
    known = frame.iloc[:36].copy()
    known.to_csv("known.csv", index=False)
    steps = predicted(command, recursive, "known.csv", "--horizon", 4)
    last = steps[steps["origin"] == "2024-02-05"]
    for step in range(4):
        known.to_csv("grown.csv", index=False)
        value = predicted(command, recursive, "grown.csv", "--horizon", 1)["sales_predicted"].iloc[-1]
        assert last["sales_predicted"].iloc[step] == pytest.approx(value, rel=1e-5)
        row = frame.iloc[[36 + step]].copy()
        row["sales"], row["promotion"] = value, known["promotion"].iloc[-1]
        known = pandas.concat([known, row])
    assert len(steps) == 36 * 4
    assert steps["sales_lower_90"].notna().sum() == 36 * 2  # of the two steps for which the run was calibrated


@pytest.mark.parametrize("settings", [("task.difference=true",), ("task.log=true",)], ids=str)
def test_changes_and_logarithms_are_fed_back_and_turned_back(
    settings: tuple[str, ...], trained: MakeRun, command: Command, folder: Path
) -> None:
    run = trained(
        *COMMON, f"task.path={folder / 'sales.csv'}", "task.target=sales", "task.mode=recursive", "task.inputs=[]",
        "task.calendar=none", *settings,
    )  # fmt: skip
    _, expected, _ = reference(run)
    frame = predicted(command, run, folder / "sales.csv")
    np.testing.assert_allclose(frame["sales_predicted"], expected.ravel(), rtol=1e-5)
    known = table(30, seed=3)[["day", "sales"]]
    known.to_csv("known.csv", index=False)
    two = predicted(command, run, "known.csv", "--horizon", 2)["sales_predicted"]
    grown = pandas.DataFrame({"day": [pandas.Timestamp("2024-01-31")], "sales": [two.iloc[-2]]})
    pandas.concat([known, grown]).to_csv("grown.csv", index=False)
    one = predicted(command, run, "grown.csv", "--horizon", 1)["sales_predicted"]
    assert two.iloc[-1] == pytest.approx(one.iloc[-1], rel=1e-5)


def test_a_regression_needs_no_target_column_and_is_judged_where_there_is_one(
    regression: Run, command: Command, folder: Path
) -> None:
    frame = predicted(command, regression, folder / "sales.csv")
    _, expected, actual = reference(regression)
    np.testing.assert_allclose(frame["sales_predicted"], expected.ravel(), rtol=1e-5)
    np.testing.assert_allclose(frame["sales"], actual.ravel())
    assert list(frame["day"]) == [str(day.date()) for day in table()["day"]]
    table().drop(columns="sales").to_csv("without.csv", index=False)
    without = predicted(command, regression, "without.csv")
    assert list(without.columns) == ["day", *PREDICTED]
    np.testing.assert_allclose(without["sales_predicted"], frame["sales_predicted"], rtol=1e-6)
    result = command(regression.directory, "--data", folder / "sales.csv")
    error = (frame["sales"] - frame["sales_predicted"])[8:].abs().mean()  # without the warm-up
    row = next(line for line in result.out.splitlines() if line.startswith("gru"))
    assert f"{error:.4g}" in row
    assert "mae" not in command(regression.directory, "--data", "without.csv").out


def test_whole_recordings_are_classified(classification: Run, command: Command) -> None:
    new = recordings(seed=1, count=5)
    new.loc[new["id"] == "r03", "id"] = "=cmd"
    new.to_csv("new.csv", index=False)
    frame = predicted(command, classification, "new.csv")
    assert list(frame.columns) == ["id", "kind", "predicted", "probability_fast", "probability_slow"]
    assert list(frame["kind"]) == ["slow", "fast", "slow", "fast", "slow"]
    assert "'=cmd" in list(frame["id"])
    np.testing.assert_allclose(frame["probability_fast"] + frame["probability_slow"], 1, rtol=1e-6)
    assert list(frame["predicted"]) == ["fast" if p > 0.5 else "slow" for p in frame["probability_fast"]]
    preprocessing = trained.load(classification.directory).preprocessing()
    feature = preprocessing.features[0]
    values = new[new["id"] == "r00"]["x"].to_numpy()
    inputs = torch.from_numpy(((values - feature.mean) / feature.scale).astype(np.float32)).view(-1, 1, 1)
    network = classification.network()
    with torch.inference_mode():
        logits, _ = network(inputs, network.initial_state(1))
    share = logits[-1, 0].softmax(0)[preprocessing.classes.index("fast")]
    assert frame.set_index("id").loc["r00", "probability_fast"] == pytest.approx(float(share), rel=1e-4)
    out = command(classification.directory, "--data", "new.csv").out
    assert "accuracy" in out
    assert "constant (class frequencies)" in out
    new.drop(columns="kind").to_csv("unlabelled.csv", index=False)
    unlabelled = predicted(command, classification, "unlabelled.csv")
    assert "kind" not in unlabelled
    np.testing.assert_allclose(unlabelled["probability_fast"], frame["probability_fast"])
    new.loc[new["id"] == "r01", "kind"] = "other"
    new.to_csv("new.csv", index=False)
    command(classification.directory, "--data", "new.csv").refused(
        "new.csv, row 14, column kind: 'other' is a class that the run does not know (it knows fast, slow)"
    )


def test_parquet_holds_the_same_with_times(forecast: Run, command: Command, folder: Path) -> None:
    text = predicted(command, forecast, folder / "new.csv")
    table(80, seed=1).to_parquet("new.parquet")
    frame = predicted(command, forecast, "new.parquet", name="p.parquet")
    assert (frame["day"] == pandas.to_datetime(text["day"])).all()
    np.testing.assert_allclose(frame["sales_predicted"], text["sales_predicted"])
    assert command(forecast.directory, "--data", "new.parquet", "--out", "p.npz").code == 0
    with np.load("p.npz") as arrays:
        assert (arrays["day"] == frame["day"].to_numpy()).all()


def test_several_files_are_several_sequences(forecast: Run, command: Command, folder: Path) -> None:
    both = predicted(command, forecast, folder / "new.csv", folder / "sales.csv")
    one = predicted(command, forecast, folder / "sales.csv")
    assert set(both["sequence"]) == {"new", "sales"}
    of_one = both[both["sequence"] == "sales"]["sales_predicted"]
    np.testing.assert_allclose(of_one, one["sales_predicted"], rtol=1e-6)


def test_all_files_together_must_fit_into_memory(
    forecast: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessing = trained_module(forecast).preprocessing()
    monkeypatch.setattr("seqrnn.device.available_memory", lambda: 12_000)  # bytes; 200 rows of 4 numbers take 19,200
    paths = [folder / "new.csv", folder / "sales.csv"]
    assert [len(table_data.read_tables(preprocessing, [path]).sequences[0]) for path in paths] == [80, 120]
    with pytest.raises(DataError, match=r"^\S*sales.csv: about .* rows × 4 columns take .* of memory are available"):
        table_data.read_tables(preprocessing, paths)


def test_intervals_are_added_and_their_coverage_is_shown(
    forecast: Run, command: Command, folder: Path, tmp_path: Path
) -> None:
    ends = np.array([[3.0], [4.0], [np.nan]])
    lists = {"lower": as_lists(-ends), "upper": as_lists(2 * ends)}
    split = {f"split_{name}": values for name, values in lists.items()}
    interval = Interval(confidence=0.9, **lists, **split)
    intervals = Intervals(horizon=3, targets=["sales"], calibration=50, intervals=[interval])
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in forecast.directory.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / "intervals.json").write_text(intervals.model_dump_json())
    result = command(copy, "--data", folder / "new.csv", "--out", "p.csv")
    assert result.code == 0
    frame = pandas.read_csv("p.csv")
    assert list(frame.columns)[-2:] == ["sales_lower_90", "sales_upper_90"]
    for step in (1, 2, 3):
        rows = frame[frame["step"] == step]
        np.testing.assert_allclose(rows["sales_predicted"] - rows["sales_lower_90"], ends[step - 1, 0], rtol=1e-6)
        np.testing.assert_allclose(rows["sales_upper_90"] - rows["sales_predicted"], 2 * ends[step - 1, 0], rtol=1e-6)
    judged = frame[(frame["origin"] >= "2024-01-09") & frame["sales"].notna() & frame["sales_upper_90"].notna()]
    inside = judged["sales"].between(judged["sales_lower_90"], judged["sales_upper_90"])
    assert f"intervals of 90 % cover {100 * inside.mean():.1f} % of {len(judged)} true values" in result.out
    (copy / "intervals.json").write_text('{"horizon": 3}')
    command(copy, "--data", folder / "new.csv").refused("intervals.json: has no targets")


def test_a_prediction_that_knows_the_future_is_not_judged(trained: MakeRun, command: Command) -> None:
    """Between two values, interpolation draws a line: a network that reads it has seen the later value."""
    frame = table()
    frame.loc[[20, 21, 60], "sales"] = np.nan
    frame.to_csv("holes.csv", index=False)
    path = f"task.path={Path.cwd() / 'holes.csv'}"
    run = trained(*COMMON, path, "task.target=sales", "task.missing=interpolate")
    found = predicted(command, run, "holes.csv")
    judged = np.arange(8, 119)  # the origins after the warm-up whose next value is known
    judged = judged[~np.isin(judged, [20, 21, 60]) & found["sales"].notna().to_numpy()[8:119]]
    error = (found["sales"] - found["sales_predicted"])[judged].abs().mean()
    row = next(line for line in command(run.directory, "--data", "holes.csv").out.splitlines() if "gru  " in line)
    assert f"{error:.4g}" in row


def test_missing_values_are_treated_as_in_training(trained: MakeRun, command: Command) -> None:
    frame = table()
    frame.loc[[20, 21, 60], "sales"] = np.nan
    frame.to_csv("holes.csv", index=False)
    run = trained(*COMMON, f"task.path={Path.cwd() / 'holes.csv'}", "task.target=sales")
    _, expected, _ = reference(run)
    found = predicted(command, run, "holes.csv")
    np.testing.assert_allclose(found["sales_predicted"], expected.ravel(), rtol=1e-5)
    assert found["sales_predicted"].notna().all()


def test_gaps_are_filled_or_named(forecast: Run, command: Command) -> None:
    table(80, seed=1).drop(index=40).to_csv("one.csv", index=False)
    result = command(forecast.directory, "--data", "one.csv", "--out", "p.csv")
    assert "row 42: 2024-02-11 after 2024-02-09 (1 missing); they are filled" in " ".join(result.out.split())
    assert len(pandas.read_csv("p.csv")) == 3 * 80
    table(80, seed=1).drop(index=range(40, 50)).to_csv("many.csv", index=False)
    command(forecast.directory, "--data", "many.csv").refused(
        "many.csv: 10 timesteps are missing (one day each): row 42: 2024-02-20 after 2024-02-09 (10 missing); add"
    )


def test_every_wrong_table_is_named_with_its_row(forecast: Run, command: Command) -> None:
    def refused(frame: pandas.DataFrame, *words: str) -> None:
        frame.to_csv("bad.csv", index=False)
        command(forecast.directory, "--data", "bad.csv").refused("bad.csv", *words)

    good = table(30)
    refused(good.drop(columns="weather"), "row 1: no column 'weather', which the run reads")
    refused(good.rename(columns={"sales": "sale"}), "no column 'sales'", "did you mean sale?")
    refused(good.replace("rain", "hail"), "column weather: 'hail' is a category that was not in the training rows")
    wrong = good.astype({"sales": object})
    wrong.loc[4, "sales"] = "many"
    refused(wrong, "row 6, column sales: 'many' is not a number")
    refused(good.iloc[::-1], "row 3, column day: ", "times should ascend")
    refused(pandas.concat([good, good.tail(1)]), "row 32, column day: ", "comes twice")
    hourly = good.assign(day=pandas.date_range("2024-01-01", periods=30, freq="h"))
    refused(hourly, "row 3: ")
    days = good["day"].astype(str)
    days[7] = "yesterday"
    refused(good.assign(day=days), "row 9, column day: 'yesterday'")
    refused(good.head(0), "has a header and no row below it")
    command(forecast.directory, "--data", "nothing.csv").refused("nothing.csv: there is no such file")
    command(forecast.directory, "--data", ".").refused("is a directory")
    command(forecast.directory).refused("predicts from tables: name one with --data FILE")


def test_predictions_leave_the_run_as_it_was(forecast: Run, command: Command, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in forecast.directory.rglob("*")}
    predicted(command, forecast, folder / "new.csv")
    assert {path: path.stat().st_mtime_ns for path in forecast.directory.rglob("*")} == before


def test_a_preprocessing_of_another_run_is_refused(
    forecast: Run, regression: Run, command: Command, folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in forecast.directory.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / "preprocessing.json").write_bytes((regression.directory / "preprocessing.json").read_bytes())
    command(copy, "--data", folder / "new.csv").refused("preprocessing.json: describes", "is it from another run?")
    values = json.loads((forecast.directory / "preprocessing.json").read_text())
    (copy / "preprocessing.json").write_text(json.dumps({**values, "horizon": "3"}))
    command(copy, "--data", folder / "new.csv").refused("preprocessing.json: horizon should be")


@pytest.fixture(scope="session")
def internal_names(tmp_path_factory: pytest.TempPathFactory) -> pandas.DataFrame:
    """A table whose columns are named as those of predictions."""
    frames = []
    for shop in ("a", "b"):
        days = pandas.date_range("2024-01-01", periods=60)
        frames.append(pandas.DataFrame({"origin": days, "step": shop, "file": np.sin(np.arange(60)).round(3)}))
    return pandas.concat(frames, ignore_index=True)


def test_columns_named_as_those_of_predictions_are_all_there(
    internal_names: pandas.DataFrame, trained: MakeRun, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("names") / "names.csv"
    internal_names.to_csv(path, index=False)
    run = trained(*COMMON, f"task.path={path}", "task.group=step", "task.horizon=2")
    for out in ("p.csv", "p.npz"):
        assert command(run.directory, "--data", path, "--out", out).code == 0
    made = pandas.read_csv("p.csv")
    assert list(made)[:6] == ["step_", "origin", "step", "origin_", "file", "file_predicted"]
    assert set(made["step_"]) == {"a", "b"}
    distance = pandas.to_datetime(made["origin_"]) - pandas.to_datetime(made["origin"])
    assert (distance.dt.days == made["step"]).all()
    with np.load("p.npz") as arrays:
        assert list(arrays) == list(made)
        np.testing.assert_allclose(arrays["file"], made["file"])
    rows = "\n".join(internal_names.iloc[:3].astype(str).apply(lambda row: json.dumps(dict(row)), axis=1))
    answers = command(run.directory, "--stream", stdin=rows).answers
    assert [(one["timestep"], one["step"], one["origin"][0]) for one in answers] == [
        (n, "a", f"2024-01-{n + 2:02d}") for n in range(3)
    ]


def test_as_many_gaps_are_filled_as_in_training(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    whole = table(200)
    holes = whole.drop(index=range(5, 190, 4))
    holes.to_csv(tmp_path / "holes.csv", index=False)
    path = tmp_path / "holes.csv"
    run = trained(*COMMON, f"task.path={path}", "task.gaps=fill")
    result = command(run.directory, "--data", path, "--out", "p.csv")
    assert result.code == 0, result.err
    assert len(pandas.read_csv("p.csv")) == len(whole)


def test_times_of_a_zone_have_their_offset(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    days = pandas.date_range("2024-03-01", periods=60, tz="Europe/Berlin")
    texts = [one.isoformat() for one in days]
    path = tmp_path / "zone.csv"
    pandas.DataFrame({"time": texts, "y": np.sin(np.arange(60))}).to_csv(path, index=False)
    run = trained(*COMMON, f"task.path={path}", "task.timezone=Europe/Berlin")
    assert command(run.directory, "--data", path, "--out", "p.csv").code == 0
    expected = [str(one) for one in pandas.date_range("2024-03-02", periods=60, tz="Europe/Berlin")]
    assert list(pandas.read_csv("p.csv")["time"]) == expected
    assert command(run.directory, "--data", path, "--out", "p.npz").code == 0
    with np.load("p.npz") as arrays:
        assert list(arrays["time"]) == expected
    answers = command(run.directory, "--stream", stdin=path.read_text()).answers
    assert [one["time"] for one in answers] == expected
