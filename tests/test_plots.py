"""Pictures are drawn from a run directory alone, whatever a run has written into it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from PIL import Image

from seqrnn import plots
from seqrnn.errors import DataError
from seqrnn.plots import __main__ as command
from seqrnn.plots import loss, picture, pictures, samples, style
from seqrnn.plots.facts import Facts
from seqrnn.plots.pictures import classes as classes_picture
from seqrnn.plots.pictures import pieces, points
from seqrnn.plots.pictures import sequences as sequences_picture
from seqrnn.recording.arrays import samples as sample_arrays
from seqrnn.rundir.formats import PICTURES
from seqrnn.rundir.writer import RunWriter
from seqrnn.tasks.protocol import Chunk

RNG = np.random.default_rng(0)
CONFIG = {
    "task": {"name": "integral"},
    "model": {"name": "gru"},
    "optimizer": {"name": "adam", "lr": 0.01},
    "schedule": {"streams": 16, "window": 100, "stride": None, "update_every": 200, "carry": True},
    "seed": 3,
    "smoke": False,
}
SUMMARY = {
    "status": "finished",
    "kind": "regression",
    "loss": "l1",
    "updates": 300,
    "data_note": None,
    "test": {"loss": 0.012, "mse": 0.0004, "mae": 0.012, "max_error": 0.2},
    "baselines": {"constant (median)": {"loss": 0.35, "mse": 0.14, "mae": 0.35, "max_error": 0.5}},
}
CLASSES = {
    "kind": "classification",
    "loss": "cross_entropy",
    "test": {"loss": 0.3, "accuracy": 0.91},
    "baselines": {"constant (class frequencies)": {"loss": 2.3, "accuracy": 0.11}},
}


def make(
    directory: Path,
    task: dict[str, Any] | None = None,
    rows: list[dict[str, Any]] | None = None,
    predictions: dict[str, Any] | None = None,
    snapshots: dict[str, Any] | None = None,
    samples: dict[str, Any] | None = None,
    **summary: Any,
) -> Path:
    run = RunWriter(directory, {**CONFIG, "task": task or CONFIG["task"]}, [])
    for row in rows or []:
        run.record(row)
    run.write_summary({**SUMMARY, **summary})
    if predictions is not None:
        run.write_predictions(predictions)
    if snapshots is not None:
        run.write_snapshots(snapshots)
    if samples is not None:
        run.write_samples(samples)
    run.close()
    return directory


def facts(task: dict[str, Any] | None = None, **summary: Any) -> Facts:
    return Facts({**CONFIG, "task": task or CONFIG["task"]}, {**SUMMARY, **summary})


def rows(count: int, **columns: Any) -> list[dict[str, Any]]:
    """Rows of a run whose loss falls by a factor of 100; every fifth has an evaluation."""
    falling = np.geomspace(0.4, 0.004, count) * RNG.uniform(0.7, 1.4, count)
    return [
        {
            "timesteps": 1600 * number,
            "updates": number,
            "train_loss": None if number == 0 else float(value),
            "lr": None if number == 0 else 0.01 / number,
            "eval_loss": None if number % 5 else float(value),
            "eval_mae": None if number % 5 else float(value) * 1.1,
            **columns,
        }
        for number, value in enumerate(falling)
    ]


def sequences(steps: int, count: int = 3, inputs: int = 1, outputs: int = 1) -> dict[str, Any]:
    targets = np.cumsum(RNG.standard_normal((steps, count, outputs)), axis=0).astype(np.float32)
    starts = np.zeros((steps, count), bool)
    starts[0] = True
    return {
        "inputs": RNG.random((steps, count, inputs), np.float32),
        "targets": targets,
        "outputs": targets + 0.1 * RNG.standard_normal(targets.shape).astype(np.float32),
        "valid": np.ones((steps, count), bool),
        "starts": starts,
    }


def classes(mistakes: int, count: int = 40, steps: int = 12, inputs: int = 10, kinds: int = 10) -> dict[str, Any]:
    targets = np.arange(count) % kinds
    predicted = np.where(np.arange(count) < mistakes, (targets + 1) % kinds, targets)
    examples = np.arange(min(25, count))
    return {
        "outputs": (5.0 * np.eye(kinds)[predicted]).astype(np.float32),
        "targets": targets,
        "examples": examples,
        "example_inputs": RNG.random((steps, len(examples), inputs), np.float32),
    }


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def check_png(path: Path) -> None:
    pixels = imread(path)
    height, width = pixels.shape[:2]
    assert width == round(style.WIDTH * style.DPI)
    assert 150 < height < 1400
    dark = (pixels[..., :3].mean(axis=2) < 0.95).mean()
    assert 0.005 < dark < 0.9


# What is drawn from which data


def test_a_run_of_regression_has_loss_predictions_and_animation(tmp_path: Path) -> None:
    arrays = sequences(400)
    frames = {
        "timesteps": np.array([100, 2000]),
        "inputs": arrays["inputs"],
        "targets": arrays["targets"],
        "outputs": np.stack([np.zeros_like(arrays["targets"]), arrays["outputs"]]),
    }
    run = make(tmp_path / "run", rows=rows(60), predictions=arrays, snapshots=frames)
    paths = plots.draw(run)
    assert [path.name for path in paths] == ["loss.png", "predictions.png", "animation.gif"]
    check_png(paths[0])
    check_png(paths[1])
    with Image.open(paths[2]) as animation:
        assert getattr(animation, "n_frames", 1) == 2
        assert animation.width == 900
    assert not list(run.glob(".*"))  # no temporary file is left


@pytest.mark.long
def test_a_run_of_classification_has_samples_and_bars(tmp_path: Path) -> None:
    arrays = classes(mistakes=7)
    frames = {
        "timesteps": np.array([100, 2000]),
        "inputs": arrays["example_inputs"][:, :10],
        "targets": arrays["targets"][None, :10],
        "outputs": np.stack([np.zeros((1, 10, 10)), arrays["outputs"][None, :10]]),
    }
    shown = {"inputs": arrays["example_inputs"][:, :10], "targets": arrays["targets"][:10]}
    run = make(tmp_path / "run", {"name": "mnist"}, rows(20), arrays, frames, shown, **CLASSES)
    paths = plots.draw(run)
    assert [path.name for path in paths] == ["loss.png", "predictions.png", "animation.gif", "samples.png"]
    for path in paths:
        if path.suffix == ".png":
            check_png(path)
    (run / "summary.json").unlink()
    assert plots.draw_samples(run) == [run / "samples.png"]  # as before a run


@pytest.mark.parametrize("continuous", [False, True])
def test_pieces_are_put_in_order_and_the_caption_tells_whether_the_state_is_carried(
    tmp_path: Path, continuous: bool
) -> None:
    t = np.arange(12)[:, None] + np.linspace(0, 1, 10)  # (pieces, points), in half waves
    arrays = {"inputs": np.sin(np.pi * t), "targets": np.cos(np.pi * t), "outputs": 0.9 * np.cos(np.pi * t)}
    flags = {"valid": np.repeat(np.arange(12)[:, None] >= 8, 10, 1), "starts": np.zeros((12, 10), bool)}
    flags["starts"][0 if continuous else slice(None), 0] = True
    order = (lambda values: values.reshape(-1, 1)) if continuous else np.transpose
    stored = {name: order(values)[..., None] for name, values in arrays.items()}
    stored |= {name: order(values) for name, values in flags.items()}
    figure = pieces.draw(stored, facts(picture={"name": "pieces", "length": 10, "axis": "t / π", "target": "cos t"}))
    assert ("is carried" in words(figure)) == continuous
    assert ("is reset at every piece" in words(figure)) == (not continuous)
    top = figure.findobj(lambda artist: getattr(artist, "get_label", str)() == "target cos t")[0]
    x, y = (np.asarray(values) for values in (top.get_xdata(), top.get_ydata()))
    shown = np.isfinite(x)
    assert (np.diff(x[shown]) >= 0).all()
    np.testing.assert_allclose(y[shown], np.cos(np.pi * x[shown]), atol=1e-12)
    check_png(style.save(figure, tmp_path / "sincos.png"))


def test_points_are_drawn_on_the_axis_that_the_task_asks_for(tmp_path: Path) -> None:
    values = {"name": "points", "axis": "t", "start": 2.4, "step": 0.4, "target": "sin t"}
    arrays = sequences(20, count=1)
    paths = plots.draw(make(tmp_path / "run", None, rows(3), arrays, picture=values))
    check_png(paths[1])
    figure = points.draw(arrays, facts(picture=values))
    assert {"t", "sin t"} <= set(words(figure).splitlines())
    line = figure.findobj(lambda artist: getattr(artist, "get_label", str)() == "actual")[0]
    np.testing.assert_allclose(line.get_xdata(), np.linspace(2, 10, 21)[1:])
    np.testing.assert_allclose(line.get_ydata(), arrays["targets"][:, 0, 0])


GENERAL = "errors of all test sequences"


@pytest.mark.parametrize("name", ["points", "pieces"])
def test_data_that_does_not_fit_the_picture_that_the_task_asks_for_gets_the_general_one(name: str) -> None:
    chosen = picture.find(facts(picture={"name": name, "length": 4}))
    assert chosen is not sequences_picture
    assert GENERAL in words(chosen.draw(sequences(17), facts(picture={"name": name, "length": 4})))


@pytest.mark.parametrize("name", ["", "nosuch", "classes", "../style", "__init__", "sequences", None])
def test_a_name_that_is_no_picture_of_the_kind_gives_the_default_of_the_kind(name: str | None) -> None:
    asked = None if name is None else {"name": name}
    assert picture.find(facts(picture=asked)) is sequences_picture
    assert picture.find(facts(**CLASSES, picture=asked and {"name": "points"})) is classes_picture


def test_every_picture_is_a_file_that_draws_and_animates() -> None:
    files = {path.stem: path for path in Path(pictures.__file__).parent.glob("[!_]*.py")}
    assert sorted(files) == sorted(name for names in PICTURES.values() for name in names)
    for kind, names in PICTURES.items():
        for name in names:
            found = picture.find(facts(kind=kind, picture={"name": name}))
            assert getattr(found, "__file__", None) == str(files[name])
            assert callable(found.draw)
            assert callable(found.animate)


# Odd shapes and values


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("steps", "count", "inputs", "outputs"),
    [(1, 1, 1, 1), (1, 90, 1, 1), (2, 4, 3, 2), (300, 1, 6, 5), (4000, 1, 1, 1)],
)
def test_sequences_of_any_shape(tmp_path: Path, steps: int, count: int, inputs: int, outputs: int) -> None:
    figure = sequences_picture.draw(sequences(steps, count, inputs, outputs), facts())
    check_png(style.save(figure, tmp_path / "picture.png"))


def test_sequences_judged_at_their_last_timestep_are_shown_side_by_side() -> None:
    arrays = sequences(30, count=50)
    arrays["valid"][:-1] = False
    assert "judged timesteps" in words(sequences_picture.draw(arrays, facts()))


@pytest.mark.first(1)
@pytest.mark.parametrize("outputs", [math.nan, math.inf, 1e38])
def test_outputs_that_are_not_finite_are_counted_in_the_caption(outputs: float) -> None:
    arrays = sequences(60)
    arrays["outputs"][10:] = outputs
    figure = sequences_picture.draw(arrays, facts(status="diverged"))
    figure.draw_without_rendering()
    assert ("150 outputs are not finite" in words(figure)) == (not math.isfinite(outputs))
    assert "diverged after 300 updates" in words(figure)


def test_nothing_valid_and_nothing_wrong() -> None:
    nothing, perfect = sequences(20), sequences(20)
    nothing["valid"][:] = False
    perfect["outputs"] = perfect["targets"]
    assert "none is finite" in words(sequences_picture.draw(nothing, facts()))
    assert "all are 0" in words(sequences_picture.draw(perfect, facts()))


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("mistakes", "shape"),
    [(0, {}), (1, {"count": 2}), (40, {}), (3, {"steps": 5, "inputs": 2, "kinds": 3}), (3, {"kinds": 40})],
)
def test_classes_of_any_number_with_any_number_of_mistakes(mistakes: int, shape: dict[str, int]) -> None:
    figure = classes_picture.draw(classes(mistakes, **shape), facts(**CLASSES))
    text = words(figure)
    assert f"{mistakes} mistake{'s' * (mistakes != 1)} in" in text
    assert ("no mistakes" in text) == (mistakes == 0)
    assert ("Accuracy by class" in text) == (shape.get("steps") == 5)  # no images
    if mistakes != 40:
        figure.draw_without_rendering()


def test_classes_are_shown_by_their_names() -> None:
    named = facts(**CLASSES, classes=["normal", "cost $1$", "unbalanced rotor"])
    shown = words(classes_picture.draw(classes(2, inputs=3, kinds=3), named))
    assert "normal" in shown
    assert r"cost \$1\$" in shown  # no formula
    assert "unbalanced …" in shown
    arrays = {"inputs": RNG.random((50, 3, 2)), "targets": np.array([0, 2, 1])}
    assert "class unbalanced rotor" in words(samples.draw(arrays, named))
    assert "class 2" in words(samples.draw(arrays, facts(**CLASSES)))
    columns = samples.draw(arrays, named, ["speed $x$", "load"][: arrays["inputs"].shape[2]]).axes[0].get_legend()
    assert columns is not None
    assert "speed" in columns.get_texts()[0].get_text()


def test_samples_that_are_no_images_are_lines() -> None:
    arrays = {"inputs": RNG.standard_normal((30, 4, 2)), "targets": np.array([0, 1, 1, 0])}
    assert words(samples.draw(arrays, facts())).count("class 1") == 2


# How a run went


def test_rows_may_lack_values_and_may_be_one_or_none(tmp_path: Path) -> None:
    single = make(tmp_path / "single", rows=rows(1))
    check_png(plots.draw(single)[0])
    blank = [{**row, "train_loss": None, "eval_loss": None, "eval_mae": None, "lr": None} for row in rows(4)]
    check_png(plots.draw(make(tmp_path / "blank", rows=blank))[0])
    assert plots.draw(make(tmp_path / "none")) == []


def test_a_diverged_run_is_marked(tmp_path: Path) -> None:
    went = [*rows(10), {**rows(1)[0], "timesteps": 16000, "train_loss": 3e34, "eval_loss": 7e300, "eval_mae": None}]
    run = make(tmp_path / "run", rows=went, status="diverged", updates=10, test={}, baselines={})
    check_png(plots.draw(run)[0])
    columns = {name: np.array([np.nan if row[name] is None else row[name] for row in went]) for name in went[0]}
    figure = loss.draw(columns, facts(status="diverged", updates=10, test={}, baselines={}))
    assert "diverged after update 10" in words(figure)


def test_the_baselines_are_named_and_do_not_squeeze_the_curves() -> None:
    columns = {"timesteps": np.arange(5.0), "train_loss": np.array([0.9, 0.2, 0.05, 0.02, 0.01])}
    losses = {"zero": 0.0, "tiny (floor)": 1e-30, "cost in $": 0.5, "mine": 2}
    baselines = {name: {"loss": value} for name, value in losses.items()}
    figure = loss.draw(columns, facts(validation_baselines=baselines))
    text = words(figure)
    assert {"zero 0.00 ↓", "tiny 1.00e-30 ↓", r"cost in \$ 0.500", "mine 2.00"} <= set(text.splitlines())
    low, high = next(ax for ax in figure.findobj() if getattr(ax, "get_yscale", str)() == "log").get_ylim()
    assert 1e-3 < low < 0.01
    assert 2 < high < 20
    figure.draw_without_rendering()


def test_the_baselines_of_the_validation_data_are_drawn_beside_its_curve_and_not_those_of_the_test_data() -> None:
    evaluations = {"eval_loss": np.array([0.9, 0.3]), "eval_max_error": np.array([0.9, 0.8])}
    columns = {"timesteps": np.arange(2.0), "train_loss": np.array([np.nan, 0.2]), **evaluations}
    drawn = facts(
        baselines={"constant (mean)": {"loss": 0.35, "max_error": 0.95}},
        validation_baselines={"constant (mean)": {"loss": 0.45, "max_error": 0.85}},
    )
    text = words(loss.draw(columns, drawn)).splitlines()
    assert {"constant 0.450", "constant 0.850", "baselines on validation data", "validation"} <= set(text)
    assert not {"constant 0.350", "constant 0.950"} & set(text)
    without = words(loss.draw(columns, facts()))  # of an older version, which did not record them
    assert "constant 0." not in without.partition("\n")[2]
    assert "baselines on validation data" not in without


def test_the_second_panel_shows_what_the_loss_does_not() -> None:
    evaluations = {"eval_loss": np.array([0.3, 0.2]), "eval_max_error": np.array([0.9, 0.8])}
    columns = {"timesteps": np.arange(2.0), "train_loss": np.array([np.nan, 0.2]), **evaluations}
    assert "\nMAE" in words(loss.draw({**columns, "eval_mae": np.array([0.4, 0.3])}, facts(loss="mse")))
    assert "\nlargest |error|" in words(loss.draw({**columns, "eval_mae": columns["eval_loss"]}, facts()))
    assert "\naccuracy" in words(loss.draw({**columns, "eval_accuracy": np.array([0.1, 0.9])}, facts(**CLASSES)))


def test_names_at_the_edge_are_moved_apart_as_little_as_need_be() -> None:
    assert loss._apart([], 0.1) == []
    assert loss._apart([0.1, 0.5], 0.1) == [0.1, 0.5]
    moved = loss._apart([0.2, 0.5, 0.5, 0.52], 0.1)
    np.testing.assert_allclose(moved, [0.2, 0.40667, 0.50667, 0.60667], atol=1e-5)


def test_the_title_has_the_score_and_the_notes_what_a_reader_must_know() -> None:
    assert facts().title == "integral with gru: test MAE 0.0120 (constant 0.350)"
    assert facts(loss="mse").title == "integral with gru: test MSE 0.000400 (constant 0.140)"
    assert facts(**CLASSES).title == "integral with gru: test accuracy 91.00 % (constant 11.00 %)"
    assert facts(test={}).title == "integral with gru"
    assert "not finite" in facts(test={"mae": None}).title
    many = {f"a baseline with a long name {number}": {"mae": 0.1} for number in range(9)}
    assert len(facts(baselines=many).title) <= 80
    assert "(best 0.05" in facts(baselines={**many, "best": {"mae": 0.05}}).title
    assert facts().training_line == "adam (lr 0.01), 16 streams, window 100, update every 200, state carried, seed 3"
    smoke = Facts({**CONFIG, "smoke": True}, {**SUMMARY, "data_note": "stand-in digits", "status": "interrupted"})
    assert len(smoke.notes) == 3
    text = words(style.page(1, smoke, "")[0])
    assert "smoke run" in text
    assert "stand-in digits" in text
    assert "interrupted after 300" in text


def test_what_the_data_is_is_no_warning() -> None:
    table = Facts(CONFIG, {**SUMMARY, "data_note": "sales.csv: 612 timesteps", "data_note_warns": False})
    assert table.notes == []
    (line,) = [text for text in style.page(1, table, "")[0].findobj(Text) if "612 timesteps" in text.get_text()]
    assert line.get_color() == style.GREY
    warning = Facts(CONFIG, {**SUMMARY, "data_note": "stand-in digits"})
    assert warning.notes == ["data: stand-in digits"]


def test_samples_of_several_inputs_have_a_legend_and_end_where_they_end() -> None:
    inputs = np.random.default_rng(0).standard_normal((30, 4, 2))
    valid = np.zeros((30, 4), bool)
    valid[[9, 29, 29, 14], range(4)] = True
    chunk = Chunk(*map(torch.from_numpy, (inputs, np.zeros((30, 4), int), valid, valid)))
    batch: Any = SimpleNamespace(timesteps=30, read=lambda start, stop: chunk)
    found = sample_arrays(batch)
    assert np.isfinite(found["inputs"]).all(axis=2).sum(axis=0).tolist() == [10, 30, 30, 15]
    assert np.isfinite(inputs).all()  # those of the batch are as they were
    text = words(samples.draw(found, facts(**CLASSES)))
    assert "input 1" in text
    assert "input 2" in text


# Drawing again


def test_a_picture_that_is_drawn_again_is_the_same(tmp_path: Path) -> None:
    run = make(tmp_path / "run", rows=rows(8))
    (path,) = plots.draw(run)
    before = path.read_bytes()
    (second,) = plots.draw(run)
    assert second.read_bytes() == before
    assert not list(run.glob(".*"))


def test_damaged_and_incomplete_arrays_are_reported(tmp_path: Path) -> None:
    run = make(tmp_path / "run", predictions={"outputs": np.zeros(3)})
    with pytest.raises(DataError, match="has no inputs, targets, valid, starts"):
        plots.draw(run)
    (run / "predictions.npz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match="cannot be read"):
        plots.draw(run)


def test_the_command_names_what_it_cannot_draw_and_draws_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = make(tmp_path / "good", rows=rows(4)), tmp_path / "nowhere"
    with pytest.raises(SystemExit) as stop:
        command.main([str(bad), str(good)])
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out.split() == [str(good / "loss.png")]
    assert err.startswith(f"error: {bad}: not a run directory")
    assert len(err.splitlines()) == 1


def test_neither_torch_nor_pyplot_is_needed(tmp_path: Path) -> None:
    run = make(tmp_path / "run", rows=rows(4))
    script = (
        "import sys, seqrnn.plots; assert 'matplotlib' not in sys.modules\n"
        "from seqrnn.plots.__main__ import main; main(sys.argv[1:])\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(run / "loss.png")


def test_a_torn_last_row_and_a_damaged_file_spoil_nothing_else(tmp_path: Path) -> None:
    directory = make(tmp_path / "run", rows=rows(5, train_loss=1.0), predictions=sequences(50))
    with (directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"timesteps": 9')  # as a killed run leaves it
    assert {path.name for path in plots.draw(directory)} >= {"loss.png", "predictions.png"}

    for path in directory.glob("*.png"):
        path.unlink()
    (directory / "metrics.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        plots.draw(directory)
    assert [path.name for path in directory.glob("*.png")] == ["predictions.png"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "[]"),
        ("summary.json", '{"kind": "regression", "baselines": {"a": 3}}'),
        ("config.yaml", "- 1"),
    ],
)
def test_contents_that_do_not_fit_together_are_one_line(
    name: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = make(tmp_path / "run", rows=rows(5, train_loss=1.0), predictions=sequences(50))
    (directory / name).write_text(content)
    with pytest.raises(SystemExit) as stop:
        command.main([str(directory)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert str(directory) in error
    assert error.count("\n") == 1


# Whatever else is on the machine


def test_the_parameters_of_a_matplotlibrc_change_nothing(tmp_path: Path) -> None:
    run = make(tmp_path / "run", rows=rows(8))
    (path,) = plots.draw(run)
    before = path.read_bytes()
    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "red", "font.family": "nosuch"}):
        (path,) = plots.draw(run)
        assert matplotlib.rcParams["axes.facecolor"] == "red"  # and they are as they were afterwards
    assert path.read_bytes() == before


def test_nothing_in_a_received_directory_is_run_or_obeyed_by_a_command_inside_of_it(tmp_path: Path) -> None:
    run = make(tmp_path / "run", rows=rows(4))
    for name in ("yaml", "argparse", "numpy", "hydra", "matplotlib", "pathlib", "dataclasses"):
        (run / f"{name}.py").write_text(f"open('{tmp_path}/sprung', 'a').write('{name} ')\nraise SystemExit(9)\n")
    (run / "matplotlibrc").write_text("text.usetex: True\n")
    commands = {
        "plots": ["-m", "seqrnn.plots", "."],
        "diagnose": ["-m", "seqrnn.diagnose", "--seconds=nonsense", "."],
        "plots with -P": ["-P", "-m", "seqrnn.plots", "."],
    }
    for name, arguments in commands.items():
        if name == "plots with -P":  # Python itself imports this one for -m
            (run / "warnings.py").write_text((run / "yaml.py").read_text())
        done = subprocess.run(
            [sys.executable, *arguments], cwd=run, capture_output=True, text=True, check=False,
            env={**os.environ, "PATH": ""},
        )  # fmt: skip
        assert not (tmp_path / "sprung").exists(), (name, (tmp_path / "sprung").read_text())
        assert "Traceback" not in done.stderr
        assert done.returncode == (2 if name == "diagnose" else 0), done.stderr
    assert (run / "loss.png").exists()


def test_the_first_use_of_an_installation_logs_nothing(tmp_path: Path) -> None:
    run = make(tmp_path / "run", rows=rows(4))
    script = (
        "import logging, sys, pathlib; logging.basicConfig(level=logging.INFO, format='[HYDRA] %(message)s')\n"
        "from seqrnn import plots; plots.draw(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(run)], capture_output=True, text=True, check=True,
        env={**os.environ, "MPLCONFIGDIR": str(tmp_path / "fonts")},
    )  # fmt: skip
    assert done.stdout + done.stderr == ""
    assert list((tmp_path / "fonts").glob("fontlist*"))
