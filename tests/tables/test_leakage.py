"""Nothing of the future reaches the past: not through scales, filled values, averages, windows or categories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CPU64, make_network
from tables import days, everything, make_csv, write_csv

from seqrnn.prediction.table_data import read_tables
from seqrnn.prediction.table_predictions import predict_sequence
from seqrnn.tables import encoding
from seqrnn.tasks.csv import Csv

ROWS, TRAINED_ON = 200, 140  # of them, with 0.1 for validation and 0.2 for the test


def series(path: Path, after: int, seed: int, *, new_categories: bool = False) -> Path:
    """Writes a target, a covariate that is the target of the next day, a category, and what is known in advance.
    Values from row ``after`` on depend on the seed; those before do not."""
    first, later = np.random.default_rng(99), np.random.default_rng(seed)
    values = np.concatenate([first.standard_normal(after), later.standard_normal(ROWS - after) * 7 + 3])
    winds = np.concatenate([first.integers(0, 3, after), later.integers(0, 5 if new_categories else 3, ROWS - after)])
    plans = np.concatenate([first.standard_normal(after), later.standard_normal(ROWS - after)])
    missing = set(range(60, 66)) | set(range(TRAINED_ON - 3, TRAINED_ON + 4)) | {180}
    rows = []
    for n, day in enumerate(days(ROWS)):
        shifted = values[n + 1] if n + 1 < after else values[n]  # of the future, as far as it is the same
        cells = ["" if n in missing else f"{values[n]:.6f}", "" if n in missing else f"{shifted:.6f}"]
        rows.append(f"{day},{cells[0]},{cells[1]},w{winds[n]},{plans[n]:.6f}")
    return write_csv(path, "date,y,x,wind,plan", rows)


SETTINGS: list[dict[str, Any]] = [
    {"missing": "mask"},
    {"missing": "interpolate"},
    {"missing": "drop"},
    {"horizon": 4},
    {"difference": True},
    {"known": ["plan"], "horizon": 3},
    {"kind": "regression"},
]


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_what_is_fitted_and_trained_on_does_not_depend_on_validation_and_test_rows(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    one, other = (
        make_csv(
            series(tmp_path / f"{seed}.csv", TRAINED_ON, seed, new_categories=True),
            target="y",
            unknown_categories="ignore",
            **changes,
        )
        for seed in (1, 2)
    )
    assert one.preprocessing == other.preprocessing
    reads_ahead = 3 if "known" in changes else 0  # what is known in advance may lie behind the border
    inputs, targets, valid, starts = everything(one)
    more_inputs, more_targets, more_valid, more_starts = everything(other)
    assert valid.equal(more_valid)
    assert starts.equal(more_starts)
    end = len(inputs) - reads_ahead
    assert inputs[:end].equal(more_inputs[:end])
    np.testing.assert_array_equal(targets[valid], more_targets[valid])


@pytest.mark.first(10)
@pytest.mark.parametrize("changes", SETTINGS, ids=str)
@pytest.mark.parametrize("after", [63, 70, 160, 182])
def test_the_inputs_of_a_prediction_do_not_depend_on_later_rows(
    tmp_path: Path, changes: dict[str, Any], after: int
) -> None:
    """With what is fitted held fixed, two files that differ from a row on have the same inputs before it, wherever a
    prediction counts."""
    one, other = (make_csv(series(tmp_path / f"{seed}.csv", after, seed), target="y", **changes) for seed in (1, 2))
    sequences = [
        encoding.encode(one.preprocessing, read_tables(one.preprocessing, [Path(task.settings.path)]).sequences[0])
        for task in (one, other)
    ]
    ahead = one.settings.horizon if one.preprocessing.ahead else 0
    first, second = (each.inputs() for each in sequences)
    kept = [np.arange(len(each)) if each.kept is None else each.kept for each in sequences]
    before = int((kept[0] < after - ahead).sum())
    assert before == int((kept[1] < after - ahead).sum())
    usable = sequences[0].usable[:before] & sequences[1].usable[:before]
    assert usable.mean() > 0.8
    np.testing.assert_array_equal(first[:before][usable], second[:before][usable])
    np.testing.assert_array_equal(sequences[0].levels[:before][usable], sequences[1].levels[:before][usable])


def test_a_leak_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A straight line over the border, drawn as if the parts were one, changes what is trained on."""
    monkeypatch.setattr("seqrnn.tables.encoding._by_region", lambda values, regions: encoding._interpolated(values))
    one, other = (
        make_csv(series(tmp_path / f"{seed}.csv", TRAINED_ON, seed), target="y", missing="interpolate")
        for seed in (1, 2)
    )
    assert not everything(one)[0].equal(everything(other)[0])


