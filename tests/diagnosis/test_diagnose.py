"""python -m seqrnn.diagnose RUN_DIR, from beginning to end: what it says, writes, and refuses."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import edit_config, edit_summary, make_run
from safetensors.torch import load_file, save_file

from seqrnn import diagnose
from seqrnn.diagnosis.instruments import forgetting, noise, truncation

Run = Callable[..., Path]
Command = Callable[..., tuple[int, str, str]]
FILES = ("diagnosis.json", "diagnosis.md", "diagnosis.png")


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command in this process; returns exit code, output and errors."""
    for module, name, value in (
        (forgetting, "SECONDS", 0.2), (forgetting, "MOMENTS", 20), (truncation, "EXCERPTS", 2),
        (noise, "POSITIONS", 4),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            diagnose.main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def small(diagnosed_run: Run, tmp_path: Path) -> Path:
    """A copy of a small run, to be written to."""
    return Path(shutil.copytree(diagnosed_run("task=sincos", "model=elman", "smoke=true"), tmp_path / "small"))


def refused(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert code == 2, out + err
    assert err.startswith(("error: ", "usage: ")) or " problems:" in err
    assert "Traceback" not in out + err
    for word in words:
        assert word in err
    if err.startswith("error: "):
        assert err.count("\n") == 1


def test_a_run_is_diagnosed(small: Path, command: Command) -> None:
    code, out, err = command(small, "--seconds", 0)
    assert (code, err) == (0, "")
    assert all((small / name).stat().st_size > 500 for name in FILES)
    values = json.loads((small / "diagnosis.json").read_text(), parse_constant=pytest.fail)
    assert (values["task"], values["model"]) == ("sincos", "elman")
    assert values["verdict"]["headline"] in (small / "diagnosis.md").read_text()
    assert values["verdict"]["command"] is None
    assert max(len(line) for line in out.splitlines()[:-1]) <= 80
    assert str(small / "diagnosis.md") in out
    assert "\x1b" not in out


@pytest.mark.long
def test_a_diagnosis_can_be_made_again_and_changes_nothing_else(small: Path, command: Command) -> None:
    before = {path.name: path.read_bytes() for path in small.rglob("*") if path.is_file()}
    for _ in range(2):
        assert command(small, "--seconds", 0)[0] == 0
        after = {path.name: path.read_bytes() for path in small.rglob("*") if path.is_file()}
        assert {name: content for name, content in after.items() if name not in FILES} == before


@pytest.mark.parametrize(
    "arguments", [(), ("--seconds", "soon"), ("--seconds", "-1"), ("--seconds", "nan"), ("--nope",)]
)
def test_what_is_not_understood_is_refused(arguments: tuple[str, ...], tmp_path: Path, command: Command) -> None:
    refused(command(*(tmp_path,) * bool(arguments), *arguments))


def test_what_is_no_run_is_refused(tmp_path: Path, command: Command) -> None:
    refused(command(tmp_path), "not a run directory")
    refused(command(tmp_path / "nowhere"), "not a run directory")
    (tmp_path / "file").write_text("x")
    refused(command(tmp_path / "file"), "not a run directory")


@pytest.mark.parametrize(
    "name", ["config.yaml", "summary.json", "weights.safetensors", "metrics.jsonl", "overrides.yaml"]
)
@pytest.mark.parametrize("content", [None, b"\x00\xff{[", b"[1, 2]", b"- x\n: {"])
def test_files_that_are_missing_or_damaged_are_named(
    name: str, content: bytes | None, small: Path, command: Command
) -> None:
    if content is None:
        (small / name).unlink()
    else:
        (small / name).write_bytes(content + b"\n")
    if (name, content) == ("overrides.yaml", b"[1, 2]"):
        return  # a list is what it should be
    refused(
        command(small, "--seconds", 0), "not a run directory" if (name, content) == ("config.yaml", None) else name
    )


def test_plugins_that_a_config_asks_for_are_not_imported(
    small: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_plugin_of_a_run.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    edit_config(small, plugins=["evil_plugin_of_a_run"])
    refused(command(small, "--seconds", 0), "--plugins evil_plugin_of_a_run")
    assert "evil_plugin_of_a_run" not in sys.modules
    refused(command(small, "--seconds", 0, "--plugins", "evil_plugin_of_a_run"), "cannot be imported")


def test_weights_that_do_not_fit_or_are_no_numbers_are_refused(small: Path, command: Command) -> None:
    weights = load_file(small / "weights.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: torch.full_like(weights[name], math.nan)}, small / "weights.safetensors")
    refused(command(small, "--seconds", 0), "NaN")
    save_file({**weights, name: torch.zeros(3)}, small / "weights.safetensors")
    refused(command(small, "--seconds", 0), "does not fit")


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "changes", [{"timesteps": None}, {"position": "x"}, {"train_seconds": "long"}, {"train_seconds": -1}], ids=str
)
def test_a_summary_of_nonsense_is_refused(changes: dict[str, Any], small: Path, command: Command) -> None:
    edit_summary(small, **changes)
    refused(command(small, "--seconds", 0), "summary.json", next(iter(changes)))


@pytest.mark.long
@pytest.mark.long
def test_where_nothing_helps_for_certain_a_line_asks_for_more_time(small: Path, command: Command) -> None:
    _, out, _ = command(small, "--seconds", 0.01)
    line = f"python -m seqrnn.diagnose {small} --seconds 0.05"
    assert f"With more time, more is measured and tried: {line}" in " ".join(out.split())
    assert "more time" not in command(small, "--seconds", 0)[1]


@pytest.mark.parametrize("status", ["diverged", pytest.param("running", marks=pytest.mark.long)])
def test_a_run_that_did_not_finish_is_diagnosed_as_it_is(status: str, small: Path, command: Command) -> None:
    edit_summary(small, status=status, test={}, baselines={})
    assert command(small, "--seconds", 0)[0] == 0


@pytest.mark.long
def test_a_run_of_one_update_is_diagnosed(tmp_path: Path, command: Command) -> None:
    run = make_run(tmp_path / "run", "task=sincos", "model=elman", "smoke=true", "schedule.max_updates=1")
    code, out, err = command(run, "--seconds", 0)
    assert (code, err) == (0, "")
    assert out


@pytest.mark.long
def test_a_directory_that_cannot_be_written_is_named(
    small: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small / "diagnosis.json").mkdir()  # nothing can take its place
    refused(command(small, "--seconds", 0), "diagnosis.json")


# --- A network that was trained with a window of 1 on a task that needs 10

ECHO = '''
import torch
from seqrnn import metrics
from seqrnn.bounds import Count
from seqrnn.registry import register
from seqrnn.tasks.protocol import stored


@register("task", "echo_of_ten")
class Echo:
    """Say again what was heard nine timesteps ago."""

    input_size = output_size = 1
    kind, loss, reach = "regression", "mse", 10
    metrics = staticmethod(metrics.regression)

    def __init__(self, seed, *, length: Count):
        self.seed, self.length = seed, length

    def draw(self, part, streams):
        generator = torch.Generator().manual_seed(1000 * self.seed + part)
        x = torch.randint(2, (self.length, streams, 1), generator=generator).float() - 0.5
        valid = torch.arange(self.length).unsqueeze(1).expand(-1, streams) >= 9
        return [stored(inputs=x, targets=x.roll(9, dims=0), valid=valid)]

    def validation(self):
        return self.draw(0, streams=32)

    def test(self):
        return self.draw(1, streams=32)

    def train(self, epoch, streams):
        return self.draw(2 + epoch, streams)

    def baselines(self):
        return {"constant (0)": lambda chunk: torch.zeros_like(chunk.targets)}
'''


@pytest.mark.long
def test_a_window_of_one_on_a_task_that_needs_ten_is_found_with_the_right_remedy(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_configs import composed

    from seqrnn import settings
    from seqrnn.api import execute
    from seqrnn.plugins import load_components
    from seqrnn.rundir.request import RunRequest

    (tmp_path / "echo_plugin.py").write_text(ECHO)
    monkeypatch.syspath_prepend(str(tmp_path))
    load_components(["echo_plugin"])
    overrides = [
        "model=rnn", "model.hidden_size=24", "schedule.streams=16", "schedule.window=1", "schedule.epochs=12",
        "optimizer.lr=0.005", "plots.draw=false", "device=cpu", "plugins=[echo_plugin]",
    ]  # fmt: skip
    values = {**composed(*overrides), "task": {"name": "echo_of_ten", "length": 100}}
    run = tmp_path / "run"
    execute(RunRequest(values, run, ["task=echo_of_ten", *overrides]))
    assert settings.plugins_of(values) == ["echo_plugin"]
    code, out, err = command(run, "--plugins", "echo_plugin", "--seconds", 20)
    assert (code, err) == (0, "")
    verdict = json.loads((run / "diagnosis.json").read_text())["verdict"]
    named = [cause["finding"]["name"] for cause in verdict["causes"]]
    assert "window" in named, out
    assert verdict["command"] is not None, out
    words = verdict["command"].split()
    windows = [int(word.partition("=")[2]) for word in words if word.startswith("schedule.window=")]
    assert min(windows) >= 10 or {"schedule.gradient=rtrl", "schedule.gradient=snap1"} & set(words), out
    assert len(windows) == 1
