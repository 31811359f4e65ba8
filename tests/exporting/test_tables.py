"""The export of a run of task=csv reads and returns the units of the table: checked against the table itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import task_settings

import seqrnn
from seqrnn import registry
from seqrnn.errors import DataError
from seqrnn.exporting import session
from seqrnn.exporting.interface import Interface
from seqrnn.exporting.tables import interface_of
from seqrnn.tables.preprocessing import Preprocessing

ROWS = 400
HOUR = np.timedelta64(1, "h")


def table() -> pd.DataFrame:
    """Hourly rows: a target and a past covariate with missing values, a category, and a column that is known."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"when": pd.date_range("2020-01-01", periods=ROWS, freq="h")})
    frame["y"] = np.exp(np.sin(np.arange(ROWS) / 4) + 0.1 * rng.standard_normal(ROWS))
    frame["wind"] = rng.choice(["N", "S", "cv"], ROWS)
    frame["temp"] = 1e6 + rng.standard_normal(ROWS)  # float32 would lose its digits
    frame["open"] = rng.integers(0, 2, ROWS)
    frame.loc[[7, 8, 90, 395], "y"] = np.nan
    frame.loc[[3, 91], "temp"] = np.nan
    return frame


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    table().to_csv(path, index=False)
    return path


def by_hand(interface: Interface, **settings: Any) -> torch.Tensor:
    """Returns what the interface asks for, made from the table by the names of its columns alone."""
    frame = table()
    filled = frame.ffill()
    columns = []
    for column in interface.inputs:
        name, _, ahead = column.name.partition(" (t+")
        rows = np.minimum(np.arange(ROWS) + int(ahead[:-1] or 0) if ahead else np.arange(ROWS), ROWS - 1)
        if name == "y":
            values = filled["y"].to_numpy()
            if settings.get("difference"):
                before = np.concatenate([values[:1], values[:-1]])
                values = values / before if settings.get("log") else values - before
        elif name.endswith(" is missing"):
            values = frame[name.removesuffix(" is missing")].isna().to_numpy(float)
        elif name.startswith("wind="):
            values = (frame["wind"] == name.removeprefix("wind=")).to_numpy(float)
        elif " of the " in name:
            later = HOUR if settings["kind"] == "forecast" else np.timedelta64(0, "h")
            days = (frame["when"].to_numpy() + later - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
            wave, cycle = name.split(" of the ")
            function = np.sin if wave == "sine" else np.cos
            values = function(2 * np.pi * days / {"day": 1, "week": 7}[cycle])
        else:
            values = filled[name].to_numpy(float)
        columns.append(values[rows])
    return torch.tensor(np.stack(columns, axis=-1))[:, None]


SETTINGS: dict[str, dict[str, Any]] = {
    "direct": {"kind": "forecast", "horizon": 3, "known": ["open"]},
    "recursive": {
        "kind": "forecast",
        "horizon": 3,
        "mode": "recursive",
        "inputs": ["open"],
        "known": ["open"],
    },
    "log": {"kind": "forecast", "log": True},
    "difference": {"kind": "forecast", "difference": True, "horizon": 2},
    "log and difference": {"kind": "forecast", "log": True, "difference": True},
    "regression": {"kind": "regression", "log": True},
    "several targets": {"kind": "forecast", "target": ["y", "temp"], "horizon": 2},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_conversion_of_units_is_that_of_the_run(name: str, path: Path) -> None:
    settings = {"target": "y", **SETTINGS[name]}
    task = registry.build("task", task_settings("csv", **{"synthetic": False, "path": str(path), **settings}), 0)
    own: Preprocessing = task.preprocessing
    interface = interface_of(own, torch.float32, "")
    assert [column.name for column in interface.inputs] == own.input_names
    given = by_hand(interface, **settings)
    found = interface.units.inputs(given)
    expected = torch.from_numpy(task.data.inputs(np.arange(ROWS)))[:, None]
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    in_double = interface_of(own, torch.float64, "").units.inputs(given)
    assert torch.equal(in_double, found.double())  # a run reads a table as float32, whatever its precision is
    assert torch.allclose(interface.units.inputs(interface.given(expected)), expected, rtol=0, atol=1e-6)

    outputs = torch.randn(ROWS, 1, own.output_size)
    levels = task.data.origins(np.arange(ROWS))[:, None]
    units = interface.units.outputs(outputs).numpy()
    assert len(interface.outputs) == own.output_size
    assert np.allclose(units, interface.expected(outputs).numpy(), rtol=1e-12, atol=0)
    if own.difference:
        repeated = np.tile(levels, own.steps_ahead)
        units = units * repeated if own.log else units + repeated
    steps = own.to_units(outputs.numpy(), levels)
    assert np.allclose(units.reshape(steps.shape), steps, rtol=1e-12, atol=1e-12)


def export_of(tmp_path: Path, *overrides: str) -> tuple[Any, Path]:
    directory = tmp_path / "run"
    line = ["task=csv", *overrides, "device=cpu", "threads=1", "plots.draw=false", "schedule.max_updates=2"]
    seqrnn.run([*line, f"hydra.run.dir={directory}"], quiet=True)
    session.export(directory, "torch")
    return torch.export.load(directory / "model.pt2").module(), directory


def test_an_export_forecasts_from_rows_of_the_table(path: Path, tmp_path: Path) -> None:
    program, directory = export_of(
        tmp_path, f"task.path={path}", "task.target=y", "task.horizon=3", "task.known=[open]", "model=gru"
    )
    metadata = {"seqrnn": ""}
    torch.export.load(directory / "model.pt2", extra_files=metadata)
    found = json.loads(metadata["seqrnn"])
    own = Preprocessing.model_validate_json((directory / "preprocessing.json").read_text())
    interface = interface_of(own, torch.float32, "")
    given = by_hand(interface, kind="forecast")
    recorded = np.load(directory / "predictions.npz")
    differences = interface.units.inputs(given) - torch.from_numpy(recorded["inputs"][0])
    begins = (differences.abs() < 1e-6).all(dim=-1)
    first = int(begins.flatten().nonzero()[0])
    given = given[first : first + len(recorded["inputs"])]
    outputs, _ = program(given, torch.zeros(1, 1, found["state"][0]["units"]))
    origins = np.zeros((*outputs.shape[:2], 1))
    expected = own.to_units(recorded["outputs"], origins)[..., 0]
    assert np.abs(outputs.numpy() - expected).max() < 1e-5
    assert [column["name"] for column in found["outputs"]] == ["y (t+1)", "y (t+2)", "y (t+3)"]
    assert found["intervals"]["targets"] == ["y"]
    assert [one["confidence"] for one in found["intervals"]["intervals"]] == [0.5, 0.8, 0.9, 0.95]
    summary = json.loads((directory / "data.json").read_text())
    card = (directory / "model_card.md").read_text()
    assert summary["sha256"] in card
    assert "400 rows in 1 sequence, from table.csv" in card
    assert "1 where wind is cv, else 0" in card
    assert "| 0.9 |" in card


@pytest.mark.long
def test_an_export_forecasts_recursively_with_what_is_known_in_advance(path: Path, tmp_path: Path) -> None:
    program, directory = export_of(
        tmp_path, f"task.path={path}", "task.target=y", "task.horizon=3", "task.mode=recursive", "task.inputs=[open]",
        "task.known=[open]", "task.difference=false", "model=gru",
    )  # fmt: skip
    own = Preprocessing.model_validate_json((directory / "preprocessing.json").read_text())
    assert own.is_recursive
    interface = interface_of(own, torch.float32, "")
    given = by_hand(interface, kind="forecast")
    recorded = np.load(directory / "predictions.npz")
    differences = interface.units.inputs(given) - torch.from_numpy(recorded["inputs"][0])
    first = int((differences.abs() < 1e-6).all(dim=-1).flatten().nonzero()[0])
    made = own.evaluated.to_units(recorded["outputs"], np.zeros((*recorded["outputs"].shape[:2], 1)))[:, 0, :, 0]
    origins = np.flatnonzero(recorded["valid"][:, 0])
    assert len(origins) > 10
    for origin in origins[[0, 5, -1]]:
        begin, end = first, first + int(origin) + 1
        state = torch.zeros(1, 1, 50)
        forecast = []
        rows = given[begin:end]
        for _ in range(3):
            outputs, state = program(rows, state)
            forecast.append(outputs[-1, 0, 0].item())
            rows = given[end : end + 1].clone()  # what is known of the next timestep, and y as it was predicted
            rows[..., own.input_names.index("y")] = forecast[-1]
            rows[..., own.input_names.index("y is missing")] = 0.0
            end += 1
        np.testing.assert_allclose(forecast, made[origin], rtol=1e-5)


def test_inputs_can_be_computed_from_what_the_card_says(tmp_path: Path) -> None:
    months = pd.date_range("2006-02-01", periods=120, freq="MS")
    frame = pd.DataFrame({"month": months, "sale": [n % 3 for n in range(120)], "y": [n % 7 for n in range(120)]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    values = task_settings("csv", path=str(tmp_path / "a.csv"), known="sale", target="y", difference=False)
    task = registry.build("task", values, 0)
    interface = interface_of(task.preprocessing, torch.float64, "")
    assert interface.purpose == "forecasts"
    meanings = {column.name: column.meaning for column in interface.inputs}
    assert meanings["sale (t+1)"].endswith("; beyond the last row, as there")
    text = meanings["sine of the year"]
    assert "seconds since 1970-01-01 00:00 by the clock, of timestep t plus one step (" in text
    year = float(text.split("time / ")[1].split(";")[0])
    step = float(text.split("one step (")[1].split(" s")[0])
    seconds = (months.to_numpy() - np.datetime64("1970-01-01")) / np.timedelta64(1, "s")
    (batch,) = task.train(0, 1)
    inputs = batch.read(0, batch.timesteps).inputs[:, 0, list(meanings).index("sine of the year")]
    expected = np.sin(2 * np.pi * (seconds + step) / year)[: len(inputs)]
    np.testing.assert_allclose(inputs, expected, atol=1e-5)


@pytest.mark.long
def test_an_export_classifies_recordings(tmp_path: Path) -> None:
    program, directory = export_of(tmp_path, "task.kind=classification", "task.synthetic=true", "model=lstm")
    own = Preprocessing.model_validate_json((directory / "preprocessing.json").read_text())
    recorded = np.load(directory / "predictions.npz")
    inputs = interface_of(own, torch.float32, "").given(torch.from_numpy(recorded["example_inputs"][:, :4]))
    units = json.loads((directory / "config.yaml").read_text().partition("hidden_size: ")[2].partition("\n")[0])
    outputs, *_ = program(inputs, *[torch.zeros(1, 4, units)] * 2)
    ends = [
        np.abs(outputs[:, sequence].numpy() - recorded["outputs"][recorded["examples"][sequence]]).max(axis=1).min()
        for sequence in range(4)
    ]
    assert max(ends) < 1e-5  # at the last timestep of each
    for label in own.classes:
        assert f"| {label} | unnormalised log-probability" in (directory / "model_card.md").read_text()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"calendar": []}, "describes"),
        ({"horizon": 100_000}, "output_mean"),
        ({"output_mean": [[1.0, 2.0]]}, "output_mean"),
        ({"output_scale": [[0.0]]}, "output_scale"),
        ({"version": 2}, "version"),
    ],
    ids=str,
)
def test_a_damaged_preprocessing_is_an_error(
    change: dict[str, Any], expected: str, path: Path, tmp_path: Path
) -> None:
    line = ["task=csv", f"task.path={path}", "task.target=y", "model=elman", "schedule.max_updates=1"]
    directory = tmp_path / "run"
    seqrnn.run([*line, "plots.draw=false", "device=cpu", f"hydra.run.dir={directory}"], quiet=True)
    document = directory / "preprocessing.json"
    document.write_text(json.dumps({**json.loads(document.read_text()), **change}))
    with pytest.raises(DataError, match=expected):
        session.export(directory, "torch")
    assert not (directory / "model.pt2").exists()
