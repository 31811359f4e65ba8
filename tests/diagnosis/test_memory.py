"""Memory: cells whose capacity and reach are known, and what tasks say they need."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import StubTask, make_network, make_task
from runs import Linear, by_hand, delay_line
from torch import Tensor

from seqrnn.diagnosis import readout
from seqrnn.diagnosis.instruments import memory
from seqrnn.tasks.protocol import stored

T, B = 120, 24


def noise_task(targets: Callable[[Tensor], Tensor], inputs: int = 1, streams: int = B) -> StubTask:
    """Uniform inputs in [−1, 3] without any relation to each other, and a target that is made of them."""
    rng = torch.Generator().manual_seed(1)
    x = 4 * torch.rand(T, streams, inputs, generator=rng, dtype=torch.float64) - 1
    return StubTask([[stored(x, targets(x))]], input_size=inputs, output_size=1)


@pytest.mark.parametrize("units", [1, 6, 20])
def test_a_delay_line_has_a_capacity_of_its_length(units: int) -> None:
    found = memory.capacity_of(by_hand(delay_line(units), noise_task(lambda x: x)))
    assert found is not None
    assert found.total.value == pytest.approx(units, abs=0.01)
    assert found.total.low <= found.total.value <= found.total.high
    assert found.state_size == units
    np.testing.assert_allclose(found.r2[:units], 1, atol=1e-3)
    assert max(found.r2[units:]) < 0.01


def test_a_delay_line_of_several_inputs_has_the_same_capacity_in_all() -> None:
    units = 8
    V = torch.zeros(units, 2)
    V[0, 0] = V[1, 1] = 1.0
    shift = torch.eye(units).roll(2, 0).tril()
    found = memory.capacity_of(by_hand(Linear(shift, V), noise_task(lambda x: x[..., :1], inputs=2)))
    assert found is not None
    assert (found.inputs, found.state_size) == (2, units)
    assert found.total.value == pytest.approx(units, abs=0.02)
    np.testing.assert_allclose(found.r2[:4], 1, atol=1e-3)


def test_a_single_leaky_unit_shares_its_capacity_of_one_over_the_past() -> None:
    """h_t = a h_{t−1} + u_t: r² of the input k timesteps ago is (1 − a²) a^{2(k−1)}, which adds up to 1."""
    a = 0.8
    found = memory.capacity_of(by_hand(Linear(torch.tensor([[a]]), torch.ones(1, 1)), noise_task(lambda x: x)))
    assert found is not None
    expected = (1 - a**2) * a ** (2 * np.arange(20.0))
    np.testing.assert_allclose(found.r2[:6], expected[:6], atol=0.03)
    assert found.total.low - 0.05 < 1 < found.total.high + 0.05


def test_a_cell_that_hears_nothing_has_no_capacity() -> None:
    found = memory.capacity_of(by_hand(Linear(0.9 * torch.eye(3), torch.zeros(3, 1)), noise_task(lambda x: x)))
    assert found is not None
    assert found.total.value == pytest.approx(0, abs=1e-9)


def test_without_an_input_that_varies_there_is_no_capacity_to_speak_of() -> None:
    task = StubTask([[stored(torch.ones(T, B, 1), torch.ones(T, B, 1))]], input_size=1, output_size=1)
    assert memory.capacity_of(by_hand(delay_line(3), task)) is None


def test_the_past_is_decoded_as_far_back_as_a_delay_line_holds_it() -> None:
    found = memory.decoding_of(by_hand(delay_line(7), noise_task(lambda x: x)))
    assert found is not None
    assert (found.quantity, found.measure) == ("targets", "r2")
    assert (found.reach.value, found.reach.low, found.reach.high) == (6.0, 6.0, 6.0)
    assert found.autocorrelation is not None
    assert found.autocorrelation[0] == pytest.approx(1)
    assert max(found.autocorrelation[1:8]) < 0.05
    assert [score.value for score in found.scores[7:10]] == pytest.approx([0, 0, 0], abs=0.05)


def test_what_is_not_in_the_state_is_not_decoded() -> None:
    unrelated = torch.randn(T, B, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = memory.decoding_of(by_hand(delay_line(7), noise_task(lambda x: unrelated)))
    assert found is not None
    assert found.reach.value == -1
    assert max(score.value for score in found.scores) < 0.1


def test_classes_are_decoded_by_their_accuracy() -> None:
    task = noise_task(lambda x: x)
    batch = task.epochs[0][0]
    classes = (batch.chunk.inputs[..., 0] > 1.0).long()  # half of them
    coded = dataclasses.replace(batch.chunk, inputs=2.0 * classes[..., None] - 1.0, targets=classes)
    task.epochs, task.kind, task.output_size = [[dataclasses.replace(batch, chunk=coded)]], "classification", 2
    task.loss = "cross_entropy"
    found = memory.decoding_of(by_hand(delay_line(4), task))
    assert found is not None
    assert found.measure == "accuracy"
    assert found.reach.value == 3
    assert found.threshold == pytest.approx(0.75, abs=0.02)
    assert found.scores[3].value == 1
    assert found.scores[5].value == pytest.approx(0.5, abs=0.06)


def test_where_targets_come_once_in_a_sequence_inputs_are_decoded() -> None:
    task = noise_task(lambda x: x)
    batch = task.epochs[0][0]
    last = torch.arange(T)[:, None].expand(T, B) == T - 1
    task.epochs = [[dataclasses.replace(batch, chunk=dataclasses.replace(batch.chunk, valid=last))]]
    found = memory.decoding_of(by_hand(delay_line(5), task))
    assert found is not None
    assert (found.quantity, found.reach.value) == ("inputs", 4.0)


def test_the_past_of_one_sequence_is_not_that_of_the_one_before_it() -> None:
    """A delay line is emptied where a sequence starts, and pairs across a start do not count."""
    task = noise_task(lambda x: x)
    chunk = task.epochs[0][0].chunk
    starts = torch.arange(T)[:, None].expand(T, B) % 5 == 0
    task.epochs = [[dataclasses.replace(task.epochs[0][0], chunk=dataclasses.replace(chunk, starts=starts))]]
    found = memory.decoding_of(by_hand(delay_line(10), task))
    assert found is not None
    assert found.lags == [0, 1, 2, 3, 4]
    assert found.reach.value == 4


def test_a_readout_is_judged_by_what_it_was_not_fitted_to() -> None:
    """With as many units as timesteps, noise fits anything: and tells nothing."""
    rng = np.random.default_rng(0)
    fit = readout.decoded(rng.normal(size=(100, 90)), rng.normal(size=(100, 1)), np.arange(100))
    assert float(readout.r2(fit.errors.sum(axis=0), fit.totals.sum(axis=0))[0]) < 0


def test_lags_are_all_of_the_near_ones_and_some_of_the_far() -> None:
    assert readout.lags_up_to(3) == [0, 1, 2, 3]
    lags = readout.lags_up_to(400)
    assert lags[:18] == [*range(17), 19]
    assert lags[-1] == 400
    assert lags == sorted(set(lags))


# --- What tasks need


def integral_by_hand(**changes: float) -> float:
    """How many timesteps ago the sum was last at a limit, one timestep after another."""
    task = make_task("integral", test_timesteps=400, **changes)
    targets = task.rollout(400, 64).read(0, 400).targets[..., 0]
    since = []
    for stream in targets.T.tolist():
        count = 0
        for y in stream:
            count = 0 if y in (task.low, task.high) else count + 1
            since.append(count)
    return float(np.quantile(since, 0.9))


@pytest.mark.parametrize("changes", [{}, {"gain": 0.5}, {"low": -0.5}], ids=str)
def test_the_integral_reaches_back_to_its_last_limit(changes: dict[str, float]) -> None:
    reach = make_task("integral", test_timesteps=400, **changes).reach
    assert reach == pytest.approx(integral_by_hand(**changes), rel=0.15, abs=1)


def test_an_integral_without_limits_reaches_back_to_its_start() -> None:
    assert make_task("integral", low=-1e6, high=1e6, test_timesteps=200).reach == pytest.approx(180, abs=1)


def test_an_integral_that_leaks_reaches_back_as_far_as_something_is_left() -> None:
    task = make_task("integral", low=-1e6, high=1e6, leak=0.1)
    assert task.reach == math.ceil(math.log(0.01) / math.log(0.9))
    assert make_task("integral", leak=1.0).reach == 1


def test_two_points_of_a_sine_give_the_next() -> None:
    task = make_task("sine")
    wave = task.wave[:, 0, 0]
    torch.testing.assert_close(2 * math.cos(task.step) * wave[1:-1] - wave[:-2], wave[2:])
    assert task.reach == 2


def test_in_a_continuous_wave_three_sines_give_the_cosine_and_two_do_not() -> None:
    chunk = make_task("sincos", continuous=True).rollout(200, 1).read(0, 200)
    sine, cosine = chunk.inputs[:, 0, 0].numpy(), chunk.targets[:, 0, 0].numpy()

    def ambiguous(points: int) -> bool:
        seen: dict[tuple[float, ...], float] = {}
        for t in range(points - 1, len(sine)):
            key = tuple(np.round(sine[t - points + 1 : t + 1], 6) + 0.0)
            if abs(seen.setdefault(key, cosine[t]) - cosine[t]) > 0.1:
                return True
        return False

    assert [ambiguous(points) for points in (1, 2, 3)] == [True, True, False]
    assert make_task("sincos", continuous=True).reach == 3


def test_a_digit_is_all_of_its_rows() -> None:
    assert make_task("mnist").reach == 28


def test_a_task_that_says_nothing_of_its_reach() -> None:
    assert (
        memory.MemoryInstrument()
        .measure(by_hand(make_network("gru", 1, 1).cell, noise_task(lambda x: x)))
        .needed_timesteps
        is None
    )
