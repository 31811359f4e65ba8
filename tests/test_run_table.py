"""Many run directories as a table and curves; what cannot be read is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import seqrnn
from seqrnn import run_table

LINE = ["experiment=sine_online", "smoke=true", "plots.draw=false", "schedule.epochs=2", "kernel=torch"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    for seed in (1, 2):
        seqrnn.run([*LINE, f"seed={seed}", f"hydra.run.dir={folder}/sweep/job{seed}"], quiet=True)
    return folder


def test_a_row_for_each_run_and_the_keys_that_differ(outputs: Path) -> None:
    runs = seqrnn.load_all(outputs)
    assert runs.problems == {}
    assert list(runs.table["seed"]) == [1, 2]
    assert list(runs.table["status"]) == ["finished", "finished"]
    config_keys = {"seed", "model.name", "optimizer.lr"} & {*runs.table.columns}
    assert config_keys == {"seed"}
    for _, row in runs.table.iterrows():
        summary = seqrnn.load(row["directory"]).summary
        assert row["test.mse"] == summary["test"]["mse"]
        assert row["persistence.mse"] == summary["baselines"]["persistence"]["mse"]
        assert row["updates"] == summary["updates"]


def test_the_curves_are_the_metrics_of_each_run(outputs: Path) -> None:
    runs = seqrnn.load_all(outputs / "sweep" / "job1", outputs / "sweep" / "job2")
    for directory in runs.directories:
        own = runs.curves[runs.curves["directory"] == str(directory)]
        assert list(own["updates"]) == list(seqrnn.load(directory).metrics["updates"])


def test_directories_that_cannot_be_read_are_named_and_the_others_are_there(outputs: Path, tmp_path: Path) -> None:
    shutil.copytree(outputs, tmp_path / "all")
    first, second = (tmp_path / "all" / "sweep" / f"job{number}" for number in (1, 2))
    (first / "summary.json").write_text("{")
    foreign = tmp_path / "all" / "foreign"
    foreign.mkdir()
    (foreign / "config.yaml").write_text("a: !!python/object/apply:os.system ['touch ran']\n")
    values = json.loads((second / "summary.json").read_text())
    (second / "summary.json").write_text(json.dumps({**values, "model": "<b>x</b>"}))
    runs = seqrnn.load_all(tmp_path / "all")
    assert runs.directories == [second]
    assert {*runs.problems} == {str(first), str(foreign)}
    assert "summary.json: cannot be read" in runs.problems[str(first)]
    assert "is not read; plain values have none" in runs.problems[str(foreign)]
    assert "2 not read" in repr(runs)
    assert "<b>x" not in runs._repr_html_()
    assert not Path("ran").exists()


def test_a_run_whose_process_was_killed_is_no_finished_one(outputs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(outputs / "sweep" / "job1", tmp_path / "run")
    (run / "checkpoints" / ".owner").write_text("process 1 on elsewhere\n")
    assert list(seqrnn.load_all(run).table["status"]) == [run_table.NOT_FINISHED]


def test_a_baseline_that_a_stranger_calls_test_does_not_hide_the_test_scores(outputs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(outputs / "sweep" / "job1", tmp_path / "run")
    values = json.loads((run / "summary.json").read_text())
    own = values["test"]["mse"]
    values["baselines"]["test"] = {**values["test"], "mse": own / 2}
    (run / "summary.json").write_text(json.dumps(values))
    assert list(seqrnn.load_all(run).table["test.mse"]) == [own]


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(seqrnn.DataError, match="no run directories"):
        seqrnn.load_all(tmp_path)
    with pytest.raises(seqrnn.DataError, match="there is no such directory"):
        seqrnn.load_all(tmp_path / "nosuch")
