"""What all tasks have in common: the protocol, where validation and test data come from, and sizes."""

from __future__ import annotations

import math
import re
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from helpers import CPU64, Finished, fields, make_network, make_schedule, make_task, whole
from hypothesis import given
from hypothesis import strategies as st
from test_configs import composed

from seqrnn import evaluation, registry
from seqrnn.errors import ConfigError
from seqrnn.losses import LOSSES
from seqrnn.schedule import WindowSampler
from seqrnn.tasks.checks import check_data

TASKS = registry.names("task")


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("name", TASKS)
def test_every_batch_has_the_shapes_and_types_of_the_protocol(name: str, streams: int) -> None:
    task = make_task(name)
    assert task.loss in LOSSES
    for batches in (task.train(0, streams), task.train(1, streams), task.validation(), task.test()):
        assert len(batches) > 0
        for batch in batches:
            chunk, T, B = whole(batch), batch.timesteps, batch.streams
            assert chunk.inputs.shape == (T, B, task.input_size)
            assert chunk.inputs.is_floating_point()
            if task.kind == "classification":
                assert chunk.targets.shape == (T, B)
                assert chunk.targets.dtype == torch.int64
            else:
                assert chunk.targets.shape == (T, B, task.output_size)
                assert chunk.targets.is_floating_point()
            assert chunk.valid.shape == chunk.starts.shape == (T, B)
            assert chunk.valid.dtype == chunk.starts.dtype == torch.bool
            assert chunk.starts[0].all()
    assert all(batch.streams <= streams for batch in task.train(0, streams))
    assert len({batch.timesteps for batch in task.validation()}) == 1
    assert len({batch.timesteps for batch in task.test()}) == 1


@pytest.mark.parametrize("name", TASKS)
def test_the_same_timesteps_read_the_same_whatever_was_read_before(name: str) -> None:
    batch, second = make_task(name).train(1, 2)[-1], make_task(name).train(1, 2)[-1]
    expected = fields(whole(batch))
    T = batch.timesteps
    for start, stop in [(T // 2, T), (0, 1), (T - 1, T), (0, T // 2), (0, T)]:
        for part, all_of_it in zip(fields(second.read(start, stop)), expected, strict=True):
            assert torch.equal(part, all_of_it[start:stop])


@pytest.mark.parametrize("name", ["sine", "sincos"])
def test_data_that_is_the_same_in_every_epoch_is_made_once(name: str) -> None:
    task = make_task(name)
    first, later = task.train(0, 3), task.train(7, 3)
    assert all(one is other for one, other in zip(first, later, strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_every_baseline_can_be_scored_on_the_test_data(name: str) -> None:
    task = make_task(name)
    network = make_network("elman", task.input_size, task.output_size)
    predictions = evaluation.predict(network, task.test(), CPU64)
    scores = evaluation.score_baselines(predictions, task, LOSSES[task.loss])
    assert len(scores) > 0
    for found in scores.values():
        assert found.keys() == evaluation.score(predictions, task, LOSSES[task.loss]).keys() > {"loss"}
        assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("name", ["integral", "mnist"])
def test_epochs_and_seeds_differ_where_data_is_drawn_at_random(name: str) -> None:
    draws = [make_task(name, seed).train(epoch, 4)[0] for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    inputs = [whole(batch).inputs for batch in draws]
    assert all(not torch.equal(one, other) for n, one in enumerate(inputs) for other in inputs[:n])


# --- Where validation and test data come from


def judged(batches: Sequence[Any]) -> set[tuple[float, ...]]:
    """Returns the inputs of the sequences with a valid target, rounded and without their sign."""
    found = set()
    for batch in batches:
        chunk = whole(batch)
        for stream in range(batch.streams):
            valid = chunk.valid[:, stream]
            if valid.any():
                inputs = chunk.inputs[:, stream][valid if valid.sum() > 1 else slice(None)]
                found.add(tuple(inputs.abs().mul(1e6).round().flatten().tolist()))
    return found


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("integral", {}),
        ("mnist", {}),
        ("mnist", {"validation_images": 0}),
        ("sine", {}),
        ("sincos", {"continuous": False}),
        ("sincos", {"continuous": True}),
    ],
)
def test_a_task_declares_whether_its_validation_data_is_test_data(name: str, changes: dict[str, Any]) -> None:
    task = make_task(name, **changes)
    validation, test = judged(task.validation()), judged(task.test())
    is_test = getattr(task, "validation_is_test", False)
    assert is_test == bool(validation & test)
    if not is_test:
        assert not judged(task.train(0, 1000)) & (validation | test)
    note = getattr(task, "data_note", None) or ""
    assert bool(re.search("validation", note)) == is_test


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["experiment=sine_online"], "chooses best.safetensors (checkpoint.best=loss); test scores"),
        (
            ["task=mnist", "task.validation_images=0", "schedule.patience=3", "schedule.lr_decay=plateau"],
            "chooses the tested weights (schedule.keep=null), best.safetensors (checkpoint.best=loss), the end of "
            "training (schedule.patience=3), the learning rate (schedule.lr_decay=plateau); test scores",
        ),
        (["experiment=mnist_lstm", "checkpoint.best=null"], None),
        (["task=mnist", "schedule.patience=3"], None),
    ],
    ids=["sine", "all that chooses", "nothing that chooses", "held out"],
)
def test_the_terminal_names_what_is_chosen_on_test_data(
    overrides: list[str], expected: str | None, command: Callable[..., Finished]
) -> None:
    finished = command(*overrides, "smoke=true", "plots.draw=false", "schedule.max_updates=1")
    assert finished.exit_code == 0, finished.err
    printed = " ".join(finished.out.split())
    note = finished.summary["data_note"]
    assert note is None or note in printed
    assert ("validation data is test data here" in printed) == (expected is not None)
    assert expected is None or expected in printed
    if "experiment=mnist_lstm" in overrides:
        assert "the validation images are the first 2,000 test images" in note


