"""Gradient reach: linear cells whose gradients decay as they are written to, and others by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import StubTask, make_network, make_schedule, random_batch
from runs import Linear, by_hand, delay_line
from torch import Tensor, nn

from seqrnn.diagnosis.gradients import decay_rate, gradient_norms, half_life, reach_curve
from seqrnn.diagnosis.instruments import reach
from seqrnn.losses import LOSSES
from seqrnn.models.network import Network
from seqrnn.models.protocol import State

T = 40


def task_of(timesteps: int = T, streams: int = 20, starts: float = 0.0, valid: float = 1.0) -> StubTask:
    return StubTask([[random_batch(timesteps, streams, starts=starts, valid=valid)]])


def orthogonal(units: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(units, units, generator=generator, dtype=torch.float64))[0]


def linear(W: Tensor) -> Linear:
    return Linear(W, torch.ones(len(W), 2))


# --- A linear cell: dL_t/dh_{t-k} = (W^T)^k dL_t/dh_t


@pytest.mark.first(1)
@pytest.mark.parametrize("rho", [0.5, 0.9, 1.0, 1.1])
def test_a_scaled_rotation_decays_as_its_powers(rho: float) -> None:
    found = reach.ReachInstrument().measure(by_hand(linear(rho * orthogonal(5)), task_of()))
    lags = np.arange(T + 1)
    np.testing.assert_allclose(found.curve, rho**lags, rtol=1e-9)
    assert found.rate.value == pytest.approx(rho, rel=1e-9)
    assert (found.rate.low, found.rate.high) == pytest.approx((rho, rho), rel=1e-9)
    if rho < 1:
        assert found.half_life.value == pytest.approx(math.log(0.5) / math.log(rho), rel=1e-6)
    else:
        assert found.half_life.value == T  # it never falls to one half
    assert found.lags[0] == 1
    assert found.lags[-1] == T
    for lag, interval in zip(found.lags, found.reach_at_lags, strict=True):
        assert interval.value == pytest.approx(rho**lag, rel=1e-9)
        assert interval.low == pytest.approx(interval.high, rel=1e-9)
    assert (found.segments, found.sequences) == (20, 20)


def test_a_matrix_that_is_not_normal_decays_as_its_powers() -> None:
    W = torch.tensor([[0.9, 5.0], [0.0, 0.8]], dtype=torch.float64)  # grows before it decays
    trained = by_hand(linear(W), task_of())
    found = reach.ReachInstrument().measure(trained)
    segments = trained.segments()
    outputs, _ = trained.network.cell(segments.inputs, segments.state)
    last = outputs[-1].detach().requires_grad_()
    loss = LOSSES["mse"](trained.network.head(last), segments.targets).sum()
    (g,) = torch.autograd.grad(loss, last)
    expected = [float((g @ torch.linalg.matrix_power(W, lag)).norm(dim=1).mean()) for lag in range(T + 1)]
    np.testing.assert_allclose(found.curve, np.array(expected) / expected[0], rtol=1e-9)
    assert max(found.curve) > 2


def test_the_reach_of_a_delay_line_is_one_up_to_its_length() -> None:
    units = 4
    cell = delay_line(units)
    cell.V = nn.Parameter(torch.eye(units, 2, dtype=torch.float64))
    head = nn.Linear(units, 2)
    head.weight.data.zero_()
    head.weight.data[:, -1] = 1.0  # reads the input of three timesteps ago
    found = reach.ReachInstrument().measure(by_hand(cell, task_of(), head=head))
    np.testing.assert_allclose(found.curve, [1.0] * units + [0.0] * (T + 1 - units), atol=1e-12)
    assert units - 1 < found.half_life.value <= units
    assert found.rate.value == pytest.approx(1.0)  # over the lags with a gradient


def test_beyond_its_receptive_field_a_cell_is_not_said_to_vanish() -> None:
    cell, task = delay_line(4), task_of()
    cell.V = nn.Parameter(torch.eye(4, 2, dtype=torch.float64))
    task.reach = 9  # type: ignore[attr-defined]
    found = []
    for field in (None, 20, 8):
        cell.receptive_field = field
        result = reach.ReachInstrument().measure(by_hand(cell, task))
        found += [finding.name for finding in reach.vanishing(result)]
    assert found == ["vanishing", "vanishing"]


@pytest.mark.parametrize(("needed", "says"), [(9, "learned from."), (None, "learned from, if targets depend on it.")])
def test_nothing_is_said_to_be_lost_where_it_is_not_known_what_targets_depend_on(
    needed: int | None, says: str
) -> None:
    task = task_of()
    task.reach = needed  # type: ignore[attr-defined]
    cell = delay_line(4)
    cell.V = nn.Parameter(torch.eye(4, 2, dtype=torch.float64))
    (finding,) = reach.vanishing(reach.ReachInstrument().measure(by_hand(cell, task)))
    assert finding.description.endswith(says)


def test_the_lag_that_a_task_needs_is_that_of_the_first_input_that_counts() -> None:
    """``reach = n`` inputs, the present one included, so the state n − 1 timesteps back holds the first of them."""
    units = 4
    cell = delay_line(units)
    cell.V = nn.Parameter(torch.eye(units, 2, dtype=torch.float64))
    head = nn.Linear(units, 2)
    head.weight.data.zero_()
    head.weight.data[:, -1] = 1.0
    task = task_of()
    task.reach = units  # type: ignore[attr-defined]
    found = reach.ReachInstrument().measure(by_hand(cell, task, head=head))
    assert found.reach_at_needed_lag is not None
    assert found.reach_at_needed_lag.value == pytest.approx(1.0)
    task.reach = units + 1  # type: ignore[attr-defined]
    found = reach.ReachInstrument().measure(by_hand(cell, task, head=head))
    assert found.reach_at_needed_lag is not None
    assert found.reach_at_needed_lag.value == 0.0


@pytest.mark.first(1)
@pytest.mark.parametrize(("need", "seen"), [(None, False), (1, True), (T + 1, True), (T + 2, False)])
def test_reach_at_the_needed_lag_exists_as_far_as_there_is_data(need: int | None, seen: bool) -> None:
    task = task_of()
    task.reach = need  # type: ignore[attr-defined]
    found = reach.ReachInstrument().measure(by_hand(linear(0.9 * orthogonal(3)), task))
    assert (found.reach_at_needed_lag is not None) == seen
    if found.reach_at_needed_lag is not None and need is not None:
        assert found.reach_at_needed_lag.value == pytest.approx(0.9 ** (need - 1))


@pytest.mark.first(1)
@pytest.mark.parametrize(("window", "at"), [(None, None), (1, 0.9), (10, 0.9**10), (T, 0.9**T), (T + 1, None)])
def test_reach_at_the_window_is_at_the_first_lag_that_is_cut_off(window: int | None, at: float | None) -> None:
    trained = by_hand(linear(0.9 * orthogonal(3)), task_of(), make_schedule(window=window))
    found = reach.ReachInstrument().measure(trained)
    assert found.window == window
    assert (found.reach_at_window is None) == (at is None)
    if found.reach_at_window is not None and window is not None and at is not None:
        assert found.reach_at_window.value == pytest.approx(at)
        # Brute force: what a window's gradient lacks is what came through the state before its first timestep.
        segments = trained.segments()
        norms = gradient_norms(trained.network, LOSSES["mse"], segments.inputs, segments.targets, segments.state)
        before = tuple(part.requires_grad_() for part in _state_before(trained.network, segments, T - window))
        outputs, _ = trained.network.cell(segments.inputs[T - window :], before)
        loss = LOSSES["mse"](trained.network.head(outputs[-1]), segments.targets).sum()
        expected = torch.autograd.grad(loss, before)[0].norm(dim=(0, 2))
        np.testing.assert_allclose(norms[window], expected.numpy(), rtol=1e-9)


def _state_before(network: Network, segments: object, timestep: int) -> State:
    inputs: Tensor = segments.inputs  # type: ignore[attr-defined]
    state: State = segments.state  # type: ignore[attr-defined]
    with torch.no_grad():
        return network.cell(inputs[:timestep], state)[1] if timestep else state


# --- Other cells, by brute force


@pytest.mark.parametrize("loss", ["mse", "l1"])
@pytest.mark.parametrize("name", ["elman", "gru", "lstm"])
def test_norms_are_those_of_one_segment_after_another(name: str, loss: str) -> None:
    network = make_network(name, num_layers=2)
    chunk = random_batch(6, 3).chunk
    targets = chunk.targets[-1]
    state = tuple(torch.randn_like(part) for part in network.initial_state(3))
    norms = gradient_norms(network, LOSSES[loss], chunk.inputs, targets, state)
    assert norms.shape == (7, 3)
    for case in range(3):
        for lag in range(7):
            before = tuple(part[:, case : case + 1] for part in state)
            with torch.no_grad():
                for step in range(6 - lag):
                    _, before = network.cell(chunk.inputs[step : step + 1, case : case + 1], before)
            if lag == 0:
                with torch.no_grad():
                    output = network.cell(
                        chunk.inputs[:, case : case + 1], tuple(part[:, case : case + 1] for part in state)
                    )[0][-1]
                wanted = (output.requires_grad_(),)
                hidden = wanted[0]
            else:
                wanted = tuple(part.clone().requires_grad_() for part in before)
                hidden = network.cell(chunk.inputs[6 - lag :, case : case + 1], wanted)[0][-1]
            total = LOSSES[loss](network.head(hidden), targets[case : case + 1]).sum()
            found = torch.autograd.grad(total, wanted, allow_unused=True)
            expected = math.sqrt(sum(float(part.square().sum()) for part in found if part is not None))
            assert norms[lag, case] == pytest.approx(expected, rel=1e-9, abs=1e-15), (lag, case)


def test_classes_are_targets_too() -> None:
    task = StubTask([[random_batch(12, 20, classes=True, valid=1.0, starts=0.0)]], loss="cross_entropy")
    found = reach.ReachInstrument().measure(by_hand(linear(0.8 * orthogonal(3)), task))
    assert found.curve[5] == pytest.approx(0.8**5)


# --- Where there is little or nothing


def test_a_network_without_gradients_has_no_reach() -> None:
    head = nn.Linear(3, 2)
    head.weight.data.zero_()
    found = reach.ReachInstrument().measure(by_hand(linear(orthogonal(3)), task_of(), head=head))
    for interval in (found.half_life, found.rate, *found.reach_at_lags):
        assert math.isnan(interval.value)
        assert (interval.low, interval.high) == (-math.inf, math.inf)


def test_a_cell_without_memory_has_no_gradient_in_the_past() -> None:
    class Forgetful(Linear):
        def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
            outputs = inputs @ self.V.T
            return outputs, (outputs[-1:],)

    found = reach.ReachInstrument().measure(by_hand(Forgetful(torch.eye(2), torch.eye(2)), task_of()))
    assert found.curve == [1.0] + [0.0] * T
    assert 0 < found.half_life.value < 1
    assert found.rate.value == 0.0


def test_the_curve_is_a_ratio_of_means_and_half_lives_lie_between_lags() -> None:
    norms = np.array([[1.0, 3.0], [1.0, 1.0], [0.0, 0.5]])
    assert reach_curve(norms).tolist() == [1.0, 0.5, 0.125]
    assert half_life(np.array([1.0, 0.5, 0.125])) == pytest.approx(1.0)
    assert half_life(np.array([1.0, 0.8, 0.2])) == pytest.approx(1 + math.log(0.5 / 0.8) / math.log(0.2 / 0.8))
    assert half_life(np.array([1.0, 2.0, 3.0])) == 2.0
    assert half_life(np.array([1.0, 2.0, 0.5, 4.0])) == pytest.approx(2.0)
    assert decay_rate(np.array([1.0, 0.5, 0.25, 1e-13, 1e-14])) == pytest.approx(0.5)  # the last two are rounding


def test_reach_varies_with_the_segments_and_its_intervals_show_it() -> None:
    found = reach.ReachInstrument().measure(by_hand(make_network("gru").cell, task_of(streams=40)))
    for lag, interval in zip(found.lags, found.reach_at_lags, strict=True):
        assert interval.low < interval.value < interval.high
        assert interval.value == pytest.approx(found.curve[lag])
    assert found.half_life.low < found.half_life.value < found.half_life.high
