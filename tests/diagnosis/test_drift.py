"""Drift: integrators written by hand, exact ones and others, and sequences that are longer than those of training."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from helpers import StubTask, make_schedule, make_task, random_batch
from runs import Linear, by_hand
from torch import Tensor, nn

from seqrnn.diagnosis.instruments import drift
from seqrnn.diagnosis.instruments.drift import Drift
from seqrnn.errors import DataError
from seqrnn.tasks.protocol import Stored, stored

LENGTH = 50


def sums(timesteps: int, streams: int) -> Stored:
    """Noise, and the sum of it so far."""
    rng = torch.Generator().manual_seed(timesteps)
    x = torch.randn(timesteps, streams, 1, generator=rng, dtype=torch.float64)
    return stored(x, x.cumsum(dim=0))


@dataclasses.dataclass
class SumTask(StubTask):
    """The target is the sum of the inputs so far."""

    loss: str = "l1"
    input_size: int = 1
    output_size: int = 1

    def rollout(self, timesteps: int, streams: int) -> Stored:
        return sums(timesteps, streams)


def integrator(keep: float = 1.0, bias: float = 0.0) -> tuple[Linear, nn.Linear]:
    """h ← keep · h + x; the bias is added to the input of a second unit, which the head adds to the first."""
    cell = Linear(torch.tensor([[keep]]), torch.ones(1, 1))
    head = nn.Linear(1, 1)
    with torch.no_grad():
        head.weight.fill_(1.0)
        head.bias.fill_(bias)
    return cell, head


class Biased(Linear):
    """h ← h + x + bias."""

    bias = 0.01

    def forward(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        return super().forward(inputs + self.bias, state)


def task() -> SumTask:
    return SumTask([[sums(LENGTH, 2)]])


def measured(cell: Any, head: nn.Module, of: Any = None, **schedule: Any) -> Drift:
    return drift.DriftInstrument().measure(by_hand(cell, of or task(), make_schedule(**schedule), head))


def test_an_integrator_with_a_bias_drifts_by_it_at_every_timestep() -> None:
    """Its error is 0.01 t, so the last tenth's is 1.9 ÷ 0.1 times that of the first."""
    found = measured(Biased(torch.ones(1, 1), torch.ones(1, 1)), integrator()[1])
    assert (found.source, found.timesteps, found.streams) == ("rollout", 20 * LENGTH, 16)
    assert found.first_loss.value == pytest.approx(0.01 * 50.5)
    assert found.last_loss.value == pytest.approx(0.01 * 950.5)
    assert found.growth.value == pytest.approx(950.5 / 50.5)
    assert found.growth.low == pytest.approx(found.growth.high)
    expected = 0.01 * (np.array(found.times) + 1)
    np.testing.assert_allclose([block.value for block in found.losses], expected, rtol=1e-6)
    assert len(found.losses) == 40


def test_an_exact_integrator_does_not_drift() -> None:
    found = measured(*integrator())
    assert found.growth.value == pytest.approx(1)
    assert found.last_loss.value < 1e-9


def test_rounding_that_adds_up_is_no_drift() -> None:
    cell, head = integrator()
    head.double()
    with torch.no_grad():
        head.weight.fill_(1 + 1e-12)  # of a random walk: the error grows with it
    found = measured(cell, head)
    assert 0 < found.last_loss.value < 1e-9
    assert [found.growth.value, found.growth.low, found.growth.high] == [1, 1, 1]


def test_a_constant_error_is_no_drift() -> None:
    found = measured(*integrator(bias=0.3))
    assert found.growth.low == pytest.approx(1)
    assert found.growth.high == pytest.approx(1)


def test_a_leaky_integrator_drifts_away_from_a_random_walk() -> None:
    """What it has lost is a random walk itself, so its error grows like the root of time."""
    found = measured(*integrator(keep=0.9))
    assert found.growth.low > 1.5
    assert found.growth.value == pytest.approx(np.sqrt(19), rel=0.4)


