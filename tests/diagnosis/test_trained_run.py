"""A run made again from its directory: its data in order, excerpts of it, and segments of evaluation sequences."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import StubTask, make_network, make_schedule, make_task, random_batch, windows_of
from omegaconf import OmegaConf
from runs import by_hand, make_run
from safetensors.torch import load_file, save_file

from seqrnn import evaluation
from seqrnn.diagnosis.memory_limit import limited_memory
from seqrnn.diagnosis.trained_run import SETTLE, TrainedRun, usable_here
from seqrnn.errors import ConfigError, DataError
from seqrnn.models.unroll import unroll

Run = Callable[..., Path]
SMALL = ("task=integral", "smoke=true")


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# --- The timeline: one batch after another, epoch after epoch


def all_timesteps(task: Any, streams: int, epochs: int) -> list[tuple[Any, int]]:
    return [
        (batch, at)
        for epoch in range(epochs)
        for batch in task.train(epoch, streams)
        for at in range(batch.timesteps)
    ]


def test_every_timestep_of_a_timeline_is_found() -> None:
    epochs = [
        [random_batch(length, 2, seed=10 * epoch + n) for n, length in enumerate((5, 1, 8))] for epoch in (0, 1)
    ]
    task = StubTask(epochs)
    timeline = by_hand(make_network("gru").cell, task).data
    assert timeline.epoch_timesteps == 14
    for order in (range(40), reversed(range(40)), [3, 39, 0, 20, 13, 14]):
        expected = all_timesteps(task, 2, 3)
        for timestep in order:
            batch, at = timeline.find(timestep)
            assert batch is expected[timestep][0]
            assert at == expected[timestep][1]


# --- The position that a run ended at


@pytest.mark.first(2)
@pytest.mark.parametrize(
    "overrides",
    [
        ("task=integral", "task.train_timesteps=3000", "schedule.streams=4", "schedule.window=50"),
        ("task=integral", "task.train_timesteps=3000", "schedule.streams=4", "schedule.max_updates=7"),
        ("task=integral", "task.train_timesteps=300", "schedule.streams=3", "schedule.epochs=3",
         "schedule.window=7", "schedule.max_updates=33"),
        ("task=sincos", "task.continuous=false", "task.train_pieces=10", "schedule=minibatch", "schedule.streams=4",
         "schedule.epochs=3", "schedule.max_updates=8"),
        ("task=sine", "schedule=online", "schedule.epochs=2", "schedule.max_updates=33"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_position_is_the_number_of_timesteps_that_training_read(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    trained = TrainedRun(make_run(tmp_path / "run", *overrides))
    schedule, task = trained.components.schedule, trained.components.task
    made, steps = trained.summary["position"], 0  # count windows by hand
    for epoch in range(schedule.epochs):
        windows = [w for batch in task.train(epoch, schedule.streams) for w in windows_of(schedule, batch.timesteps)]
        for first in range(0, len(windows), schedule.windows_per_update):
            if made:
                made -= 1
                steps += sum(
                    window.stop - window.fresh for window in windows[first : first + schedule.windows_per_update]
                )
    assert trained.position == steps
    assert trained.updates_made == trained.summary["position"]


# --- Stretches


@pytest.mark.parametrize("starts", [0.0, 0.02])
def test_a_stretch_is_data_and_the_state_in_which_the_network_comes_to_it(starts: float) -> None:
    batch = random_batch(3 * SETTLE, 3, starts=starts)
    trained = by_hand(make_network("gru").cell, StubTask([[batch]]))
    excerpt = trained.excerpt(2 * SETTLE, 50, streams=2)
    whole = batch.read(0, batch.timesteps)
    assert torch.equal(excerpt.chunk.inputs, whole.inputs[2 * SETTLE : 2 * SETTLE + 50, :2])
    assert torch.equal(excerpt.chunk.valid, whole.valid[2 * SETTLE : 2 * SETTLE + 50, :2])
    first = SETTLE
    with torch.no_grad():
        _, state = unroll(
            trained.network.recur,
            trained.network.initial_state,
            whole.inputs[first : 2 * SETTLE, :2],
            whole.starts[first : 2 * SETTLE, :2],
            trained.network.initial_state(2),
        )
    for own, expected in zip(excerpt.state, state, strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-12)


def test_a_stretch_near_the_end_of_a_batch_is_its_end_and_one_of_a_short_batch_all_of_it() -> None:
    long, short = random_batch(200, 2, seed=1), random_batch(90, 2, seed=2)
    trained = by_hand(make_network("gru").cell, StubTask([[long, short]]))
    near = trained.excerpt(190, 50)
    assert torch.equal(near.chunk.inputs, long.chunk.inputs[150:])
    all_of_it = trained.excerpt(200 + 80, 50)
    assert torch.equal(all_of_it.chunk.inputs, short.chunk.inputs)
    assert all(not part.any() for part in all_of_it.state)


def test_stretches_ahead_lie_behind_what_was_trained_on_and_have_one_length() -> None:
    epochs = [[random_batch(1000, 2, seed=epoch), random_batch(60, 2, seed=100 + epoch)] for epoch in range(8)]
    task = StubTask(epochs)
    trained = by_hand(make_network("gru").cell, task)
    trained.summary = {"timesteps": 2 * 1060, "position": 1060, "planned_updates": 1060}
    found = list(trained.upcoming(10, 100))
    assert {len(excerpt.chunk.inputs) for excerpt in found} == {100}
    assert len(found) >= 8
    trained = epochs[0][0].chunk.inputs
    places = []
    for excerpt in found:
        for epoch, (batch, _) in enumerate(epochs):
            for first in range(901):
                if torch.equal(batch.chunk.inputs[first : first + 100], excerpt.chunk.inputs):
                    places.append(1060 * epoch + first)
        assert not any(torch.equal(trained[at : at + 100], excerpt.chunk.inputs) for at in range(901))
    assert len(places) == len(found)
    assert all(later > earlier for earlier, later in itertools.pairwise(places))


# --- Segments


@pytest.mark.parametrize(
    ("timesteps", "streams", "starts", "valid"),
    [
        (60, 20, 0.0, 1.0),
        (60, 20, 0.05, 0.3),
        (60, 3, 0.05, 0.3),
        (61, 1, 0.0, 0.5),
        (1, 20, 0.0, 1.0),
        (9, 40, 0.4, 0.2),
    ],
)
def test_segments_end_at_targets_and_never_cross_a_start(
    timesteps: int, streams: int, starts: float, valid: float
) -> None:
    batch = random_batch(timesteps, streams, starts=starts, valid=valid)
    trained = by_hand(make_network("lstm").cell, StubTask([[batch]]))
    segments, chunk = trained.segments(), trained.validation
    length, cases = segments.inputs.shape[:2]
    assert cases <= 64
    states = dict(enumerate(zip(*trained.states, strict=True)))
    for case in range(cases):
        places = [
            (first, stream)
            for stream in range(chunk.valid.shape[1])
            for first in range(timesteps - length + 1)
            if torch.equal(chunk.inputs[first : first + length, stream], segments.inputs[:, case])
        ]
        ((first, stream),) = places
        end = first + length - 1
        assert chunk.valid[end, stream]
        assert torch.equal(chunk.targets[end, stream], segments.targets[case])
        assert not chunk.starts[first + 1 : end + 1, stream].any()
        for own, part in zip(segments.state, states[first], strict=True):
            assert torch.equal(own[:, case], part[:, stream])
    assert 1 <= segments.sequences <= min(cases, streams)


def test_segments_of_sequences_that_are_many_and_whole_are_whole() -> None:
    trained = by_hand(make_network("gru").cell, StubTask([[random_batch(30, 16, starts=0.0, valid=1.0)]]))
    assert trained.segments().inputs.shape == (30, 16, 2)
    assert trained.segments(longest=10, count=5).inputs.shape == (10, 5, 2)
    few = by_hand(make_network("gru").cell, StubTask([[random_batch(30, 2, starts=0.0, valid=1.0)]]))
    assert few.segments().inputs.shape[0] == 15


def test_without_a_valid_target_there_are_no_segments() -> None:
    trained = by_hand(make_network("gru").cell, StubTask([[random_batch(30, 4, valid=0.0)]]))
    with pytest.raises(DataError, match="no valid target"):
        trained.segments()


def test_states_are_those_before_each_timestep() -> None:
    batch = random_batch(20, 3, starts=0.2, valid=1.0)
    trained = by_hand(make_network("lstm", num_layers=2).cell, StubTask([[batch]]))
    for timestep in (0, 1, 7, 19):
        chunk = batch.read(0, timestep + 1)
        state = trained.network.initial_state(3)
        if timestep:
            _, state = unroll(
                trained.network.recur, trained.network.initial_state, chunk.inputs[:-1], chunk.starts[:-1], state
            )
        fresh = chunk.starts[timestep]
        for own, expected in zip(trained.states, state, strict=True):
            torch.testing.assert_close(own[timestep][:, ~fresh], expected[:, ~fresh])
            assert not own[timestep][:, fresh].any()


# --- A run directory


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


def changed_run(directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(directory, tmp_path / "changed"))


def edit_config(run: Path, **changes: Any) -> None:
    values = OmegaConf.load(run / "config.yaml")
    for key, value in changes.items():
        OmegaConf.update(values, key.replace("__", "."), value, merge=False)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(values))


def edit_summary(run: Path, **changes: Any) -> None:
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, **changes}))


def test_plugins_of_a_run_are_not_imported_unless_they_are_allowed(diagnosed_run: Run, tmp_path: Path) -> None:
    run = changed_run(diagnosed_run(*SMALL), tmp_path)
    edit_config(run, plugins=["no_such_module_of_a_stranger"])
    with pytest.raises(DataError, match="--plugins no_such_module_of_a_stranger"):
        TrainedRun(run)
    with pytest.raises(ConfigError, match="cannot be imported"):
        TrainedRun(run, ["no_such_module_of_a_stranger"])


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


# --- Sizes of a received config


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


def test_training_data_of_any_length_is_found_by_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task("integral", train_timesteps=10**12, sequence_length=1000)
    monkeypatch.setattr(type(task.train(0, 4)), "__iter__", lambda self: pytest.fail("walks through all batches"))
    run = by_hand(make_network("gru", 1, 1).cell, task, make_schedule(streams=4))
    assert run.data.epoch_timesteps == 10**12 // 4
    assert run.data.all_timesteps == 10**12
    assert run.data.steps_per_stream(4 * (10**11 + 7)) == 10**11 + 7
    batch, first = run.data.find(10**11 + 7)
    assert (batch.timesteps, first) == (1000, 7)


def test_excerpts_of_long_streams_are_near_each_other() -> None:
    """Generated data is generated from its start, so an excerpt far ahead would take as long as a training."""
    task = make_task("integral", train_timesteps=10**12)
    run = by_hand(make_network("gru", 1, 1).cell, task, make_schedule(streams=2))
    run.summary |= {"timesteps": 2000, "position": 1, "planned_updates": 1}
    assert len(list(run.upcoming(3, 20))) == 3
