"""Forgetting: a constructed forgetter is one, a network that has converged, or that does not move, is not."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from helpers import StubTask, make_schedule
from runs import by_hand
from torch import Tensor, nn

from seqrnn import metrics
from seqrnn.diagnosis import continued_training
from seqrnn.diagnosis.instruments import forgetting
from seqrnn.diagnosis.instruments.forgetting import FORGETS, NOT_IMPROVED, mean_loss
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.models.protocol import State
from seqrnn.tasks.protocol import Batch, stored


class Constant(nn.Module):
    """It says b, whatever it hears."""

    output_size = 1

    def __init__(self, b: float = 0.0) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.tensor([b], dtype=torch.float64))

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return self.b.expand(*inputs.shape[:2], 1), state

    def initial_state(self, streams: int) -> State:
        return (torch.zeros(1, streams, 1, dtype=torch.float64),)


class Regimes:
    """Targets ±1, the sign changing every ``each`` timesteps, with noise; every epoch is a new draw."""

    input_size = output_size = 1
    kind, loss = "regression", "mse"
    metrics = staticmethod(metrics.regression)

    def __init__(self, each: int, noise: float, height: float = 1.0, timesteps: int = 4000) -> None:
        self.each, self.noise, self.height, self.timesteps = each, noise, height, timesteps

    def _draw(self, part: int, streams: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(part)
        clock = torch.arange(self.timesteps)[:, None, None]
        sign = 1.0 - 2.0 * ((clock // self.each) % 2)
        shape = self.timesteps, streams, 1
        noise = self.noise * torch.randn(shape, generator=generator, dtype=torch.float64)
        return [stored(torch.zeros(shape, dtype=torch.float64), self.height * sign + noise)]

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        return self._draw(10 + epoch, streams)

    def validation(self) -> Sequence[Batch]:
        return self._draw(0, 4)

    def test(self) -> Sequence[Batch]:
        return self._draw(1, 4)

    def baselines(self) -> dict[str, Any]:
        return {"zero": lambda chunk: torch.zeros_like(chunk.targets)}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECONDS": 1e9, "MOMENTS": 80}.items():  # as many on a busy machine
        monkeypatch.setattr(forgetting, name, value)


def trained(task: Any, lr: float, b: float = 0.0, **schedule: Any) -> TrainedRun:
    run = by_hand(Constant(b), task, make_schedule(**{"streams": 1, "window": 5, **schedule}), nn.Identity())
    run.values = copy.deepcopy(run.values)
    run.values["optimizer"] = {"name": "sgd", "lr": lr, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    run.summary = {"timesteps": 4000, "position": 800, "planned_updates": 800}
    return run


@pytest.mark.long
def test_alternating_tasks_and_large_steps_are_forgetting() -> None:
    found = forgetting.ForgettingInstrument().measure(trained(Regimes(each=177, noise=0.3), lr=0.2))
    assert found.recency_gap.low > FORGETS
    assert found.recency_gap.low > 0.3
    assert found.losses[0].high < found.upcoming_loss.low
    assert found.ages == [50, 500]  # as old as the run is long


@pytest.mark.long
def test_a_network_that_has_converged_does_not_forget() -> None:
    found = forgetting.ForgettingInstrument().measure(trained(Regimes(each=177, noise=0.3), lr=1e-5))
    assert found.recency_gap.low < FORGETS
    assert found.recency_gap.low < 0.05 < 0.05 + found.recency_gap.high
    assert abs(found.recency_gap.value) < 0.1
    assert found.averaged_ratio.value == pytest.approx(1.0, abs=0.01)
    assert found.continued_ratio.value == pytest.approx(1.0, abs=0.01)


@pytest.mark.long
def test_a_network_that_does_not_move_has_the_same_loss_at_all_ages() -> None:
    found = forgetting.ForgettingInstrument().measure(trained(Regimes(each=5000, noise=0.0), lr=1e-300, b=0.25))
    for interval in (*found.losses, found.upcoming_loss, found.validation_loss):
        assert (interval.value, interval.low, interval.high) == pytest.approx((0.5625,) * 3, rel=1e-12)
    assert found.recency_gap.value == pytest.approx(0.0, abs=1e-12)
    assert (found.averaged_ratio.value, found.continued_ratio.value) == pytest.approx((1.0, 1.0))
    assert found.update_ratios["cell.b"].value == 0.0


@pytest.mark.long
def test_weights_that_steps_throw_about_are_better_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets N(0, 1) and a step of 0.8 of the error: b has a variance of 0.8 / 1.2, and its mean of 8 an eighth."""
    for name, value in {"SECONDS": 1e9, "MOMENTS": 48, "APART": 10}.items():
        monkeypatch.setattr(forgetting, name, value)
    found = forgetting.ForgettingInstrument().measure(
        trained(Regimes(each=5000, noise=1.0, height=0.0), lr=0.4, window=1)
    )
    assert found.averaged_ratio.high < NOT_IMPROVED
    assert found.averaged_ratio.value == pytest.approx((1 + 0.8 / 1.2 / 8) / (1 + 0.8 / 1.2), abs=0.1)
    quiet = forgetting.ForgettingInstrument().measure(
        trained(Regimes(each=5000, noise=1.0, height=0.0), lr=1e-4, window=1)
    )
    assert quiet.averaged_ratio.low > NOT_IMPROVED


