"""``python -m seqrnn.predict --stream --learn``: the training continues as true values arrive."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_schedule, random_batch, whole
from live_rows import INTEGRAL, SCHEDULES, learning, load, rows
from predicting import Command, MakeRun

import seqrnn
from seqrnn import evaluation, registry
from seqrnn.errors import DataError
from seqrnn.prediction import stream, trained
from seqrnn.prediction.learning import Learner
from seqrnn.prediction.live_data import LiveWindows, Step
from seqrnn.prediction.trained import TrainedRun
from seqrnn.prediction.trained_optimizer import restore_optimizer
from seqrnn.prediction.vector_rows import RowFormat
from seqrnn.schedule import Schedule, WindowRange
from seqrnn.strategies.choice import window_by_window
from seqrnn.strategies.plain import Plain
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Chunk, Stored


def chunk_of(given: list[dict[str, Any]]) -> Chunk:
    """The same rows as the data of a task, (T, 1, ·)."""
    starts = [[row.get("start", False) or number == 0] for number, row in enumerate(given)]
    return Chunk(
        torch.tensor([[[row["input"]]] for row in given]),
        torch.tensor([[[row.get("target", np.nan)]] for row in given]),
        torch.tensor([["target" in row] for row in given]),
        torch.tensor(starts),
    )


def reference(run: TrainedRun) -> Plain:
    """A strategy that trains the same network at once."""
    network, schedule = run.network(), Schedule(**{**run.values["schedule"], "streams": 1})
    gradients = window_by_window(network, run.loss, schedule, run.context, DataFormat.of(run.task))
    optimizer = registry.build("optimizer", {**run.values["optimizer"], "lr": 0.01}, network.parameters())
    strategy = Plain(network, optimizer, schedule, gradients)
    assert restore_optimizer(run.run.directory, strategy) is not None
    return strategy


def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in learner.network.state_dict().items()}


@pytest.mark.first(1)
@pytest.mark.covering(1)
@pytest.mark.parametrize("kernel", ["auto", "torch"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_weights_are_those_of_training_on_the_same_rows_at_once(
    schedule: str, kernel: str, trained: MakeRun
) -> None:
    run = load(trained(*INTEGRAL, f"kernel={kernel}", *SCHEDULES[schedule]))
    answering, given = learning(run), rows()
    for row in given:
        answering.answer(row)

    strategy, learner = reference(run), answering.learner
    passes = strategy.schedule.windows_per_update
    updates = learner.windows.window // passes
    assert updates >= 10
    strategy([WindowRange(0, Stored(chunk_of(given)), 0, updates * passes, False)], np.ones(updates))
    for name, value in strategy.network.state_dict().items():
        torch.testing.assert_close(learner.network.state_dict()[name], value, rtol=1e-4, atol=1e-6)
        assert not torch.equal(value, run.network().state_dict()[name])


def test_with_whole_sequences_each_is_learned_from_when_the_next_one_begins(trained: MakeRun) -> None:
    run = load(trained(*INTEGRAL, "schedule=full", "schedule.carry=false"))
    answering, given = learning(run), rows(40)
    for number, row in enumerate(given):
        answering.answer(row)
        assert answering.learner.updates == (number >= 20)
    strategy = reference(run)
    strategy([WindowRange(0, Stored(chunk_of(given[:20])), 0, 1, True)], np.ones(1))
    for name, value in strategy.network.state_dict().items():
        torch.testing.assert_close(answering.learner.network.state_dict()[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("window", [1, 4, 7])
def test_windows_are_handed_out_once_each_in_order_and_old_timesteps_are_forgotten(window: int) -> None:
    schedule = make_schedule(window=window, stride=1, update_every=2, streams=1)
    windows, batch = LiveWindows(schedule, DataFormat(2, 2, False)), whole(random_batch(100, 1))
    seen = 0
    for timestep in range(100):
        ranges = windows.add(Step(batch.inputs[timestep, 0].numpy(), timestep == 0, targets=[0.0, 0.0]))
        for live, each in schedule.windows_of(ranges):
            assert (each.fresh, each.stop) == (seen, seen + 1)
            assert each.stop < timestep + 1  # the timestep after it has arrived
            assert torch.equal(live.read(each.start, each.stop).inputs, batch.inputs[each.start : each.stop])
            seen += 1
        windows.forget()
        assert len(windows.current.steps) <= window + 3
    assert seen == 98


@pytest.mark.parametrize("schedule", ["overlapping", pytest.param("rtrl", marks=pytest.mark.long)])
def test_learning_stops_and_continues_as_if_it_had_not_stopped(
    schedule: str, trained: MakeRun, command: Command, tmp_path: Path
) -> None:
    directory = trained(*INTEGRAL, *SCHEDULES[schedule]).directory
    lines = [json.dumps(row) + "\n" for row in rows()]
    whole_run = command(directory, "--stream", "--learn", "whole", "--lr", 0.01, stdin="".join(lines))
    assert whole_run.code == 0
    assert len(whole_run.answers) == 60
    answers = []
    for part in (lines[:1], lines[1:23], lines[23:31], lines[31:]):
        result = command(directory, "--stream", "--learn", "parts", "--lr", 0.01, stdin="".join(part))
        assert result.code == 0
        if answers:
            assert f"continues after row {len(answers)} " in result.err
        answers += result.answers
    assert answers == whole_run.answers
    assert whole_run.err.splitlines()[0] == result.err.splitlines()[1]
    for name in ("weights.safetensors",):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_learning_lowers_the_error_where_the_world_has_changed(trained: MakeRun, command: Command) -> None:
    run = trained(*INTEGRAL, *SCHEDULES["tbptt"])
    given = rows(800)
    for row in given:
        row.pop("start", None)
    result = command(run.directory, "--stream", "--learn", "d", "--lr", 0.01, stdin="\n".join(map(json.dumps, given)))
    losses = np.array([(a["loss_as_trained"], a["loss"]) for a in result.answers if "loss" in a])
    before, now = losses[-200:].mean(axis=0)
    assert now < 0.7 * before
    after = np.array([(a["loss_as_trained"], a["loss"]) for a in result.answers if "loss" in a and a["updates"]])
    mean = after.mean(axis=0)
    expected = f"l1 over {len(after)} true values since the first update: {mean[0]:.4g} as trained, {mean[1]:.4g} "
    assert expected in result.err
    assert "learning made it worse" not in result.err


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run that forecasts a noisy wave about as well as can be."""
    path = tmp_path_factory.mktemp("solved") / "wave.csv"
    path.write_text("y\n" + "".join(f"{value}\n" for value in wave(600, 0)), encoding="utf-8")
    overrides = ["task=csv", f"task.path={path}", "model=gru", "model.hidden_size=16", "schedule.max_updates=300"]
    common = ["plots.draw=false", "device=cpu", "threads=1", f"hydra.run.dir={path.parent / 'run'}"]
    return load(seqrnn.run([*overrides, *common], quiet=True))


