"""The benchmarks: implementations train and learn, arithmetic and tables are right. Figures are not tested."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import cells, data, implementation, limit, measure, plots, report, seqrnn_implementation
from benchmarks.cells import Size
from benchmarks.plain import integral_accumulated, integral_forgetting, sincos_lstm, sine_online
from seqrnn.plugins import load_components
from seqrnn.training import fit

ROOT = Path(__file__).resolve().parent.parent
PLAIN = {
    "sine_online": (sine_online, 1.0),
    "sincos_lstm": (sincos_lstm, 1.0),
    "integral_accumulated": (integral_accumulated, 0.001),
    "integral_forgetting": (integral_forgetting, 0.001),
}


@pytest.mark.parametrize("experiment", PLAIN)
def test_plain_and_seqrnn_make_equally_many_updates_of_equal_size(experiment: str) -> None:
    load_components()
    module, share = PLAIN[experiment]
    options = implementation.Options(share=min(share, 0.05))
    plain, ours = module.train(options), seqrnn_implementation.train(experiment, None, options)
    assert (plain.updates, plain.timesteps) == (ours.updates, ours.timesteps)
    assert plain.updates == max(1, round(seqrnn_implementation.UPDATES[experiment] * options.share))
    assert plain.test.keys() == ours.test.keys()
    assert plain.seconds > 0
    assert ours.seconds > 0


@pytest.mark.parametrize(("experiment", "worst"), [("sine_online", 0.08), ("sincos_lstm", 0.12)])
def test_a_plain_script_learns_the_experiment(experiment: str, worst: float) -> None:
    assert PLAIN[experiment][0].train(implementation.Options()).test["mse"] < worst


@pytest.mark.parametrize(
    "experiment", ["sine_online", "sincos_lstm", "integral_accumulated", "integral_accumulated_folded"]
)
def test_jax_makes_the_same_updates(experiment: str) -> None:
    pytest.importorskip("jax", reason="needs the extra seqrnn[benchmark]")
    command = [
        sys.executable,
        "-m",
        f"benchmarks.jax_implementations.{experiment}",
        "--share",
        "0.01",
        "--repeats",
        "2",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    trainings = json.loads(result.stdout)["trainings"]
    assert trainings[0]["updates"] == seqrnn_implementation.UPDATES[experiment.removesuffix("_folded")] // 100
    assert trainings[0]["test"] == trainings[1]["test"]
    assert math.isfinite(trainings[0]["train_loss"])


def test_the_integral_is_the_tasks() -> None:
    x, y = data.integral(seed=3, timesteps=500)
    assert len(set(x)) > 20
    expected = 0.0
    for value, output in zip(x, y, strict=True):
        expected = min(max(expected + 0.1 * (float(value) - 0.5), 0.0), 1.0)
        assert output == pytest.approx(expected, abs=1e-5)


def test_operations_are_those_of_the_matrix_products() -> None:
    T, B, I, H = 5, 3, 2, 4  # noqa: E741
    forward = sum(2 * B * 3 * H * (I + H) for _ in range(T))
    weights = 2 * T * B * 3 * H * (I + H)
    state = 2 * T * B * 3 * H * H
    assert Size(T, B, I, H).flops(gates=3) == forward + weights + state


@pytest.mark.parametrize("kernel", ["torch", "auto"])
@pytest.mark.parametrize("cell", cells.GATES)
def test_every_cell_can_be_timed(cell: str, kernel: str) -> None:
    load_components()
    assert measure.best_of(cells.seqrnn_pass(cell, Size(3, 2, 1, 4), "cpu", kernel), seconds=0) > 0
    assert cells.gemm_seconds(cells.GATES[cell], Size(3, 2, 1, 4), "cpu", seconds=0) > 0


def test_rivals_take_turns() -> None:
    calls: list[str] = []
    found = measure.in_turn({"a": lambda: calls.append("a") or 1, "b": lambda: calls.append("b") or 2}, rounds=2)
    assert calls == ["a", "b", "a", "b"]
    assert found == {"a": [1, 1], "b": [2, 2]}


def test_a_ratio_is_of_what_was_measured_in_the_same_round() -> None:
    assert measure.ratio([2.0, 20.0, 4.0], [1.0, 10.0, 1.0]) == 2.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(75, "75.0 s"), (1.5, "1.50 s"), (0.0123, "12.3 ms"), (123e-6, "123 µs"), (5e-9, "5.00 ns")],
)
def test_durations_have_three_digits(seconds: float, text: str) -> None:
    assert measure.duration(seconds) == text


def test_tables_go_between_their_markers(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("a\n<!-- benchmarks: x -->\nold\n<!-- end -->\nb\n<!-- benchmarks: y -->\n<!-- end -->\n")
    table = report.Table("Title", ["name", "figure"], [["one", "1"]])
    report.fill(document, "x", report.Section([table], raw={}).markdown())
    text = document.read_text()
    assert "old" not in text
    assert "**Title**\n\n| name | figure |\n|---|---:|\n| one | 1 |\n\n<!-- end -->\nb\n" in text
    with pytest.raises(ValueError, match="no place for z"):
        report.fill(document, "z", "")


def test_every_section_has_a_place_in_the_documentation() -> None:
    from benchmarks.__main__ import DOCUMENT, SECTIONS

    for name in SECTIONS:
        assert f"<!-- benchmarks: {name} -->" in DOCUMENT.read_text(encoding="utf-8")


def test_pictures_are_drawn(tmp_path: Path) -> None:
    seconds = {"torch.nn": [1.0, 2.0], "seqrnn": [0.5, 0.5]}
    cell = {"size": [1, 2, 3, 4], "seconds": seconds, "limit": 0.1, "gemms": 0.2}
    growth = {"timesteps T": [{"at": 1, "seconds_per_timestep": seconds}]} | {
        "stream length": [{"at": 10, "seconds_per_timestep": {"seqrnn": [1.0]}}]
    }
    for path in (
        plots.experiments({"sine_online": {"plain": 1.0, "seqrnn": 0.1}}, tmp_path / "experiments.png"),
        plots.kernels({"cells": {"gru": [cell]}}, tmp_path / "kernels.png"),
        plots.growth(growth, tmp_path / "growth.png"),
    ):
        assert path.stat().st_size > 1000


@pytest.mark.long
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_arithmetic_in_c_trains_the_networks_of_the_experiments() -> None:
    """A lower bound that computed something else would be none."""
    load_components()
    with limit.library() as code:
        assert np.float32(1e-40) * np.float32(1) != 0  # the library leaves the process's arithmetic as it is
        assert code is not None
        for experiment in limit.EXPERIMENTS:
            run, rows = limit.prepared(experiment), list[dict[str, Any]]()
            _, trained, losses = limit.by_hand(code, experiment, limit.prepared(experiment))
            progress = fit(run, record=rows.append)
            assert len(losses) == progress.updates
            for ours, theirs in zip(run.network.parameters(), trained, strict=True):
                np.testing.assert_allclose(theirs, ours.detach().numpy(), atol=2e-3)
            logged = len(losses) // (len(rows) - 1)  # updates of a row
            np.testing.assert_allclose(losses[-logged:].mean(), rows[-1]["train_loss"], rtol=5e-3)
