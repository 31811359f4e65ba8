"""diagnosis.png is drawn from whatever a diagnosis.json may hold."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from made_diagnosis import baseline, layer, made, of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from seqrnn import plots
from seqrnn.diagnosis import page, panel
from seqrnn.diagnosis.diagnosis import read_diagnosis
from seqrnn.diagnosis.instrument import instruments
from seqrnn.diagnosis.instruments.noise import Noise
from seqrnn.errors import DataError
from seqrnn.plots import __main__ as command
from seqrnn.plots import loss, style
from seqrnn.plots.facts import Facts
from seqrnn.rundir.writer import RunWriter, write_diagnosis

CONFIG: dict[str, Any] = {"task": {"name": "integral"}, "model": {"name": "gru"}, "seed": 3, "smoke": False}
SUMMARY = {"status": "finished", "kind": "regression", "loss": "l1", "updates": 300}
LONG = "W" * 60 + " " + "a name of someone who likes to talk " * 3
QUESTIONS = 13


def changed(place: str, value: Any) -> dict[str, Any]:
    """A diagnosis with another value at a place; ``...``: without it."""
    values = made()
    part: Any = values
    *path, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    for key in path:
        part = part[key]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return values


def drawn(values: dict[str, Any], metrics: dict[str, Any] | None = None) -> Figure:
    """Draws the diagnosis as it is read from a file."""
    with TemporaryDirectory() as name:
        directory = run_directory(Path(name) / "run", values)
        figure = page.draw(read_diagnosis(directory), Facts(CONFIG, SUMMARY), metrics or {})
    figure.canvas.draw()
    return figure


def run_directory(directory: Path, values: dict[str, Any], rows: int = 0, **columns: float) -> Path:
    run = RunWriter(directory, CONFIG, [])
    for row in range(rows):
        run.record({"timesteps": 100 * row, "train_loss": 1.0 / (row + 1), "eval_loss": 0.5, **columns})
    run.write_summary(SUMMARY)
    run.close()
    write_diagnosis(directory, values, "")
    return directory


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """All that is written, and where."""
    found: list[Text] = list(figure.texts)
    for ax in figure.axes:
        found += [*ax.texts, ax.xaxis.label, ax.yaxis.label, *_ticks(ax)]
        found += ax.get_legend().get_texts() if ax.get_legend() else []
    return [(text.get_text(), Text.get_window_extent(text)) for text in found if text.get_text().strip()]


def _ticks(ax: Axes) -> list[Text]:
    found = []
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return found


def words(figure: Figure) -> str:
    return " ".join(text for text, _ in texts(figure))


def check_legible(figure: Figure) -> None:
    """Nothing is written over something else, or over the edge of the page."""
    boxes = [(text, box.padded(-1.0)) for text, box in texts(figure)]
    for text, box in boxes:
        assert min(box.x0, box.y0) >= -1, text
        assert (box.x1 <= figure.bbox.x1 + 1) & (box.y1 <= figure.bbox.y1 + 1), text
    for (one, first), (other, second) in combinations(boxes, 2):
        assert not first.overlaps(second), f"{one!r} and {other!r}"


def test_every_question_has_a_panel_and_causes_are_named_where_they_show() -> None:
    figure = drawn(made())
    assert len(figure.axes) == QUESTIONS
    check_legible(figure)
    printed = words(figure)
    for text in ("What to do: in trials", "schedule.streams=16", "► wider + longer", "diverges", "× 0.45", "≥ 10.6"):
        assert text in printed
    tags = {text: box.y0 for text, box in texts(figure) if text.startswith("◄")}
    questions = {text: box.y0 for text, box in texts(figure)}
    assert tags["◄ 2"] == pytest.approx(questions["Would averaging, or longer training, help?"], abs=3)
    assert printed.count("◄ 1") == 2  # reach and truncation


def test_an_effect_that_is_not_sure_is_neither_green_nor_red() -> None:
    ax = next(ax for ax in drawn(made()).axes if "remedy" in ax.get_xlabel())
    colours = {
        label.get_text(): next(line.get_color() for line in ax.get_lines() if line.get_ydata()[0] == place)
        for place, label in enumerate(ax.get_yticklabels())
    }
    assert colours["► wider + longer"] == style.GREEN
    assert colours["smaller steps"] == style.GREY
    assert colours["longer training"] == style.VERMILLION


@pytest.mark.parametrize(
    "name",
    [*(pytest.param(name, marks=pytest.mark.long) for name, one in instruments().items() if one.pictures()), "all"],
)
def test_what_was_not_measured_has_its_reason(name: str) -> None:
    values = made()
    for instrument in instruments() if name == "all" else [name]:
        del values["results"][instrument]
        values["missing"][instrument] = f"the {instrument} was out"
    values["verdict"].update(causes=[], other_trials=[], notes=[], advice=None, command=None)
    figure = drawn(values)
    check_legible(figure)
    printed = words(figure)
    assert "Each is a training from scratch." in printed
    if name == "all":
        assert not figure.axes
    else:
        assert f"the {name} was out" in printed


@pytest.mark.long
def test_names_of_any_length_and_kind_overlap_nothing() -> None:
    values = made()
    values["task"], values["model"] = "$x^2$\x1b[31m", LONG
    verdict, found = values["verdict"], values["results"]
    for place in (verdict["causes"][0]["finding"], verdict["notes"][0]):
        place.update(title=LONG, description=LONG * 20)
    verdict.update(headline=LONG * 9, command=LONG * 9, trials_note=LONG)
    verdict["advice"]["remedy"] = verdict["other_trials"][0]["remedy"] = LONG
    found["baselines"].update(best=LONG, baselines=[baseline(f"{LONG}{k}\n$") for k in range(30)])
    found["forgetting"]["update_ratios"] = {f"{LONG}{k}$_$": of(0.1**k) for k in range(40)}
    found["states"]["layers"] = [layer(LONG) for _ in range(9)]
    found["states"]["gates"] = [{**gate, "name": LONG} for gate in 9 * found["states"]["gates"]]
    found["memory"]["decoding"]["quantity"] = LONG
    found["reach"].update(window=10**15, needed_lag=10**18)
    found["drift"].update(training_timesteps=10**18)
    figure = drawn(values)
    check_legible(figure)
    assert r"\x1b[31m" in words(figure)
    assert "→" in words(figure)  # the window is longer than what was measured


@pytest.mark.first(1)
@pytest.mark.parametrize("value", [0.0, math.inf, -1.0, 1e-300, 1e300, 1e-30, 1e30])
def test_numbers_of_any_size(value: float) -> None:
    def replace(part: Any) -> Any:
        if isinstance(part, dict):
            return {
                key: kept if key in ("level", "threshold", "seconds") else replace(kept) for key, kept in part.items()
            }
        if isinstance(part, list):
            return [replace(one) for one in part]
        return value if isinstance(part, float) else part

    check_legible(drawn(replace(made())))


@pytest.mark.first(1)
@pytest.mark.parametrize("units", [1, 0, 10_000])
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_layers_of_any_number_and_cells_without_gates_or_saturation(units: int, layers: int) -> None:
    values = made()
    states = values["results"]["states"]
    states.update(layers=[layer(f"layer {k + 1}", units) for k in range(layers)], gates=[], jacobian=None)
    for one in states["layers"]:
        one.update(saturated=None, always_saturated=None)
    figure = drawn(values)
    check_legible(figure)
    assert "has no gates" in words(figure)
    assert "saturated" not in words(figure)


@pytest.mark.long
def test_curves_may_be_short_or_empty_and_what_is_optional_may_lack() -> None:
    values = made()
    found = values["results"]
    found["reach"].update(curve=[], lags=[], reach_at_lags=[], window=None, needed_lag=None)
    found["truncation"].update(windows=[], cosines=[], ratios=[], schedule_window=None)
    found["forgetting"].update(ages=[], losses=[], update_ratios={})
    found["memory"].update(capacity=None, needed_timesteps=None)
    found["memory"]["decoding"].update(lags=[0], scores=[of(0.5)], autocorrelation=None)
    found["drift"].update(times=[], losses=[])
    found["baselines"].update(baselines=[], best=None, ratio=None)
    found["states"]["jacobian"]["eigenvalues"] = []
    check_legible(drawn(values))
    found["memory"]["decoding"] = None
    found["reach"].update(curve=[1.0])
    check_legible(drawn(values))


def test_no_dot_lies_outside_of_its_axes() -> None:
    values = made()
    values["results"]["forgetting"].update(
        losses=[of(0.1, 0.0999, 0.1001)] * 4, upcoming_loss=of(0.1), validation_loss=of(0.1)
    )
    ax = next(ax for ax in drawn(values).axes if "since training read" in ax.get_xlabel())
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > 0.104


def test_eigenvalues_far_away_do_not_squeeze_the_circle() -> None:
    values = changed("results.states.jacobian.eigenvalues", [[[0.5, 0.0], [900.0, 0.0], [None, 1.0]]] * 3000)
    figure = drawn(values)
    ax = next(ax for ax in figure.axes if ax.get_ylabel() == "imaginary part")
    assert ax.get_xlim()[1] <= 3
    assert "beyond the picture" in words(figure)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("verdict", ..., "has no verdict"),
        ("verdict.notes", ..., "has no verdict.notes"),
        ("verdict.headline", 3, "verdict.headline should be text, not 3"),
        ("verdict.causes.0.finding", None, "verdict.causes[0].finding should be"),
        ("verdict.advice.effect", 0.5, "verdict.advice.effect should be"),
        ("results.reach.curve", "1", "results.reach.curve should be a list"),
        ("results.reach.curve.3", "x", "results.reach.curve[3] should be a number, not 'x'"),
        ("results.reach.lags.0", 1.5, "results.reach.lags[0] should be a whole number"),
        ("results.reach.lags", [1], "results.reach: has 1 lags and 6 reach_at_lags"),
        ("results.memory.decoding.autocorrelation", [], "results.memory.decoding: has 7 lags and 7 scores and 0"),
        ("results.noise.scale.low", True, "results.noise.scale.low should be a number, not True"),
        ("results.states.layers.0.dead", ..., "has no results.states.layers[0].dead"),
        ("results.states.jacobian.eigenvalues.0.1", [1.0], "results.states.jacobian.eigenvalues[0][1]"),
        ("results.drift", [], "results.drift should be"),
        ("missing", {"x": 1}, "missing.x should be text"),
        ("results.forgetting.update_ratios", {"x" * 201: of(1.0)}, "of at most 200 characters, not of 201"),
        ("version", 1, "version 1 of its format"),
        ("task", "x" * 201, "task should be text of at most 200 characters"),
    ],
)
def test_a_damaged_file_is_a_line_that_says_where(
    place: str, value: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = run_directory(tmp_path / "run", changed(place, value))
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        page.draw_diagnosis(directory)
    assert len(caught.value.problems) == 1
    assert str(directory / "diagnosis.json") in caught.value.problems[0]
    with pytest.raises(SystemExit) as exited:
        command.main([str(directory)])
    assert exited.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (directory / "diagnosis.png").exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 1e999}', "nonsense", '{"a":' * 5000 + "1" + "}" * 5000])
def test_what_is_no_diagnosis_is_a_line(text: str, tmp_path: Path) -> None:
    directory = run_directory(tmp_path / "run", made())
    (directory / "diagnosis.json").write_text(text)
    with pytest.raises(DataError, match=r"diagnosis\.json"):
        page.draw_diagnosis(directory)


@pytest.mark.long
def test_the_command_draws_it_again_if_it_is_there(tmp_path: Path) -> None:
    directory = run_directory(tmp_path / "run", made(), rows=3)
    assert [path.name for path in plots.draw(directory, others=[page.draw_diagnosis])] == [
        "loss.png",
        "diagnosis.png",
    ]
    assert 50_000 < (directory / "diagnosis.png").stat().st_size < 250_000
    (directory / "diagnosis.json").unlink()
    assert [path.name for path in plots.draw(directory, others=[page.draw_diagnosis])] == ["loss.png"]


@pytest.mark.long
def test_vital_signs_are_drawn_over_training_and_never_among_the_scores(tmp_path: Path) -> None:
    columns = {"eval_half_life": 9.0, "eval_truncation": 0.6, "eval_saturated": 0.2}
    rows = {"timesteps": np.arange(50.0), "eval_rank": np.full(50, np.nan), "eval_loss": np.linspace(1, 0.1, 50)}
    metrics = {**rows, **{name: np.linspace(0.5, 1, 50) * value for name, value in columns.items()}}
    figure = drawn(made(), metrics)
    assert len(figure.axes) == QUESTIONS + 3  # the rank was never known
    check_legible(figure)
    assert len(drawn(made(), {"timesteps": np.array([0.0]), "eval_rank": np.array([3.0])}).axes) == QUESTIONS + 1
    scores = loss.draw(metrics, Facts(CONFIG, SUMMARY))
    assert len(scores.axes) == 1
    drawn_there = [line.get_ydata() for line in scores.axes[0].get_lines() if len(line.get_ydata()) == 50]
    assert len(drawn_there) == 1


def test_a_picture_of_few_colours_keeps_those_that_matter(tmp_path: Path) -> None:
    from PIL import Image

    directory = run_directory(tmp_path / "run", made())
    (path,) = page.draw_diagnosis(directory)
    found = {colour for _, colour in Image.open(path).convert("RGB").getcolors(256) or []}
    for name in (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.INK, "#FFFFFF"):
        assert tuple(int(name[k : k + 2], 16) for k in (1, 3, 5)) in found, name


@pytest.mark.parametrize("keep_end", [False, True])
@pytest.mark.parametrize("text", ["", "W", "iiiii", "W" * 500, "cell.stack.weight_ih_l0_reverse"])
def test_shortened_text_is_no_wider(text: str, keep_end: bool) -> None:
    short = panel.fitted(text, 0.8, 8.5, keep_end=keep_end)
    assert panel.width_of(short, 8.5) <= 0.8
    if short != text:
        assert (short[1:] if keep_end else short[:-1]) in text
        assert panel.width_of(text, 8.5) > 0.8


@pytest.mark.parametrize("text", ["", "a b c", "W" * 300, "of words " * 40, " $ \x00"])
def test_wrapped_lines_are_no_wider_and_lose_nothing(text: str) -> None:
    lines = panel.wrapped(text, 1.5, 9.5)
    assert all(panel.width_of(line, 9.5) <= 1.5 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace("\x00", r"\x00").replace(" ", "")


def test_a_diagnosis_is_read_as_it_was_written(tmp_path: Path) -> None:
    first = read_diagnosis(run_directory(tmp_path / "first", made()))
    second = read_diagnosis(run_directory(tmp_path / "second", first.model_dump()))
    assert second.model_dump_json() == first.model_dump_json()
    assert math.isnan(Noise.model_validate(first.results["noise"]).scale.value)
    assert set(first.results) == set(instruments()) == set(made()["results"])


@pytest.mark.long
def test_a_diagnosis_is_drawn_without_torch(tmp_path: Path) -> None:
    directory = run_directory(tmp_path / "run", made())
    script = (
        "import sys; from seqrnn.plots.__main__ import main; main(sys.argv[1:])\n"
        "print('slow:', sorted({'torch', 'scipy', 'numba', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(directory)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "diagnosis.png" in result.stdout
    assert result.stdout.endswith("slow: []\n")