def test_averages_of_a_step_hold_rows_of_that_step_alone(tmp_path: Path) -> None:
    def hourly(path: Path, seed: int) -> Path:
        first, later = np.random.default_rng(0).random(24 * 70), np.random.default_rng(seed).random(24 * 30)
        values = np.concatenate([first, later])
        times = np.datetime64("2020-01-01T00") + np.arange(len(values))
        return write_csv(path, "time,y", (f"{time},{value:.6f}" for time, value in zip(times, values, strict=True)))

    one, other = (make_csv(hourly(tmp_path / f"{seed}.csv", seed), resample="1D") for seed in (1, 2))
    assert len(one.data.here) == 100
    assert one.preprocessing == other.preprocessing
    inputs, targets, valid, _ = everything(one)
    assert inputs.equal(everything(other)[0])
    assert targets[valid].equal(everything(other)[1][valid])


def test_training_ends_a_horizon_before_the_validation_and_the_validation_before_the_test(tmp_path: Path) -> None:
    rows = (f"{day},{n}" for n, day in enumerate(days(200)))
    task = make_csv(write_csv(tmp_path / "a.csv", "date,y", rows), horizon=5, warmup=0, difference=False)
    predicted = {}
    for name, batches in (("train", task.train(0, 1)), ("validation", task.validation()), ("test", task.test())):
        (batch,) = batches
        valid = batch.read(0, batch.timesteps).valid[:, 0].numpy()
        if name == "train":
            rows_read = np.flatnonzero(valid)  # the value in each row is its number
        else:
            rows_read = np.round(batch.actual[valid, 0, 0, 0]).astype(int) - 1
        predicted[name] = (rows_read.min() + 1, rows_read.max() + 5)
    assert predicted == {"train": (1, 139), "validation": (140, 159), "test": (160, 199)}


def planted(path: Path, after: int, seed: int, *, shops: int, hourly: bool, holes: float) -> Path:
    """Writes series in which everything from timestep ``after`` on depends on the seed, values that are missing too,
    and nothing before. ``next`` is the target of the timestep that follows, as far as that is the same; ``plan`` is
    known in advance, and the same throughout."""
    rows = []
    for shop in range(shops):
        first, later = (np.random.default_rng([number, shop]) for number in (99, seed))
        y = np.exp(np.concatenate([first.standard_normal(after), 3 + 2 * later.standard_normal(ROWS - after)]))
        shifted = np.where(np.arange(ROWS) + 1 < after, np.roll(y, -1), y)
        wind = np.concatenate([first.integers(0, 3, after), later.integers(0, 6, ROWS - after)])
        absent = np.concatenate([first.random(after), later.random(ROWS - after)]) < holes
        plan = np.random.default_rng([1, shop]).standard_normal(ROWS)
        for n, day in enumerate(days(ROWS)):
            cells = ("", "") if absent[n] else (f"{y[n]:.6f}", f"{shifted[n]:.6f}")
            for time in (f"{day}T00", f"{day}T12") if hourly else (day,):
                rows.append(f"{time},s{shop},{cells[0]},{cells[1]},w{wind[n]},{plan[n]:.6f}")
    return write_csv(path, "date,shop,y,next,wind,plan", rows)


