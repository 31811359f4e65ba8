"""Sweeps from the command line, in this process: planned, run, resumed, extended and compared."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Finished

import seqrnn.plots.__main__
from seqrnn import api, plots
from seqrnn.rundir.reader import RunReader
from seqrnn.sweeping.options import SweepOptions

Command = Callable[..., Finished]
QUICK = ("experiment=sine_online", "smoke=true", "plots.draw=false", "schedule.epochs=1", "kernel=torch")
SWEEP = ("-m", *QUICK, "sweep.jobs=1", "hydra.sweep.dir=sweep")


@pytest.fixture(autouse=True)
def empty(command: Command) -> None:
    """A directory that is no run: a job that starts from it fails."""
    Path("empty").mkdir()


def jobs(directory: str = "sweep") -> list[Path]:
    return sorted(path.parent for path in Path(directory).glob("*/job.json"))


def rows(directory: str = "sweep") -> list[dict[str, str]]:
    with Path(directory, "sweep.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def kept(directory: str = "sweep") -> dict[Path, tuple[bytes, int]]:
    """Every file of the runs with its content and time."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for job in jobs(directory) for path in job.rglob("*.*")
    }


def test_a_line_for_each_job_and_a_table_over_seeds(command: Command) -> None:
    finished = command(*SWEEP, "seed=0,1", "optimizer.lr=0.05,0.02")
    assert finished.exit_code == 0, finished.err
    lines = finished.out.splitlines()
    assert lines.pop(0) == "seqrnn sweep: composing and checking the jobs"
    assert "4 jobs" in lines[0]
    assert [line.split()[:2] for line in lines[1:5]] == [[f"[{n}/4]", "finished"] for n in (1, 2, 3, 4)]
    assert "seed=1 optimizer.lr=0.02" in lines[4]
    assert "mse" in lines[4]
    assert "experiment=" not in lines[4]  # what all jobs share is not repeated
    assert finished.out.count("1 finished") == 0
    found = rows()
    assert [row["status"] for row in found] == ["finished"] * 4
    assert {(row["seed"], row["optimizer.lr"]) for row in found} == {(s, r) for s in "01" for r in ("0.05", "0.02")}
    for row in found:
        summary = RunReader(Path("sweep", row["job"])).summary()
        assert float(row["test.mse"]) == summary["test"]["mse"]
        assert int(row["updates"]) == summary["updates"]
        assert float(row["persistence.mse"]) == summary["baselines"]["persistence"]["mse"]
        assert (Path("sweep", row["job"]) / "train.log").stat().st_size
    markdown = Path("sweep/sweep.md").read_text(encoding="utf-8")
    table = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(table) == 3  # a head, and a row for each of the two rates
    assert r"\toprule" in Path("sweep/sweep.tex").read_text(encoding="utf-8")
    assert finished.out.endswith("report: sweep/report.html\n")
    assert Path("sweep/report.html").stat().st_size > 1e6


def test_a_report_can_be_switched_off(command: Command) -> None:
    finished = command(*SWEEP, "seed=1", "init_from=empty", "sweep.report=false")
    assert finished.exit_code == 1
    assert "report" not in finished.out
    assert not Path("sweep/report.html").exists()


@pytest.mark.long
def test_a_job_trains_as_the_same_run_by_itself(command: Command) -> None:
    assert command(*SWEEP, "seed=3,4").exit_code == 0
    alone = command(*QUICK, "seed=4")
    (job,) = [job for job in jobs() if "seed-4" in job.name]
    assert (job / "weights.safetensors").read_bytes() == (alone.directory / "weights.safetensors").read_bytes()
    config, expected = RunReader(job).config(), RunReader(alone.directory).config()
    assert {**config, "resume": None} == expected
    assert "sweep" not in config
    assert RunReader(job).overrides() == RunReader(alone.directory).overrides()


