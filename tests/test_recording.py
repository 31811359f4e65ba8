"""What is printed and recorded of a run, and what happens when that fails."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Finished
from rich.console import Console

import seqrnn
from seqrnn import plots, registry
from seqrnn.errors import DataError
from seqrnn.evaluation import Predictions
from seqrnn.monitor import Progress
from seqrnn.plots import drawing, loss
from seqrnn.plots.pictures import points
from seqrnn.plots.pictures.points import draw as draw_points
from seqrnn.recording import arrays, conclusion, provenance, terminal
from seqrnn.recording.score_table import ScoreTable

Command = Callable[..., Finished]
SCORES = {
    "gru": {"loss": 1.2933e-05, "mse": 2.587e-05, "mae": 0.01201, "rmse": 0.00509, "max_error": 12345.678, "r2": 1.0},
    "constant (mean)": {"loss": 0.5, "mse": 1, "mae": 0.9, "rmse": 1, "max_error": 1.9, "r2": 0},
    "a baseline with quite a long name": {
        "loss": -1.234e-10, "mse": 1e300, "mae": 0.9, "rmse": 1, "max_error": 1.9, "r2": -1234.5,
    },
}  # fmt: skip
NUMBERS = {"1.29e-05", "2.59e-05", "0.01201", "0.00509", "1.235e+04", "1.0000", "-1.23e-10", "1e+300", "-1234.5000"}


# The table of scores


@pytest.mark.parametrize("width", [100, 80, 60, 40, 20])
def test_a_table_of_any_width_has_every_number_whole(width: int) -> None:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(ScoreTable(SCORES, "half_mse"))
    text = capture.get()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert set(text.split()) >= NUMBERS
    assert text.count("-1234.5000") == 1
    flat = re.sub(r"\s+", "", text)
    for metric in ("mse", "mae", "rmse", "max", "error", "r2"):
        assert metric in flat


def test_a_table_is_one_table_where_it_fits() -> None:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(ScoreTable(SCORES, "mse"))
    lines = capture.get().splitlines()
    assert sum(line.startswith("test") for line in lines) == 1
    assert any(line.startswith("a baseline with quite a long name ") for line in lines)


@pytest.mark.parametrize(("name", "labelled"), [("half_mse", True), ("mse", False), ("l1", False)])
def test_a_loss_that_is_half_of_the_mse_is_labelled_so(name: str, labelled: bool) -> None:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(ScoreTable(SCORES, name))
    assert ("(½mse)" in capture.get()) == labelled


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ({"mse": 2e12}, "does not beat the trivial predictor persistence: mse 2e+12, not 0.3"),
        ({"mse": 0.4}, "does not beat the trivial predictor persistence: mse 0.4, not 0.3"),
        ({"mse": 0.2}, None),
        ({"accuracy": 0.4}, "does not beat the trivial predictor constant (0): accuracy 0.4, not 0.5"),
        ({"accuracy": 0.6}, None),
    ],
)
def test_a_network_that_does_not_beat_the_trivial_predictors_is_named(
    network: dict[str, float], expected: str | None
) -> None:
    baselines = {
        "constant (0)": {"mse": 1.0, "accuracy": 0.5},
        "persistence": {"mse": 0.3, "accuracy": float("nan")},
        "floor (all is known)": {"mse": 0.1, "accuracy": 0.9},
    }
    task: Any = object()
    assert conclusion.shortfall({"gru": network, **baselines}, task, next(iter(network))) == expected
    assert conclusion.shortfall({"gru": network}, task, next(iter(network))) is None


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_run_on_a_narrow_screen_prints_its_scores_whole(
    width: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    finished = command("task=sine", "smoke=true", "plots.draw=false")
    assert finished.exit_code == 0, finished.err
    assert "…" not in finished.out
    test = finished.summary["test"]
    assert f"{test['mse']:.4g}" in finished.out.split()
    assert f"{test['r2']:.4f}" in finished.out.split()


# The summary


def test_the_baselines_on_the_validation_data_are_recorded_before_the_training(command: Command) -> None:
    finished = command("task=integral", "smoke=true", "plots.draw=false")
    summary = finished.summary
    assert set(summary["validation_baselines"]) == set(summary["baselines"])
    assert summary["validation_baselines"] != summary["baselines"]  # other data
    for scores in summary["validation_baselines"].values():
        assert set(scores) == set(summary["test"])
    on_sine = command("task=sine", "smoke=true", "plots.draw=false", "hydra.run.dir=sine").directory.parent / "sine"
    summary = Finished(0, "", "", on_sine).summary
    assert summary["validation_baselines"] == summary["baselines"]  # the same data
    assert summary["picture"]["name"] == "points"


@pytest.mark.parametrize("name", ["test", "validation", "train", "task", "gru"])
def test_a_baseline_with_the_name_of_something_else_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = registry.find("task", "sine")
    known = task.baselines
    monkeypatch.setattr(task, "baselines", lambda self: {name: known(self)["persistence"]})
    with pytest.raises(
        DataError, match=f"task.name=sine: its trivial predictor '{name}' has the name of .*baselines"
    ):
        seqrnn.run(["task=sine", "model=gru", "smoke=true", f"hydra.run.dir={tmp_path}/run"], quiet=True)
    assert not seqrnn.load(tmp_path / "run").summary["test"]


def test_the_git_revision_is_that_of_the_source_whatever_repository_git_is_set_to_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provenance.git_revision.cache_clear()
    own = provenance.git_revision()
    if own is None:
        pytest.skip("the source is in no git checkout")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "another"], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / ".git" / "index"))
    provenance.git_revision.cache_clear()
    assert provenance.git_revision() == own
    provenance.git_revision.cache_clear()


def test_as_many_sequences_are_stored_as_a_reader_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (10, 8, 3)  # (T, N, O): 10 · (3 · 3 · 8 + 2) = 740 bytes of a sequence
    values, flags = np.ones(shape), np.ones(shape[:2], bool)
    predictions = Predictions(values, values, values, flags, flags)
    for most_timesteps, most_bytes, expected in ((80, 2**20, 8), (50, 2**20, 5), (80, 3 * 740, 3), (80, 739, 1)):
        monkeypatch.setattr(arrays, "MOST_STORED", most_timesteps)
        monkeypatch.setattr(arrays, "MOST_STORED_BYTES", most_bytes)
        stored = arrays.predictions_of(predictions, "regression")
        assert {array.shape[1] for array in stored.values()} == {expected}


# Pictures that cannot be drawn


def test_a_picture_that_cannot_be_drawn_leaves_the_run_finished_and_is_reported(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr(loss, "draw", broken)
    finished = command("task=sine", "smoke=true", "plots.draw=true")
    assert finished.exit_code == 0
    assert finished.summary["status"] == "finished"
    (problem,) = finished.summary["problems"]
    assert "ZeroDivisionError: nothing to divide by" in problem
    assert finished.summary["test"]["loss"] > 0
    for text in (finished.out, (finished.directory / "train.log").read_text(encoding="utf-8")):
        assert "finished after" in text
        flat = re.sub(r"\s+", " ", text)
        assert "could not be drawn: " in flat
        assert "nothing to divide by" in flat
        assert "draw the pictures with: python -m seqrnn.plots run" in flat
    assert not (finished.directory / "loss.png").exists()
    assert (finished.directory / "predictions.png").exists()
    monkeypatch.undo()
    assert {path.name for path in plots.draw(finished.directory)} == {"loss.png", "predictions.png"}


def test_a_matplotlib_that_cannot_be_imported_leaves_the_run_finished(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ImportError("no module named matplotlib")

    monkeypatch.setattr(drawing, "draw", broken)
    finished = command("task=sine", "smoke=true")
    assert (finished.exit_code, finished.summary["status"]) == (0, "finished")
    assert finished.summary["problems"] == ["no pictures: no module named matplotlib"]


def test_a_run_that_fails_names_both_its_error_and_the_pictures(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise DataError("loss.png: no room")

    monkeypatch.setattr(drawing, "draw", broken)
    finished = command("task=sine", "schedule.max_updates=50", "optimizer=sgd", "optimizer.lr=1e18")
    assert finished.exit_code == 3
    assert finished.summary["status"] == "diverged"
    diverged, not_drawn = finished.summary["problems"]
    assert diverged.startswith("diverged")
    assert not_drawn == "loss.png: no room"


def test_ctrl_c_while_the_pictures_are_drawn_leaves_the_run_finished_and_is_the_exit_code(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(loss, "draw", interrupted)
    finished = command("task=sine", "smoke=true")
    assert finished.exit_code == 130
    assert finished.summary["status"] == "finished"
    assert finished.out.splitlines()[-1] == "run"


@pytest.mark.long
def test_a_task_from_outside_the_package_chooses_its_picture(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "cosine.yaml").write_text(
        "# @package _global_\ntask:\n  name: cosine\nsuggested: {epochs: 2, streams: 1, window: 5}\n"
    )
    (tmp_path / "cosine_plugin.py").write_text(
        "import torch\n"
        "from seqrnn import metrics\n"
        "from seqrnn.registry import register\n"
        "from seqrnn.rundir.formats import Picture\n"
        "from seqrnn.tasks.protocol import stored\n"
        "\n"
        "@register('task', 'cosine')\n"
        "class Cosine:\n"
        "    input_size = output_size = 1\n"
        "    kind, loss, metrics = 'regression', 'mse', staticmethod(metrics.regression)\n"
        "    picture = Picture(name='points', axis='angle', start=3.0, target='cosine')\n"
        "    def __init__(self, seed): pass\n"
        "    def train(self, epoch, streams):\n"
        "        wave = torch.cos(torch.arange(11, dtype=torch.float64)).reshape(-1, 1, 1)\n"
        "        return [stored(wave[:-1], wave[1:])]\n"
        "    def validation(self): return self.train(0, 1)\n"
        "    def test(self): return self.train(0, 1)\n"
        "    def baselines(self): return {'persistence': lambda chunk: chunk.inputs}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    drawn = []
    monkeypatch.setattr(
        points, "draw", lambda arrays, facts: drawn.append(facts.picture) or draw_points(arrays, facts)
    )
    finished = command("plugins=[cosine_plugin]", f"hydra.searchpath=[file://{tmp_path}/conf]", "task=cosine")
    assert finished.exit_code == 0, finished.err
    assert finished.summary["problems"] == []
    assert [(picture.name, picture.axis, picture.start) for picture in drawn] == [("points", "angle", 3.0)]
    assert (finished.directory / "predictions.png").exists()


def test_progress_in_a_pipe_waits_until_it_means_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    shown = terminal.Terminal(tmp_path / "train.log", "loss")
    progress = Progress(planned_updates=100)

    def line_at(seconds: float, position: int) -> str:
        nonlocal now
        now, progress.position = 1000.0 + seconds, position
        progress.timesteps, progress.train_seconds, progress.train_loss = 32 * position, seconds, 0.4
        shown.progress(progress)
        return capsys.readouterr().out

    assert line_at(60, 1) == ""  # after a long start, the first block
    assert line_at(60.2, 3) == ""
    line = line_at(66, 25)  # 24 updates in 6 s: 75 are left
    assert line.startswith(" 25%  800 timesteps")
    assert "19 s left" in line
    assert line_at(67, 30) == ""
    shown.close()
