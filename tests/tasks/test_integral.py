"""The saturating integral, compared with its formula computed one timestep at a time. T timesteps, B streams."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from helpers import fields, make_task, whole
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seqrnn.errors import ConfigError
from seqrnn.tasks import integral


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
def test_a_long_stream_reads_the_same_in_any_order_and_any_pieces(cuts: list[int], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integral, "BLOCK", block)
        task = make_task("integral", train_timesteps=200, sequence_length=None, jitter=0.1)
        expected = fields(whole(task.train(0, 2)[0]))
        (batch,) = task.train(0, 2)
        for start, other in zip(cuts, reversed(cuts), strict=True):
            stop = max(start, other) + 1
            for part, all_of_it in zip(fields(batch.read(start, stop)), expected, strict=True):
                assert torch.equal(part, all_of_it[start:stop])


def test_a_long_stream_takes_the_memory_of_a_few_blocks() -> None:
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


@pytest.mark.long
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
def test_blocks_computed_together_equal_blocks_computed_one_by_one(
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


def test_the_input_jumps_with_its_probability_to_uniform_values() -> None:
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
def test_a_lower_limit_that_is_not_below_the_upper_one_is_refused(limits: tuple[float, float]) -> None:
    low, high = limits
    with pytest.raises(ConfigError, match=rf"task\.low={low}: must be below task\.high={high}"):
        make_task("integral", low=low, high=high)


@pytest.mark.parametrize(("loss", "timesteps"), [("l1", 20), ("mse", 20), ("l1", 100)])
def test_the_constant_is_the_best_one_for_sequences_as_long_as_those_of_the_test(loss: str, timesteps: int) -> None:
    task = make_task("integral", loss=loss, test_timesteps=timesteps, test_sequences=3000)
    chunk = whole(task.test()[0])
    predictor = task.baselines()["constant (median)" if loss == "l1" else "constant (mean)"]
    errors = [
        (one - chunk.targets).abs().pow(1 if loss == "l1" else 2).mean().item()
        for one in (predictor(chunk), *torch.linspace(0, 1, 101))
    ]
    assert errors[0] < 1.01 * min(errors[1:])
