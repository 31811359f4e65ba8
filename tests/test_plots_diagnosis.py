"""diagnosis.png is drawn from whatever a diagnosis.json may hold."""

from __future__ import annotations

import copy
import json
import math
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from seqrnn import plots
from seqrnn.errors import DataError
from seqrnn.plots import __main__ as command
from seqrnn.plots import diagnosis, loss, measured, panel, style
from seqrnn.plots.facts import Facts
from seqrnn.rundir.writer import RunWriter, write_diagnosis

CONFIG: dict[str, Any] = {"task": {"name": "integral"}, "model": {"name": "gru"}, "seed": 3, "smoke": False}
SUMMARY = {"status": "finished", "kind": "regression", "loss": "l1", "updates": 300}
LONG = "W" * 60 + " " + "a name of someone who likes to talk " * 3
QUESTIONS = 12


def of(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    """An interval; around the value if nothing is said."""
    low = low if low is not None or value is None else 0.8 * value
    return {"value": value, "low": low, "high": high if high is not None or value is None else 1.25 * value}


def finding(name: str, title: str = "It forgets", says: str = "Its loss is lower on what it has just seen.") -> Any:
    return {"name": name, "title": title, "says": says, "evidence": [], "remedies": []}


def tried(remedy: str, effect: dict[str, float | None]) -> dict[str, Any]:
    return {"remedy": remedy, "overrides": ["schedule.window=50"], "length": 1, "effect": effect, "helps": True}


def layer(name: str = "layer 1", units: int = 50) -> dict[str, Any]:
    shares = {key: of(0.1) for key in ("saturated", "always_saturated", "dead", "duplicate")}
    return {"name": name, "units": units, **shares, "effective_rank": of(0.3 * units)}


def made() -> dict[str, Any]:
    """A diagnosis that has everything."""
    lags = [0, 1, 2, 5, 10, 20, 50]
    return {
        "version": 1,
        "task": "integral",
        "model": "gru",
        "level": 0.95,
        "verdict": {
            "headline": "It has learned a part: its loss is 0.133 [0.119, 0.146] of that of the input itself.",
            "solved": False,
            "causes": [
                {"finding": finding("window"), "tried": [tried("longer window", of(0.6)), tried("wider", of(0.45))]},
                {"finding": finding("noise"), "tried": [tried("wider", of(0.45)), tried("smaller steps", of(1.1))]},
            ],
            "notes": [finding("unused")],
            "others": [tried("larger steps", of(1e31)), tried("longer training", of(2.0, 1.5, 2.5))],
            "advice": tried("wider + longer", of(0.2)),
            "command": "python -m seqrnn.train task=integral schedule.window=50 schedule.streams=16",
            "trials": "Each is a training from scratch.",
        },
        "instruments": {
            "baselines": {
                "loss": of(0.04),
                "best": "input itself",
                "ratio": of(0.13),
                "baselines": [{"name": "input itself", "loss": of(0.28)}, {"name": "floor (x)", "loss": of(0.01)}],
            },
            "reach": {
                "curve": [0.97**lag for lag in range(501)],
                "lags": lags[1:],
                "at_lags": [of(0.97**lag) for lag in lags[1:]],
                "half_life": of(22.4),
                "window": 2,
                "needed": 65,
            },
            "truncation": {
                "windows": [1, 2, 5, 250],
                "cosines": [of(0.2), of(0.4), of(0.6), of(1.0, 1.0, 1.0)],
                "ratios": [of(0.02), of(0.04), of(0.3), of(1.0, 1.0, 1.0)],
                "schedule": 2,
                "cosine": of(0.4),
                "ratio": of(0.04),
                "faithful": 50,
            },
            "forgetting": {
                "ages": [50, 500, 5000, 50_000],
                "losses": [of(0.04), of(0.06), of(0.065), of(0.07)],
                "ahead": of(0.06),
                "unseen": of(0.058),
                "gap": of(0.36),
                "averaged": of(0.63),
                "change": of(0.9),
                "update_ratio": {"cell.stack.weight_hh_l0": of(2e-4), "head.bias": of(0.3, -0.04, 0.64)},
            },
            "noise": {"scale": of(None, 10.6), "in_a_row": 8, "worth": of(0.19)},
            "states": {
                "layers": [layer()],
                "gates": [
                    {"layer": 1, "name": name, "mean": of(0.4), "below": of(0.1), "above": of(0.05)}
                    for name in ("reset", "update", "candidate")
                ],
                "jacobian": {
                    "spectral_radius": of(0.98),
                    "largest_singular_value": of(1.2),
                    "share_above_one": of(0.2),
                    "eigenvalues": [[[0.9, 0.1], [0.9, -0.1], [-0.4, 0.0]]],
                },
            },
            "memory": {
                "capacity": {"r2": [0.9, 0.5, 0.1], "state_size": 50, "total": of(5.2)},
                "decoding": {
                    "of": "targets",
                    "measure": "r2",
                    "lags": lags,
                    "scores": [of(0.99**lag) for lag in lags],
                    "in_common": [0.9**lag for lag in lags],
                    "threshold": 0.5,
                    "reach": of(45.0),
                },
                "needed": 65,
            },
            "drift": {
                "reason": None,
                "training_timesteps": 250,
                "timesteps": 5000,
                "times": [100.0, 2000.0, 4900.0],
                "losses": [of(0.03), of(0.04), of(0.05)],
                "growth": of(1.6),
            },
            "missing": {},
        },
    }


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
    """As it is drawn from a file: what is not finite is null there."""
    values = measured.checked(json.loads(json.dumps(_strict(values))), Path("diagnosis.json"))
    figure = diagnosis.draw(values, Facts(CONFIG, SUMMARY), metrics or {})
    figure.canvas.draw()
    return figure


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    said = words(figure)
    for text in ("What to do: in trials", "schedule.streams=16", "► wider + longer", "diverges", "× 0.45", "≥ 10.6"):
        assert text in said
    tags = {text: box.y0 for text, box in texts(figure) if text.startswith("◄")}
    questions = {text: box.y0 for text, box in texts(figure)}
    assert tags["◄ 2"] == pytest.approx(questions["Would averaging, or training on, help?"], abs=3)
    assert said.count("◄ 1") == 2  # reach and truncation


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
    "name", [*(pytest.param(one, marks=pytest.mark.long) for one in measured.INSTRUMENTS), "all"]
)
def test_what_was_not_measured_says_why(name: str) -> None:
    values = made()
    for instrument in measured.INSTRUMENTS if name == "all" else [name]:
        values["instruments"][instrument] = None
        values["instruments"]["missing"][instrument] = f"the {instrument} was out"
    values["verdict"].update(causes=[], others=[], notes=[], advice=None, command=None)
    figure = drawn(values)
    check_legible(figure)
    said = words(figure)
    assert "Each is a training from scratch." in said
    if name == "all":
        assert not figure.axes
    elif name != "noise":  # half of its panel is another instrument's
        assert f"the {name} was out" in said