@pytest.mark.long
def test_a_large_sweep_draws_the_best_and_says_how_the_others_are_drawn(command: Command) -> None:
    finished = command(*SWEEP, "seed=1,2,3", "init_from=null", "plots.draw=true", "sweep.plots=best")
    assert finished.exit_code == 0, finished.err
    (drawn,) = [job for job in jobs() if (job / "predictions.png").exists()]
    scores = {Path("sweep", row["job"]): float(row["test.mse"]) for row in rows()}
    mean = sum(scores.values()) / 3
    assert drawn == min(scores, key=lambda job: abs(scores[job] - mean))
    assert (
        "2 jobs without pictures (sweep.plots), which are drawn by:\n  python -m seqrnn.plots sweep\n" in finished.out
    )
    assert [bool(RunReader(job).summary()["problems"]) for job in jobs()] == [job != drawn for job in jobs()]
    seqrnn.plots.__main__.main(["sweep"])
    assert all((job / "loss.png").exists() for job in jobs())
    assert not any(RunReader(job).summary()["problems"] for job in jobs())
    assert SweepOptions.model_construct(plots="auto").draws_all(100)
    assert not SweepOptions.model_construct(plots="auto").draws_all(101)


@pytest.mark.long
def test_pictures_of_a_sweep_are_those_that_are_drawn_again_and_none_is_missing_at_its_end(command: Command) -> None:
    finished = command(*SWEEP, "seed=1,2,3", "plots.draw=true")
    pictures = [path.name for job in jobs() for path in job.glob("*.png")]
    assert sorted(pictures) == 3 * ["loss.png"] + 3 * ["predictions.png"], finished.err
    for job in jobs():
        assert RunReader(job).summary()["problems"] == []
        before = {path: path.read_bytes() for path in job.glob("*.png")}
        plots.draw(job)
        assert {path: path.read_bytes() for path in job.glob("*.png")} == before


def test_the_same_line_again_runs_nothing_and_more_seeds_run_alone(command: Command) -> None:
    line = ("-m", *QUICK, "sweep.jobs=1")
    assert command(*line, "seed=0,1").exit_code == 0
    (directory,) = Path("outputs/sweep").iterdir()
    before = kept(str(directory))
    repeated = command(*line, "seed=0,1")
    assert repeated.exit_code == 0
    assert "2 jobs finished before" in repeated.out
    assert kept(str(directory)) == before
    more = command(*line, "seed=range(3)")
    assert more.exit_code == 0
    assert more.out.count("] finished") == 1
    assert [*Path("outputs/sweep").iterdir()] == [directory]
    after = kept(str(directory))
    assert {path: after[path] for path in before} == before
    assert [row["seed"] for row in rows(str(directory))] == ["0", "1", "2"]


def test_all_bad_values_of_all_jobs_are_reported_before_the_first_starts(command: Command) -> None:
    finished = command(*SWEEP, "model.hidden_size=0,3", "optimizer.lr=-1,0.1", "schedule.clip_norm=1,2")
    assert finished.exit_code == 2
    assert "model.hidden_size=0: should be greater than or equal to 1" in finished.err
    assert "optimizer.lr=-1: should be greater than 0" in finished.err
    assert "jobs model.hidden_size=0 optimizer.lr=-1 schedule.clip_norm=1; " in finished.err
    assert "and 1 more" in finished.err
    assert not Path("sweep").exists()


@pytest.mark.first(4)
@pytest.mark.parametrize(
    ("overrides", "expected"),
    {
        "a pattern": (["model=glob(zzz*)"], "model=glob(zzz*): matches nothing (there are: cornn, elman, "),
        "another number": (["sweep.zip=[seed,optimizer.lr]", "seed=1,2", "optimizer.lr=0.1,0.2,0.3"],
                           "seed has 2, optimizer.lr has 3"),
        "a misspelt key": (["sweep.zip=[sed]", "seed=1,2"],
                           "sed has no values on the command line; did you mean seed?"),
        "an unknown key": (["sweep.zipp=[seed]"], "sweep.zipp: no such key; did you mean sweep.zip?"),
        "another mode": (["sweep.on_failure=halt"], "sweep.on_failure=halt"),
        "no file": (["sweep.file=nosuch.txt"], "sweep.file=nosuch.txt: there is no such file"),
        "excluded: all": (["seed=1,2", "sweep.exclude=['seed=1,2']"], "leaves no job"),
        "excluded: none": (["seed=1,2", "sweep.exclude=['seed=7']"], "matches no job"),
        "excluded: misspelt": (["seed=1,2", "sweep.exclude=['sede=1']"], "sede: no such key; did you mean seed?"),
        "an interval": (["optimizer.lr=interval(0,1)"], "an interval has no end of values"),
        "a directory for a job": (["seed=1,2", "hydra.sweep.subdir=x"], "hydra.sweep.subdir"),
    }.values(),
    ids=str,
)  # fmt: skip
def test_what_is_wrong_with_a_sweep_is_said_before_it_starts(
    overrides: list[str], expected: str, command: Command
) -> None:
    finished = command(*SWEEP, *overrides)
    assert finished.exit_code == 2
    assert expected in finished.err
    assert "Traceback" not in finished.err
    assert not Path("sweep").exists()


