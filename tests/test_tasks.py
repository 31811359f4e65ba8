"""Tasks: what they generate or read, against their formulas one timestep at a time. T timesteps, B streams."""

from __future__ import annotations

import gzip
import math
import re
import struct
import subprocess
import sys
import tracemalloc
import types
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU64, Finished, make_network, make_schedule, make_task
from hypothesis import given
from hypothesis import strategies as st
from test_configs import composed
from torch import Tensor

from seqrnn import evaluation, registry
from seqrnn.errors import ConfigError, DataError
from seqrnn.losses import LOSSES
from seqrnn.schedule import WindowSampler
from seqrnn.strategies.plain import WindowByWindow
from seqrnn.tasks import integral, mnist
from seqrnn.tasks.checks import DataFormat, check_data
from seqrnn.tasks.mnist import read_idx, synthetic_digits
from seqrnn.tasks.protocol import Chunk, stored

TASKS = registry.names("task")


def whole(batch: Any) -> Chunk:
    return batch.read(0, batch.timesteps)


def fields(chunk: Chunk) -> list[Tensor]:
    return [chunk.inputs, chunk.targets, chunk.valid, chunk.starts]


# --- What every task promises


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("name", TASKS)
def test_every_batch_of_a_task_keeps_the_protocol(name: str, streams: int) -> None:
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
def test_reading_is_pure_and_repeatable_by_seed(name: str) -> None:
    batch, again = make_task(name).train(1, 2)[-1], make_task(name).train(1, 2)[-1]
    expected = fields(whole(batch))
    T = batch.timesteps
    for start, stop in [(T // 2, T), (0, 1), (T - 1, T), (0, T // 2), (0, T)]:
        for part, all_of_it in zip(fields(again.read(start, stop)), expected, strict=True):
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
    scores = evaluation.score_baselines(evaluation.predict(network, task.test(), CPU64), task, LOSSES[task.loss])
    assert len(scores) > 0
    for found in scores.values():
        assert found.keys() >= {"loss"} | set(task.metrics(np.zeros((2, 1)), np.zeros((2, 1))))
        assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("name", ["integral", "mnist"])
def test_epochs_and_seeds_differ_where_data_is_drawn_at_random(name: str) -> None:
    draws = [make_task(name, seed).train(epoch, 4)[0] for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    inputs = [whole(batch).inputs for batch in draws]
    assert all(not torch.equal(one, other) for n, one in enumerate(inputs) for other in inputs[:n])


# --- Where validation and test data come from


def judged(batches: Sequence[Any]) -> set[tuple[float, ...]]:
    """The sequences with a valid target: their inputs up to there, rounded, and without their sign."""
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
        (["experiment=sine_online"], "chooses best.safetensors (checkpoint.best=loss): test scores"),
        (
            ["task=mnist", "task.validation_images=0", "schedule.patience=3", "schedule.lr_decay=plateau"],
            "best.safetensors (checkpoint.best=loss) and the end of training (schedule.patience=3) and the learning "
            "rate (schedule.lr_decay=plateau)",
        ),
        (["experiment=mnist_lstm", "checkpoint.best=null"], None),
        (["task=mnist", "schedule.patience=3"], None),
    ],
    ids=["sine", "all that chooses", "nothing that chooses", "held out"],
)
def test_a_run_says_what_is_chosen_on_test_data(
    overrides: list[str], expected: str | None, command: Callable[..., Finished]
) -> None:
    finished = command(*overrides, "smoke=true", "plots.draw=false", "schedule.max_updates=1")
    assert finished.exit_code == 0, finished.err
    said = " ".join(finished.out.split())
    note = finished.summary["data_note"]
    assert note is None or note in said
    assert ("validation data is test data here" in said) == (expected is not None)
    assert expected is None or expected in said
    if "experiment=mnist_lstm" in overrides:
        assert "the validation images are the first 2,000 test images" in note


@pytest.mark.parametrize("experiment", ["mnist_lstm", "mnist_lstm_best"])
def test_textbook_recipes_that_evaluate_on_test_images_choose_nothing_by_them(experiment: str) -> None:
    values = composed(f"experiment={experiment}")
    assert values["task"]["validation_images"] == 0
    assert values["schedule"]["patience"] is None
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
def test_an_epoch_without_an_end_is_ready_at_once(sizes: dict[str, Any], streams: int) -> None:
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


def test_more_streams_than_fit_into_memory_are_refused() -> None:
    task = make_task("integral", train_timesteps=10**12)
    with pytest.raises(ConfigError, match=r"schedule.streams=1000000: .*at most 16,384"):
        task.train(0, 10**6)
    assert make_task("integral", train_timesteps=10**6).train(0, 10**6)[0].streams == 10**6


# --- integral


def integral_by_hand(inputs: Tensor, gain: float, offset: float, leak: float, low: float, high: float) -> Tensor:
    outputs = torch.empty_like(inputs)
    for stream in range(inputs.shape[1]):
        y = 0.0
        for t in range(inputs.shape[0]):
            x = inputs[t, stream].item()
            y = min(max(y + gain * (x - offset) + leak * (x - y), low), high)
            outputs[t, stream] = y
    return outputs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gain": 0.35, "offset": 0.3},
        {"gain": -0.2},
        {"leak": 0.05},
        {"leak": 1.0, "gain": 0.0},
        {"low": -0.4, "high": 0.3},
        {"low": -3.0, "high": 0.0, "leak": 0.01, "jitter": 0.3},
        {"gain": 25.0, "low": -1e6, "high": 1e6},
        {"jitter": 0.5, "jump_probability": 0.0},
        {"jump_probability": 1.0},
    ],
)
def test_the_integral_is_its_formula_one_timestep_at_a_time(
    changes: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integral, "BLOCK", 100)
    task = make_task("integral", train_timesteps=2100, sequence_length=700, **changes)
    formula = {key: getattr(task, key) for key in ("gain", "offset", "leak", "low", "high")}
    for batch in task.train(0, 3):
        chunk = whole(batch)
        expected = integral_by_hand(chunk.inputs, **formula)
        torch.testing.assert_close(chunk.targets, expected, rtol=1e-12, atol=1e-12)
        assert chunk.targets.unique().numel() > 20
        assert chunk.valid.all()
        assert chunk.starts[0].all()
        assert not chunk.starts[1:].any()


