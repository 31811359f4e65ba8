"""A run that was stopped and resumed ends, bit for bit, as the one that never was."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import assert_same, contents, part
from helpers import NOT_COMPILED, lengths
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_configs import GROUPS, composed

from seqrnn import smoke
from seqrnn.components import resolve_suggestions
from seqrnn.kernels import support
from seqrnn.plugins import load_components

SCHEDULES = {
    "online": {"window": 1, "stride": 1, "update_every": 1},
    "overlapping windows": {"window": 7, "stride": 2, "update_every": 4, "carry": True},
    "accumulated": {"window": 2, "stride": 2, "update_every": 6, "carry": True},
    "without carry": {"window": 3, "stride": 3, "update_every": None, "carry": False},
    "whole sequences": {"window": None, "stride": None, "update_every": None, "carry": False},
    "an odd stride": {"window": 8, "stride": 3, "update_every": 3, "carry": True},
}
LENGTH = {"epochs": 30, "max_updates": 23, "evaluate_every": 4, "streams": 3, "clip_norm": 1.0, "lr_decay": "cosine"}
needs_compiler = pytest.mark.skipif(support.machine_obstacle() is not None, reason=str(support.machine_obstacle()))


@cache
def _values(*overrides: str) -> dict[str, Any]:
    load_components()
    values = composed(*overrides, "smoke=true", "device=cpu", "plots.draw=false", "log_every=3")
    return smoke.shrink(resolve_suggestions(values))


def values_of(*overrides: str, schedule: Mapping[str, Any] | None = None, **groups: Any) -> dict[str, Any]:
    """Returns a small config with changes to its groups, which writes no checkpoint but the last."""
    values = deepcopy(_values(*overrides))
    values["schedule"] |= {**LENGTH, **(schedule or {})}
    values["checkpoint"]["every"] = None
    for group, changes in groups.items():
        values[group] = {**values[group], **changes} if isinstance(changes, dict) else changes
    return values


def assert_resumes(values: Mapping[str, Any], tmp_path: Path, *stops: int) -> None:
    """Checks that a run that is stopped at each of these updates ends like an uninterrupted one."""
    part(values, tmp_path / "whole")
    part(values, tmp_path / "parts", stop_at=stops[0])
    for stop in stops[1:]:
        part(values, tmp_path / "parts", stop_at=stop, resuming=True)
    part(values, tmp_path / "parts", resuming=True)
    summary = json.loads((tmp_path / "parts" / "summary.json").read_text(encoding="utf-8"))
    assert summary["resumed"] == len(stops)
    assert_same(contents(tmp_path / "parts"), contents(tmp_path / "whole"))


KERNEL_NAMES = ["torch", "compiled"] if support.machine_obstacle() is None else ["torch"]
KERNELS = ["torch", pytest.param("compiled", marks=needs_compiler)]


@pytest.mark.covering(1, 2)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("model", GROUPS["model"])
def test_every_cell_and_schedule(model: str, schedule: str, kernel: str, tmp_path: Path) -> None:
    if kernel == "compiled" and model in NOT_COMPILED:
        pytest.skip("has no compiled twin")
    rng = random.Random(f"{model} {schedule} {kernel}")
    task = rng.choice(GROUPS["task"])
    values = values_of(f"task={task}", f"model={model}", schedule=SCHEDULES[schedule], kernel=kernel)
    assert_resumes(values, tmp_path, rng.randrange(1, 12))


@pytest.mark.first(2)
@pytest.mark.parametrize("task", GROUPS["task"])
def test_every_task(task: str, tmp_path: Path) -> None:
    assert_resumes(values_of(f"task={task}", "model=gru", schedule=SCHEDULES["accumulated"]), tmp_path, 7)


OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in GROUPS["optimizer"] if name != "ridge"),  # which tests/test_ridge.py resumes
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("adam", {"amsgrad": True}),
    ("rmsprop", {"momentum": 0.5}),
    ("rmsprop", {"centered": True}),
]


@pytest.mark.first(4)
@pytest.mark.covering(1)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("optimizer", "changes"), OPTIMIZERS, ids=str)
def test_every_optimizer(optimizer: str, changes: dict[str, Any], kernel: str, tmp_path: Path) -> None:
    values = values_of(
        "task=integral", "model=gru", f"optimizer={optimizer}",
        schedule=SCHEDULES["overlapping windows"], optimizer=changes, kernel=kernel,
    )  # fmt: skip
    assert_resumes(values, tmp_path, 7, 8, 17)


@pytest.mark.first(1)
@pytest.mark.parametrize("model", [name for name in GROUPS["model"] if name != "esn"])  # which has no dropout
def test_dropout_resumes(model: str, tmp_path: Path) -> None:
    values = values_of(
        "task=integral", f"model={model}", "model.num_layers=2", "model.dropout=0.4", schedule=SCHEDULES["online"]
    )
    assert_resumes(values, tmp_path, 9)


@pytest.mark.first(2)
@needs_compiler
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_streams_that_are_shared_among_threads(schedule: str, tmp_path: Path) -> None:
    values = values_of("task=integral", "model=lstm", schedule=SCHEDULES[schedule], threads=2, kernel="compiled")
    assert_resumes(values, tmp_path, 5)


@pytest.mark.first(1)
@pytest.mark.parametrize("lr_decay", ["plateau", "step", "onecycle", "constant"])
def test_every_decay_resumes(lr_decay: str, tmp_path: Path) -> None:
    changes = {"lr_decay": lr_decay, "lr_every": 2, "lr_patience": 2, "evaluate_every": 2}
    changes["warmup"] = 0 if lr_decay == "onecycle" else 3
    assert_resumes(values_of("task=integral", schedule={**SCHEDULES["online"], **changes}), tmp_path, 9, 14)


@pytest.mark.parametrize("stop", [1, 4, 5, 8])
def test_patience_resumes(stop: int, tmp_path: Path) -> None:
    values = values_of(
        "task=sine", "optimizer=sgd", optimizer={"lr": 1e-30}, schedule={"patience": 3, "epochs": 40, "window": None}
    )
    assert_resumes(values, tmp_path, stop)
    assert json.loads((tmp_path / "parts" / "summary.json").read_text(encoding="utf-8"))["stopped_early"] is True


@pytest.mark.long
def test_animations_and_pictures_resume(tmp_path: Path) -> None:
    values = values_of("task=sincos", plots={"draw": True, "animation": True, "frames": 5})
    assert_resumes(values, tmp_path, 6)
    assert (tmp_path / "parts" / "animation.gif").exists()


@pytest.mark.usefixtures("no_diagnosis")
def test_vital_signs_resume(tmp_path: Path) -> None:
    assert_resumes(
        values_of("task=integral", "diagnose=true", schedule=SCHEDULES["overlapping windows"]), tmp_path, 9
    )


@pytest.mark.usefixtures("no_diagnosis")
def test_a_metric_that_is_new_since_resuming_is_written_to_json_alone(tmp_path: Path) -> None:
    values = values_of("task=integral", schedule=SCHEDULES["overlapping windows"])
    part(values, tmp_path, stop_at=9)
    part(values, tmp_path, resuming=True, diagnose=True)
    found = contents(tmp_path)
    assert "eval_half_life" in found["metrics.jsonl"][-1]
    assert "eval_half_life" not in found["metrics.csv"][-1]
    assert found["metrics.csv"][-1]["eval_loss"]


def test_double_precision(tmp_path: Path) -> None:
    assert_resumes(values_of("task=integral", "precision=float64", schedule=SCHEDULES["an odd stride"]), tmp_path, 9)


@pytest.mark.long
@hypothesis_settings(max_examples=15)
@given(
    cuts=lengths(), carry=st.booleans(), streams=st.integers(1, 5), stops=st.lists(st.integers(1, 20), max_size=3),
    kernel=st.sampled_from(KERNEL_NAMES), data=st.data(),
)  # fmt: skip
def test_any_schedule(
    cuts: dict[str, Any], carry: bool, streams: int, stops: list[int], kernel: str, data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    values = values_of(
        "task=integral", "model=gru", kernel=kernel, model={"hidden_size": 3},
        task={"train_timesteps": 150, "sequence_length": data.draw(st.none() | st.integers(3, 40))},
        schedule={**cuts, "carry": carry, "streams": streams, "max_updates": None, "epochs": 3},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("any")
    part(values, folder / "whole")
    planned = json.loads((folder / "whole" / "summary.json").read_text(encoding="utf-8"))["planned_updates"]
    at = sorted({stop for stop in stops if stop <= planned} | {data.draw(st.integers(1, planned))})
    for number, stop in enumerate(at):
        part(values, folder / "parts", stop_at=stop, resuming=number > 0)
    part(values, folder / "parts", resuming=True)
    assert_same(contents(folder / "parts"), contents(folder / "whole"))


@needs_compiler
@pytest.mark.parametrize(("first", "second"), [("torch", "compiled"), ("compiled", "torch")])
@pytest.mark.parametrize("schedule", ["overlapping windows", "accumulated"])
def test_another_strategy_resumes_to_rounding(first: str, second: str, schedule: str, tmp_path: Path) -> None:
    """The strategies of a CPU can resume what those of a GPU have written, and the other way round."""
    values = values_of("task=integral", "precision=float64", schedule=SCHEDULES[schedule])
    one, other = ({**values, "kernel": kernel} for kernel in (first, second))
    part(one, tmp_path / "whole")
    part(one, tmp_path / "parts", stop_at=10)
    part(other, tmp_path / "parts", resuming=True)
    weights = [contents(tmp_path / name)["metrics.jsonl"][-1]["eval_loss"] for name in ("whole", "parts")]
    assert weights[0] == pytest.approx(weights[1], rel=1e-9)
    assert "may differ in their last bits" in " ".join(
        (tmp_path / "parts" / "train.log").read_text(encoding="utf-8").split()
    )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_gpu_and_a_cpu_resume_each_others_runs(first: str, second: str, schedule: str, tmp_path: Path) -> None:
    values = values_of("task=integral", "precision=float64", schedule=SCHEDULES[schedule], deterministic=True)
    part(values, tmp_path / "whole", device=first)
    part(values, tmp_path / "parts", stop_at=5, device=first)
    part(values, tmp_path / "parts", resuming=True, device=second)
    if first == second:
        assert_same(contents(tmp_path / "parts"), contents(tmp_path / "whole"))
    losses = [contents(tmp_path / name)["metrics.jsonl"][-1]["eval_loss"] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
