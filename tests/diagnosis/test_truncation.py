"""Truncation bias: the gradients are those of the training loop, and their comparison has known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU64, StubTask, lengths, make_network, make_schedule, random_batch, windows_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from runs import by_hand
from torch import Tensor, nn

from seqrnn.diagnosis import gradients
from seqrnn.diagnosis.excerpts import Excerpt
from seqrnn.diagnosis.gradients import compare, states_along, windowed_gradient
from seqrnn.diagnosis.instruments import truncation
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.losses import LOSSES
from seqrnn.models.network import Network
from seqrnn.models.protocol import State
from seqrnn.schedule import Schedule, Window
from seqrnn.strategies.plain import WindowByWindow
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Chunk, Stored, stored

Array = NDArray[np.float64]


def by_the_loop(
    network: Network, batch: Stored, schedule: Schedule, windows: list[Window] | None = None, loss: str = "mse"
) -> Array:
    """The mean gradient (P,) of all parameters that training accumulates over a batch, or over some windows of it."""
    data_format = DataFormat(2, 2, loss == "cross_entropy")
    gradients = WindowByWindow(network, LOSSES[loss], schedule.carry, CPU64, data_format)
    total: Array = np.zeros(sum(parameter.numel() for parameter in network.parameters()))
    targets = 0
    for window in windows_of(schedule, batch.timesteps):
        network.zero_grad(set_to_none=False)
        _, count = gradients(gradients.read([(batch, window)]))
        if windows is None or window in windows:
            found = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in network.parameters()]
            total += torch.cat([part.reshape(-1) for part in found]).numpy()
            targets += count
    return total / max(1, targets)


def ours(network: Network, batch: Stored, schedule: Schedule, loss: str = "mse", **more: Any) -> Array:
    excerpt = Excerpt(batch.chunk, network.initial_state(batch.streams))
    states = states_along(network, excerpt)
    parameters = list(network.parameters())
    return windowed_gradient(
        network,
        LOSSES[loss],
        batch.chunk,
        states,
        schedule.window,
        schedule.stride,
        schedule.carry,
        parameters=parameters,
        **more,
    )


ORDINARY: dict[str, Any] = {
    "name": "gru",
    "timesteps": 11,
    "valid": 1.0,
    "starts": 0.0,
    "classes": False,
    "pairs": 12,
}


@settings(max_examples=25)
@example(lengths={"window": 5, "stride": 2, "update_every": None}, carry=True, **ORDINARY)
@example(lengths={"window": 3, "stride": 3, "update_every": None}, carry=True, **ORDINARY)
@example(lengths={"window": None, "stride": 2, "update_every": None}, carry=False, **ORDINARY)
@given(
    lengths=lengths(),
    name=st.sampled_from(["elman", "rnn", "gru", "lstm"]),
    timesteps=st.integers(1, 14),
    carry=st.booleans(),
    valid=st.sampled_from([0.0, 0.2, 1.0]),
    starts=st.sampled_from([0.0, 0.2]),
    classes=st.booleans(),
    pairs=st.sampled_from([1, 12, 2**15]),
)
def test_the_gradient_is_the_one_that_training_accumulates(
    lengths: dict[str, int | None],
    name: str,
    timesteps: int,
    carry: bool,
    valid: float,
    starts: float,
    classes: bool,
    pairs: int,
) -> None:
    network = make_network(name, num_layers=2)
    batch = random_batch(timesteps, 3, valid=valid, starts=starts, classes=classes)
    schedule = make_schedule(**lengths, carry=carry)
    loss = "cross_entropy" if classes else "mse"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "PAIRS", pairs)
        found = ours(network, batch, schedule, loss)
    np.testing.assert_allclose(found, by_the_loop(network, batch, schedule, loss=loss), rtol=0, atol=1e-10)


@pytest.mark.parametrize("carry", [True, False])
@pytest.mark.parametrize(("window", "stride"), [(4, 4), (6, 2), (5, 2)])
def test_the_gradient_between_two_timesteps_is_that_of_the_updates_there(
    window: int, stride: int, carry: bool
) -> None:
    network, batch = make_network("gru"), random_batch(23, 2, starts=0.1)
    schedule = make_schedule(window=window, stride=stride, carry=carry)
    for begin, end in [(0, 4 * stride), (2 * stride, 6 * stride), (20, 23), (20, 99), (0, 23)]:
        if begin % stride:
            continue
        windows = [one for one in windows_of(schedule, 23) if begin <= one.fresh < end]
        found = ours(network, batch, schedule, between=(begin, end))
        np.testing.assert_allclose(found, by_the_loop(network, batch, schedule, windows), rtol=0, atol=1e-10)


def test_without_a_say_it_is_the_gradient_of_the_cell_alone() -> None:
    network, batch = make_network("gru"), random_batch(9, 2)
    states = states_along(network, Excerpt(batch.chunk, network.initial_state(2)))
    found = windowed_gradient(network, LOSSES["mse"], batch.chunk, states, 3, 3, True)
    count = sum(parameter.numel() for parameter in network.cell.parameters())
    np.testing.assert_allclose(found, ours(network, batch, make_schedule(window=3))[:count], atol=1e-12)


def test_states_along_a_stretch_begin_with_its_own_and_are_reset_at_starts() -> None:
    network, batch = make_network("lstm"), random_batch(5, 3, starts=0.3)
    own = tuple(torch.randn_like(part) for part in network.initial_state(3))
    states = states_along(network, Excerpt(batch.chunk, own))
    for stream in range(3):
        state = tuple(part[:, stream : stream + 1] for part in own)
        for timestep in range(5):
            if batch.chunk.starts[timestep, stream]:
                state = network.initial_state(1)
            for part, expected in zip(states, state, strict=True):
                torch.testing.assert_close(part[timestep][:, stream : stream + 1], expected)
            with torch.no_grad():
                _, state = network.cell(batch.chunk.inputs[timestep : timestep + 1, stream : stream + 1], state)


# --- Comparisons


def test_two_gradients_are_compared_by_angle_and_by_length() -> None:
    assert compare(np.array([1.0, 1.0]), np.array([2.0, 0.0])) == pytest.approx((math.sqrt(0.5), math.sqrt(0.5)))
    assert compare(np.array([0.0, -3.0]), np.array([0.0, 1.0])) == pytest.approx((-1.0, 3.0))
    assert compare(np.zeros(2), np.array([0.0, 1.0])) == (0.0, 0.0)
    assert compare(np.zeros(2), np.zeros(2)) == (1.0, 1.0)
    same = np.random.default_rng(0).normal(size=1000)
    assert compare(same, same)[0] <= 1.0


def run_of(batch: Stored, cell: Any, head: nn.Module | None = None, **schedule: Any) -> TrainedRun:
    trained = by_hand(
        cell, StubTask([[batch]], output_size=batch.chunk.targets.shape[2]), make_schedule(**schedule), head
    )
    counts = {"timesteps": batch.streams * batch.timesteps, "position": 1, "planned_updates": 1}
    trained.summary = {**trained.summary, **counts}
    return trained


@pytest.mark.first(5)
@pytest.mark.parametrize("timesteps", [20, 100, 300])
@pytest.mark.parametrize("schedule", [
    {"window": None, "carry": True}, {"window": None, "carry": False}, {"window": 5000, "carry": True},
    {"window": None, "stride": 7, "carry": True}, {"window": None, "stride": 7, "carry": False},
], ids=str)  # fmt: skip
def test_schedules_that_cut_nothing_have_cosine_one(
    timesteps: int, schedule: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LONGEST": 64, "HORIZON": 40, "EXCERPTS": 2}.items():
        monkeypatch.setattr(truncation, name, value)
    cell = make_network("gru").cell
    found = truncation.TruncationInstrument().measure(
        run_of(random_batch(timesteps, 2, starts=0.0), cell, **schedule)
    )
    for interval in (found.cosine, found.ratio, found.cosines[-1], found.ratios[-1]):
        assert (interval.value, interval.low, interval.high) == pytest.approx((1.0, 1.0, 1.0), abs=1e-12)
    assert found.windows[-1] == found.horizon


def test_a_window_as_long_as_short_sequences_cuts_nothing_without_carry() -> None:
    cell = make_network("gru").cell
    found = truncation.TruncationInstrument().measure(
        run_of(random_batch(14, 4, starts=0.0), cell, window=14, carry=False)
    )
    assert found.cosine.value == pytest.approx(1.0, abs=1e-12)


class Delayed(nn.Module):
    """h_t = (a x_t, h1_{t−1} + b u_t), of inputs (x, u): a is learned through a timestep of memory, b is not."""

    output_size = 2

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor([value], dtype=torch.float64)) for value in (1.5, 0.5))

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        h, steps = state[0][0], []
        for step in inputs:
            h = torch.stack([self.a * step[:, 0], h[:, 0] + self.b * step[:, 1]], dim=1)
            steps.append(h)
        return torch.stack(steps), (h[None],)

    def initial_state(self, streams: int) -> State:
        return (torch.zeros(1, streams, 2, dtype=torch.float64),)


def second_unit() -> nn.Module:
    head = nn.Linear(2, 1, bias=False)
    head.weight.data = torch.tensor([[0.0, 1.0]])
    return head


@pytest.mark.first(1)
@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_the_bias_of_a_window_of_one_is_what_is_worked_out_by_hand(weight: float) -> None:
    """Per target, dL/da = 2 e x_{t−1} and dL/db = 2 e u_t; a window of 1 knows the second alone."""
    x = random_batch(200, 3, sizes=(2, 1), seed=1).chunk.inputs
    before = torch.cat([torch.zeros(1, 3), x[:-1, :, 0]])
    targets = (1.5 * before + 0.5 * x[:, :, 1]) - before - weight * x[:, :, 1]  # so that e_t = x_{t−1} + weight u_t
    batch = stored(x, targets.unsqueeze(-1))
    trained = run_of(batch, Delayed(), second_unit(), window=1)
    found = truncation.TruncationInstrument().measure(trained)
    cosines, ratios = [], []
    for excerpt in trained.upcoming(32, found.horizon, streams=8):
        chunk = excerpt.chunk
        h = excerpt.state[0][0][:, 0] / 1.5
        past = torch.cat([h[None], chunk.inputs[:-1, :, 0]])
        past = torch.where(chunk.starts, torch.zeros_like(past), past)
        error = past + weight * chunk.inputs[:, :, 1]
        da, db = float((error * past).sum()), float((error * chunk.inputs[:, :, 1]).sum())
        cosines.append(abs(db) / math.hypot(da, db) if db else 0.0)
        ratios.append(abs(db) / math.hypot(da, db))
    assert found.windows[:2] == [1, 2]
    assert found.cosine.value == pytest.approx(np.mean(cosines), rel=1e-9)
    assert found.cosines[0] == found.cosine
    assert found.ratio.value == pytest.approx(np.exp(np.mean(np.log(ratios))), rel=1e-9)
    assert found.cosines[1].value > 0.9
    assert found.sufficient_window == (1 if found.cosine.value >= truncation.SUFFICIENT else 2)
    assert (found.cosine.value < 0.3) == (weight == 0.0)  # almost orthogonal: nothing but chance is left


def test_a_window_that_sees_nothing_has_cosine_zero() -> None:
    cell = Delayed()
    cell.b.requires_grad_(False)
    x = random_batch(100, 3, sizes=(2, 1)).chunk.inputs
    trained = run_of(stored(x, torch.zeros(100, 3, 1, dtype=torch.float64)), cell, second_unit(), window=1)
    parameters = [cell.a]
    excerpt = trained.excerpt(0, 100)
    states = states_along(trained.network, excerpt)
    arguments = trained.network, LOSSES["mse"], excerpt.chunk, states
    own = [trained.network.cell.a]
    cut = windowed_gradient(*arguments, 1, 1, True, parameters=own)
    full = windowed_gradient(*arguments, 100, 100, True, parameters=own)
    assert parameters
    assert cut.tolist() == [0.0]
    assert compare(cut, full) == (0.0, 0.0)
    np.testing.assert_allclose(windowed_gradient(*arguments, 2, 1, True, parameters=own), full, rtol=1e-12)


def test_a_network_without_any_gradient_has_nothing_to_lose() -> None:
    head = second_unit()
    head.weight.data.zero_()
    x = random_batch(100, 3, sizes=(2, 1)).chunk.inputs
    found = truncation.TruncationInstrument().measure(run_of(stored(x, x[:, :, :1]), Delayed(), head, window=1))
    assert found.cosine.value == 1.0
    assert found.sufficient_window == 1


@pytest.mark.long
def test_stretches_have_intervals_that_vary_with_them() -> None:
    batch = random_batch(1100, 2, starts=0.0)
    found = truncation.TruncationInstrument().measure(
        run_of(batch, make_network("gru", recurrent_init="orthogonal").cell, window=2)
    )
    assert found.excerpts == 2 * truncation.EXCERPTS
    assert -1 <= found.cosine.low < found.cosine.value < found.cosine.high <= 1
    assert found.ratio.low < found.ratio.value < found.ratio.high
    assert found.schedule_window == 2
    assert found.horizon == truncation.HORIZON
    assert found.cosines[found.windows.index(2)] == found.cosine


def test_a_chunk_with_no_targets_is_no_gradient() -> None:
    network, chunk = make_network("gru"), random_batch(6, 2, valid=0.0).chunk
    assert isinstance(chunk, Chunk)
    assert not ours(network, Stored(chunk), make_schedule(window=2)).any()


@pytest.mark.first(1)
@pytest.mark.parametrize(("gradient", "model"), [("rtrl", "indrnn"), ("snap1", "gru"), ("rtrl", "gru")])
def test_what_is_computed_forwards_in_time_is_compared_with_full_backpropagation(
    gradient: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compared as it is computed, and not as it should be: rtrl cuts nothing, and snap1 leaves much out."""
    monkeypatch.setattr(truncation, "EXCERPTS", 2)
    monkeypatch.setattr(truncation, "HORIZON", 30)
    changes = {"recurrent_init": "orthogonal"} if model == "gru" else {"activation": "tanh"}
    cell = make_network(model, **changes).cell
    found = truncation.TruncationInstrument().measure(
        run_of(random_batch(100, 3), cell, window=1, gradient=gradient, streams=3)
    )
    assert found.gradient == gradient
    assert found.schedule_window is None
    assert found.cosines[0].value < 0.999  # of a window of 1
    if gradient == "rtrl":
        assert found.cosine.low == pytest.approx(1.0, abs=1e-12)
        assert found.ratio.value == pytest.approx(1.0, abs=1e-12)
    else:
        assert 0.5 < found.cosine.value < 0.9999