def test_names_of_any_length_and_kind_overlap_nothing() -> None:
    values = made()
    values["task"], values["model"] = "$x^2$\x1b[31m", LONG
    verdict, found = values["verdict"], values["instruments"]
    for place in (verdict["causes"][0]["finding"], verdict["notes"][0]):
        place.update(title=LONG, says=LONG * 20)
    verdict.update(headline=LONG * 9, command=LONG * 9, trials=LONG)
    verdict["advice"]["remedy"] = verdict["others"][0]["remedy"] = LONG
    found["baselines"].update(best=LONG, baselines=[{"name": f"{LONG}{k}\n$", "loss": of(0.3)} for k in range(30)])
    found["forgetting"]["update_ratio"] = {f"{LONG}{k}$_$": of(0.1**k) for k in range(40)}
    found["states"]["layers"] = [layer(LONG) for _ in range(9)]
    found["states"]["gates"] = [{**gate, "name": LONG} for gate in 9 * found["states"]["gates"]]
    found["memory"]["decoding"]["of"] = LONG
    found["reach"].update(window=10**15, needed=10**18)
    found["drift"].update(training_timesteps=10**18)
    figure = drawn(values)
    check_legible(figure)
    assert r"\x1b[31m" in words(figure)
    assert "→" in words(figure)  # the window is longer than what was measured


@pytest.mark.parametrize("value", [0.0, math.inf, -1.0, 1e-300, 1e300, 1e-30, 1e30])
def test_numbers_of_any_size(value: float) -> None:
    def replace(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: kept if key in ("level", "threshold") else replace(kept) for key, kept in part.items()}
        if isinstance(part, list):
            return [replace(one) for one in part]
        return value if isinstance(part, float) else part

    check_legible(drawn(replace(made())))


@pytest.mark.parametrize("units", [1, 0, 10_000])
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_layers_of_any_number_and_cells_without_gates_or_saturation(units: int, layers: int) -> None:
    values = made()
    states = values["instruments"]["states"]
    states.update(layers=[layer(f"layer {k + 1}", units) for k in range(layers)], gates=[], jacobian=None)
    for one in states["layers"]:
        one.update(saturated=None, always_saturated=None)
    figure = drawn(values)
    check_legible(figure)
    assert "has no gates" in words(figure)
    assert "saturated" not in words(figure)


