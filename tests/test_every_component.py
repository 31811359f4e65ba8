"""Every task and every cell is in the grids of the tests: trained, resumed, predicted with, described for an export,
and diagnosed. The programs of every cell's export are in tests/exporting/test_programs.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_configs
import test_resume
import torch
from test_configs import GROUPS

import seqrnn
from seqrnn import diagnose, predict, registry
from seqrnn.diagnosis.instruments import forgetting, noise, truncation
from seqrnn.exporting.description import describe, names_of
from seqrnn.exporting.interface import task_interface
from seqrnn.exporting.tables import table_interface
from seqrnn.results import Run
from seqrnn.rundir.formats import SummaryValues

GATES = {
    "gru": {"reset", "update", "candidate"},
    "lnlstm": {"input", "forget", "candidate", "output"},
    "lstm": {"input", "forget", "candidate", "output"},
    "mingru": {"update"},
    "minlstm": {"forget", "input"},
}
INAPPLICABLE = {  # instruments that have no meaning for the data of some task
    "data_size", "drift", "forgetting", "future", "inputs", "labels", "left_out", "losses", "memory",
}  # fmt: skip


@pytest.mark.covering(0, 1)
@pytest.mark.parametrize("model", GROUPS["model"])
@pytest.mark.parametrize("task", GROUPS["task"])
def test_a_trained_run_is_predicted_with_described_and_diagnosed(
    task: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    line = [f"task={task}", f"model={model}", "smoke=true", "kernel=torch", "device=cpu", "threads=1"]
    run = seqrnn.run([*line, "plots.draw=false", f"hydra.run.dir={tmp_path / 'run'}"], quiet=True)

    def printed(main: Callable[[list[str]], None], *arguments: str) -> str:
        capfd.readouterr()
        main([str(run.directory), *arguments])
        out, err = capfd.readouterr()
        assert err == ""
        return out

    if task != "csv":  # whose runs predict tables: tests/prediction/test_predict_tables.py
        out = printed(predict.main)
        for name, scores in {run.summary["model"]: run.summary["test"], **run.summary["baselines"]}.items():
            row = next(line for line in out.splitlines() if line.startswith(name))
            assert f"{scores['loss']:.4g}" in row

    check_description(run)

    for module, name, value in (
        (forgetting, "SECONDS", 0.2), (forgetting, "MOMENTS", 20), (truncation, "EXCERPTS", 2),
        (noise, "POSITIONS", 4),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    printed(diagnose.main, "--seconds", "0")
    found = json.loads((run.directory / "diagnosis.json").read_text(), parse_constant=pytest.fail)
    without_gradient = {"reach", "truncation"} if model == "esn" else set()  # its cell has no parameters
    assert found["missing"].keys() <= INAPPLICABLE | without_gradient, found["missing"]
    check_results(found["results"], run, model)


def check_description(run: Run) -> None:
    network, config = run.network(), run.config
    interface = table_interface(run, torch.float32) or task_interface(SummaryValues(**run.summary), config["seed"])
    description = describe(
        run, network, names_of(network), interface, which="tested", timesteps="any", reason=None, warm_up=0
    )
    assert len(description.inputs) == description.input_size
    assert [part.argument for part in description.state] == names_of(network).arguments[1:]


def check_results(results: dict[str, Any], run: Run, model: str) -> None:
    assert results["baselines"]["loss"]["value"] == pytest.approx(run.summary["test"]["loss"], rel=1e-3)
    states = results["states"]
    units = run.network().cell.output_size
    assert states["layers"][-1]["units"] == units
    assert all(0 < layer["effective_rank"]["value"] <= units + 1e-9 for layer in states["layers"])
    assert {gate["name"] for gate in states["gates"]} == GATES.get(model, set())
    if (memory := results.get("memory")) and memory["capacity"]:
        assert 0 <= memory["capacity"]["total"]["value"] <= memory["capacity"]["state_size"] + 0.5
    if drift := results.get("drift"):
        assert drift["growth"]["value"] > 0


GRIDS = {  # the tests that run every task and every cell
    "training": [test_configs.test_every_task_trains_with_every_model_and_schedule],
    "resuming": [test_resume.test_every_cell_and_schedule, test_resume.test_every_task],
    "prediction, export, diagnosis": [test_a_trained_run_is_predicted_with_described_and_diagnosed],
}


@pytest.mark.parametrize("kind", ["task", "model"])
@pytest.mark.parametrize("grid", GRIDS)
def test_every_registered_component_is_in_the_grid(grid: str, kind: str) -> None:
    covered = {
        value
        for test in GRIDS[grid]
        for mark in test.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize" and mark.args[0] == kind
        for value in mark.args[1]
    }
    ours = {name for name in registry.names(kind) if registry.find(kind, name).__module__.startswith("seqrnn.")}
    assert ours
    assert not ours - covered