@pytest.mark.parametrize("experiment", ["mnist_lstm", "mnist_lstm_best"])
def test_textbook_experiments_that_evaluate_on_test_images_choose_nothing_by_them(experiment: str) -> None:
    values = composed(f"experiment={experiment}")
    assert values["task"]["validation_images"] == 0
    assert values["schedule"]["patience"] is None
    assert values["schedule"]["keep"] in (None, "last")
    assert values["schedule"]["lr_decay"] != "plateau"


# --- Sizes


SIZES = {
    "integral": ("train_timesteps", "sequence_length", "validation_sequences", "validation_timesteps",
                 "test_sequences", "test_timesteps"),
    "sincos": ("train_pieces", "test_pieces", "points"),
    "sine": ("points",),
}  # fmt: skip


@given(data=st.data(), name=st.sampled_from(sorted(SIZES)), streams=st.integers(1, 40))
def test_every_small_size_gives_sound_data(data: st.DataObject, name: str, streams: int) -> None:
    sizes = {key: data.draw(st.integers(2 if name == "sine" else 1, 60), label=key) for key in SIZES[name]}
    task = make_task(name, **sizes)
    check_data(task, streams, torch.float32)
    for epoch in (0, 1):
        batches = task.train(epoch, streams)
        assert all(batch.streams <= streams for batch in batches)
    assert task.reach >= 1
    assert len(task.baselines()) > 0


@pytest.mark.parametrize(
    "sizes",
    [
        {"train_timesteps": 10**15},
        {"train_timesteps": 10**15, "sequence_length": 1},
        {"train_timesteps": 10**15, "sequence_length": None},
        {"train_timesteps": 10**15, "sequence_length": 10**14, "jump_probability": 1.0, "leak": 1.0},
        {"train_timesteps": 2**53, "sequence_length": 2**53, "jitter": 1e6, "low": -1e6, "high": 1e6},
    ],
    ids=str,
)
@pytest.mark.parametrize("streams", [1, 1000])
def test_a_huge_epoch_is_read_in_bounded_memory(sizes: dict[str, Any], streams: int) -> None:
    task = make_task("integral", **sizes)
    tracemalloc.start()
    try:
        check_data(task, streams, torch.float32)
        schedule = make_schedule(window=50, streams=streams)
        planned = schedule.count_updates(task.train(0, streams))
        assert planned >= sizes["train_timesteps"] // streams // 50
        assert len(WindowSampler(schedule, lambda epoch: task.train(epoch, streams)).take(3)) <= 3
        assert tracemalloc.get_traced_memory()[1] < 2**29
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("integral", {"test_sequences": 2**30, "test_timesteps": 2}, "task.test_sequences=1073741824, task.test_t"),
        ("integral", {"validation_timesteps": 2**53}, "task.validation_timesteps=9007199254740992: together"),
        ("sincos", {"train_pieces": 2**53}, "held in memory; make it at most 16,777,216"),
        ("sincos", {"points": 2**40}, "task.points=1099511627776"),
    ],
)
def test_sizes_that_fit_into_no_memory_are_refused(name: str, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_task(name, **sizes)


@pytest.mark.parametrize("leak", [5e-324, 1e-300, 1e-17, 1 - 1e-16])
def test_a_leak_of_any_size_has_a_reach(leak: float) -> None:
    assert 1 <= make_task("integral", leak=leak).reach <= make_task("integral", leak=0.0).reach


def test_more_streams_than_fit_into_memory_are_refused() -> None:
    task = make_task("integral", train_timesteps=10**12)
    with pytest.raises(ConfigError, match=r"schedule.streams=1000000: .*at most 16,384"):
        task.train(0, 10**6)
    assert make_task("integral", train_timesteps=10**6).train(0, 10**6)[0].streams == 10**6