@pytest.mark.parametrize("option", ["sweep.on_failure=stop", "hydra/launcher=joblib"])
def test_a_single_run_refuses_what_is_for_sweeps(option: str, command: Command) -> None:
    finished = command(*QUICK, option)
    assert finished.exit_code == 2
    assert f"{option}: is for sweeps" in finished.err
    assert not finished.directory.exists()


def test_values_in_step_and_sets_from_files(command: Command) -> None:
    Path("sets.csv").write_text("model.hidden_size,optimizer.lr\n3,0.1\n4,\n", encoding="utf-8")
    listed = command(*SWEEP, "sweep.zip=[seed,schedule.clip_norm]", "seed=1,2", "schedule.clip_norm=0.5,null",
                     "sweep.file=sets.csv", "--dry-run")  # fmt: skip
    assert listed.exit_code == 0, listed.err
    lines = [line.partition("kernel=torch ")[2].partition("  ")[0] for line in listed.out.splitlines()[1:5]]
    assert lines == [
        "seed=1 schedule.clip_norm=0.5 model.hidden_size=3 optimizer.lr=0.1",
        "seed=1 schedule.clip_norm=0.5 model.hidden_size=4",
        "seed=2 schedule.clip_norm=null model.hidden_size=3 optimizer.lr=0.1",
        "seed=2 schedule.clip_norm=null model.hidden_size=4",
    ]
    assert "4 jobs to run" in listed.out
    assert "no estimate of the time" in listed.out
    assert not Path("sweep").exists()


def test_combinations_are_left_out_by_overrides_and_by_values_of_the_config(command: Command) -> None:
    exclude = "sweep.exclude=['seed=1 model.hidden_size=3,4','optimizer.lr=0.5 schedule.window=1']"
    listed = command(*SWEEP, "seed=1,2", "model.hidden_size=3,5", "optimizer.lr=0.1,0.5", exclude, "--dry-run")
    assert listed.exit_code == 0, listed.err
    assert [line.partition("kernel=torch ")[2].partition("  ")[0] for line in listed.out.splitlines()[1:4]] == [
        "seed=1 model.hidden_size=5 optimizer.lr=0.1",
        "seed=2 model.hidden_size=3 optimizer.lr=0.1",
        "seed=2 model.hidden_size=5 optimizer.lr=0.1",
    ]


@pytest.mark.long
def test_a_dry_run_estimates_the_time_from_finished_runs(command: Command) -> None:
    assert command(*SWEEP, "seed=1,2").exit_code == 0
    listed = command(*SWEEP, "seed=1,2,3", "--dry-run")
    assert listed.exit_code == 0, listed.err
    assert listed.out.count("  finished") == 2
    assert "1 job to run" in listed.out
    assert "estimate: " in listed.out
    assert len(jobs()) == 2


def test_a_job_that_fails_is_named_with_its_reason_log_and_line(command: Command) -> None:
    finished = command(*SWEEP, "seed=1,2", "init_from=null,empty")
    assert finished.exit_code == 1, finished.err
    assert finished.out.count("] finished") == 2
    assert finished.out.count("] failed") == 2
    assert "2 jobs failed:" in finished.out
    words = " ".join(finished.out.split())
    assert "failed: init_from=empty: " in words
    assert f"repeat: python -m seqrnn.train {' '.join(QUICK)} seed=1 init_from=empty" in words
    assert [row["status"] for row in rows()].count("failed") == 2
    assert "Traceback" not in finished.out + finished.err
    repeated = command(*SWEEP, "seed=1,2", "init_from=null,empty")
    assert repeated.exit_code == 1
    assert "2 jobs finished before" in repeated.out
    assert [row["attempts"] for row in rows()] == ["1", "2", "1", "2"]


@pytest.mark.first(1)
@pytest.mark.parametrize(("mode", "attempts"), [("stop", [1, 0]), ("retry", [2, 1]), ("continue", [1, 1])])
def test_what_a_failure_does_to_the_other_jobs(mode: str, attempts: list[int], command: Command) -> None:
    finished = command(*SWEEP, "init_from=empty,null", f"sweep.on_failure={mode}")
    assert finished.exit_code == 1
    assert [int(row["attempts"]) for row in rows()] == attempts


