"""A run made again from a directory that may come from anyone: damaged files, and settings that do not fit."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from runs import changed_run, edit_config, edit_summary
from safetensors.torch import load_file, save_file

from seqrnn import evaluation, registry
from seqrnn.diagnosis.instrument import instruments
from seqrnn.diagnosis.memory_limit import limited_memory
from seqrnn.diagnosis.trained_run import TrainedRun, usable_here
from seqrnn.errors import ConfigError, DataError

Run = Callable[..., Path]
SMALL = ("task=integral", "smoke=true")


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_network_is_made_again_as_it_was_and_its_run_is_left_alone(diagnosed_run: Run) -> None:
    directory = diagnosed_run(*SMALL)
    before = files_of(directory)
    trained = TrainedRun(directory)
    made = evaluation.predict(trained.components.network, trained.components.task.test(), trained.components.context)
    scores = evaluation.score(made, trained.components.task, trained.components.loss)
    assert scores["loss"] == pytest.approx(trained.summary["test"]["loss"], rel=1e-5)
    assert next(trained.network.parameters()).dtype == torch.float64
    assert trained.network.kernel == "torch"
    assert not trained.network.training
    trained.segments()
    list(trained.upcoming(4, 20))
    assert files_of(directory) == before


def test_plugins_of_a_run_are_not_imported_unless_they_are_allowed(diagnosed_run: Run, tmp_path: Path) -> None:
    run = changed_run(diagnosed_run(*SMALL), tmp_path)
    edit_config(run, plugins=["no_such_module_of_a_stranger"])
    with pytest.raises(DataError, match="--plugins no_such_module_of_a_stranger"):
        TrainedRun(run)
    with pytest.raises(ConfigError, match="cannot be imported"):
        TrainedRun(run, ["no_such_module_of_a_stranger"])


INSTRUMENT = """
from seqrnn.registry import register
@register("instrument", "of_the_user")
class OfTheUser:
    description, order, result_type = "measuring nothing", 1000, None