@given(cuts=st.lists(st.integers(0, 99), min_size=1, max_size=12), block=st.sampled_from([7, 16, 50, 1000]))
def test_an_endless_stream_reads_the_same_in_any_order_and_any_pieces(cuts: list[int], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integral, "BLOCK", block)
        task = make_task("integral", train_timesteps=200, sequence_length=None, jitter=0.1)
        expected = fields(whole(task.train(0, 2)[0]))
        (batch,) = task.train(0, 2)
        for start, other in zip(cuts, reversed(cuts), strict=True):
            stop = max(start, other) + 1
            for part, all_of_it in zip(fields(batch.read(start, stop)), expected, strict=True):
                assert torch.equal(part, all_of_it[start:stop])


def test_an_endless_stream_takes_the_memory_of_a_few_blocks() -> None:
    streams, block = 16, integral.BLOCK
    (batch,) = make_task("integral", train_timesteps=streams * 10_000_000, sequence_length=None).train(0, streams)
    assert batch.timesteps == 10_000_000
    batch.read(0, 1)
    tracemalloc.start()
    try:
        for number in range(20):
            batch.read(number * block, (number + 1) * block)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4 * (2 * 8 * block * streams)  # blocks of inputs and outputs in float64


def test_a_long_stream_takes_no_more_memory_than_a_short_one() -> None:
    peaks = []
    for timesteps in (100_000, 10_000_000):
        (batch,) = make_task("integral", train_timesteps=timesteps, sequence_length=None).train(0, 1)
        tracemalloc.start()
        try:
            for start in range(0, timesteps, 4096):
                batch.read(start, min(start + 4096, timesteps))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] - peaks[0] < 2_000_000


