"""Gradients that are computed forwards in time are those of full backpropagation; and everything around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import part
from helpers import (
    CPU64,
    Finished,
    MakeStrategy,
    StubTask,
    compiled,
    make_network,
    make_schedule,
    plain,
    random_batch,
    shared,
)
from test_optimizers import values_of as values_of_optimizer
from test_resume import assert_resumes, values_of
from test_strategies import assert_close, gradients, mixed_task, run, weights_of
from torch import Tensor, nn

from seqrnn import registry
from seqrnn.device import DeviceContext
from seqrnn.errors import ConfigError, DataError
from seqrnn.kernels import support
from seqrnn.kernels.specification import recurrence_of
from seqrnn.losses import LOSSES
from seqrnn.models.network import Network
from seqrnn.models.protocol import restarted, zeros
from seqrnn.schedule import Schedule, WindowSampler
from seqrnn.strategies import influence
from seqrnn.strategies.influence import influence_of, units_of
from seqrnn.strategies.plain import Plain
from seqrnn.strategies.protocol import Strategy
from seqrnn.strategies.rtrl import RTRL
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Stored

needs_compiler = pytest.mark.skipif(support.machine_obstacle() is not None, reason=str(support.machine_obstacle()))


def forward(
    network: Network, task: StubTask, optimizer: Any, schedule: Schedule, context: DeviceContext = CPU64
) -> Strategy:
    """Forwards in time, by torch."""
    found = RTRL(network, LOSSES[task.loss], schedule.gradient, context, DataFormat.of(task))
    return Plain(network, optimizer, schedule, found)


MAKE = [
    pytest.param(forward, id="torch"),
    pytest.param(compiled, marks=needs_compiler, id="compiled"),
    pytest.param(shared, marks=needs_compiler, id="shared"),
]
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "elman": ("elman", {}),
    "elman without biases": ("elman", {"bias": False, "num_layers": 2}),
    "rnn of relu": ("rnn", {"nonlinearity": "relu"}),
    "gru": ("gru", {}),
    "gru of two layers": ("gru", {"num_layers": 2, "head": "mlp"}),
    "lstm": ("lstm", {}),
    "lstm of three layers": ("lstm", {"num_layers": 3, "hidden_size": 3}),
    "indrnn": ("indrnn", {"activation": "tanh", "hidden_size": 5}),
    "indrnn of clip": ("indrnn", {"activation": "clip"}),
    "indrnn of two layers": ("indrnn", {"num_layers": 2, "activation": "tanh"}),
    "mingru": ("mingru", {"num_layers": 1}),
    "minlstm of two layers": ("minlstm", {"num_layers": 2, "candidate": "positive"}),
}


def totals(make: MakeStrategy, network: Network, data: Stored, schedule: Schedule) -> list[Tensor]:
    """Returns the gradient of the summed loss of a batch: that of all updates, each times its number of targets."""
    task = StubTask([[data]])
    counts = run(make, network, task, schedule, torch.optim.SGD(network.parameters(), lr=0.0)).targets
    found = gradients(make, network, task, schedule)
    return [
        torch.stack([count * update[place] for count, update in zip(counts[counts > 0], found, strict=True)]).sum(0)
        for place in range(len(found[0]))
    ]


@pytest.mark.first(6)
@pytest.mark.covering(1)
@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("cell", CELLS)
def test_it_is_full_backpropagation_with_frozen_weights_on_every_prefix(cell: str, make: MakeStrategy) -> None:
    """Several streams, starts in the middle, timesteps without a target; the sums over ever more updates of a single
    timestep are the gradients of ever longer sequences."""
    name, changes = CELLS[cell]
    data = random_batch(7, 3, seed=4)
    online = make_schedule(gradient="rtrl", window=1, streams=3)
    steps = gradients(make, make_network(name, **changes), StubTask([[data]]), online)
    counts = [int(row.sum()) for row in data.chunk.valid if row.any()]
    ends = [time + 1 for time, row in enumerate(data.chunk.valid) if row.any()]
    found = [torch.zeros_like(each) for each in steps[0]]
    for end, count, step in zip(ends, counts, steps, strict=True):
        found = [total + count * each for total, each in zip(found, step, strict=True)]
        prefix = Stored(data.chunk.between(0, end))
        expected = totals(plain, make_network(name, kernel="torch", **changes), prefix, make_schedule())
        assert_close(found, expected, 1e-12)
    assert max(float(each.abs().max()) for each in found) > 1e-3


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize(
    "lengths", [{"window": None}, {"window": None, "stride": 2}, {"window": 3, "update_every": 6}]
)
def test_windows_only_say_when_weights_move(lengths: dict[str, Any], make: MakeStrategy) -> None:
    data = random_batch(9, 2)
    carry = lengths != {"window": None}
    found = totals(make, make_network("gru"), data, make_schedule(gradient="rtrl", carry=carry, **lengths))
    assert_close(found, totals(plain, make_network("gru", kernel="torch"), data, make_schedule()), 1e-12)


def masked_gradient(network: Network, task: StubTask) -> list[Tensor]:
    """SnAp-1 as its paper writes it: the whole influence matrix (S, P), times a mask after each timestep; slow."""
    (data,) = task.epochs[0]
    chunk, cell = data.chunk, network.cell
    recurrence, parameters = recurrence_of(cell), dict(network.named_parameters())
    assert recurrence is not None
    kept = {name: each for name, each in parameters.items() if name.startswith("cell.")}
    size, parts = recurrence.size, len(recurrence.specification.state)
    mask = units_of(recurrence, kept).repeat(parts * size, 1) == torch.arange(size).repeat(parts).unsqueeze(1)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    like: list[Tensor] = []

    def flattened(row: Any) -> Tensor:
        parts = zip(row, like, strict=True)
        return torch.cat([(torch.zeros_like(one) if each is None else each).flatten() for each, one in parts])

    for b in range(chunk.valid.shape[1]):
        state = network.initial_state(1)
        J = torch.zeros(parts * size, mask.shape[1], dtype=torch.float64)
        for t in range(len(chunk.inputs)):
            if chunk.starts[t, b]:
                state, J = network.initial_state(1), torch.zeros_like(J)
            before = tuple(each.detach().requires_grad_() for each in state)
            outputs, state = cell(chunk.inputs[t : t + 1, b : b + 1], before)
            like[:] = [*before, *kept.values()]
            rows = [
                flattened(torch.autograd.grad(number, like, retain_graph=True, allow_unused=True))
                for number in torch.cat([each.flatten() for each in state])
            ]
            D, direct = torch.stack(rows).split([parts * size, mask.shape[1]], dim=1)
            J = mask * (D @ J + direct)
            if chunk.valid[t, b]:
                read = outputs[0].detach().requires_grad_()
                losses = LOSSES[task.loss](network.head(read), chunk.targets[t, b : b + 1])
                losses.sum().backward()
                assert read.grad is not None
                flat_gradient = read.grad.flatten() @ J[:size]
                for each, own in zip(
                    kept.values(), flat_gradient.split([each.numel() for each in kept.values()]), strict=True
                ):
                    each.grad += own.view(each.shape)
    return [each.grad / max(1, int(chunk.valid.sum())) for each in parameters.values()]


@pytest.mark.covering(1)
@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("cell", ["elman", "rnn of relu", "gru", "lstm", "indrnn"])
def test_snap1_is_the_influence_matrix_times_a_mask(cell: str, make: MakeStrategy) -> None:
    name, changes = CELLS[cell]
    task = StubTask([[random_batch(8, 3, seed=1)]])
    expected = masked_gradient(make_network(name, kernel="torch", **changes), task)
    (found,) = gradients(make, make_network(name, **changes), task, make_schedule(gradient="snap1"))
    assert_close(found, expected, 1e-12)
    (exact,) = gradients(plain, make_network(name, kernel="torch", **changes), task, make_schedule())
    difference = max(float((one - other).abs().max()) for one, other in zip(found, exact, strict=True))
    assert (difference < 1e-12) == (cell == "indrnn")


@pytest.mark.parametrize("loss", ["cross_entropy", "l1"])
@pytest.mark.parametrize("gradient", ["rtrl", "snap1"])
@needs_compiler
def test_compiled_training_is_that_of_torch(gradient: str, loss: str) -> None:
    """Batches of different lengths and streams, one without a target; weights that move."""
    schedule = make_schedule(gradient=gradient, window=2, update_every=4, epochs=2, streams=5, clip_norm=0.5)
    trained = []
    for make in (forward, compiled, shared):
        network = make_network("gru", kernel="torch" if make is forward else "auto")
        optimizer = registry.build("optimizer", values_of_optimizer("adam", lr=0.05), network.parameters())
        made = run(make, network, mixed_task(loss=loss, streams=5), schedule, optimizer, calls=(3, 1, 100))
        trained.append((weights_of(network), made))
    (expected, same), *others = trained
    assert any(
        not torch.equal(one, other) for one, other in zip(expected, weights_of(make_network("gru")), strict=True)
    )
    for found, made in others:
        assert_close(found, expected, 1e-10)
        np.testing.assert_allclose(made.norms, same.norms, rtol=1e-8)
        np.testing.assert_allclose(made.losses, same.losses, rtol=1e-8)
        np.testing.assert_array_equal(made.timesteps, same.timesteps)


def half_way(make: MakeStrategy, network: Network, schedule: Schedule, task: StubTask) -> tuple[Strategy, Any]:
    strategy = make(network, task, torch.optim.SGD(network.parameters(), lr=0.1), schedule)
    sampler: WindowSampler[Any] = WindowSampler(schedule, lambda epoch: task.train(epoch, schedule.streams))
    return strategy, sampler


@pytest.mark.first(3)
@needs_compiler
@pytest.mark.parametrize("cell", ["gru of two layers", "lstm", "indrnn"])
@pytest.mark.parametrize(("first", "second"), [(forward, compiled), (shared, forward), (compiled, shared)])
def test_a_strategy_continues_from_the_influence_of_another(
    first: MakeStrategy, second: MakeStrategy, cell: str
) -> None:
    name, changes = CELLS[cell]
    schedule, task = make_schedule(gradient="rtrl", window=2, streams=5), StubTask([[random_batch(11, 5)]])
    whole = make_network(name, **changes)
    expected = run(forward, whole, task, schedule, torch.optim.SGD(whole.parameters(), lr=0.1))
    network = make_network(name, **changes)
    strategy, sampler = half_way(first, network, schedule, task)
    strategy(sampler.take(3), np.ones(3))
    state = strategy.state(5, schedule.pending_carries(11, sampler.window))
    assert state.influence
    assert all(value.any() for value in list(state.influence.values())[-1:])
    strategy.finish()
    other, _ = half_way(second, network, schedule, task)
    other.restore(state)
    assert_close(list(other.state(5, [6]).influence.values()), list(state.influence.values()), 1e-15)
    stats = other(sampler.take(10), np.ones(10))
    np.testing.assert_allclose(stats.losses, expected.losses[3:], rtol=1e-9)
    assert_close(weights_of(network), weights_of(whole), 1e-10)


@pytest.mark.parametrize("make", MAKE)
def test_an_influence_that_does_not_fit_is_refused(make: MakeStrategy) -> None:
    schedule, task = make_schedule(gradient="rtrl", window=1, streams=5), StubTask([[random_batch(4, 5)]])
    strategy, sampler = half_way(make, make_network("gru"), schedule, task)
    strategy(sampler.take(2), np.ones(2))
    state = strategy.state(5, [2])
    state.influence.popitem()
    with pytest.raises(DataError, match="influences of shapes"):
        strategy.restore(state)


@pytest.mark.covering(1)
@pytest.mark.parametrize("gradient", ["rtrl", "snap1"])
@pytest.mark.parametrize("kernel", ["torch", pytest.param("compiled", marks=needs_compiler)])
def test_a_run_resumes_bit_for_bit(gradient: str, kernel: str, tmp_path: Path) -> None:
    schedule = {"gradient": gradient, "window": 5, "stride": None, "update_every": 10, "carry": True}
    model = "gru" if gradient == "snap1" else "indrnn"
    values = values_of("task=integral", f"model={model}", schedule=schedule, kernel=kernel, model={"hidden_size": 3})
    assert_resumes(values, tmp_path, 7)


class Learned(nn.Module):
    """A cell from outside: a leaky layer that learns its initial state, and that tells nothing about itself."""

    def __init__(self, inputs: int, hidden_size: int = 3) -> None:
        super().__init__()
        self.output_size = 2
        self.W, self.U = nn.Linear(inputs, hidden_size), nn.Linear(hidden_size, hidden_size, bias=False)
        self.read, self.start = nn.Linear(hidden_size, 2), nn.Parameter(torch.randn(hidden_size))

    def forward(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, outputs = state[0][0], []
        for x in self.W(inputs):
            h = 0.5 * h + torch.tanh(x + self.U(h))
            outputs.append(self.read(h))
        return torch.stack(outputs), (h[None],)

    def initial_state(self, streams: int) -> tuple[Tensor, ...]:
        return (zeros(self.start, 1, streams, len(self.start)) + self.start,)

    def recurrent_weights(self) -> list[Tensor]:
        return [self.U.weight.data]


def outside(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    from helpers import HEAD

    return Network(Learned(2), 2, "torch", **HEAD).double()


def test_a_cell_from_outside_needs_nothing_and_may_learn_its_initial_state() -> None:
    data = random_batch(6, 2, starts=0.3)
    found = totals(forward, outside(), data, make_schedule(gradient="rtrl", window=2))
    expected = totals(plain, outside(), data, make_schedule())
    assert_close(found, expected, 1e-12)
    start = [name for name, _ in outside().named_parameters()].index("cell.start")
    assert float(expected[start].abs().min()) > 1e-4
    assert restarted  # the state that starts is the learned one


def test_dropout_is_drawn_once_for_each_stream_and_timestep() -> None:
    """The gradient is the derivative of the loss that was computed, by differences in one weight."""
    data, schedule = random_batch(6, 2, valid=1.0), make_schedule(gradient="rtrl")
    network = make_network("gru", num_layers=2, dropout=0.5, kernel="torch")
    weight = network.cell.stack.weight_hh_l0

    def loss() -> float:
        torch.manual_seed(3)
        stats = run(forward, network, StubTask([[data]]), schedule, torch.optim.SGD(network.parameters(), lr=0.0))
        return float(stats.losses[0])

    loss()
    place = np.unravel_index(int(weight.grad.abs().argmax()), weight.shape)
    slope, losses = float(weight.grad[place]), []
    for shift in (1e-6, -2e-6):
        with torch.no_grad():
            weight[place] += shift
        losses.append(loss())
    assert abs(slope) > 1e-4
    np.testing.assert_allclose((losses[0] - losses[1]) / 2e-6 / 12, slope, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"window": 5, "stride": 1}, "schedule.stride=1 is shorter than schedule.window=5"),
        ({"window": 5, "carry": False}, "schedule.carry=false: the state would be reset every 5 timesteps"),
        ({"stride": 2, "carry": False}, "schedule.carry=false: the state would be reset every 2 timesteps"),
    ],
)
def test_contradictory_schedules_are_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make_schedule(gradient="rtrl", **changes)
    make_schedule(**changes)


def test_snap1_is_refused_where_it_is_not_defined() -> None:
    with pytest.raises(ConfigError, match=r"influence on all units above it.*gradient=rtrl or model.num_layers=1"):
        influence_of(make_network("gru", num_layers=2), "snap1")
    with pytest.raises(ConfigError, match="it has no method recurrence"):
        influence_of(outside(), "snap1")


def test_a_cell_that_normalises_over_streams_is_refused() -> None:
    network = outside()
    network.cell.norm = nn.BatchNorm1d(3)
    with pytest.raises(ConfigError, match="normalises over the streams"):
        influence_of(network, "rtrl")


def test_too_little_memory_is_noticed_before_the_run(
    command: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(influence, "available_memory", lambda: 10**6)
    finished = command("task=integral", "model=gru", "schedule=online", "schedule.gradient=rtrl", "smoke=false")
    assert finished.exit_code == 2
    text = " ".join(finished.err.split())
    assert "schedule.gradient=rtrl: the influence of 7,950 parameters on 50 numbers of state, for each of 1" in text
    assert "or schedule.gradient=snap1" in text
    assert not finished.directory.exists()


def test_independent_units_need_one_number_for_each_parameter() -> None:
    assert influence_of(make_network("indrnn"), "rtrl").rows == 1
    assert influence_of(make_network("indrnn", num_layers=2), "rtrl").rows == 8
    assert influence_of(make_network("lstm"), "snap1").rows == 2
    assert influence_of(make_network("lstm"), "rtrl").rows == 8


def test_a_short_run_ends_with_its_predictions(tmp_path: Path) -> None:
    """float32, and the whole command, with the kernel that a user gets."""
    schedule = {"gradient": "rtrl", "window": 1, "stride": None, "update_every": None, "carry": True, "streams": 1}
    values = values_of("task=integral", "model=indrnn", schedule=schedule)
    part(values, tmp_path / "run")
    assert (tmp_path / "run" / "summary.json").exists()