def test_weights_that_are_missing_are_named_before_the_first_job(command: Command) -> None:
    finished = command(*SWEEP, "seed=1,2", "init_from=null,outputs/nosuch")
    assert finished.exit_code == 2
    assert "init_from=outputs/nosuch: there is no such directory or file" in finished.err
    assert "(jobs seed=1 init_from=outputs/nosuch; seed=2 init_from=outputs/nosuch)" in finished.err
    assert not Path("sweep").exists()


@pytest.mark.long
def test_an_interrupted_sweep_ends_with_its_tables_and_report(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out, begun = api.carry_out, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return carry_out(*arguments, **options)

    monkeypatch.setattr(api, "carry_out", interrupted)
    finished = command(*SWEEP, "seed=1,2,3")
    assert finished.exit_code == 130
    assert "3 jobs: 1 finished, 1 interrupted, 1 waiting" in finished.out
    assert "report: sweep/report.html\nresume the sweep with:\npython -m seqrnn.train -m " in finished.out
    assert "interrupted" in Path("sweep/report.html").read_text(encoding="utf-8")
    assert [row["status"] for row in rows()] == ["finished", "interrupted", "waiting"]


@pytest.mark.long
def test_configs_are_those_that_were_planned(command: Command, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    (conf / "model").mkdir(parents=True)
    (conf / "model" / "mine.yaml").write_text("defaults: [elman]\nhead_size: 9\n", encoding="utf-8")
    line = (*SWEEP, "model=mine", "seed=1,2", "--config-dir", str(conf))
    assert command(*line).exit_code == 0
    _, second = jobs()
    (second / "summary.json").unlink()
    (conf / "model" / "mine.yaml").write_text("defaults: [elman]\nhead_size: 11\n", encoding="utf-8")
    repeated = command(*line)
    assert repeated.exit_code == 0, repeated.err
    assert "the config files have changed since 2 jobs" in repeated.out
    assert RunReader(second).config()["model"]["head_size"] == 9


def test_a_sweep_is_resumed_by_its_directory_alone(command: Command) -> None:
    assert command(*SWEEP, "seed=1,2").exit_code == 0
    (job,) = [job for job in jobs() if "seed-2" in job.name]
    for path in [*job.rglob("*.*")]:
        if path.is_file() and path.name != "job.json":
            path.unlink()
    resumed = command("-m", "sweep.resume=sweep", "sweep.jobs=1")
    assert resumed.exit_code == 0, resumed.err
    assert "1 job finished before" in resumed.out
    assert resumed.out.count("] finished") == 1
    assert RunReader(job).config()["seed"] == 2
    assert "nosuch: not the directory of a sweep" in command("-m", "sweep.resume=nosuch").err
    refused = command("-m", "sweep.resume=sweep", "seed=5")
    assert refused.exit_code == 2
    assert "seed=5: with sweep.resume" in refused.err


def test_a_sweep_from_anyone_runs_no_code_and_writes_nowhere_else(command: Command) -> None:
    assert command(*SWEEP, "seed=1,2").exit_code == 0
    job = jobs()[0]
    values = json.loads((job / "job.json").read_text())
    values["values"]["plugins"] = ["evil"]
    (job / "job.json").write_text(json.dumps(values))
    Path("evil.py").write_text("open('ran', 'w')")
    refused = command("-m", "sweep.resume=sweep")
    assert refused.exit_code == 2
    assert "write 'plugins=[evil]' to import them" in refused.err
    assert not Path("ran").exists()
    values["values"]["plugins"], values["name"] = [], "../elsewhere"
    (job / "job.json").write_text(json.dumps(values))
    refused = command("-m", "sweep.resume=sweep")
    assert refused.exit_code == 2
    assert "keeps its name" in refused.err
    assert not Path("elsewhere").exists()


@pytest.mark.long
def test_hydras_own_sweeper_can_be_chosen(command: Command) -> None:
    finished = command("-m", *QUICK, "hydra.sweep.dir=sweep", "hydra/sweeper=basic", "seed=1,2")
    assert finished.exit_code == 0, finished.err
    assert sorted(path.name for path in Path("sweep").iterdir() if path.is_dir()) == ["0", "1"]