@pytest.mark.parametrize("streams", [1, 2, 5])
def test_blocks_that_are_computed_together_are_what_they_are_apart(
    streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integral, "BLOCK", 60)
    found = []
    for blocks in (1, 7):
        monkeypatch.setattr(integral, "BLOCKS_PER_SECTION", blocks)
        task = make_task("integral", train_timesteps=streams * 1500, sequence_length=None, jitter=0.1, leak=0.1)
        found.append(whole(task.train(0, streams)[0]))
    assert torch.equal(found[0].inputs, found[1].inputs)
    torch.testing.assert_close(found[0].targets, found[1].targets, rtol=0, atol=1e-14)


def test_the_input_jumps_as_often_as_it_should_to_uniform_values() -> None:
    for probability in (0.1, 0.5):
        task = make_task("integral", train_timesteps=200_000, sequence_length=None, jump_probability=probability)
        x = whole(task.train(0, 10)[0]).inputs[..., 0].numpy()
        jumped = x[1:] != x[:-1]
        assert jumped.mean() == pytest.approx(probability, abs=5 * (0.25 / jumped.size) ** 0.5)
        values = x[1:][jumped]
        assert len(np.unique(values)) == len(values)  # no block repeats another
        shares = np.histogram(values, bins=10, range=(0, 1))[0] / len(values)
        assert shares == pytest.approx(0.1, abs=5 * (0.1 / len(values)) ** 0.5)
        assert np.abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 5 / len(values) ** 0.5
        one, other = jumped[:, 0] - jumped.mean(), jumped[:, 1] - jumped.mean()  # streams are independent
        assert abs((one * other).mean()) < 5 * probability / len(one) ** 0.5


def test_the_input_stays_at_zero_until_it_first_jumps() -> None:
    x = whole(make_task("integral", jump_probability=0.02).test()[0]).inputs[:200, :, 0]
    first = (x != 0).int().argmax(dim=0)
    assert (first > 0).any()
    assert all((x[:at, stream] == 0).all() for stream, at in enumerate(first))


def test_training_validation_and_test_data_have_nothing_in_common() -> None:
    task = make_task("integral", validation_sequences=3, validation_timesteps=300, train_timesteps=900)
    parts = [
        set(whole(b).inputs.flatten().tolist()) for b in (task.train(0, 3)[0], task.validation()[0], task.test()[0])
    ]
    assert all(len(values) > 50 for values in parts)
    assert parts[0] & parts[1] == parts[0] & parts[2] == parts[1] & parts[2] == {0.0}


@pytest.mark.parametrize(
    ("train_timesteps", "sequence_length", "streams", "expected"),
    [
        (1000, None, 1, [(1000, 1)]),
        (1000, None, 3, [(333, 3)]),
        (1000, 100, 2, [(100, 2)] * 5),
        (1000, 300, 2, [(300, 2)]),
        (1000, 5000, 4, [(250, 4)]),
        (5, None, 9, [(1, 5)]),
    ],
)
def test_an_epoch_is_shared_out_among_the_streams(
    train_timesteps: int, sequence_length: int | None, streams: int, expected: list[tuple[int, int]]
) -> None:
    task = make_task("integral", train_timesteps=train_timesteps, sequence_length=sequence_length)
    batches = task.train(0, streams)
    assert [(batch.timesteps, batch.streams) for batch in batches] == expected
    if len(batches) > 1:
        assert not torch.equal(whole(batches[0]).inputs, whole(batches[1]).inputs)


@pytest.mark.parametrize("limits", [(1.0, 0.0), (0.5, 0.5)])
def test_limits_that_leave_no_room_are_refused(limits: tuple[float, float]) -> None:
    low, high = limits
    with pytest.raises(ConfigError, match=rf"task\.low={low}: must be below task\.high={high}"):
        make_task("integral", low=low, high=high)


# --- sincos and sine


def half_waves(first: int, last: int, points: int = 10) -> tuple[Tensor, Tensor]:
    """sin and cos of pieces ``first`` to ``last``, end to end."""
    times = np.concatenate([np.linspace(n * np.pi, (n + 1) * np.pi, points) for n in range(first, last)])
    return torch.from_numpy(np.sin(times)), torch.from_numpy(np.cos(times))


def end_to_end(values: Tensor, stream: int = 0) -> Tensor:
    return values[:, stream, 0]


