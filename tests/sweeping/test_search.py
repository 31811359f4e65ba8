"""Searches: spaces as they are typed, trials that repeat, are pruned, resumed and counted once, and the outcome."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import Finished
from omegaconf import OmegaConf

from seqrnn import config_files
from seqrnn.errors import ConfigError, DataError, Pruned
from seqrnn.monitor import Progress
from seqrnn.rundir.reader import RunReader
from seqrnn.sweeping.directory import Job, Outcome, SweepDirectory
from seqrnn.sweeping.search.searcher import Searcher, objective
from seqrnn.sweeping.search.space import Parameter, read_space
from seqrnn.sweeping.search.study import LAST_STEP, SearchPlan, Study
from seqrnn.sweeping.search.trial import reporting
from seqrnn.sweeping.search_record import SearchRecord, read_search

pytest.importorskip("optuna")
Command = Callable[..., Finished]
QUICK = ("experiment=sine_online", "smoke=true", "plots.draw=false", "kernel=torch", "sweep.report=false",
         "sweep.jobs=1")  # fmt: skip
SEARCH = ("-m", *QUICK, "hydra.sweep.dir=sweep", "sweep.search=optuna")
RATES = "optimizer.lr=tag(log, interval(1e-3, 1))"
NO_GROUPS: Any = SimpleNamespace(get_group_options=lambda *_: [], group_exists=lambda *_: False)


def record(directory: str = "sweep") -> SearchRecord:
    found = read_search(Path(directory))
    assert found is not None
    return found


def outcomes(record: SearchRecord) -> list[tuple[str, float | None, dict[str, Any]]]:
    return [(trial.state, trial.value, trial.parameters) for trial in record.trials]


# Spaces


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=interval(0.5,2)", {"low": 0.5, "high": 2.0}),
        ("a=tag(log,interval(1e-4,1e-1))", {"low": 1e-4, "high": 0.1, "log": True}),
        ("a=tag(log,int(interval(8,256)))", {"low": 8, "high": 256, "log": True, "whole": True}),
        ("a=tag(int,interval(1,9))", {"low": 1, "high": 9, "whole": True}),
        ("a=range(8,129,40)", {"low": 8, "high": 128, "step": 40, "whole": True}),
        ("a=range(0,1,0.25)", {"low": 0.0, "high": 0.75, "step": 0.25}),
        ("a=1,true,x,1e9", {"choices": ["1", "true", "x", "1e9"]}),
        ("a=choice([1,2],[3])", {"choices": ["[1,2]", "[3]"]}),
    ],
)
def test_a_space_is_written_as_hydra_users_write_it(text: str, expected: dict[str, Any]) -> None:
    assert read_space(["b=1", text], [], NO_GROUPS) == (["b=1"], [Parameter(key="a", **expected)])
    assert read_space(["b=1"], [text], NO_GROUPS) == (["b=1"], [Parameter(key="a", **expected)])


@pytest.mark.parametrize(
    ("texts", "ready", "expected"),
    [
        (["a=interval(2,1)"], [], "the first end should be less than the second"),
        (["a=tag(log,interval(0,1))"], [], "a logarithmic scale begins above 0"),
        (["a=tag(lgo,interval(0,1))"], [], "no such tag: lgo (there are: log, int)"),
        (["a=tag(log,range(0,1,0.1))"], [], "steps have no logarithmic scale"),
        (["a=tag(int,interval(0.5,3))"], [], "the ends should be whole numbers"),
        (["a=tag(log,choice(1,2))"], [], "a list has no scale"),
        (["seed=1,2"], [], "a search cannot choose the luckiest seed"),
        (["a=1"], [], "no key is searched"),
        (["a=1"], ["a=1,2"], "a: given on the command line and searched by sweep.space (a=1,2)"),
        (["a=1,3"], ["a=1,2"], "a: given on the command line and searched by sweep.space (a=1,2)"),
        ([], ["a=1"], "sweep.space: a=1: has one value"),
        ([], ["a"], "sweep.space: a:"),
    ],
)
def test_what_is_wrong_with_a_space_is_said(texts: list[str], ready: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_space(texts, ready, NO_GROUPS)
    assert expected in str(raised.value)


def test_a_drawn_number_is_short_and_within_its_bounds() -> None:
    rate = Parameter(key="a", low=0.000123456, high=0.1, log=True)
    assert rate.shown(0.0123456) == "0.01235"
    assert rate.shown(0.000123456) == "0.0001235"
    assert Parameter(key="a", low=0.0, high=0.000123456).shown(0.000123456) == "0.000123456"
    assert rate.ends == [rate.shown(rate.low), "0.1"]
    assert Parameter(key="a", low=2, high=9, whole=True).shown(7.0) == "7"


# The study


def plan(**changes: Any) -> SearchPlan:
    space = [Parameter(key="x", low=0.0, high=1.0), Parameter(key="c", choices=["p", "q"])]
    values = {"overrides": [], "space": space, "metric": "mse", "direction": "minimize", "sampler": "tpe",
              "pruner": "median", "seed": 0}  # fmt: skip
    return SearchPlan(**{**values, **changes})


@pytest.fixture
def sweep(tmp_path: Path) -> SweepDirectory:
    directory = SweepDirectory(tmp_path / "sweep")
    directory.lock()
    return directory


def test_hopeless_trials_are_pruned_at_evaluations_and_a_resumed_one_reports_on(sweep: SweepDirectory) -> None:
    study = Study.begin(sweep.path, plan(), is_local=True)
    for _ in range(6):
        number = study.ask()
        for step in range(4, LAST_STEP, 5):
            study.report(number, 1.0 / step, step)
        study.tell(number, "complete", 1.0 / LAST_STEP)
    good, bad = study.ask(), study.ask()

    def train(number: int, factor: float, positions: range) -> None:
        with reporting(sweep.path, number) as report:
            for position in positions:
                report(Progress(200, position=position, evaluation={"mse": factor / max(1, position / 10)}))

    train(good, 0.9, range(0, 201, 5))
    train(bad, 2.0, range(31))
    assert (study.last_step(good), study.last_step(bad)) == (LAST_STEP - 1, 3)
    with pytest.raises(Pruned, match=r"mse 0.5 on the validation data after 20% .* \(sweep.pruner=median\)"):
        train(bad, 2.0, range(20, 201))  # resumed
    study.close()


def test_a_trial_that_shares_the_run_of_a_pruned_one_has_its_value(sweep: SweepDirectory) -> None:
    for job, owner in (("a", 0), ("b", 2)):
        sweep.write_job(Job(name=job, number=owner, identity={}, overrides=[], values={}, trial=owner))
        sweep.write_outcome(job, Outcome(status="pruned", attempts=1))
    study = Study.begin(sweep.path, plan(), is_local=True)
    for number, job in enumerate(("a", "a", "b")):
        study.set_job(study.ask(), job)
        if number != 1:
            study.report(number, 0.5 + number, 7)
    study.close()
    searcher = Searcher(sweep, plan(), 3, NO_GROUPS, None)
    assert searcher.begin(is_local=True) == 3
    assert [trial.value for trial in searcher.study.trials()] == [0.5, 0.5, 2.5]
    searcher.close()


@pytest.mark.long
def test_hyperband_ends_most_trials_early_and_not_the_best(command: Command) -> None:
    rates = "optimizer.lr=tag(log, interval(1e-5, 1))"
    line = [
        "experiment=sine_online" if word.startswith("experiment") else word for word in SEARCH if "smoke" not in word
    ]
    finished = command(*line, rates, "schedule.epochs=40", "sweep.trials=12", "sweep.pruner=hyperband")
    assert finished.exit_code == 0, finished.err
    states = [trial.state for trial in record().trials]
    assert states.count("pruned") >= 3
    assert states.count("complete") >= 2
    assert "which is the test data of this task" in " ".join(finished.out.split())


@pytest.mark.long
def test_a_search_proposes_the_same_values_whenever_it_is_interrupted(tmp_path: Path) -> None:
    def proposed(name: str, *, interrupted: bool, **changes: Any) -> list[dict[str, str]]:
        directory = SweepDirectory(tmp_path / name)
        directory.lock()
        study, found = Study.begin(directory.path, plan(**changes), is_local=True), []
        for _ in range(13):  # the first ten are random
            if interrupted:
                study.close()
                study = Study.begin(directory.path, plan(**changes), is_local=True)
            number = study.ask()
            found.append(study.values(number))
            assert study.values(number) == found[-1]
            study.tell(number, "complete", (float(found[-1]["x"]) - 0.3) ** 2)
        study.close()
        return found

    whole = proposed("a", interrupted=False)
    assert proposed("b", interrupted=True) == whole
    assert proposed("c", interrupted=False, seed=1) != whole


def test_a_study_of_another_space_or_a_damaged_one_is_refused(sweep: SweepDirectory) -> None:
    Study.begin(sweep.path, plan(), is_local=True).close()
    with pytest.raises(ConfigError, match=r"holds another search \(its seed differs\)"):
        Study.begin(sweep.path, plan(seed=1), is_local=True)
    with pytest.raises(ConfigError, match=r"its space, sampler differ\)"):
        Study.begin(sweep.path, plan(space=[], sampler="random"), is_local=True)
    (sweep.path / ".sweep" / "study.db").write_bytes(b"no database at all, but a text of some length" * 100)
    with pytest.raises(DataError, match=r"study.db: cannot be used: file is not a database; if it is damaged, move"):
        Study.begin(sweep.path, plan(), is_local=True)


# From the command line


def test_a_search_ranks_its_trials_on_validation_data_and_continues_where_it_ended(command: Command) -> None:
    line = (*SEARCH, RATES, "model.hidden_size=3,5")
    first = command(*line, "sweep.trials=3")
    assert first.exit_code == 0, first.err
    before = record()
    assert [trial.number for trial in before.trials] == [0, 1, 2]
    assert (before.metric, before.direction) == ("mse", "minimize")
    for trial in before.trials:
        directory = Path("sweep", trial.job)
        assert trial.value == objective(directory, "mse")
        config = RunReader(directory).config()
        assert trial.parameters == {
            "optimizer.lr": config["optimizer"]["lr"],
            "model.hidden_size": config["model"]["hidden_size"],
        }
    best = min(before.trials, key=lambda trial: trial.value or 0)
    (row,) = [line for line in first.out.splitlines() if line.startswith("1  ")]
    assert row.split()[:5] == ["1", f"{best.parameters['optimizer.lr']:.4g}",
                               str(best.parameters["model.hidden_size"]), str(best.number), "complete"]  # fmt: skip
    (repeat,) = [line for line in first.out.splitlines() if line.startswith("  python -m seqrnn.train -m ")]
    assert f"optimizer.lr={best.parameters['optimizer.lr']}" in shlex.split(repeat)
    assert shlex.split(repeat)[-1] == "seed=range(1,6)"
    kept = {path: path.read_bytes() for trial in before.trials for path in Path("sweep", trial.job).glob("*.*")}
    more = command(*line, "sweep.trials=4")
    assert more.exit_code == 0, more.err
    assert "3 trials ended before" in more.out
    assert more.out.count("] finished") == 1
    assert outcomes(record())[:3] == outcomes(before)
    assert {path: path.read_bytes() for path in kept} == kept
    again = command("-m", "sweep.resume=sweep")
    assert again.exit_code == 0, again.err
    assert "] finished" not in again.out
    assert record() == record()
    with Path("sweep/sweep.csv").open(encoding="utf-8", newline="") as file:
        assert len([*csv.DictReader(file)]) == 4


@pytest.mark.long
def test_a_search_that_was_killed_ends_as_one_that_was_not(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    line = (*SEARCH, RATES, "sweep.trials=4")
    assert command(*line).exit_code == 0
    whole, jobs = record(), SweepDirectory.write_outcome

    class Killed(BaseException):
        pass

    for deaths in (["waiting"], ["running"], ["finished"], ["running", "running"]):
        where = ["hydra.sweep.dir=killed-" + "-".join(deaths) + str(len(deaths))]
        words = [word for word in line if not word.startswith("hydra.sweep.dir")] + where
        for count, death in enumerate(deaths):
            seen = []

            def write(
                self: SweepDirectory,
                name: str,
                outcome: Outcome,
                seen: list[str] = seen,
                death: str = death,
                count: int = count,
            ) -> None:
                seen.append(outcome.status)
                if death == "waiting" and len(seen) == 3 + count:  # the job is written, and has not begun
                    raise Killed
                jobs(self, name, outcome)
                if outcome.status == death and seen.count(death) == 2:
                    raise Killed

            with monkeypatch.context() as patch:
                patch.setattr(SweepDirectory, "write_outcome", write)
                with pytest.raises(Killed):
                    command(*words)
        finished = command(*words)
        assert finished.exit_code == 0, finished.err
        found = record(where[0].partition("=")[2])
        assert outcomes(found) == outcomes(whole)


@pytest.mark.long
def test_trials_that_diverge_have_failed_and_the_search_has_not(command: Command) -> None:
    finished = command(*SEARCH, "optimizer.lr=0.05,1e20", "sweep.trials=6", "schedule.clip_norm=null")
    assert finished.exit_code == 0, finished.err
    states = {(trial.parameters["optimizer.lr"], trial.state) for trial in record().trials}
    assert states == {(0.05, "complete"), (1e20, "failed")}
    assert len([*Path("sweep").glob("*/job.json")]) == 2  # trials with the same values share a run
    assert re.search(r"1e20 +\d+ +diverged", finished.out)


@pytest.mark.long
def test_several_workers_search_together(command: Command) -> None:
    line = [word for word in SEARCH if not word.startswith("sweep.jobs")]
    finished = command(*line, RATES, "sweep.trials=6", "sweep.jobs=2")
    assert finished.exit_code == 0, finished.err
    assert [trial.number for trial in record().trials] == [0, 1, 2, 3, 4, 5]
    assert len({trial.job for trial in record().trials}) == 6
    pytest.importorskip("joblib")
    line = ["hydra.sweep.dir=joblib" if word.startswith("hydra.sweep.dir") else word for word in line]
    joblib = command(*line, RATES, "sweep.trials=4", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert joblib.exit_code == 0, joblib.err
    # The first proposals are random, and do not depend on what ran beside them.
    assert outcomes(record("joblib"))[:4] == outcomes(record())[:4]


@pytest.mark.long
@pytest.mark.parametrize(
    "name", sorted(path.stem for path in Path(config_files.config_directory(), "sweep").iterdir())
)
def test_a_ready_search_runs(name: str, command: Command) -> None:
    values = OmegaConf.load(Path(config_files.config_directory()) / "sweep" / f"{name}.yaml")
    assert values.trials >= 10
    words = [
        "task=sincos" if word.startswith("experiment=") else word for word in SEARCH if "sweep.search" not in word
    ]
    finished = command(*words, f"sweep={name}", "sweep.trials=2")
    assert finished.exit_code == 0, finished.err
    assert len(record().trials) == 2


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["sweep.trials=3"], "no key is searched"),
        (["sweep.trials=3", "optimzer.lr=interval(0,1)"], "optimzer.lr: no such key; did you mean optimizer.lr?"),
        (["sweep.trials=0", RATES], "sweep.trials=0: should be greater than or equal to 1"),
        ([RATES], "needs the number of trials: sweep.trials=50"),
        (["sweep.trials=3", "optimizer.lr=interval(-1,1)"], "optimizer.lr=-1"),
        (
            ["sweep.trials=3", "schedule.window=interval(1,5)"],
            "schedule.window=1.0: should be a valid integer; write schedule.window=int(interval(1,5))",
        ),
        (["sweep.trials=3", "task=sine,sincos", "task.loss=mse"], "a search compares the runs of one task"),
        (["sweep.trials=3", "sweep=learning_rate", RATES], "optimizer.lr: given on the command line and searched by"),
        (["sweep.trials=3", RATES, "sweep.zip=[seed]"], "sweep.zip: is for sweeps over all combinations"),
        (["sweep.trials=3", RATES, "sweep.on_failure=retry"], "sweep.on_failure=retry"),
        (["sweep.trials=3", RATES, "sweep.sampler=magic"], "sweep.sampler=magic"),
        (["sweep.trials=3", RATES, "sweep.search=null"], "sweep.trials=3: is for searches"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_search_is_said_before_it_begins(
    overrides: list[str], expected: str, command: Command
) -> None:
    finished = command(*SEARCH, *overrides)
    assert finished.exit_code == 2, finished.out
    assert expected in finished.err
    assert "Traceback" not in finished.err
    assert not Path("sweep").exists()


def test_a_search_from_anyone_runs_no_code(command: Command, sweep: SweepDirectory) -> None:
    evil = [Parameter(key="plugins", choices=["[evil]", "[evil,evil]"])]
    Study.begin(sweep.path, plan(space=evil, overrides=["experiment=sine_online"]), is_local=True).close()
    (sweep.path / ".sweep" / "plan.json").write_text(json.dumps({"line": [], "jobs": 1}))
    sweep.release()
    Path("evil.py").write_text("open('ran', 'w')")
    refused = command("-m", "sweep.resume=sweep", "sweep.jobs=1")
    assert refused.exit_code == 2
    assert "write 'plugins=[evil" in refused.err
    assert not Path("ran").exists()