@pytest.mark.first(3)
@pytest.mark.parametrize("seed", range(60))
def test_a_column_of_the_future_tells_nothing_whatever_the_settings_are(tmp_path: Path, seed: int) -> None:
    """Of two files that differ from a timestep on, the same is fitted where training ends there, and the same is
    predicted from every timestep before it."""
    rng = np.random.default_rng(seed)
    shops, horizon = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    recursive, hourly = bool(rng.integers(2)), bool(rng.integers(2))
    settings = {
        "target": "y",
        "mode": "recursive" if recursive else "direct",
        "inputs": [] if recursive else ["next", "wind"],
        "known": ["plan"] if rng.integers(2) else [],
        "group": "shop",
        "horizon": horizon,
        "resample": "1D" if hourly else None,
        "difference": bool(rng.integers(2)),
        "log": bool(rng.integers(2)),
        "missing": rng.choice(["mask", "interpolate", "drop"]),
        "split": rng.choice(["time", "date"]),
        "unknown_categories": "ignore",
    }
    written = {"shops": shops, "hourly": hourly, "holes": rng.choice([0.0, 0.1])}

    def files(after: int) -> tuple[Csv, Csv]:
        one, other = (
            make_csv(planted(tmp_path / f"{after}-{number}.csv", after, number, **written), **settings)
            for number in (1, 2)
        )
        return one, other

    one, other = files(TRAINED_ON)
    assert one.preprocessing == other.preprocessing
    for mine, others in zip(everything(one), everything(other), strict=True):
        valid = everything(one)[2]
        assert mine[valid].shape == others[valid].shape
        np.testing.assert_array_equal(mine[valid], others[valid])

    after = int(rng.integers(60, 190))
    network = make_network("gru", one.input_size, one.output_size).eval()
    made = []
    for task in files(after):
        data = read_tables(one.preprocessing, [Path(task.settings.path or "")])
        made.append(
            [
                predict_sequence(network, sequence, encoded, horizon, CPU64)
                for sequence, encoded in zip(data.sequences, data.encoded, strict=True)
            ]
        )
    for mine, others in zip(*made, strict=True):
        before = [each.predicted[each.positions[:, 0] <= after] for each in (mine, others)]
        np.testing.assert_array_equal(*before)
        assert np.isfinite(before[0]).all(axis=(1, 2)).sum() > 0.6 * after
        assert not np.array_equal(mine.predicted[-10:], others.predicted[-10:])


def test_what_is_known_in_advance_is_read_at_its_own_timesteps_before_rows_that_are_left_out(tmp_path: Path) -> None:
    def file(name: str, missing: set[int]) -> Path:
        values = [f"{day},{'' if n in missing else n % 7},{n}" for n, day in enumerate(days(ROWS))]
        return write_csv(tmp_path / name, "date,y,plan", values)

    task = make_csv(file("a.csv", {20}), target="y", known=["plan"], horizon=2, missing="drop", difference=False)
    plans = [name for name in task.preprocessing.input_names if name.startswith("plan")]
    assert plans == ["plan (t+1)", "plan (t+2)"]
    for missing in ({100}, {100, 101, 102}):
        (encoded,) = read_tables(task.preprocessing, [file("b.csv", missing)]).encoded
        (feature,) = task.preprocessing.ahead
        read = encoded.inputs()[:, 1:3] * feature.scale + feature.mean
        np.testing.assert_allclose(read[98:100], [[99, 100], [100, 101]], rtol=1e-5)  # of the days 98 and 99


def test_nothing_is_predicted_where_an_input_is_drawn_from_a_later_value(tmp_path: Path) -> None:
    rows = [f"{day},{'' if n in (0, 90, 91, 198, 199) else n % 7}" for n, day in enumerate(days(ROWS))]
    task = make_csv(write_csv(tmp_path / "a.csv", "date,y", rows), missing="interpolate", difference=False)
    data = read_tables(task.preprocessing, [tmp_path / "a.csv"])
    network = make_network("gru", task.input_size, task.output_size).eval()
    made = predict_sequence(network, data.sequences[0], data.encoded[0], 1, CPU64)
    assert np.flatnonzero(np.isnan(made.predicted)).tolist() == [90, 91]