def make_sincos(**changes: Any) -> Any:
    return make_task("sincos", **{"train_pieces": 12, "test_pieces": 4, "points": 10, **changes})


@pytest.mark.parametrize("streams", [1, 5, 12, 100])
def test_pieces_are_half_waves_side_by_side(streams: int) -> None:
    batches = make_sincos(continuous=False).train(0, streams)
    assert [batch.streams for batch in batches] == [min(streams, 12 - n) for n in range(0, 12, streams)]
    chunks = [whole(batch) for batch in batches]
    for found, expected in zip(("inputs", "targets"), half_waves(0, 12), strict=True):
        joined = torch.cat([getattr(chunk, found) for chunk in chunks], dim=1)
        torch.testing.assert_close(joined[..., 0].T.flatten(), expected, rtol=0, atol=1e-12)
    assert all(chunk.starts[0].all() and not chunk.starts[1:].any() and chunk.valid.all() for chunk in chunks)


@pytest.mark.parametrize(("streams", "each"), [(1, 12), (3, 4), (5, 2), (100, 1)])
def test_continuous_pieces_follow_one_another_within_each_stream(streams: int, each: int) -> None:
    (batch,) = make_sincos(continuous=True).train(0, streams)
    chunk = whole(batch)
    assert (batch.timesteps, batch.streams) == (10 * each, min(streams, 12))
    for stream in range(batch.streams):
        sin, cos = half_waves(stream * each, (stream + 1) * each)
        torch.testing.assert_close(end_to_end(chunk.inputs, stream), sin, rtol=0, atol=1e-12)
        torch.testing.assert_close(end_to_end(chunk.targets, stream), cos, rtol=0, atol=1e-12)
    assert chunk.starts[0].all()
    assert not chunk.starts[1:].any()


@pytest.mark.parametrize("continuous", [True, False])
@pytest.mark.parametrize(("part", "first"), [("test", 12), ("validation", 16)])
def test_exactly_the_pieces_that_follow_are_judged(part: str, first: int, continuous: bool) -> None:
    (batch,) = getattr(make_sincos(continuous=continuous), part)()
    chunk = whole(batch)
    in_order = [values.transpose(0, 1)[chunk.valid.T].flatten() for values in (chunk.inputs, chunk.targets)]
    torch.testing.assert_close(in_order, list(half_waves(first, first + 4)), rtol=0, atol=1e-12)
    assert batch.streams == (1 if continuous else first + 4)
    if continuous:  # it runs through everything before
        torch.testing.assert_close(end_to_end(chunk.inputs), half_waves(0, first + 4)[0], rtol=0, atol=1e-12)


def test_the_floor_of_fresh_starts_is_one_in_ten_points_and_no_such_floor_is_shown_for_a_continuous_wave() -> None:
    task = make_sincos(continuous=False)
    predictions = evaluation.predict(make_network("elman", 1, 1), task.test(), CPU64)
    scores = evaluation.score_baselines(predictions, task, LOSSES["mse"])
    (floor,) = [found for name, found in scores.items() if name.startswith("floor")]
    assert floor["mse"] == pytest.approx(0.1, rel=1e-12)
    assert not any(name.startswith("floor") for name in make_sincos(continuous=True).baselines())


def test_the_sine_is_twenty_points_of_which_the_next_is_asked() -> None:
    task = make_task("sine", start=2.0, stop=10.0, points=21)
    expected = torch.from_numpy(np.sin(np.linspace(2, 10, 21)))
    for batches in (task.train(0, 1), task.train(7, 64), task.validation(), task.test()):
        (batch,) = batches
        chunk = whole(batch)
        assert (batch.timesteps, batch.streams) == (20, 1)
        torch.testing.assert_close(end_to_end(chunk.inputs), expected[:-1], rtol=0, atol=1e-12)
        torch.testing.assert_close(end_to_end(chunk.targets), expected[1:], rtol=0, atol=1e-12)
        assert chunk.valid.all()
        assert chunk.starts.flatten().tolist() == [True] + [False] * 19
    predictions = evaluation.predict(make_network("elman", 1, 1), task.test(), CPU64)
    persistence = evaluation.score_baselines(predictions, task, LOSSES["half_mse"])["persistence"]
    assert persistence["mse"] == pytest.approx((expected[1:] - expected[:-1]).square().mean().item())
    assert persistence["loss"] == pytest.approx(persistence["mse"] / 2)


