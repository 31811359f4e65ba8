"""``python -m seqrnn.reproduce``: published figures, in this process."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_configs import composed

import seqrnn
from seqrnn import reproduce
from seqrnn.components import problems_of
from seqrnn.diagnosis.intervals import Interval
from seqrnn.errors import ConfigError
from seqrnn.plugins import load_components
from seqrnn.recording.terminal import Screen
from seqrnn.reproduction import catalogue, command, measuring, presentation
from seqrnn.reproduction.figure import Figure, last_losses, score, squared_error
from seqrnn.reproduction.measuring import Result

BY_NAME = {figure.name: figure for figure in catalogue.FIGURES}
SMALL = Figure(
    name="small",
    what="sine: mse",
    published=0.5,
    source="this test",
    overrides=("task=sine", "model=elman", "model.hidden_size=4", "kernel=torch", "schedule.epochs=2", "device=cpu"),
    seeds=2,
    measure=score("mse"),
    tolerated=(0.0, 10.0),
    tolerance="everything",
    length="quick",
)
Called = tuple[int, str, str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """Runs the command in an empty directory, on a screen of 80 columns; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def called(*arguments: str) -> Called:
        capfd.readouterr()
        try:
            reproduce.main(list(arguments))
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capfd.readouterr()

    return called


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Figure]:
    """Makes a small figure the only one."""

    def only(**changes: object) -> Figure:
        figure = replace(SMALL, **changes)  # type: ignore[arg-type]
        for module in (catalogue, command):
            monkeypatch.setattr(module, "FIGURES", (figure,))
        return figure

    return only


def test_names_are_unique_and_each_figure_can_be_judged() -> None:
    assert len(BY_NAME) == len(catalogue.FIGURES)
    for figure in catalogue.FIGURES:
        low, high = figure.tolerated
        assert low < high
        # What is called wrong lies outside of the range around the right figure; everything else lies in its range.
        assert (low <= figure.published <= high) is (not figure.wrong), figure.name
        assert figure.source
        assert figure.tolerance


@pytest.mark.long
@pytest.mark.parametrize("overrides", sorted({figure.overrides for figure in catalogue.FIGURES}), ids=" ".join)
def test_the_runs_of_a_figure_have_a_sound_config(overrides: tuple[str, ...]) -> None:
    load_components()
    assert problems_of(composed(*overrides)) == []


def interval(value: float, half: float) -> Interval:
    return Interval(value, value - half, value + half)


def test_a_figure_is_reproduced_where_the_mean_is_tolerated_and_the_interval_is_not_wider() -> None:
    figure = replace(SMALL, tolerated=(1.0, 2.0))
    assert measuring.judge(figure, interval(1.1, 0.4)) == "reproduced"
    assert measuring.judge(figure, interval(0.9, 0.4)) == "not reproduced"
    assert measuring.judge(figure, interval(2.1, 0.0)) == "not reproduced"
    assert measuring.judge(figure, interval(1.5, 0.6)) == "not reproduced"  # it could not have failed
    assert measuring.judge(figure, Interval(math.inf, -math.inf, math.inf)) == "not reproduced"
    assert measuring.judge(replace(figure, same_seeds=True), interval(1.5, 0.6)) == "reproduced"
    wrong = replace(figure, wrong="a reason")
    assert measuring.judge(wrong, interval(1.5, 0.1)) == "published figure is wrong"
    assert measuring.judge(wrong, interval(2.5, 0.1)) == "not reproduced"


def test_means_over_seeds_are_arithmetic_or_geometric_and_infinite_where_a_run_diverged() -> None:
    assert measuring.mean_of(SMALL, [1.0, 4.0]).value == 2.5
    geometric = replace(SMALL, is_geometric=True)
    assert math.isclose(measuring.mean_of(geometric, [1.0, 4.0]).value, 2.0)
    assert measuring.mean_of(geometric, [1.0, math.inf]).value == math.inf


def test_the_squared_error_of_a_position_leaves_out_the_other_timesteps() -> None:
    class Predictions:
        predictions = {"outputs": np.array([1.0, 2, 3, 4, 5])[:, None, None], "targets": np.zeros((5, 1, 1))}  # noqa: RUF012

    assert squared_error(1, period=3)(Predictions()) == (4 + 25) / 2  # type: ignore[arg-type]


def test_the_last_losses_leave_out_rows_without_one() -> None:
    class Metrics:
        metrics = {"train_loss": [9.0, math.nan, 1.0, 3.0, math.nan]}  # noqa: RUF012

    assert last_losses(2)(Metrics()) == 2.0  # type: ignore[arg-type]


def test_names_choose_figures_or_all_that_begin_so() -> None:
    names = [figure.name for figure in catalogue.chosen(["xor", "sincos"], quick=False)]
    assert sorted(names) == ["sincos", "xor-first", "xor-second", "xor-third"]
    assert {figure.length for figure in catalogue.chosen([], quick=True)} == {"quick"}
    assert "sequential-mnist" not in {figure.name for figure in catalogue.chosen([], quick=False)}
    assert [figure.name for figure in catalogue.chosen(["sequential-mnist"], quick=False)] == ["sequential-mnist"]
    with pytest.raises(ConfigError, match="memory-capacty: no such figure; did you mean memory-capacity"):
        catalogue.chosen(["memory-capacty"], quick=False)
    with pytest.raises(ConfigError, match="leave out --quick"):
        catalogue.chosen(["mackey-glass"], quick=True)


