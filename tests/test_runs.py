"""Whole runs, from the command line to the files in the run directory."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from helpers import Finished
from omegaconf import OmegaConf
from test_configs import GROUPS, composed

from seqrnn import evaluation, smoke
from seqrnn.components import build_components, build_network
from seqrnn.losses import LOSSES
from seqrnn.monitor import Progress
from seqrnn.plugins import load_components
from seqrnn.recording import recorder
from seqrnn.rundir.reader import RunReader
from seqrnn.rundir.request import RunRequest

Command = Callable[..., Finished]

ARTEFACTS = {
    "config.yaml", "overrides.yaml", "metrics.csv", "metrics.jsonl", "summary.json", "predictions.npz",
    "weights.safetensors", "best.safetensors", "checkpoints", "train.log", "loss.png", "predictions.png",
}  # fmt: skip
REGRESSION = {"loss", "mse", "mae", "rmse", "max_error", "r2"}


@pytest.mark.first(4)
@pytest.mark.parametrize("experiment", GROUPS["experiment"])
def test_every_experiment_smoke_runs_with_all_its_artefacts(experiment: str, command: Command) -> None:
    finished = command(f"experiment={experiment}", "smoke=true", "plots.animation=true", "plots.draw=true")
    assert finished.exit_code == 0, finished.err
    is_mnist = experiment.startswith("mnist")
    written = {path.name for path in finished.directory.iterdir()}
    assert written == ARTEFACTS | {"snapshots.npz", "animation.gif"} | (
        {"samples.npz", "samples.png"} if is_mnist else set()
    )

    summary = finished.summary
    assert (summary["status"], summary["problems"]) == ("finished", [])
    assert summary["smoke"] is True
    assert 0 < summary["updates"] <= 6
    is_text = experiment.startswith("characters")
    classes = {"loss", "accuracy", *(("bpc", "perplexity") if is_text else ())}
    assert set(summary["test"]) == (classes if is_mnist or is_text else REGRESSION)
    assert summary["baselines"]
    for scores in summary["baselines"].values():
        assert set(scores) == set(summary["test"])
    assert summary["versions"]["torch"] == torch.__version__.partition("+")[0] or summary["versions"]["torch"]
    if is_mnist:  # synthetic digits must not be taken for MNIST
        assert "not MNIST" in summary["data_note"]
        assert "not MNIST" in finished.out
        assert "not MNIST" in (finished.directory / "train.log").read_text(encoding="utf-8")


def test_the_terminal_shows_what_runs_its_scores_and_its_directory(command: Command) -> None:
    finished = command("task=sine", "model=gru", "schedule.epochs=3", "seed=5")
    lines = finished.out.splitlines()
    assert lines[0] == "seqrnn: sine with gru"
    for text in (
        "8,001 parameters",
        "adam · lr 0.005",
        "3 epochs · 3 updates",
        "cpu",
        "seed 5",
        "persistence",
        "mae",
    ):
        assert text in finished.out
    assert "run" in lines
    assert lines[-1] == "python -m seqrnn.diagnose run"  # three updates do not beat persistence
    assert max(len(line) for line in lines) <= 80
    log = (finished.directory / "train.log").read_text(encoding="utf-8")
    assert "8,001 parameters" in log
    assert "\x1b" not in log
    assert "update 3, timestep 60: loss" in log


def test_rows_are_written_at_once_a_second_later_or_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    load_components()
    values = composed("task=sine", "plots.draw=false")
    directory = tmp_path / "run"

    def steps() -> list[float]:
        lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["timesteps"] for line in lines]

    with recorder.Recorder(build_components(values), RunRequest(values, directory, [])) as recording:
        progress = Progress(10)
        recording.record({"timesteps": 0, "updates": 0, "eval_loss": 1.0})
        assert steps() == [0]
        recording.record({"timesteps": 1, "updates": 1})
        recording.record({"timesteps": 2, "updates": 2})
        recording.observe(progress)
        assert steps() == [0]
        now = recorder.WRITE_EVERY
        recording.observe(progress)
        assert steps() == [0, 1, 2]
        assert "update 0, timestep 0: loss 1" in (directory / "train.log").read_text(encoding="utf-8")
        recording.record({"timesteps": 3, "updates": 3})
        assert steps() == [0, 1, 2]
    assert steps() == [0, 1, 2, 3]


def test_pandas_reads_the_metrics_and_csv_and_json_hold_the_same(command: Command) -> None:
    finished = command(
        "task=sincos", "model=rnn", "schedule.epochs=1", "schedule.evaluate_every=25", "log_every=10"
    )  # fmt: skip
    table = pandas.read_csv(finished.directory / "metrics.csv")
    assert list(table.columns[:7]) == [
        "timesteps", "updates", "epoch", "seconds", "train_loss", "gradient_norm", "lr",
    ]  # fmt: skip
    assert {f"eval_{name}" for name in REGRESSION} <= set(table.columns)
    assert table.updates.tolist() == [0, 10, 20, 25, 35, 45, 50, 60, 70, 75, 85, 95, 100]
    assert (table.timesteps == 10 * table.updates).all()
    assert table[table.eval_mae.notna()].updates.tolist() == [0, 25, 50, 75, 100]
    rows = [json.loads(line) for line in (finished.directory / "metrics.jsonl").read_text().splitlines()]
    with (finished.directory / "metrics.csv").open(newline="") as file:
        for from_csv, from_json in zip(csv.DictReader(file), rows, strict=True):
            for key, value in from_csv.items():
                expected = from_json.get(key)
                assert (float(value) if value else None) == expected


def test_the_same_seed_gives_the_same_numbers_bit_for_bit(command: Command, tmp_path: Path) -> None:
    results = []
    for number, seed in enumerate((3, 3, 4)):
        directory = tmp_path / str(number)
        command(
            "task=integral", "model=gru", "model.num_layers=2", "model.dropout=0.2", "smoke=true", f"seed={seed}",
            f"hydra.run.dir={directory}",
        )  # fmt: skip
        reader = RunReader(directory)
        results.append((reader.weights(), reader.predictions()["outputs"], reader.metrics()["train_loss"]))
    (weights, outputs, losses), (weights_again, outputs_again, losses_again), (_, other_outputs, _) = results
    assert all(weights[name].equal(weights_again[name]) for name in weights)
    np.testing.assert_array_equal(outputs, outputs_again)
    np.testing.assert_array_equal(losses, losses_again)
    assert not np.array_equal(outputs, other_outputs)


@pytest.mark.first(2)
@pytest.mark.parametrize("model", GROUPS["model"])
def test_saved_weights_give_the_saved_predictions(model: str, command: Command) -> None:
    finished = command("task=integral", f"model={model}", "smoke=true")
    reader = RunReader(finished.directory)
    values, summary = reader.config(), reader.summary()
    load_components()
    network = build_network(values["model"], summary["input_size"], summary["output_size"])
    network.load_state_dict(reader.weights())
    run = build_components(values)
    predictions = evaluation.predict(network, run.task.test(), run.context)
    np.testing.assert_array_equal(predictions.outputs, reader.predictions()["outputs"])
    assert evaluation.score(predictions, run.task, LOSSES[run.task.loss]) == summary["test"]


def test_the_recorded_config_is_what_ran(command: Command) -> None:
    finished = command("experiment=integral_accumulated", "smoke=true", "model.hidden_size=7")
    reader = RunReader(finished.directory)
    config = reader.config()
    assert config["model"]["hidden_size"] == 7
    assert config["schedule"]["max_updates"] == smoke.MOST_UPDATES
    assert "hydra" not in config
    overrides = OmegaConf.load(finished.directory / "overrides.yaml")
    assert list(overrides) == ["experiment=integral_accumulated", "smoke=true", "model.hidden_size=7"]


@pytest.mark.long
def test_hydras_own_sweeper_gives_each_job_a_directory_and_continues_after_a_failure(
    command: Command, tmp_path: Path
) -> None:
    finished = command("-m", "hydra/sweeper=basic", "task=sine", "model=elman,gru", "model.hidden_size=0,3",
                       "smoke=true", f"hydra.sweep.dir={tmp_path}/sweep")  # fmt: skip
    assert finished.exit_code == 2  # of the jobs that failed
    assert "job 0: model.hidden_size=0" in finished.err
    assert "job 2: model.hidden_size=0" in finished.err
    assert "Traceback" not in finished.err
    finished_jobs = sorted(path.parent.name for path in (tmp_path / "sweep").glob("*/summary.json"))
    assert finished_jobs == ["1", "3"]


def test_a_sweep_over_groups_takes_keys_that_the_default_choice_lacks(command: Command, tmp_path: Path) -> None:
    swept = (
        "-m",
        "experiment=mnist_lstm,mnist_lstm_best",
        "task.validation_images=0",
        "smoke=true",
        "plots.draw=false",
        "sweep.jobs=1",
    )
    finished = command(*swept, f"hydra.sweep.dir={tmp_path}/sweep")
    assert finished.exit_code == 0, finished.err
    runs = [path.parent for path in (tmp_path / "sweep").glob("*/config.yaml")]
    assert [RunReader(run).config()["task"]["validation_images"] for run in runs] == [0, 0]


def test_a_sweep_over_groups_takes_keys_that_some_choices_lack(command: Command, tmp_path: Path) -> None:
    swept = ("-m", "experiment=mnist_lstm,sine_online", "task.validation_images=0", "smoke=true", "plots.draw=false",
             "sweep.jobs=1")  # fmt: skip
    finished = command(*swept, f"hydra.sweep.dir={tmp_path}/sweep")
    assert finished.exit_code == 2
    assert "task.validation_images: no such setting" in finished.err
    assert "(job experiment=sine_online)" in finished.err
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_over_groups_takes_keys_that_only_the_default_choice_has(command: Command, tmp_path: Path) -> None:
    swept = ("-m", "task=integral,sine", "task.gain=0.2", "smoke=true", "plots.draw=false", "sweep.jobs=1")
    finished = command(*swept, f"hydra.sweep.dir={tmp_path}/sweep")
    assert finished.exit_code == 2
    assert "task.gain: no such setting" in finished.err
    assert "(job task=sine)" in finished.err
    one = command(*swept, f"hydra.sweep.dir={tmp_path}/sweep", "sweep.exclude=['task=sine']")
    assert one.exit_code == 0, one.err
    (config,) = (tmp_path / "sweep").glob("*/config.yaml")
    assert RunReader(config.parent).config()["task"]["gain"] == 0.2


@pytest.mark.parametrize(("task", "shown"), [("integral", 3), ("sincos", 40), ("mnist", 10)])
def test_an_animation_ends_with_the_trained_network(task: str, shown: int, command: Command) -> None:
    """Its frames hold as many of the first test sequences as it shows; the last is what predictions.npz has."""
    pieces = ["task.continuous=false"] if task == "sincos" else []
    finished = command(f"task={task}", "plots.animation=true", "smoke=true", "plots.draw=false", *pieces)
    reader = RunReader(finished.directory)
    snapshots, predictions = reader.snapshots(), reader.predictions()
    assert snapshots is not None
    assert snapshots["timesteps"][-1] == finished.summary["timesteps"]
    assert snapshots["outputs"].shape[2] == snapshots["inputs"].shape[1] == shown
    last = snapshots["outputs"][-1]
    expected = predictions["outputs"][:shown] if task == "mnist" else predictions["outputs"][:, :shown]
    np.testing.assert_allclose(last[0] if task == "mnist" else last, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_runs_that_start_together_get_directories_of_their_own(command: Command, tmp_path: Path) -> None:
    command("-m", "hydra/sweeper=basic", "task=sine", "seed=0,1,2", "smoke=true", "plots.draw=false")
    command("-m", "hydra/sweeper=basic", "task=sine", "seed=0,1,2", "smoke=true", "plots.draw=false")
    assert len(list((tmp_path / "outputs" / "sweep").glob("*/*/summary.json"))) == 6


@pytest.mark.long
def test_tensorboard_opens_the_event_files(command: Command) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    finished = command("task=sine", "smoke=true", "logger=tensorboard")
    events = EventAccumulator(str(finished.directory))
    events.Reload()
    metrics = RunReader(finished.directory).metrics()
    read = events.Scalars("eval_mae")
    assert [event.step for event in read] == metrics["timesteps"][~np.isnan(metrics["eval_mae"])].tolist()
    assert read[-1].value == pytest.approx(metrics["eval_mae"][-1], rel=1e-6)


def test_double_precision_is_double_all_the_way(command: Command) -> None:
    finished = command("task=sincos", "precision=float64", "smoke=true")
    reader = RunReader(finished.directory)
    assert {weight.dtype for weight in reader.weights().values()} == {torch.float64}
    assert reader.predictions()["outputs"].dtype == np.float64


def test_patience_ends_a_run_early(command: Command) -> None:
    line = ("task=sine", "schedule.patience=2", "optimizer=sgd", "optimizer.lr=1e-30", "schedule.evaluate_every=5")
    finished = command(*line)
    assert finished.summary["stopped_early"] is True
    assert finished.summary["updates"] == 10
    reason = "2 evaluations without a lower validation loss (schedule.patience=2)"
    assert reason in " ".join(finished.out.split())
    longer = command(*line, "schedule.epochs=500", "resume=auto")
    assert f"training had ended early, after {reason}" in " ".join(longer.out.split())
    assert longer.summary["updates"] == 10


def test_a_window_longer_than_the_sequence_is_noted_once(command: Command) -> None:
    finished = command("task=sine", "schedule=tbptt", "schedule.window=500", "schedule.max_updates=3")
    assert finished.out.count("longer than the sequences of 20 timesteps") == 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["float32", "float64", "bf16-mixed"])
@pytest.mark.parametrize("model", GROUPS["model"])
def test_cuda_agrees_with_the_cpu(model: str, precision: str, command: Command, tmp_path: Path) -> None:
    outputs = {}
    for device in ("cpu", "cuda"):
        finished = command(
            "task=integral", f"model={model}", "smoke=true", f"device={device}", "deterministic=true",
            f"precision={precision if device == 'cuda' else 'float64'}", f"hydra.run.dir={tmp_path}/{device}",
        )  # fmt: skip
        assert finished.exit_code == 0, finished.err
        outputs[device] = RunReader(tmp_path / device).predictions()["outputs"]
    tolerance = {"float32": 1e-4, "float64": 1e-9, "bf16-mixed": 3e-2}[precision]
    np.testing.assert_allclose(outputs["cuda"], outputs["cpu"], atol=tolerance)