def test_how_long_the_state_was_carried_in_training_decides_how_long_the_rollout_is() -> None:
    assert measured(*integrator(), carry=False, window=7).training_timesteps == 7
    assert measured(*integrator(), carry=False, window=7).timesteps == 140
    assert measured(*integrator(), carry=False, window=999).training_timesteps == LENGTH
    assert measured(*integrator(), carry=True, window=7).training_timesteps == LENGTH


def test_a_rollout_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "MOST", 300)
    assert measured(*integrator()).timesteps == 300


def test_without_a_rollout_the_test_sequences_are_used_and_only_valid_targets_count() -> None:
    batch = random_batch(60, 3, valid=0.3)
    nothing = Linear(torch.zeros(2, 2), torch.zeros(2, 2))
    head = nn.Linear(2, 2)
    nn.init.zeros_(head.bias)
    found = measured(nothing, head, StubTask([[batch]]), carry=False, window=5)
    assert (found.source, found.timesteps, found.streams, found.training_timesteps) == ("test", 60, 3, 5)
    chunk = batch.read(0, 6)  # the first tenth; the outputs are all 0
    streams = [chunk.targets[:, stream][chunk.valid[:, stream]] for stream in range(3)]
    assert found.first_loss.value == pytest.approx(
        np.mean([float(one.square().mean()) for one in streams if len(one)])
    )


def test_test_sequences_that_are_no_longer_than_those_of_training_say_nothing() -> None:
    """Of task=copy, the beginning of a sequence has targets that are always the same, and its end has symbols."""
    head = nn.Linear(2, 2)
    with pytest.raises(DataError, match="60 timesteps, no more than the 60"):
        measured(Linear(torch.zeros(2, 2), torch.zeros(2, 2)), head, StubTask([[random_batch(60, 3)]]))


def test_sequences_that_end_are_not_applicable() -> None:
    for name, changes in (("mnist", {}), ("sincos", {"continuous": False})):
        of = make_task(name, **changes)
        cell = Linear(torch.zeros(2, 2), torch.zeros(2, of.input_size))
        with pytest.raises(DataError, match="have an end"):
            measured(cell, nn.Linear(2, of.output_size), of)


def test_a_single_stream_has_intervals_over_pieces_of_its_time() -> None:
    of = make_task("sine")
    found = measured(Linear(torch.zeros(1, 1), torch.zeros(1, 1)), nn.Linear(1, 1), of)
    assert found.streams == 1
    assert "time" in found.independent
    assert found.first_loss.low < found.first_loss.value < found.first_loss.high < np.inf
    assert found.growth.low < 1 < found.growth.high


# --- Rollouts of the tasks


@pytest.mark.parametrize("name", ["sine", "sincos"])
def test_a_wave_continues_as_it_began(name: str) -> None:
    of = make_task(name)
    trained = of.train(0, 1)[0]
    longer = of.rollout(3 * trained.timesteps, 16)
    assert (longer.timesteps, longer.streams) == (3 * trained.timesteps, 1)
    for part in ("inputs", "targets", "starts"):
        began = getattr(longer.read(0, trained.timesteps), part)
        torch.testing.assert_close(began, getattr(trained.read(0, trained.timesteps), part))
    chunk = longer.read(0, longer.timesteps)
    assert chunk.starts.sum() == 1
    if name == "sine":
        torch.testing.assert_close(chunk.inputs[1:], chunk.targets[:-1])
    else:
        torch.testing.assert_close(chunk.inputs**2 + chunk.targets**2, torch.ones_like(chunk.inputs))


def test_the_integral_continues_with_new_sequences() -> None:
    of = make_task("integral")
    chunk = of.rollout(300, 3).read(0, 300)
    assert chunk.inputs.shape == (300, 3, 1)
    for batch in (*of.train(0, 3), *of.validation(), *of.test()):
        other = batch.read(0, 50).inputs
        assert not torch.equal(other[:, 0], chunk.inputs[:50, 0])
