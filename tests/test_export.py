"""The command: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import HEAD
from markdown_it import MarkdownIt
from torch import Tensor, nn

import seqrnn
from seqrnn import export, registry
from seqrnn.exporting import card, session
from seqrnn.exporting.formats import FORMATS
from seqrnn.models.protocol import State

OVERRIDES = ["device=cpu", "threads=1", "plots.draw=false", "smoke=true"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "run"
    line = ["task=sincos", "model=lstm", "kernel=auto", "checkpoint.best=loss", f"hydra.run.dir={directory}"]
    seqrnn.run([*line, *OVERRIDES], quiet=True)
    return directory


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a run directory, to be damaged."""
    copy = tmp_path / "run"
    copy.mkdir()
    for path in trained.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    return copy


def change_summary(run: Path, **changes: Any) -> None:
    path = run / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        export.main(list(arguments))
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert "compared" not in out
    return err


def test_a_run_is_exported_to_onnx_and_computes_its_recorded_predictions(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export.main([str(run), "--format", "onnx"])
    compared, path, card_path = capsys.readouterr().out.splitlines()
    assert compared.startswith(
        "compared with the run on 400 timesteps of 1 test sequence: the largest difference is "
    )
    assert [Path(path), Path(card_path)] == [run / "model.onnx", run / "model_card.md"]
    session = onnxruntime.InferenceSession(path)
    recorded = np.load(run / "predictions.npz")
    state = np.zeros((1, 1, 16), np.float32)
    outputs, *_ = session.run(None, {"inputs": recorded["inputs"], "state_h": state, "state_c": state})
    assert np.abs(outputs - recorded["outputs"]).max() < 1e-5
    found = json.loads(session.get_modelmeta().custom_metadata_map["seqrnn"])
    summary = json.loads((run / "summary.json").read_text())
    assert found["scores"] == summary["test"]
    assert found["baselines"] == summary["baselines"]
    assert found["inputs"] == [{"name": "sin t", "meaning": "as task=sincos has it"}]
    assert found["outputs"][0]["name"] == "cos t"
    assert [part["argument"] for part in found["state"]] == ["state_h", "state_c"]
    assert found["warm_up"] == 300
    assert found["timesteps"] == "any"
    assert "task=sincos model=lstm" in found["command"]
    assert found["trained_with"]["torch"] == torch.__version__.partition("+")[0]
    text = Path(card_path).read_text()
    assert "task=sincos model=lstm" in text
    assert "sine itself" in text
    assert "(1, streams, 16)" in text
    assert "the first 300 timesteps" in text


@pytest.mark.long
def test_the_code_in_the_card_runs(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    export.main([".", "--format", "torch", "--out", "my model.pt2"])
    text = (run / "my model_card.md").read_text()
    (code,) = [token.content for token in MarkdownIt().parse(text) if token.info == "python"]
    recorded = np.load("predictions.npz")
    names: dict[str, Any] = {}
    exec(code, names)  # as it stands
    assert names["outputs"].shape == (8, 1, 1)
    begin, line, end = code.partition(next(line for line in code.splitlines() if line.startswith("inputs =")))
    assert line
    names = {"inputs": torch.from_numpy(recorded["inputs"])}
    exec(begin + end, names)
    assert np.abs(names["outputs"].detach().numpy() - recorded["outputs"]).max() < 1e-5
    assert [part.shape for part in names["state"]] == [(1, 1, 16)] * 2


@pytest.mark.long
def test_a_classification_is_compared_on_its_examples(tmp_path: Path) -> None:
    directory = tmp_path / "digits"
    seqrnn.run(["task=mnist", "model=elman", f"hydra.run.dir={directory}", *OVERRIDES], quiet=True)
    session.export(directory, "torch")
    text = (directory / "model_card.md").read_text()
    assert "| 9 | class 9 |" in text
    assert "28 timesteps of" in text


@pytest.mark.long
def test_the_weights_of_the_best_evaluation_are_exported_without_the_scores_of_others(run: Path) -> None:
    change_summary(run, scored="last")
    best = seqrnn.load(run).network("best")
    session.export(run, "torch", which="best")
    program = torch.export.load(run / "model.pt2").module()
    inputs, state = torch.randn(5, 1, 1), best.initial_state(1)
    assert torch.allclose(program(inputs, *state)[0], best(inputs, state)[0], atol=1e-6)
    assert "those of its last weights" in (run / "model_card.md").read_text()


@pytest.mark.long
def test_an_export_that_differs_is_an_error_and_leaves_no_file(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = FORMATS["torch"]
    load = type(kind).load

    def damaged(self: Any, path: Path) -> Callable[..., Any]:
        function = load(self, path)

        def compute(inputs: Tensor, state: State) -> tuple[Tensor, State]:
            outputs, after = function(inputs, state)
            return outputs + 1e-3, after

        return compute

    monkeypatch.setattr(type(kind), "load", damaged)
    (run / "model.pt2").write_text("older")
    before = {path.name for path in run.iterdir()}
    assert "differs from the run by 0.001" in refused(capsys, str(run), "--format", "torch")
    assert {path.name for path in run.iterdir()} == before
    assert (run / "model.pt2").read_text() == "older"


def test_a_missing_package_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(type(FORMATS["onnx"]), "packages", ("onnx_that_is_not_installed",))
    assert "install seqrnn[export]" in refused(capsys, str(run), "--format", "onnx")


@pytest.mark.parametrize("out", ["model.onnx", "missing/model.pt2", "predictions.npz"])
def test_files_of_other_formats_and_in_other_places_are_not_written(
    out: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    assert f"--out {out}" in refused(capsys, str(run), "--format", "torch", "--out", out)


def test_what_is_no_run_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not a run directory" in refused(capsys, str(tmp_path / "nothing"), "--format", "torch")


# Damaged and hostile run directories


@pytest.mark.long
def test_nothing_is_written_through_links(run: Path, tmp_path: Path) -> None:
    for name in ("model.pt2", "model_card.md"):
        (tmp_path / name).write_text("mine")
        (run / name).symlink_to(tmp_path / name)
    session.export(run, "torch")
    assert (tmp_path / "model.pt2").read_text() == (tmp_path / "model_card.md").read_text() == "mine"
    assert not (run / "model.pt2").is_symlink()


def damaged_arrays(**changes: Any) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        arrays = {**np.load(run / "predictions.npz"), **changes}
        np.savez(run / "predictions.npz", **{name: array for name, array in arrays.items() if array is not None})

    return damage


def replaced(file: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        text = (run / file).read_text()
        assert old in text
        (run / file).write_text(text.replace(old, new))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda run: (run / "weights.safetensors").unlink(), "weights.safetensors"),
    "cut weights": (lambda run: (run / "weights.safetensors").write_bytes(b"\x10" * 20), "declares"),
    "weights of another shape": (replaced("config.yaml", "hidden_size: 16", "hidden_size: 17"), "has the shape"),
    "a huge network": (replaced("config.yaml", "hidden_size: 16", "hidden_size: 1000000"), "has the shape"),
    "huge inputs": (lambda run: change_summary(run, input_size=10**9), "input_size"),
    "another number of inputs": (lambda run: change_summary(run, input_size=2), "has the shape"),
    "no predictions": (lambda run: (run / "predictions.npz").unlink(), "has the run finished?"),
    "no test inputs": (damaged_arrays(inputs=None), "should hold test inputs"),
    "inputs of another size": (damaged_arrays(inputs=np.zeros((4, 1, 7), np.float32)), "should hold test inputs"),
    "inputs of no timesteps": (damaged_arrays(inputs=np.zeros((0, 1, 1), np.float32)), "should hold test inputs"),
    "starts of another length": (damaged_arrays(starts=np.zeros((3, 1), bool)), "starts should be"),
    "inputs that are NaN": (damaged_arrays(inputs=np.full((400, 1, 1), np.nan, np.float32)), "differs from the run"),
    "a seed that is a word": (lambda run: change_summary(run, seed="one"), "seed should be a whole number"),
    "a version that is a list": (lambda run: change_summary(run, versions={"torch": []}), "versions.torch"),
    "a module to import": (replaced("config.yaml", "plugins: []", "plugins: [sprung]"), "--plugins sprung"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if "NaN" in name else ()) for name in DAMAGES]
)
def test_a_damaged_run_directory_is_an_error(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, expected = DAMAGES[name]
    damage(run)
    assert expected in refused(capsys, str(run), "--format", "torch")
    assert not (run / "model.pt2").exists()


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](https://example.org/x.png)",
    "**bold** _it_ `code` ~~gone~~",
    "| a | b |",
    "https://example.org www.example.org <https://example.org> a@example.org",
    "&lt;b&gt; &#60;b&#62;",
    "\\<b> \\[x](y)",
    "line\n# heading\n\n```\ncode",
    "x\x1b[31m\u202e",
]


@pytest.mark.long
def test_no_text_of_a_run_directory_becomes_markup(run: Path) -> None:
    scores = json.loads((run / "summary.json").read_text())["test"]
    change_summary(
        run,
        task=HOSTILE[0],
        model=" ".join(HOSTILE)[:200],
        data_note=" ".join(HOSTILE),
        git_revision=HOSTILE[2],
        test={**scores, **dict.fromkeys(HOSTILE, 1.0)},
        baselines=dict.fromkeys(HOSTILE, scores),
        versions={text: text for text in HOSTILE},
    )
    (run / "overrides.yaml").write_text(json.dumps([*HOSTILE, "plugins=[evil]"]))
    session.export(run, "torch")
    text = (run / "model_card.md").read_text()
    assert not re.search(r"^    python.*plugins", text, re.MULTILINE)
    assert "plugins=&#91;evil&#93;, which can run code" in " ".join(text.split())
    assert all(line.isprintable() for line in text.splitlines())
    parser = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
    kinds = {child.type for token in parser.parse(text) for child in (token, *(token.children or []))}
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "em_open", "s_open", "blockquote_open"}
    own = parser.render(card_of_another_run(run))
    for tag in ("<h1", "<h2", "<table", "<strong", "<ul", "<pre"):
        assert parser.render(text).count(tag) == own.count(tag)


def card_of_another_run(run: Path) -> str:
    """Returns the card of the same run with harmless texts."""
    change_summary(run, task="sincos", model="lstm", data_note="none", git_revision="abc", versions={"torch": "2"})
    session.export(run, "torch")
    return (run / "model_card.md").read_text()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_shown_as_it_is_written(text: str) -> None:
    rendered = MarkdownIt("commonmark").renderInline(card.shown(text))
    plain = rendered.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    assert plain == seqrnn.errors.printable(text)


def test_a_file_whose_card_cannot_be_written_is_not_written(run: Path) -> None:
    (run / "model_card.md").mkdir()
    with pytest.raises(OSError, match=r"model_card\.md"):
        session.export(run, "torch")
    assert not (run / "model.pt2").exists()
    assert not [*run.glob(".tmp-*")]


# Cells from outside the package


class Cell(nn.Module):
    """A simple recurrent network, with something of its own."""

    def __init__(self, input_size: int, *, hidden_size: int) -> None:
        super().__init__()
        self.output_size = hidden_size
        self.W = nn.Parameter(torch.randn(input_size, hidden_size) / 3)

    def own(self, h: Tensor) -> Tensor:
        return h

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        h, steps = state[0][0], []
        for x in inputs:
            h = self.own(torch.tanh(x @ self.W + 0.5 * h))
            steps.append(h)
        return torch.stack(steps), (h[None],)

    def initial_state(self, streams: int) -> State:
        return (torch.full((1, streams, self.output_size), 0.25),)

    def recurrent_weights(self) -> list[Tensor]:
        return []


class Selecting(Cell):
    """Its number of selected values depends on the values, which torch traces for one timestep alone."""

    def own(self, h: Tensor) -> Tensor:
        return h + 0.1 * h[h > 0].sum()


class Branching(Cell):
    """Which operations it consists of depends on the values, which torch cannot trace."""

    def own(self, h: Tensor) -> Tensor:
        return -h if h.sum() > 0 else h


@pytest.fixture
def run_with(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Cell]], Path]:
    """Returns a function that trains a run with a cell from outside the package."""

    def train(cell: type[Cell]) -> Path:
        monkeypatch.setitem(registry._components["model"], "own", cell)
        settings = {**HEAD, "name": "own", "hidden_size": 3}
        (tmp_path / "conf" / "model").mkdir(parents=True)
        (tmp_path / "conf" / "model" / "own.yaml").write_text(json.dumps(settings))
        directory = tmp_path / "own"
        line = ["task=sine", "model=own", f"hydra.run.dir={directory}", *OVERRIDES]
        seqrnn.run(line, config_dir=tmp_path / "conf", quiet=True)
        return directory

    return train