def test_finished_runs_are_not_repeated_and_the_page_and_the_exit_code_tell(
    run: Callable[..., Called], one_figure: Callable[..., Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = one_figure()
    page = tmp_path / "truth.md"
    page.write_text(f"before\n{presentation.BEGIN}\nold\n{presentation.END}\nafter\n", encoding="utf-8")
    code, out, _ = run("--docs", str(page))
    assert code == 0
    assert "1/1  small: reproduced" in out
    assert max(map(len, out.splitlines())) <= 80
    found = json.loads(Path("outputs/reproduce/results.json").read_text(encoding="utf-8"))["small"]
    runs = [seqrnn.load(place) for place in figure.directories(Path("outputs/reproduce/runs")).values()]
    assert found["values"] == [one.summary["test"]["mse"] for one in runs]
    assert found["command"] == figure.command()
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "### small" in text
    assert figure.command("").split()[-1] in text

    def fail(*arguments: object, **others: object) -> None:
        raise AssertionError("a finished run was repeated")

    monkeypatch.setattr(seqrnn, "run", fail)
    one_figure(tolerated=(5.0, 6.0))
    code, out, err = run("small")
    assert code == 1
    assert "not reproduced" in out
    assert "error: small: not reproduced" in err


def test_a_terminal_shows_one_line_for_each_figure_and_all_that_a_slow_one_prints(
    run: Callable[..., Called], one_figure: Callable[..., Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "Screen", partial(Screen, force_terminal=True, color_system=None))
    one_figure()
    line = run("small")[1].split("\n")[0]
    assert [part.strip() for part in line.split("\x1b[2K")[1:]] == [
        "1/1  small: run 1 of 2", "1/1  small: run 2 of 2", "1/1  small: reproduced",
    ]  # fmt: skip
    one_figure(length="slow", seeds=1, overrides=(*SMALL.overrides, "model.bias=false"))
    code, out, _ = run("small")
    assert code == 0
    assert "small: run 1 of 1\n" in out
    assert "finished after" in out


def test_the_table_breaks_no_interval(capfd: pytest.CaptureFixture[str]) -> None:
    ours = Interval(0.0003987, 4.461e-05, 0.0007534)
    found = Result((0.1,) * 3, ours, "published figure is wrong", 1234.0, None)
    Screen(width=80).print(presentation.table({"integral-accumulated": SMALL}, {"integral-accumulated": found}))
    assert "0.000399 [4.46e-05, 0.000753]" in capfd.readouterr().out


def test_after_an_interruption_only_what_is_missing_is_run(tmp_path: Path) -> None:
    def interrupt(seed: int) -> None:
        if seed == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measuring.make(SMALL, tmp_path, [], interrupt)
    assert measuring.result_of(SMALL, tmp_path) is None
    seeds: list[int] = []
    measuring.make(SMALL, tmp_path, [], seeds.append)
    assert seeds == [1]
    assert measuring.result_of(SMALL, tmp_path) is not None


def test_a_run_that_cannot_be_made_is_reported_and_the_others_are_made(
    run: Callable[..., Called], one_figure: Callable[..., Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_figure()
    bad = replace(SMALL, name="bad", overrides=("task=sine", "model=elman", "model.hidden_size=-1"))
    monkeypatch.setattr(catalogue, "FIGURES", (bad, replace(SMALL, seeds=1)))
    code, out, err = run()
    assert code == 1
    assert "1/2  bad: could not be run" in out
    assert "2/2  small: reproduced" in out
    assert "model.hidden_size=-1" in err
    assert "Traceback" not in err


def test_one_command_at_a_time_makes_the_runs_of_a_folder(
    run: Callable[..., Called], one_figure: Callable[..., Figure], tmp_path: Path
) -> None:
    one_figure(seeds=1)
    with command._locked(tmp_path / "out"):
        code, out, err = run("--out", "out")
    assert code == 2
    assert err.startswith(f"error: out: is being written by process {os.getpid()} on ")
    assert "reproduced" not in out
    assert run("--out", "out")[0] == 0


def test_a_folder_that_cannot_be_written_is_named(
    run: Callable[..., Called], one_figure: Callable[..., Figure], tmp_path: Path
) -> None:
    one_figure(seeds=1)
    (tmp_path / "file").touch()
    code, _, err = run("--out", "file/out")
    assert code == 2
    assert "--out file/out: cannot be written: Not a directory; choose another" in err


def test_mistakes_of_the_user_have_exit_code_2(run: Callable[..., Called], one_figure: Callable[..., Figure]) -> None:
    one_figure(seeds=1)
    code, _, err = run("smal")
    assert code == 2
    assert "smal: no such figure; did you mean small?" in err
    code, _, err = run("--docs", "missing.md")
    assert code == 2
    assert "missing.md: no such file" in err


def test_the_page_says_what_was_not_measured_and_what_is_wrong() -> None:
    figures = {"small": SMALL, "other": replace(SMALL, name="other", wrong="a slip")}
    result = Result((0.4, 0.6), interval(0.5, 0.2), "published figure is wrong", 3.2, None)
    text = presentation.markdown(figures, {"other": result})
    assert "| [`small`](#small) | 0.5 |  | not measured |  |" in text
    assert "| [`other`](#other) | 0.5 | 0.5 [0.3, 0.7] | published figure is wrong | 3 |" in text
    assert "- The published figure: a slip." in text


@pytest.mark.long
def test_the_cheapest_published_figures_are_reproduced(run: Callable[..., Called]) -> None:
    code, out, err = run("sincos", "memory-capacity")
    assert code == 0, err
    assert out.count(": reproduced") == 2