def test_curves_may_be_short_or_empty_and_what_is_optional_may_lack() -> None:
    values = made()
    found = values["instruments"]
    found["reach"].update(curve=[], lags=[], at_lags=[], window=None, needed=None)
    found["truncation"].update(windows=[], cosines=[], ratios=[], schedule=None)
    found["forgetting"].update(ages=[], losses=[], update_ratio={})
    found["memory"].update(capacity=None, needed=None)
    found["memory"]["decoding"].update(lags=[0], scores=[of(0.5)], in_common=None)
    found["drift"].update(reason="sequences have an end", times=[], losses=[], growth=None)
    found["baselines"].update(baselines=[], best=None, ratio=None)
    found["states"]["jacobian"]["eigenvalues"] = []
    check_legible(drawn(values))
    found["memory"]["decoding"] = None
    found["drift"].update(reason=None, growth=of(1.0))
    found["reach"].update(curve=[1.0])
    check_legible(drawn(values))


@pytest.mark.parametrize(
    ("value", "low", "high", "says"),
    [
        (0.5, 0.25, 0.75, "0.500 [0.250, 0.750]"),
        (1.0, 1.0, 1.0, "1"),
        (21.1, 5.7, None, "21.1 [5.70, ∞]"),
        (0.1, None, None, "0.100 [−∞, ∞]"),
        (None, 10.6, None, "at least 10.6"),
        (None, None, None, "unknown"),
        (12345.6, 1e-9, 1e31, "12,346 [1e-09, 1e+31]"),
    ],
)
def test_intervals_in_words(value: float | None, low: float | None, high: float | None, says: str) -> None:
    assert str(measured.interval({"value": value, "low": low, "high": high})) == says


def test_no_dot_lies_outside_of_its_axes() -> None:
    values = made()
    values["instruments"]["forgetting"].update(losses=[of(0.1, 0.0999, 0.1001)] * 4, ahead=of(0.1), unseen=of(0.1))
    ax = next(ax for ax in drawn(values).axes if "training passed it" in ax.get_xlabel())
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > 0.104


def test_eigenvalues_far_away_do_not_squeeze_the_circle() -> None:
    values = changed("instruments.states.jacobian.eigenvalues", [[[0.5, 0.0], [900.0, 0.0], [None, 1.0]]] * 3000)
    figure = drawn(values)
    ax = next(ax for ax in figure.axes if ax.get_ylabel() == "imaginary part")
    assert ax.get_xlim()[1] <= 3
    assert "beyond the picture" in words(figure)


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("verdict", ..., "has no verdict"),
        ("verdict.notes", ..., "has no verdict.notes"),
        ("verdict.headline", 3, "verdict.headline should be words, not 3"),
        ("verdict.causes.0.finding", None, "verdict.causes[0].finding should be a mapping"),
        ("verdict.advice.effect", 0.5, "verdict.advice.effect should be a mapping"),
        ("instruments.reach.curve", "1", "instruments.reach.curve should be a list"),
        ("instruments.reach.curve.3", "x", "instruments.reach.curve[3] should be a number or null, not 'x'"),
        ("instruments.reach.lags.0", 1.5, "instruments.reach.lags[0] should be a whole number"),
        ("instruments.reach.lags", [1], "has 1 lags and 6 at_lags"),
        ("instruments.memory.decoding.in_common", [], "instruments.memory.decoding has 7 lags and 0 in_common"),
        ("instruments.noise.scale.low", True, "instruments.noise.scale.low should be a number or null, not True"),
        ("instruments.states.layers.0.dead", ..., "has no instruments.states.layers[0].dead"),
        ("instruments.states.jacobian.eigenvalues.0.1", [1.0], "should be pairs"),
        ("instruments.drift", [], "instruments.drift should be a mapping"),
        ("instruments.missing", {"x": 1}, "instruments.missing.x should be words"),
        ("instruments.forgetting.update_ratio", {"x" * 201: of(1.0)}, "a name of 201 characters"),
        ("version", 2, "version 2"),
        ("task", "x" * 201, "task should be a name of at most 200 characters"),
    ],
)
def test_a_damaged_file_is_a_line_that_says_where(
    place: str, value: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = run_directory(tmp_path / "run", changed(place, value))
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        plots.draw_diagnosis(directory)
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
        plots.draw_diagnosis(directory)


def test_the_command_draws_it_again_if_it_is_there(tmp_path: Path) -> None:
    directory = run_directory(tmp_path / "run", made(), rows=3)
    assert [path.name for path in plots.draw(directory)] == ["loss.png", "diagnosis.png"]
    assert 50_000 < (directory / "diagnosis.png").stat().st_size < 250_000
    (directory / "diagnosis.json").unlink()
    assert [path.name for path in plots.draw(directory)] == ["loss.png"]


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
    (path,) = plots.draw_diagnosis(directory)
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


def test_the_file_given_is_left_as_it_is() -> None:
    values = made()
    before = copy.deepcopy(values)
    diagnosis.draw(values, Facts(CONFIG, SUMMARY), {})
    assert values == before