@pytest.mark.long
def test_a_cell_from_outside_is_exported_with_its_initial_state(run_with: Callable[[type[Cell]], Path]) -> None:
    directory = run_with(Cell)
    session.export(directory, "torch")
    files = {"seqrnn": ""}
    torch.export.load(directory / "model.pt2", extra_files=files)
    found = json.loads(files["seqrnn"])
    assert found["timesteps"] == "any"
    assert found["state"][0]["initial"] == [[0.25] * 3]
    assert "the values `initial` in the metadata" in (directory / "model_card.md").read_text()


@pytest.mark.long
def test_a_cell_that_can_be_traced_for_one_timestep_alone_is_exported_so_and_said_so(
    run_with: Callable[[type[Cell]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    directory = run_with(Selecting)
    export.main([str(directory), "--format", "torch"])
    assert "the file computes one timestep in each call" in capsys.readouterr().out
    program = torch.export.load(directory / "model.pt2").module()
    recorded = np.load(directory / "predictions.npz")
    state = [torch.full((1, 1, 3), 0.25)]
    outputs = []
    for x in torch.from_numpy(recorded["inputs"]):
        output, *state = program(x[None], *state)
        outputs.append(output.detach().numpy())
    assert np.abs(np.concatenate(outputs) - recorded["outputs"]).max() < 1e-5
    assert "(1, streams, 1)" in (directory / "model_card.md").read_text()


def test_a_cell_that_cannot_be_traced_is_an_error(
    run_with: Callable[[type[Cell]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    directory = run_with(Branching)
    message = refused(capsys, str(directory), "--format", "torch")
    assert "cannot be exported, not even for one timestep" in message
    assert len(message.splitlines()) == 1
    assert not (directory / "model.pt2").exists()
