"""The parts of a sweep by themselves: statistics, tables, files of overrides, names."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from test_configs import composed

from seqrnn.errors import ConfigError
from seqrnn.keys import as_typed, flattened
from seqrnn.recording.terminal import Screen
from seqrnn.sweeping import comparison, directory, estimate, tables, watching
from seqrnn.sweeping.combining import read_sets
from seqrnn.sweeping.comparison import Result, conditions, half_width
from seqrnn.sweeping.composing import name_of
from seqrnn.sweeping.directory import JOB_NAME, Job, Outcome


def result(
    settings: dict[str, str], seed: int, value: float | None, metric: str = "mse", task: str = "sine"
) -> Result:
    overrides = [f"{key}={text}" for key, text in settings.items()]
    job = Job(name=f"j{seed}", number=seed, identity={}, overrides=overrides, values={"task": {"name": task}})
    baselines = {"mean": {metric: 0.5}, "last": {metric: 0.4}}
    summary: dict[str, Any] = {"headline": metric, "task": task, "test": {metric: value}, "baselines": baselines}
    summary |= {"updates": 10 * seed, "train_seconds": 2.0}
    outcome = Outcome(status="finished") if value is not None else Outcome(status="failed", reason="lost")
    return Result(job, outcome, {**settings, "seed": str(seed)}, summary if value is not None else {}, seed)


def test_the_interval_of_a_mean_is_that_of_scipy() -> None:
    values = list(np.random.default_rng(0).normal(3, 2, 7))
    low, high = stats.t.interval(0.95, 6, np.mean(values), stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2, rel=1e-12)
    assert half_width([1.0]) is None
    assert half_width([]) is None


def test_conditions_are_ranked_in_the_direction_of_their_metric() -> None:
    results = [
        result({"lr": lr}, seed, value) for lr, value in (("1", 0.3), ("2", 0.1), ("3", 0.2)) for seed in (1, 2)
    ]
    found = conditions([*results, result({"lr": "4"}, 1, None)])
    assert [one.settings["lr"] for one in found] == ["2", "3", "1", "4"]
    assert [len(one.results) for one in found] == [2, 2, 2, 1]
    assert found[0].mean == pytest.approx(0.1)
    assert found[0].baseline == ("last", 0.4)
    assert found[0].average("updates") == 15
    accurate = conditions([result({"lr": lr}, 1, value, "accuracy") for lr, value in (("1", 0.3), ("2", 0.9))])
    assert [one.settings["lr"] for one in accurate] == ["2", "1"]
    assert accurate[0].baseline == ("mean", 0.5)
    assert comparison.higher_is_better("nosuch", "accuracy_of_something")


def test_tasks_are_not_ranked_against_each_other() -> None:
    results = [result({"task": task}, 1, value, task=task) for task, value in (("sine", 0.3), ("integral", 0.1))]
    assert [ranking.title.partition(":")[0] for ranking in tables.rankings(results)] == ["integral", "sine"]


HOSTILE = "=cmd|'x'!A1 <script> \\input{x} $_% | `y` [z](w) \x1b[2J"


def test_names_from_anyone_are_text_in_every_format(tmp_path: Path) -> None:
    results = [result({"key": HOSTILE}, 1, 0.1), result({"key": "plain"}, 2, 0.2)]
    head, first, _ = csv.reader(io.StringIO(tables.as_csv(results)))
    assert first[head.index("key")] == f"'{HOSTILE}"
    assert first[head.index("test.mse")] == "0.1"
    ranked = tables.rankings(results)
    markdown = tables.as_markdown(ranked, tables.failures(results, tmp_path))
    row = next(line for line in markdown.splitlines() if "cmd" in line)
    assert "<script>" not in row
    assert "\\|" in row
    assert "\\[z\\]\\(w\\)" in row
    tex = tables.as_tex(ranked)
    assert r"\textbackslash{}input\{x\} \$\_\%" in tex
    assert "\x1b" not in markdown + tex


def test_a_baseline_that_a_stranger_calls_test_does_not_hide_the_test_scores() -> None:
    one = result({"key": "a"}, 1, 0.1)
    one.summary["baselines"]["test"] = {"mse": 0.05}
    (row,) = csv.DictReader(io.StringIO(tables.as_csv([one])))
    assert row["test.mse"] == "0.1"


def test_line_breaks_of_a_text_stay_in_its_cell_and_latex_makes_no_other_letters_of_it() -> None:
    text = "a\rb\nc--d``e''f?`g,,h"
    found = [*csv.DictReader(io.StringIO(tables.as_csv([result({"key": text}, 1, 0.1)]), newline=""))]
    assert [row["key"] for row in found] == [text]
    tex = tables.as_tex(tables.rankings([result({"key": text}, 1, 0.1), result({"key": "plain"}, 2, 0.2)]))
    assert "-{}-d`{}`e'{}'f?{}`g,{},h" in tex


@pytest.mark.parametrize(("width", "is_whole"), [(26, True), (23, True), (22, False)])
def test_columns_stand_nearer_before_words_are_broken(width: int, is_whole: bool) -> None:
    ranked = [tables.Ranking("", ["", "key", "score", "status"], [["1", "elman", "0.1234", "complete"]] * 3, {1, 3})]
    text = io.StringIO()
    screen = Screen(file=text, width=width, color_system=None, highlight=False)
    for part in tables.screen_tables(ranked, width):
        screen.print(part)
    rows = text.getvalue().splitlines()[2:]
    assert [row.split() == ["1", "elman", "0.1234", "complete"] for row in rows[:3]] == 3 * [is_whole]


def test_runs_with_one_seed_are_one_draw() -> None:
    values = {1: 0.1, 2: 0.4}
    (once,) = conditions([result({"lr": "1"}, seed, value) for seed, value in values.items()])
    (twice,) = conditions([result({"lr": "1"}, seed, value) for seed, value in 2 * [*values.items()]])
    assert (twice.mean, twice.half_width) == (once.mean, once.half_width)
    assert (twice.finished, once.finished) == (4, 2)


def test_what_an_update_costs_is_decided_by_keys_that_there_are() -> None:
    known = flattened(composed("task=sincos", "model=gru"))
    assert [key for key in estimate.COST if key not in known] == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("x.txt", "model=gru seed=1  # a note\n\n'task.note=a b'\n", [["model=gru", "seed=1"], ["task.note=a b"]]),
        ("x.yaml", "- {model: gru, optimizer.lr: 1e-3, keep: null}\n- seed=1 model=rnn\n",
         [["model=gru", "optimizer.lr=1e-3", "keep=null"], ["seed=1", "model=rnn"]]),
        ("x.csv", "model,seed\ngru,1\nrnn,\n", [["model=gru", "seed=1"], ["model=rnn"]]),
    ],
)  # fmt: skip
def test_a_file_holds_a_set_of_overrides_a_line(
    name: str, text: str, expected: list[list[str]], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert list(read_sets(tmp_path / name).values()) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("x.txt", "seed=1\nseed\n", "line 2: seed: not an override"),
        ("x.txt", "seed=1,2\n", "line 1: seed=1,2: several values"),
        ("x.txt", "seed=1 seed=2\n", "line 1: seed: given twice"),
        ("x.txt", "hydra.run.dir=x\n", "is for the whole sweep"),
        ("x.txt", "'seed=1\n", "No closing quotation"),
        ("x.csv", "model,seed\ngru\n", "row 2: has 1 cells; the first row has 2 keys"),
        ("x.yaml", "model: gru\n", "should hold a list"),
        ("x.yaml", "- [a]\n", "should be a mapping"),
        ("x.toml", "a=1", "its name should end in"),
        ("x.csv", "", "holds no overrides"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(
    name: str, text: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        read_sets(tmp_path / name)
    assert expected in str(raised.value)


def test_a_name_is_readable_and_stays_in_its_directory() -> None:
    name = name_of({"model": "gru", "optimizer.lr": "0.01", "task.path": '"../../x y"'})
    assert name.startswith("model-gru_lr-0.01_path-")
    for identity in ({}, {"a": "/"}, {"x" * 200: "y"}, {"seed": "1"}, {"~a": ""}, {"é": "ü"}):
        assert JOB_NAME.fullmatch(name_of(identity)), name_of(identity)
    assert name_of({"a": "1", "b": "2"}).rpartition("_")[2] == name_of({"b": "2", "a": "1"}).rpartition("_")[2]


def test_keys_lose_their_groups_where_that_tells_them_apart() -> None:
    assert tables.short_names(["", "model", "optimizer.lr", "±"]) == ["", "model", "lr", "±"]
    assert tables.short_names(["model.dropout", "task.dropout"]) == ["model.dropout", "task.dropout"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e9, "1e9"), (1e-5, "1e-5"), (0.003, "0.003"), (1.0, "1.0"), (250000.0, "250000.0"), (1.5e-7, "1.5e-7"),
     (123456789.5, "123456789.5"), (math.inf, "inf"), (None, "null"), (True, "true"), (7, "7"), ("x y", "x y")],
)  # fmt: skip
def test_a_value_is_shown_as_it_is_typed(value: Any, text: str) -> None:
    assert as_typed(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_that_is_shown_as_it_is_typed_is_the_same_number(value: float) -> None:
    assert float(as_typed(value)) == value


def row(seconds: float, **values: Any) -> str:
    return json.dumps({"updates": int(100 * seconds), "eval_mse": None, **values})


def test_how_far_a_run_is_stands_at_the_end_of_its_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [row(0, eval_mse=9.0), *(row(second) for second in range(2000)), row(2000, eval_mse=0.5), row(2001)]
    path.write_text("\n".join(lines) + '\n{"updates": 2002')
    last, evaluation = watching.last_rows(path, "eval_mse")
    assert (last["updates"], evaluation) == (200100, 0.5)
    path.write_text("")
    assert watching.last_rows(path, "eval_mse") == ({}, None)


def watched(tmp_path: Path, *, terminal: bool, width: int) -> str:
    """What a watcher prints of a job that runs, one that finishes and one that fails."""
    sweep = directory.SweepDirectory(tmp_path / "sweep")
    sweep.lock()
    jobs = [Job(name=f"j{n}", number=n, identity={}, overrides=[], values={}) for n in range(3)]
    for job in jobs:
        sweep.write_job(job)
    scores = {"headline": "mse", "test": {"mse": 0.012345}, "status": "finished", "planned_updates": 200}
    for name, status in (("j0", "running"), ("j1", "finished")):
        (tmp_path / "sweep" / name / "config.yaml").write_text("seed: 0\n")
        (tmp_path / "sweep" / name / "summary.json").write_text(json.dumps({**scores, "status": status}))
    (tmp_path / "sweep" / "j0" / "metrics.jsonl").write_text(row(0.5, eval_mse=0.25) + "\n")
    text = io.StringIO()
    screen = Screen(file=text, force_terminal=terminal, width=width, color_system=None, highlight=False)
    label = "task=sine " + "optimizer.lr=0.001 " * 8
    with watching.Watcher(sweep, screen, lambda job: f"{job.name} {label}", 10, 5) as watcher:
        watcher.expect(jobs)
        sweep.write_outcome("j0", Outcome(status="running", attempts=1))
        sweep.write_outcome("j1", Outcome(status="finished", attempts=1, seconds=12.0))
        sweep.write_outcome("j2", Outcome(status="failed", attempts=1, seconds=0.5, reason="out of memory"))
        until = time.monotonic() + 20
        while "running" not in text.getvalue() and terminal and time.monotonic() < until:
            time.sleep(0.05)
    sweep.release()
    return text.getvalue()


def test_on_a_narrow_terminal_a_line_for_each_job_is_cut_at_its_overrides(tmp_path: Path) -> None:
    lines = re.split(r"\r?\n|\r|\x1b\[[0-9;?]*[A-Za-z]", watched(tmp_path, terminal=True, width=80))
    assert max(map(len, lines)) <= 80
    (finished,) = [line for line in lines if "finished" in line]
    assert re.match(r"\[ [67]/10\] finished +mse 0\.01235  12 s  [\d.]+ s left  j1 task=sine optimizer", finished)
    assert finished.endswith("…")
    assert any(re.match(r"  running  25%  mse 0\.25  [\d.]+ s  [\d.]+ s left  j0 task=sine", line) for line in lines)
    assert any(re.match(r"7 of 10 ended, 1 running, ", line) for line in lines)
    assert "    out of memory" in lines


def test_without_a_terminal_there_are_whole_lines_at_ends_alone(tmp_path: Path) -> None:
    lines = watched(tmp_path, terminal=False, width=80).splitlines()
    assert len(lines) == 3
    assert sorted(line.split()[2] for line in lines if line.startswith("[")) == ["failed", "finished"]
    assert all(line.rstrip().endswith("optimizer.lr=0.001") for line in lines if line.startswith("["))