def test_whole_sequences_in_memory_are_valid_everywhere_unless_said_otherwise() -> None:
    values = torch.zeros(4, 2, 1)
    assert stored(values, values).chunk.valid.all()
    valid = torch.eye(4, dtype=torch.bool)[:, :2]
    assert torch.equal(stored(values, values, valid).read(1, 3).valid, valid[1:3])


# --- mnist, from files in torchvision's layout

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape) + values.tobytes()


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images, the first two pixels of which say which image it is."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    return images, rng.integers(0, 10, count, dtype=np.uint8)


TRAINING, TESTING = digits(300, 0), digits(40, 1)


def write_mnist(folder: Path, zipped: bool = False) -> Path:
    """The four files in ``folder``/MNIST/raw, which is returned."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, values in zip((IMAGES, LABELS, TEST_IMAGES, TEST_LABELS), (*TRAINING, *TESTING), strict=True):
        if zipped:
            (raw / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
        else:
            (raw / name).write_bytes(idx(values))
    return raw


def make_mnist(folder: Path, seed: int = 0, **changes: Any) -> Any:
    values = {"data_dir": str(folder), "download": False, "synthetic": False, "validation_images": 0, **changes}
    return make_task("mnist", seed, **values)


def which(batches: Sequence[Any]) -> list[int]:
    """The numbers of the images in the batches, in order."""
    first_row = torch.cat([batch.read(0, 1).inputs[0] for batch in batches]) * 255  # (N, 28)
    return (first_row[:, 0] + 256 * first_row[:, 1]).round().int().tolist()


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_images_are_read_row_by_row_with_their_label_asked_for_at_the_end(tmp_path: Path, zipped: bool) -> None:
    write_mnist(tmp_path, zipped)
    task = make_mnist(tmp_path)
    images, labels = TRAINING
    batches = task.train(0, 64)
    assert [batch.streams for batch in batches] == [64, 64, 64, 64, 44]
    for batch in batches:
        chunk, chosen = whole(batch), which([batch])
        expected = torch.from_numpy(images[chosen]).transpose(0, 1) / 255
        torch.testing.assert_close(chunk.inputs, expected, rtol=1e-6, atol=0)
        assert torch.equal(chunk.targets[-1], torch.from_numpy(labels[chosen].astype(np.int64)))
        assert chunk.valid[-1].all()
        assert not chunk.valid[:-1].any()
    assert which(task.test()) == list(range(40))
    every = torch.cat([whole(batch).targets[-1] for batch in task.test()])
    assert every.tolist() == TESTING[1].tolist()


def test_an_epoch_is_a_new_permutation_of_all_training_images_that_the_seed_repeats(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    orders = [which(make_mnist(tmp_path, seed).train(epoch, 32)) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(300)) for order in orders)
    assert all(one != other for n, one in enumerate(orders) for other in orders[:n])
    task = make_mnist(tmp_path)
    assert [which(task.train(epoch, 7)) for epoch in (1, 0)] == [orders[1], orders[0]]


def test_validation_images_are_held_out_and_without_them_the_first_test_images_serve(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    task = make_mnist(tmp_path, validation_images=50)
    assert which(task.validation()) == list(range(250, 300))
    assert sorted(which(task.train(0, 64))) == list(range(250))
    assert which(make_mnist(tmp_path).validation()) == list(range(40))
    with pytest.raises(DataError, match=r"task\.validation_images=300: there are 300 training images"):
        make_mnist(tmp_path, validation_images=300).train(0, 1)


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def damage(raw: Path) -> str:
        (raw / name).write_bytes(change((raw / name).read_bytes()))
        return name

    return damage


def zipped_as(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def damage(raw: Path) -> str:
        (raw / f"{name}.gz").write_bytes(change(gzip.compress((raw / name).read_bytes())))
        (raw / name).unlink()
        return f"{name}.gz"

    return damage


def labelled(label: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:20] + bytes([label]) + data[21:]


def flipped(data: bytes) -> bytes:
    """Damage in the middle of the compressed stream."""
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0xFF for byte in data[middle : middle + 64]) + data[middle + 64 :]


def bomb(declared: int, length: int) -> bytes:
    """A gzip file of some images of zeros, which holds many more."""
    packer = zlib.compressobj(9, wbits=31)
    begin = packer.compress(struct.pack(">4I", 0x0803, declared, 28, 28))
    return begin + b"".join(packer.compress(bytes(2**20)) for _ in range(length // 2**20)) + packer.flush()


BOMB, SMALL_BOMB = bomb(10, 2**28), bomb(2**20, 2**20)
DAMAGES: dict[str, Callable[[Path], str]] = {
    "empty": rewrite(IMAGES, lambda data: b""),
    "header cut short": rewrite(LABELS, lambda data: data[:6]),
    "cut short": rewrite(IMAGES, lambda data: data[:-1]),
    "too long": rewrite(LABELS, lambda data: data + b"\0"),
    "wrong magic": rewrite(IMAGES, lambda data: b"\x89PNG" + data[4:]),
    "labels where images should be": rewrite(IMAGES, lambda data: idx(TRAINING[1])),
    "another count of labels": rewrite(LABELS, lambda data: idx(TRAINING[1][:-1])),
    "no images at all": rewrite(LABELS, lambda data: idx(TRAINING[1][:0])),
    "label 10": rewrite(LABELS, labelled(10)),
    "images of another size": rewrite(IMAGES, lambda data: idx(TRAINING[0][:, :27])),
    "a huge size declared": rewrite(IMAGES, lambda data: data[:4] + b"\xff" * 12 + data[16:]),
    "a large size declared": rewrite(IMAGES, lambda data: data[:4] + struct.pack(">3I", 10**6, 28, 28) + data[16:]),
    "a small count declared": rewrite(IMAGES, lambda data: data[:4] + struct.pack(">3I", 299, 28, 28) + data[16:]),
    "no images declared": rewrite(IMAGES, lambda data: data[:4] + bytes(12)),
    "gz that is a bomb": zipped_as(IMAGES, lambda data: BOMB),
    "gz that is a bomb within its size": zipped_as(LABELS, lambda data: SMALL_BOMB),
    "gz that is no gz": zipped_as(IMAGES, lambda data: b"not found" * 100),
    "gz cut short": zipped_as(IMAGES, lambda data: data[:-50]),
    "gz that is empty": zipped_as(LABELS, lambda data: b""),
    "gz damaged inside": zipped_as(IMAGES, flipped),
    "gz with another checksum": zipped_as(LABELS, lambda data: data[:-8] + bytes(4) + data[-4:]),
    "gz with a damaged header of its blocks": zipped_as(LABELS, lambda data: data[:10] + b"\xff" * 20 + data[30:]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_what_to_do_about_it(damage: str, tmp_path: Path) -> None:
    raw = write_mnist(tmp_path)
    name = DAMAGES[damage](raw)
    with pytest.raises(DataError) as caught:
        make_mnist(tmp_path, download=True).train(0, 1)
    (problem,) = caught.value.problems
    assert str(raw / name) in problem
    assert re.search(r"\bget (it|both files|all four)\b", problem), f"no remedy: {problem}"
    assert "\n" not in problem


def test_a_bomb_is_left_before_it_goes_off(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(BOMB)
    tracemalloc.start()
    with pytest.raises(DataError, match="holds more than 7,840 bytes"):
        read_idx(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_files_are_named_with_both_ways_to_get_them(part: str, tmp_path: Path) -> None:
    raw = write_mnist(tmp_path)
    missing = LABELS if part == "train" else TEST_LABELS
    (raw / missing).unlink()
    task = make_mnist(tmp_path)
    with pytest.raises(DataError) as caught:
        task.train(0, 1) if part == "train" else task.test()
    (problem,) = caught.value.problems
    for text in (missing, str(raw), "task.data_dir=DIR", "DIR/MNIST/raw", "task.download=true"):
        assert text in problem


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in for torchvision.datasets: tests give it an MNIST."""
    datasets = types.ModuleType("torchvision.datasets")
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    return datasets


