"""sincos and sine, compared with their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU64, make_network, make_task, whole
from torch import Tensor

from seqrnn import evaluation
from seqrnn.losses import LOSSES
from seqrnn.tasks.protocol import stored


def half_waves(first: int, last: int, points: int = 10) -> tuple[Tensor, Tensor]:
    """Returns sin and cos of pieces ``first`` to ``last`` − 1, joined end to end."""
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
def test_only_the_pieces_of_the_split_have_valid_targets(part: str, first: int, continuous: bool) -> None:
    (batch,) = getattr(make_sincos(continuous=continuous), part)()
    chunk = whole(batch)
    in_order = [values.transpose(0, 1)[chunk.valid.T].flatten() for values in (chunk.inputs, chunk.targets)]
    torch.testing.assert_close(in_order, list(half_waves(first, first + 4)), rtol=0, atol=1e-12)
    assert batch.streams == (1 if continuous else first + 4)
    if continuous:  # all pieces before them are read too
        torch.testing.assert_close(end_to_end(chunk.inputs), half_waves(0, first + 4)[0], rtol=0, atol=1e-12)


def test_the_floor_baseline_is_wrong_at_one_in_ten_points_and_only_there_for_separate_pieces() -> None:
    task = make_sincos(continuous=False)
    predictions = evaluation.predict(make_network("elman", 1, 1), task.test(), CPU64)
    scores = evaluation.score_baselines(predictions, task, LOSSES["mse"])
    (floor,) = [found for name, found in scores.items() if name.startswith("floor")]
    assert floor["mse"] == pytest.approx(0.1, rel=1e-12)
    assert not any(name.startswith("floor") for name in make_sincos(continuous=True).baselines())


def test_the_sine_has_twenty_timesteps_whose_target_is_the_next_point() -> None:
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


def test_stored_targets_are_all_valid_unless_a_mask_is_given() -> None:
    values = torch.zeros(4, 2, 1)
    assert stored(values, values).chunk.valid.all()
    valid = torch.eye(4, dtype=torch.bool)[:, :2]
    assert torch.equal(stored(values, values, valid).read(1, 3).valid, valid[1:3])
