"""Which runs are compared as one condition, and what is done with directories from anyone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.invented_sweep import write_run, write_sweep
from seqrnn.errors import DataError
from seqrnn.reports.gathering import gather
from seqrnn.run_table import load_all
from seqrnn.sweeping.comparison import conditions
from seqrnn.sweeping.directory import Outcome, SweepDirectory
from seqrnn.sweeping.search_record import SearchRecord, write_search

FINISHED = Outcome(status="finished", seconds=1.0)


def sweep_of(path: Path) -> SweepDirectory:
    (path / ".sweep").mkdir(parents=True)
    return SweepDirectory(path)


def test_runs_of_sweeps_and_single_runs_are_found_together(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a", runs=6, seeds=2, rows=3, failing=1)
    single = write_run(sweep_of(tmp_path / "b"), 0, {"model": "gru", "optimizer.lr": 0.003}, FINISHED, rows=3)
    for name in ("job.json", "status.json"):
        (single / name).unlink()
    found = gather([tmp_path])
    statuses = [result.outcome.status for result in found.results]
    assert statuses == ["finished"] * 4 + ["diverged", "failed", "finished"]
    assert found.problems == {}
    assert all("model" in result.settings for result in found.results)
    assert found.results[-1].directory == single


def test_a_run_that_two_paths_lead_to_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sweep(tmp_path / "a", runs=2, seeds=2, rows=2, failing=0)
    write_search(tmp_path / "a", SearchRecord(metric="mse", direction="minimize", trials=[], importance={}))
    monkeypatch.chdir(tmp_path)
    paths = [Path("a"), tmp_path, tmp_path / "a" / ".." / "a"]
    found = gather(paths)
    assert [result.directory for result in found.results] == [Path("a/0000"), Path("a/0001")]
    assert len(found.searches) == 1
    assert len(load_all(*paths)) == 2


def test_a_number_is_the_same_however_it_was_typed(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    for number, typed in enumerate(("0.001", "1e-3")):
        directory = write_run(sweep, number, {"optimizer.lr": 0.001, "seed": number}, FINISHED, rows=2)
        job = json.loads((directory / "job.json").read_text())
        job["overrides"] = [f"optimizer.lr={typed}", f"seed={number}"]
        (directory / "job.json").write_text(json.dumps(job))
    (condition,) = conditions(gather([tmp_path]).results)
    assert len(condition.results) == 2


def test_configs_that_differ_without_a_word_on_the_line_are_not_pooled(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    for number in range(4):
        directory = write_run(sweep, number, {"model": "gru", "seed": number % 2}, FINISHED, rows=2)
        job = json.loads((directory / "job.json").read_text())
        job["values"]["model"]["hidden_size"] = 16 if number < 2 else 32  # a file in conf/ was edited in between
        job["values"]["logger"] = ["null", "tensorboard"][number % 2]  # changes no result
        (directory / "job.json").write_text(json.dumps(job))
    found = conditions(gather([tmp_path]).results)
    assert sorted(one.settings["model.hidden_size"] for one in found) == ["16", "32"]
    assert all([*one.settings] == ["model.hidden_size"] for one in found)


def test_what_cannot_be_read_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    write_sweep(tmp_path, runs=3, seeds=3, rows=2, failing=0)
    (tmp_path / "0001" / "job.json").write_text('{"name": "../0002"}')
    (tmp_path / "search.json").write_text("[]")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.yaml").write_text("a: !!python/object/apply:os.system ['touch ran']\n")
    found = gather([tmp_path])
    assert [result.directory.name for result in found.results] == ["0000", "0002"]
    assert {*found.problems} == {str(tmp_path / "0001"), str(foreign), str(tmp_path)}
    assert not Path("ran").exists()


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run directories"):
        gather([tmp_path])
    with pytest.raises(DataError, match="there is no such directory"):
        gather([tmp_path / "nosuch"])
