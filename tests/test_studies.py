"""The studies: runs are made once, and counted right; arms hold equal what they say; errors are where they belong."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_configs import composed

from seqrnn.components import build_components
from seqrnn.plugins import load_components
from seqrnn.tasks.protocol import stored
from studies import runs
from studies.integral import __main__ as command
from studies.integral import arms, exact, forgetting
from studies.integral.arms import ACCUMULATED, FORGETTING, Arm
from studies.integral.forgetting import AGES, SETTLE, STRETCH, ErrorsByAge
from studies.integral.sections import SECTIONS
from studies.runs import Result, Sweep

ROOT = Path(__file__).resolve().parent.parent


def result(test: list[float], validation: list[float] | None = None, seeds: tuple[int, ...] | None = None) -> Result:
    seeds = seeds or tuple(range(len(test)))
    return Result(seeds, np.array(test), np.array(validation or test), updates=1, timesteps=1, seconds=1.0)


def summarise(directory: Path, **values: Any) -> None:
    directory.mkdir(parents=True)
    usual = {"status": "finished", "updates": 5, "timesteps": 250, "train_seconds": 2.0}
    (directory / "summary.json").write_text(json.dumps({**usual, **values}), encoding="utf-8")


def test_results_are_those_of_the_summaries(tmp_path: Path) -> None:
    sweep = Sweep("arm", (), (3, 7))
    summarise(tmp_path / "arm" / "seed-3", test={"mae": 0.1}, validation={"mae": 0.2})
    assert runs.missing(sweep, tmp_path) == [7]
    with pytest.raises(RuntimeError, match="seed-7: no finished run"):
        runs.collect(sweep, tmp_path)
    summarise(tmp_path / "arm" / "seed-7", test={"mae": 0.4}, validation={"mae": 0.5})
    found = runs.collect(sweep, tmp_path)
    assert runs.missing(sweep, tmp_path) == []
    assert (found.seeds, found.test.tolist(), found.validation.tolist()) == ((3, 7), [0.1, 0.4], [0.2, 0.5])
    assert (found.updates, found.timesteps, found.seconds) == (5, 250, 2.0)
    assert found.typical == pytest.approx(0.2)  # √(0.1 · 0.4)


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_did_not_end_is_missing(status: str, tmp_path: Path) -> None:
    summarise(tmp_path / "arm" / "seed-0", status=status, test={"mae": 0.1})
    assert runs.missing(Sweep("arm", (), (0,)), tmp_path) == [0]


def test_a_run_that_diverged_is_not_run_again_and_counts_as_the_worst(tmp_path: Path) -> None:
    sweep = Sweep("arm", (), (0, 1))
    summarise(tmp_path / "arm" / "seed-0", status="diverged", test={}, validation={"mae": 0.001})
    summarise(tmp_path / "arm" / "seed-1", test={"mae": 0.1}, validation={"mae": 0.1})
    diverged = runs.collect(sweep, tmp_path)
    assert runs.missing(sweep, tmp_path) == []
    assert diverged.typical == math.inf
    assert runs.tuned([diverged, result([0.3, 0.3])]) == 1
    assert math.isnan(runs.ratio(result([0.3, 0.3]), diverged).value)
    assert diverged.interval.high == math.inf


def test_a_step_size_is_chosen_by_validation_not_by_test() -> None:
    assert runs.tuned([result([0.1, 0.1], [0.4, 0.4]), result([0.2, 0.2], [0.3, 0.3])]) == 1


def test_a_ratio_is_of_pairs_of_equal_seeds() -> None:
    first = result([0.2, 0.4, 0.8, 9.0], seeds=(0, 1, 2, 5))
    other = result([0.4, 0.1, 0.2], seeds=(2, 0, 1))  # twice as small, seed by seed
    found = runs.ratio(first, other)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))


def test_the_interval_of_an_error_is_students_on_logarithms() -> None:
    found = result([math.exp(-3.0), math.exp(-1.0)]).interval
    spread = 12.7062  # t at 0.975 with one degree of freedom, times the standard error of the mean, 1
    assert found.value == pytest.approx(math.exp(-2))
    assert math.log(found.high) == pytest.approx(-2 + spread, abs=1e-3)


def test_the_arms_of_a_comparison_have_equal_points_and_updates() -> None:
    for every in arms.EVERY:
        cells = [Arm(window=window, update_every=every) for window in arms.WINDOWS]
        assert len({(cell.points, cell.updates) for cell in cells}) == 1
    assert {(arm.points, arm.updates) for arm in arms.parallel()} == {(250_000, 5_000)}
    assert {arm.updates for arm in arms.carried()} == {1_000}


def test_arms_that_differ_have_names_that_differ() -> None:
    everything = arms.everything()
    assert len({arm.name for arm in everything}) == len(everything) > 100
    assert len({arm.overrides for arm in everything}) == len(everything)


@pytest.mark.first(5)
@pytest.mark.parametrize("arm", [*arms.reach()[::7], *arms.parallel()[::5], *arms.carried()[::5]])
def test_an_arm_trains_as_often_as_it_says(arm: Arm) -> None:
    load_components()
    run = build_components(composed(*arm.overrides))
    assert run.schedule.count_updates(run.task.train(0, run.schedule.streams)) == arm.updates
    assert run.schedule.window == arm.window


@pytest.mark.parametrize(
    ("arm", "experiment"), [(ACCUMULATED, "integral_accumulated"), (FORGETTING, "integral_forgetting")]
)
def test_the_authors_schedules_are_arms(arm: Arm, experiment: str) -> None:
    ours, theirs = composed(*arm.overrides), composed(f"experiment={experiment}")
    for group in ("model", "optimizer"):
        assert ours[group] == theirs[group]
    assert {**ours["task"], "test_sequences": 100} == theirs["task"]
    defaults = {"stride": arm.window, "update_every": arm.update_every, "evaluate_every": None}
    assert {**ours["schedule"], **defaults} == {**theirs["schedule"], **defaults}


def test_the_base_of_the_study_sweeps_by_itself() -> None:
    text = (ROOT / "conf" / "experiment" / "integral_study.yaml").read_text(encoding="utf-8")
    assert "      schedule.update_every: 2,10,50,250\n" in text


def test_a_gap_is_what_the_latest_points_are_better_by() -> None:
    old = np.full((3, len(AGES)), 0.3)
    old[:, 0] = [0.1, 0.2, 0.3]
    found = ErrorsByAge(old, fresh=np.array([0.2, 0.4, 0.6])).gap
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert ErrorsByAge(old, np.array([0.3, 0.3, 0.3])).relative(AGES[1]).value == pytest.approx(1)


def test_a_snapshot_judges_the_stretches_of_each_age() -> None:
    """A network that says 0, on targets that are their own times: the error tells which timesteps were judged."""
    load_components()
    run = build_components(composed("experiment=integral_study", "model.head=linear", "kernel=torch"))
    for parameter in run.network.parameters():
        parameter.data.zero_()

    def clock(timesteps: int, streams: int, scale: float) -> Any:
        times = torch.arange(timesteps, dtype=torch.float64).view(-1, 1, 1).expand(-1, streams, 1)
        return stored(inputs=torch.zeros(timesteps, streams, 1), targets=scale * times)

    found = forgetting.snapshot(run, clock(9000, 1, 1.0), clock(1000, 4, -1.0), position=2000)
    middle = (STRETCH + 1) / 2
    expected = [1000 - middle, *(2000 - age - middle for age in AGES if 2000 - age >= SETTLE + STRETCH)]
    assert found[: len(expected)].tolist() == pytest.approx(expected)
    assert len(expected) == 1 + AGES.index(5000)
    assert np.isnan(found[len(expected) :]).all()


def test_drift_compares_the_last_tenth_of_long_streams_with_the_first() -> None:
    parts = np.ones((10, 4))
    parts[0], parts[-1] = [1, 2, 3, 4], [8, 6, 4, 2]
    found = exact.Exact(0, mae=1.0, max_error=1.0, parts=parts, largest=1.0)
    assert found.change == 2


def test_every_section_has_a_place_on_the_page() -> None:
    page = (ROOT / "docs" / "integral.md").read_text(encoding="utf-8")
    for name in SECTIONS:
        assert f"<!-- study: {name} -->" in page
    for picture in ("effects", "step_size", "window", "streams", "updates", "forgetting"):
        assert f"(images/study_{picture}.png)" in page
        assert (ROOT / "docs" / "images" / f"study_{picture}.png").stat().st_size < 150_000


def study(*words: str, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "studies.integral", *words, "--output", str(output)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.long
@pytest.mark.timeout(600)  # some twenty runs, in processes of their own
def test_the_command_makes_runs_once_and_counts_them(tmp_path: Path) -> None:
    output = tmp_path / "it's (a) folder"
    made = study("--quick", "--only", "forgetting", output=output)
    assert made.returncode == 0, made.stderr
    assert "7/7" in made.stdout
    table = (output / "quick" / "forgetting.md").read_text(encoding="utf-8")
    assert table.count("\n| ") == 1 + 4
    second = study("--quick", "--only", "forgetting", output=output)
    assert second.returncode == 0, second.stderr
    assert "/7" not in second.stdout
    assert (output / "quick" / "forgetting.md").read_text(encoding="utf-8") == table


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "carri"], "no such section: carri"),
        (["--quick", "--docs"], "mean nothing"),
        (["--processes", "0"], "at least 1"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_refused(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["studies.integral", *words])
    with pytest.raises(SystemExit) as refused:
        command.arguments()
    assert refused.value.code == 2
    assert says in capsys.readouterr().err