def test_progress_is_not_taken_for_steps_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise, b comes closer by 6 % of the way with each update, and larger steps would do more."""
    for name, value in {"SECONDS": 1e9, "MOMENTS": 80, "APART": 20}.items():
        monkeypatch.setattr(forgetting, name, value)
    monkeypatch.setattr(continued_training, "SETTLED", 0)
    found = forgetting.ForgettingInstrument().measure(trained(Regimes(each=10**6, noise=0.0), lr=0.03, b=-1.0))
    assert found.continued_ratio.high < 1e-6
    assert found.averaged_ratio.low > 1


@pytest.mark.long
def test_few_moments_are_averaged_over_fewer_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MOMENTS": 20, "APART": 20}.items():
        monkeypatch.setattr(forgetting, name, value)
    found = forgetting.ForgettingInstrument().measure(
        trained(Regimes(each=5000, noise=1.0, height=0.0), lr=0.4, window=1)
    )
    assert found.moments == 20
    assert found.averaged_ratio.value < 0.9  # a block of a single moment would be no average
    assert found.averaged_ratio.low < found.averaged_ratio.value < found.averaged_ratio.high


@pytest.mark.long
def test_what_going_on_brings_is_compared_with_where_the_run_ended() -> None:
    found = forgetting.ForgettingInstrument().measure(trained(Regimes(each=10**6, noise=0.0), lr=1e-4, b=-1.0))
    assert found.continued_ratio.high < 0.9
    assert found.continued_timesteps > 0
    # Plain descent on (b - 1)²: each update takes 1 - 2 lr of the way.
    assert found.validation_loss.low < found.validation_loss.value <= 4.0


@pytest.mark.long
def test_the_update_ratio_is_that_of_one_update() -> None:
    found = forgetting.ForgettingInstrument().measure(
        trained(Regimes(each=10**6, noise=0.0, height=0.0), lr=1e-3, b=1.0)
    )
    assert found.update_ratios["cell.b"].value == pytest.approx(2e-3, rel=1e-6)


@pytest.mark.long
def test_finite_data_that_is_known_by_heart_is_better_than_what_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [
        stored(torch.zeros(600, 2, 1), mean + 0.1 * torch.randn(600, 2, 1, generator=generator, dtype=torch.float64))
        for mean in (0.0, 1.0)
    ]
    task = StubTask([[batches[0]]], input_size=1, output_size=1)
    task.validation = lambda: [batches[1]]  # type: ignore[method-assign]
    run = trained(task, lr=1e-6, streams=2)
    run.summary = {"timesteps": 1200, "position": 120, "planned_updates": 120}
    found = forgetting.ForgettingInstrument().measure(run)
    assert found.validation_ratio.low > 10
    assert abs(found.recency_gap.value) < 0.2


@pytest.mark.long
def test_a_run_shorter_than_a_stretch_has_no_gap() -> None:
    run = trained(Regimes(each=10, noise=0.1, timesteps=30), lr=1e-3)
    run.summary = {"timesteps": 30, "position": 6, "planned_updates": 6}
    found = forgetting.ForgettingInstrument().measure(run)
    assert found.ages == []
    assert np.isnan(found.recency_gap.value)
    assert (found.recency_gap.low, found.recency_gap.high) == (-np.inf, np.inf)


def test_the_loss_of_a_stretch_is_per_valid_target() -> None:
    run = trained(Regimes(each=50, noise=0.0, timesteps=200), lr=1e-3)
    excerpt = run.excerpt(0, 200)
    assert mean_loss(run.network, run.components.loss, excerpt) == pytest.approx(1.0)
    excerpt.chunk.valid[:] = False
    assert np.isnan(mean_loss(run.network, run.components.loss, excerpt))