"""


def test_a_module_that_the_user_names_is_imported_though_the_run_does_not_ask_for_it(
    diagnosed_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "instrument_of_the_user.py").write_text(INSTRUMENT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry._components, "instrument", dict(registry._components["instrument"]))
    TrainedRun(diagnosed_run(*SMALL), ["instrument_of_the_user"])
    assert "of_the_user" in instruments()


def test_a_config_of_a_stranger_downloads_nothing_and_logs_nowhere() -> None:
    values = {"plugins": [], "task": {"name": "mnist", "download": True}, "device": "cuda", "logger": "tensorboard"}
    found = usable_here(values)
    assert found["task"]["download"] is False
    assert (found["device"], found["logger"], found["plugins"]) == ("auto", None, [])
    assert values["task"]["download"] is True  # type: ignore[index]


@pytest.mark.parametrize("name", ["weights.safetensors", "summary.json", "metrics.jsonl", "overrides.yaml"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_file_that_is_missing_or_damaged_is_named(
    name: str, damage: str, diagnosed_run: Run, tmp_path: Path
) -> None:
    run = changed_run(diagnosed_run(*SMALL), tmp_path)
    path = run / name
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(path.read_bytes()[:40].replace(b"\n", b"") + b"\n{[\n")
    if (name, damage) == ("metrics.jsonl", "empty"):
        TrainedRun(run)  # a run that was stopped before its first row
        return
    with pytest.raises(DataError) as raised:
        TrainedRun(run)
    assert name in str(raised.value)
    assert len(raised.value.problems) == 1
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("word", ["--config-dir=/elsewhere", "-m", "task=sine\x1b[2J", "seed=1\n"])
def test_a_strangers_words_that_are_no_overrides_are_not_printed_to_be_pasted(
    word: str, diagnosed_run: Run, tmp_path: Path
) -> None:
    shutil.copytree(diagnosed_run(*SMALL), tmp_path / "copy")
    (tmp_path / "copy" / "overrides.yaml").write_text(OmegaConf.to_yaml(["task=integral", word]))
    with pytest.raises(DataError, match="is not an override") as caught:
        TrainedRun(tmp_path / "copy")
    assert "\x1b" not in str(caught.value)


def test_a_run_that_is_being_trained_is_reported(diagnosed_run: Run, tmp_path: Path) -> None:
    shutil.copytree(diagnosed_run(*SMALL), tmp_path / "copy")
    (tmp_path / "copy" / "weights.safetensors").unlink()
    path = tmp_path / "copy" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    with pytest.raises(DataError, match=r"status: running.*wait until it ends.*resume=RUN_DIR"):
        TrainedRun(tmp_path / "copy")


def test_a_network_that_puts_out_infinity_is_no_subject(diagnosed_run: Run, tmp_path: Path) -> None:
    """As a run that diverges may leave it: its weights are finite, and what it makes of them is not."""
    run = diagnosed_run("task=integral", "smoke=true", "model=rnn", "model.nonlinearity=relu")
    shutil.copytree(run, tmp_path / "copy")
    path = tmp_path / "copy" / "weights.safetensors"
    save_file({name: weight.abs() * 1e18 for name, weight in load_file(path).items()}, path)
    with pytest.raises(DataError, match="outputs of its network are NaN or infinite"):
        TrainedRun(tmp_path / "copy")


def test_a_directory_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run directory"):
        TrainedRun(tmp_path)
    with pytest.raises(DataError, match="not a run directory"):
        TrainedRun(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["size", "name", "nan", "infinity"])
def test_weights_that_are_not_this_networks_are_refused(damage: str, diagnosed_run: Run, tmp_path: Path) -> None:
    run = changed_run(diagnosed_run(*SMALL), tmp_path)
    weights = load_file(run / "weights.safetensors")
    name = next(iter(weights))
    match damage:
        case "size":
            weights[name] = weights[name][:1].clone()
        case "name":
            weights["nobody"] = weights.pop(name)
        case "nan":
            weights[name].view(-1)[0] = math.nan
        case "infinity":
            weights[name].view(-1)[-1] = math.inf
    save_file(weights, run / "weights.safetensors")
    with pytest.raises(DataError, match=r"weights\.safetensors.*(does not fit|NaN or infinity)") as raised:
        TrainedRun(run)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [{"model__hidden_size": -1}, {"task__name": "nothing"}, {"task": 5}, {"schedule": None}, {"plugins": "x"},
     {"model__hidden_size": 5.5}, {"optimizer": []}, {"schedule__window": 0}, {"seed": "x"}],
    ids=str,
)  # fmt: skip
def test_a_config_that_cannot_be_run_is_refused(changes: dict[str, Any], diagnosed_run: Run, tmp_path: Path) -> None:
    run = changed_run(diagnosed_run(*SMALL), tmp_path)
    edit_config(run, **changes)
    with pytest.raises((ConfigError, DataError)):
        TrainedRun(run)


@pytest.mark.parametrize("field", ["timesteps", "position", "planned_updates"])
@pytest.mark.parametrize("value", [None, 0, -3, "many", 1.5, True, 10**15])
def test_a_summary_that_does_not_say_how_far_the_run_came_is_refused_at_once(
    field: str, value: Any, diagnosed_run: Run, tmp_path: Path
) -> None:
    run = changed_run(diagnosed_run(*SMALL), tmp_path)
    edit_summary(run, **{field: value})
    with pytest.raises(DataError, match=r"summary\.json") as raised:
        TrainedRun(run)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [{"model__hidden_size": 20_000}, {"model__num_layers": 1000}, {"schedule__streams": 10**9},
     {"task__test_sequences": 10**12}, {"task__validation_timesteps": 10**13}],
    ids=str,
)  # fmt: skip
def test_sizes_that_do_not_fit_are_found_before_memory_is_taken(
    changes: dict[str, Any], diagnosed_run: Run, tmp_path: Path
) -> None:
    run = changed_run(diagnosed_run(*SMALL, "model=gru"), tmp_path)
    edit_config(run, **changes)
    with pytest.raises((ConfigError, DataError)), limited_memory(run, 2**30):  # no more than that, whatever is wrong
        TrainedRun(run)