def test_missing_files_are_downloaded_once_to_where_they_are_looked_for(
    tmp_path: Path, torchvision: types.ModuleType
) -> None:
    calls = []

    def download(root: str, download: bool) -> None:
        calls.append((root, download))
        write_mnist(Path(root), zipped=True)

    torchvision.MNIST = download  # type: ignore[attr-defined]
    task = make_mnist(tmp_path / "new", download=True)
    assert sorted(which(task.train(0, 64))) == list(range(300))
    assert which(task.test()) == list(range(40))
    assert calls == [(str(tmp_path / "new"), True)]


def test_torchvision_is_not_imported_where_the_files_are(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    script = (
        "import sys\n"
        "from seqrnn.tasks.mnist import Mnist\n"
        "task = Mnist(0, data_dir=sys.argv[1], download=True, validation_images=0, synthetic=False)\n"
        "images = [sum(batch.streams for batch in part) for part in (task.train(0, 64), task.test())]\n"
        "print(*images, 'torchvision' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "300 40 False\n"


def test_a_download_that_fails_is_reported_with_both_ways_out(tmp_path: Path, torchvision: types.ModuleType) -> None:
    def download(root: str, download: bool) -> None:
        raise RuntimeError("connection\nrefused")

    torchvision.MNIST = download  # type: ignore[attr-defined]
    with pytest.raises(DataError) as caught:
        make_mnist(tmp_path, download=True).test()
    (problem,) = caught.value.problems
    for text in ("connection refused", str(tmp_path), "connection", "task.data_dir=DIR", "DIR/MNIST/raw"):
        assert text in problem
    assert "\n" not in problem


def test_synthetic_digits_show_every_class_with_its_own_strokes_and_repeat_by_seed() -> None:
    images, labels = synthetic_digits(0, 512)
    assert images.shape == (512, 28, 28)
    assert images.dtype == labels.dtype == np.uint8
    assert np.bincount(labels, minlength=10).min() > 25
    again, other = synthetic_digits(0, 512), synthetic_digits(1, 512)
    assert np.array_equal(images, again[0])
    assert np.array_equal(labels, again[1])
    assert not np.array_equal(images, other[0])
    ink = (images > 100).mean(axis=(1, 2))
    by_class = [ink[labels == digit].mean() for digit in range(10)]
    assert int(np.argmin(by_class)) == 1
    assert int(np.argmax(by_class)) == 8
    assert len({image.tobytes() for image in images}) == 512


def test_synthetic_digits_need_no_files_and_say_what_they_are(tmp_path: Path) -> None:
    task = make_mnist(tmp_path / "nowhere", synthetic=True, validation_images=64, download=True)
    assert len(which(task.train(0, 64))) == 448
    assert len(which(task.test())) == 128
    assert "not MNIST" in task.data_note
    write_mnist(tmp_path)
    assert make_mnist(tmp_path, validation_images=10).data_note is None


def test_images_that_were_first_read_in_an_evaluation_can_be_trained_on() -> None:
    mnist._ends.cache_clear()
    task = make_task("mnist", validation_images=64)
    network = make_network("gru", 28, 10, kernel="torch")
    evaluation.predict(network, task.validation(), CPU64)
    (batch, *_) = task.train(0, 64)
    schedule = make_schedule(window=7, streams=64, max_updates=1)
    gradients = WindowByWindow(network, LOSSES["cross_entropy"], True, CPU64, DataFormat.of(task))
    for window in schedule.cut(28):
        gradients([(batch, window)])
    assert all(weight.grad is not None for weight in network.parameters())


def test_accuracy_on_the_first_two_thousand_is_reported_where_there_are_more() -> None:
    task = make_task("mnist")
    targets = np.zeros(2500, np.int64)
    outputs = np.zeros((2500, 10))
    outputs[2000:, 1] = 1  # wrong from there on
    assert task.metrics(outputs, targets) == {"accuracy": 0.8, "accuracy_first_2000": 1.0}
    assert task.metrics(outputs[:2000], targets[:2000]) == {"accuracy": 1.0}
