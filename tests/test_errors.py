"""Every mistake a user can make: one line that names it, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Finished

Command = Callable[..., Finished]

MISTAKES = {
    "misspelt group choice": (["task=integra"], ["task=integra: no such task; did you mean integral?"]),
    "misspelt group": (["modle=gru"], ["modle: no such key; did you mean model?"]),
    "misspelt key": (["model.hiden_size=3"], ["model.hiden_size: no such key; did you mean model.hidden_size?"]),
    "key of another choice": (["model.forget_bias=1"], ["model.forget_bias: no such key"]),
    "added key": (["+model.hiden=3"], ["model.hiden: no such setting; did you mean hidden_size?"]),
    "misspelt experiment": (["experiment=sine_onlin"], ["did you mean sine_online?"]),
    "misspelt choice in a sweep": (["-m", "model=gru,lstmm"], ["model=lstmm: no such model; did you mean lstm?"]),
    "no override at all": (["task"], ["task"]),
    "wrong type": (["model.hidden_size=many"], ["model.hidden_size=many: should be a valid integer"]),
    "float for int": (["model.hidden_size=2.5"], ["model.hidden_size=2.5"]),
    "int for bool": (["schedule.carry=2"], ["schedule.carry=2: should be a valid boolean"]),
    "hidden_size=0": (["model.hidden_size=0"], ["model.hidden_size=0: should be greater than or equal to 1"]),
    "window=-1": (["schedule.window=-1"], ["schedule.window=-1: should be greater than or equal to 1"]),
    "NaN rate": (["optimizer.lr=nan"], ["optimizer.lr=nan: should be a finite number"]),
    "negative rate": (["optimizer.lr=-1"], ["optimizer.lr=-1: should be greater than 0"]),
    "unknown choice of a setting": (["model.head=mpl"], ["model.head=mpl: should be 'linear' or 'mlp'"]),
    "unknown device": (["device=tpu"], ["device=tpu: should be 'auto', 'cpu' or 'cuda'"]),
    "update_every no multiple": (
        ["schedule.window=10", "schedule.stride=5", "schedule.update_every=12"],
        ["schedule.update_every=12 is not a multiple of the stride of 5 timesteps; the nearest that is: 10"],
    ),
    "stride longer than window": (
        ["schedule.window=5", "schedule.stride=6"],
        ["schedule.stride=6 is longer than schedule.window=5"],
    ),
    "update_every without a stride": (
        ["schedule=full", "schedule.update_every=10"],
        ["schedule.update_every=10 needs schedule.window or schedule.stride"],
    ),
    "warm-up before a one-cycle": (
        ["schedule.warmup=5", "schedule.lr_decay=onecycle"],
        ["schedule.warmup=5: schedule.lr_decay=onecycle warms up by itself"],
    ),
    "dropout with one layer": (["model.dropout=0.5"], ["model.dropout=0.5", "model.num_layers=2"]),
    "nesterov without momentum": (["optimizer=sgd", "optimizer.nesterov=true"], ["optimizer.momentum=0.9"]),
    "limits the wrong way round": (["task.low=2"], ["task.low=2: must be below task.high=1.0"]),
    "bf16 on a cpu": (["device=cpu", "precision=bf16-mixed"], ["precision=bf16-mixed: needs device=cuda"]),
    "unknown parameter": (
        ["+model.init_std={hed.weight: 1.0}"],
        ["model.init_std.hed.weight: no such parameter; did you mean head.weight?"],
    ),
    "missing plugin": (["plugins=[no_such_module]"], ["plugins=no_such_module: cannot be imported"]),
    "broken interpolation": (["schedule.epochs=${nowhere}"], ["nowhere"]),
    "data that is not there": (
        ["task=mnist", "task.download=false", "task.data_dir=elsewhere"],
        ["elsewhere/MNIST/raw", "task.data_dir=DIR", "task.download=true"],
    ),
    "several at once": (
        ["model.hidden_size=0", "schedule.window=-1", "optimizer.lr=nan", "seed=-1", "task.gain=inf"],
        ["model.hidden_size=0", "schedule.window=-1", "optimizer.lr=nan", "seed=-1", "task.gain=inf"],
    ),
    "several that do not compose": (
        ["task=integra", "model.hiden_size=3", "schedul=full"],
        ["did you mean integral?", "did you mean model.hidden_size?", "did you mean schedule?"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_nothing_is_written(mistake: str, command: Command) -> None:
    overrides, expected = MISTAKES[mistake]
    finished = command(*overrides)
    assert finished.exit_code == 2, finished.err
    for text in expected:
        assert text in finished.err
    assert "Traceback" not in finished.err
    assert not finished.directory.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_where_there_is_none_says_what_to_do(command: Command) -> None:
    finished = command("device=cuda")
    assert finished.exit_code == 2
    assert finished.err.startswith("error: device=cuda: no usable NVIDIA GPU")
    assert "use device=cpu or device=auto" in finished.err
    assert finished.err.count("\n") == 1


def test_an_output_directory_that_cannot_be_made_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finished = command("task=sine", "smoke=true", f"hydra.run.dir={tmp_path}/file/run")
    assert finished.exit_code == 2
    assert f"{tmp_path}/file" in finished.err
    assert "Traceback" not in finished.err


def test_a_run_directory_is_never_overwritten(command: Command) -> None:
    assert command("task=sine", "smoke=true").exit_code == 0
    kept = {path: path.read_bytes() for path in Path("run").iterdir()}
    finished = command("task=sine", "smoke=true", "seed=1")
    assert finished.exit_code == 2
    assert "holds a run already" in finished.err
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == kept


def test_divergence_keeps_everything_up_to_there(command: Command) -> None:
    finished = command(
        "task=sine", "model=rnn", "model.nonlinearity=relu", "optimizer=sgd", "optimizer.lr=1e18",
        "schedule.clip_norm=null", "schedule.lr_decay=constant", "log_every=1",
    )  # fmt: skip
    assert finished.exit_code == 3
    assert "diverged" in finished.out
    assert "Traceback" not in finished.err
    summary = finished.summary
    assert summary["status"] == "diverged"
    assert f"update {summary['updates'] + 1} " in summary["problem"]
    assert summary["test"] == {}
    written = {path.name for path in finished.directory.iterdir()}
    assert {"metrics.csv", "metrics.jsonl", "weights.safetensors", "loss.png", "config.yaml"} <= written


def test_an_interrupted_run_is_complete_as_far_as_it_got(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "seqrnn.train", "experiment=integral_forgetting", "hydra.run.dir=run", "device=cpu"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    for _ in range(600):
        if metrics.is_file() and len(metrics.read_text().splitlines()) >= 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    summary = Finished(130, out, err, tmp_path / "run").summary
    assert summary["status"] == "interrupted"
    assert summary["updates"] > 0
    assert (tmp_path / "run" / "loss.png").is_file()
