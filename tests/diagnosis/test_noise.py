"""Gradient noise of gradients whose mean and covariance are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import StubTask, make_schedule
from numpy.typing import NDArray
from runs import by_hand
from torch import Tensor, nn

from seqrnn.diagnosis import gradients
from seqrnn.diagnosis.instruments import noise
from seqrnn.diagnosis.instruments.noise import accumulation_efficiency, noise_scale
from seqrnn.diagnosis.intervals import bootstrapped
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.models.protocol import State
from seqrnn.tasks.protocol import stored

Array = NDArray[np.float64]


def products(gradients: Array) -> tuple[Array, Array]:
    """What ``noise_scale`` and ``accumulation_efficiency`` take, of gradients (N, m, P)."""
    mean = gradients.mean(axis=1)
    return np.stack([part @ part.T for part in gradients.transpose(1, 0, 2)]), mean @ mean.T


def drawn(rng: np.random.Generator, truth: float, positions: int, consecutive: int, alike: float) -> Array:
    """Returns gradients (positions, consecutive, 30) of noise scale ``truth``; neighbours share ``alike`` of the
    variance."""
    size = 30
    common, own = rng.normal(size=(positions, 1, size)), rng.normal(size=(positions, consecutive, size))
    mean = np.zeros(size)
    mean[0] = math.sqrt(size / truth) if math.isfinite(truth) else 0.0
    return mean + math.sqrt(alike) * common + math.sqrt(1 - alike) * own


@pytest.mark.first(1)
@pytest.mark.parametrize("truth", [0.3, 3.0, 30.0])
def test_a_noise_scale_is_recovered_and_its_interval_holds_it(truth: float) -> None:
    rng, held, values = np.random.default_rng(0), 0, []
    for _ in range(50):
        found = products(drawn(rng, truth, 32, 1, 0.0))
        interval = bootstrapped(32, lambda chosen, found=found: noise_scale(*found, chosen))
        held += interval.low <= truth <= interval.high
        values.append(1 / interval.value)
        assert interval.low <= interval.value <= interval.high
    assert np.mean(values) == pytest.approx(1 / truth, rel=0.2)  # |G|² / tr Σ is without bias
    assert held >= 42


def test_without_a_signal_the_noise_scale_has_no_upper_bound() -> None:
    rng, unbounded = np.random.default_rng(0), 0
    for _ in range(25):
        found = products(drawn(rng, math.inf, 32, 1, 0.0))
        unbounded += math.isinf(bootstrapped(32, lambda chosen, found=found: noise_scale(*found, chosen)).high)
    assert unbounded >= 18


@pytest.mark.first(1)
@pytest.mark.parametrize(("alike", "expected"), [(0.0, 1.0), (1.0, 1 / 8), (0.5, 1 / (8 * (0.5 + 0.5 / 8)))])
def test_accumulation_is_as_efficient_as_neighbours_are_independent(alike: float, expected: float) -> None:
    rng, held, values = np.random.default_rng(1), 0, []
    for _ in range(30):
        found = products(drawn(rng, 1.0, 32, 8, alike))
        interval = bootstrapped(32, lambda chosen, found=found: accumulation_efficiency(*found, chosen))
        held += interval.low - 1e-9 <= expected <= interval.high + 1e-9
        values.append(interval.value)
    assert np.mean(values) == pytest.approx(expected, rel=0.1)
    assert held >= 24


def test_the_noise_scale_is_of_single_updates_however_many_stand_consecutive() -> None:
    rng = np.random.default_rng(2)
    values = [1 / noise_scale(*products(drawn(rng, 2.0, 64, 4, 0.3)), np.arange(64)) for _ in range(50)]
    assert np.mean(values) == pytest.approx(0.5, rel=0.1)


def test_gradients_that_do_not_differ_are_no_noise() -> None:
    found = products(np.ones((6, 3, 5)))
    assert noise_scale(*found, np.arange(6)) == pytest.approx(0.0, abs=1e-12)
    assert accumulation_efficiency(*found, np.arange(6)) == pytest.approx(1.0)


# --- A run: a network whose output is a constant b, and targets y ~ N(μ, σ²): dL/db = 2 (b − y)


class Constant(nn.Module):
    output_size = 1

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return self.b.expand(*inputs.shape[:2], 1), state

    def initial_state(self, streams: int) -> State:
        return (torch.zeros(1, streams, 1, dtype=torch.float64),)


def run_of(timesteps: int, streams: int, hold: int, **schedule: Any) -> TrainedRun:
    """Targets of mean 1 and variance 4 that change every ``hold`` timesteps."""
    generator = torch.Generator().manual_seed(0)
    y = 1 + 2 * torch.randn(-(-timesteps // hold), streams, 1, generator=generator, dtype=torch.float64)
    y = y.repeat_interleave(hold, dim=0)[:timesteps]
    task = StubTask([[stored(torch.zeros(timesteps, streams, 1), y)]], input_size=1, output_size=1)
    trained = by_hand(Constant(), task, make_schedule(streams=streams, **schedule), nn.Identity())
    counts = {"timesteps": timesteps * streams, "position": 1, "planned_updates": 1}
    trained.summary = {**trained.summary, **counts}
    return trained


def test_independent_targets_average_out_over_time_and_streams() -> None:
    found = noise.NoiseInstrument().measure(run_of(20_000, 2, 1, window=5, update_every=10))
    assert found.consecutive == noise.CONSECUTIVE
    assert found.targets == 20
    assert found.positions == noise.POSITIONS
    assert found.scale.low < 4 / 20 < found.scale.high
    assert found.scale.high < 1
    assert found.accumulation_efficiency.low < 1 < found.accumulation_efficiency.high


def test_targets_that_stay_the_same_make_accumulating_worthless() -> None:
    found = noise.NoiseInstrument().measure(run_of(40_000, 2, 400, window=10))
    assert found.scale.low < 2 < found.scale.high  # 4 / 2 streams, however many timesteps
    assert found.accumulation_efficiency.value < 0.25
    assert found.accumulation_efficiency.low <= 1 / noise.CONSECUTIVE + 0.02


@pytest.mark.parametrize(("timesteps", "update", "row"), [(100, 10, 8), (100, 60, 1), (100, 45, 2), (28, 28, 1)])
def test_a_row_is_of_whole_updates_that_lie_side_by_side(
    timesteps: int, update: int, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    real = gradients.windowed_gradient

    def gradient(*arguments: Any, between: tuple[int, int], **more: Any) -> Array:
        asked.append(between)
        return real(*arguments, between=between, **more)

    monkeypatch.setattr(gradients, "windowed_gradient", gradient)
    found = noise.NoiseInstrument().measure(
        run_of(timesteps, 3, 1, window=5 if update % 5 == 0 else 28, update_every=update)
    )
    assert found.consecutive == row
    assert found.targets == 3 * update
    assert set(asked) == {(number * update, (number + 1) * update) for number in range(row)}