def wave(rows: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(rows)
    return np.round(5 + np.sin(np.arange(rows) / 3) + 0.1 * noise, 4)


def held_out_error(run: TrainedRun, network: Any) -> float:
    predictions = evaluation.predict(network, run.task.test(), run.context)
    return evaluation.score(predictions, run.task, run.loss)["rmse"]


@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_learning_what_is_known_does_no_harm(has_checkpoint: bool, solved: TrainedRun, tmp_path: Path) -> None:
    run = solved
    if not has_checkpoint:
        shutil.copytree(solved.run.directory, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
        run = trained.load(tmp_path / "run")
    before = held_out_error(run, run.network())
    assert before < 0.2
    answering = stream.open_learning(run, None)
    assert (answering.learner.checkpoint is not None) == has_checkpoint
    assert answering.learner.rate == run.values["optimizer"]["lr"] / 50
    worst = 0.0
    for value in wave(200, 1):
        updates = answering.learner.updates
        answering.answer({"y": value})
        if answering.learner.updates > updates:
            worst = max(worst, held_out_error(run, answering.learner.network))
    assert answering.learner.updates >= 5
    assert worst < 1.1 * before


def test_a_rate_that_ruins_the_network_is_named(solved: TrainedRun, command: Command) -> None:
    rows = "".join(json.dumps({"y": value}) + "\n" for value in wave(200, 1))
    result = command(solved.run.directory, "--stream", "--learn", "d", "--lr", 0.5, stdin=rows)
    assert "learning made it worse: try a smaller --lr" in result.err
    short = "".join(rows.splitlines(keepends=True)[:10])
    result = command(solved.run.directory, "--stream", "--learn", "e", stdin=short)
    assert "whether it helps is not known" in result.err


def test_classes_are_learned(trained: MakeRun, command: Command) -> None:
    run = trained("task=mnist", "model=lstm", "model.hidden_size=8")
    pixels = np.random.default_rng(0).random((5, 28, 28), np.float32)
    lines = []
    for digit, image in enumerate(pixels):
        for number, row in enumerate(image):
            values: dict[str, Any] = {f"input_{column}": float(value) for column, value in enumerate(row)}
            values |= {"start": True} if number == 0 else {}
            lines.append(values | ({"target": digit} if number == 27 else {}))
    answers = command(run.directory, "--stream", "--learn", "d", stdin="\n".join(map(json.dumps, lines))).answers
    losses = [answer["loss"] for answer in answers if "loss" in answer]
    assert len(losses) == 5
    for answer in answers:
        if "loss" in answer:
            digit = losses.index(answer["loss"])
            assert answer["loss"] == pytest.approx(-np.log(answer["probabilities"][digit]), abs=1e-5)
    assert answers[-1]["updates"] == 4


def test_true_values_may_come_later_until_they_have_been_needed(trained: MakeRun) -> None:
    run = load(trained(*INTEGRAL, *SCHEDULES["tbptt"]))
    given = [{**row} for row in rows(20)]
    for row in given:
        row.pop("start", None)
    at_once, later = learning(run), learning(run)
    for number, row in enumerate(given):
        expected = at_once.answer(row)
        answer = later.answer({"input": row["input"]})
        assert "loss" not in answer
        if "target" in row:
            late = {"target": row["target"], **({"timestep": number} if number % 2 else {})}
            answer |= later.answer(late)
        assert answer == expected
    for name, value in weights_of(later.learner).items():
        assert torch.equal(value, weights_of(at_once.learner)[name])
    for values, problem in (
        ({"target": 0.5, "timestep": 20}, "timestep: 20 has not been yet"),
        ({"target": 0.5, "timestep": 2}, "timestep: 2 has been learned from without its true values"),
        ({"target": 0.5}, "timestep: the true values of 19 are known already"),
        ({"target": 0.5, "timestep": -1}, "should be a whole number of at least 0"),
        ({"target": 0.5, "start": True}, "a sequence begins with inputs"),
    ):
        before = later.state()
        with pytest.raises(DataError, match=problem):
            later.answer(values)
        assert str(later.state()) == str(before)


def test_a_class_that_does_not_exist_is_refused() -> None:
    row_format = RowFormat(DataFormat(1, 3, True))
    assert row_format.row({"input": 1.0, "target": 2}).targets == 2
    for target in (3, -1, 0.5, "x", True, [1]):
        with pytest.raises(DataError, match="target: "):
            row_format.row({"input": 1.0, "target": target})


def test_a_loss_that_becomes_infinite_ends_the_learning_with_its_own_code(trained: MakeRun, command: Command) -> None:
    run = trained(*INTEGRAL, "task.loss=mse", *SCHEDULES["tbptt"])
    lines = [{"input": 0.1, "target": 0.2}] * 12 + [{"input": 0.1, "target": 3e38}] + [{"input": 0.1}] * 5
    result = command(run.directory, "--stream", "--learn", "d", stdin="\n".join(map(json.dumps, lines)))
    assert result.code == 3
    assert "diverged: the loss or the gradient became NaN or infinite after 2 updates" in result.err
    assert len(result.answers) == 15
