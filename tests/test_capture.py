"""Updates that are captured and repeated: the same bits as one operation after another, or a reason why not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU64, HEAD, StubTask, make_network, make_schedule, random_batch
from test_torch_updates import ELEMENTWISE, fetches
from torch import Tensor

from seqrnn.device import DeviceContext
from seqrnn.losses import loss_of
from seqrnn.models.network import Network
from seqrnn.optimizers import light
from seqrnn.schedule import WindowSampler
from seqrnn.strategies.engine import NotCapturable
from seqrnn.strategies.folded import Folded
from seqrnn.strategies.optimizer_step import CapturedStep
from seqrnn.strategies.plain import Plain, WindowByWindow
from seqrnn.strategies.replay import Program, Recording
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Stored


class Direct:
    """Repeats a function by calling it again, into the same results, as a CUDA graph does."""

    exact, captures_steps = True, True

    def __init__(self) -> None:
        self.captured = 0

    def warm_up(self) -> Any:
        return nullcontext()

    def capture(self, function: Callable[[], Sequence[Tensor]]) -> Any:
        self.captured += 1
        return Repeated(function)


class Repeated:
    def __init__(self, function: Callable[[], Sequence[Tensor]]) -> None:
        self.function, self.results = function, [tensor.detach() for tensor in function()]

    def __call__(self) -> None:
        for kept, tensor in zip(self.results, self.function(), strict=True):
            kept.copy_(tensor.detach())


class Counting(Recording):
    """Counts what is captured, and how often it is repeated."""

    def __init__(self) -> None:
        self.captured, self.repeated = 0, 0

    def capture(self, function: Callable[[], Sequence[Tensor]]) -> Program:
        program = super().capture(function)
        self.captured += 1
        return Counted(program, self)  # type: ignore[return-value]


class Counted:
    def __init__(self, program: Program, engine: Counting) -> None:
        self.program, self.engine, self.results = program, engine, program.results

    def __call__(self) -> None:
        self.engine.repeated += 1
        self.program()


def train(
    engine: Any,
    network: Network,
    batches: Sequence[Stored],
    *,
    updates: int = 24,
    sizes: Sequence[int] = (1, 7, 16),
    is_folded: bool = False,
    optimizer: Any = ELEMENTWISE["adam"],
    context: DeviceContext = CPU64,
    loss: str = "mse",
    notes: list[str] | None = None,
    **schedule: Any,
) -> tuple[list[Any], dict[str, Any]]:
    """Trains in blocks of such sizes; returns the figures of all updates, and all states and weights."""
    torch.manual_seed(0)
    plan = make_schedule(**{"epochs": 100, "clip_norm": 0.5, **schedule})
    task = StubTask([batches], loss=loss)
    kind = Folded if is_folded else WindowByWindow
    gradients = kind(network, loss_of(loss, False), plan.carry, context, DataFormat.of(task))
    strategy = Plain(network, optimizer(network.parameters()), plan, gradients, engine)
    strategy.prepare((notes if notes is not None else []).append)
    sampler = WindowSampler(plan, lambda epoch: task.train(epoch, 2))
    found: list[Any] = []
    for size in sizes:
        stats = strategy(sampler.take(size), np.linspace(1.0, 0.5, size))
        found += [stats.losses, stats.norms, stats.targets, stats.epochs, stats.rates]
        if stats.diverged:
            break
    state = strategy.state(2, [])
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    kept |= {
        f"{name}.{key}": torch.as_tensor(value) for name, of in state.parameters.items() for key, value in of.items()
    }
    kept |= {f"state {t}.{n}": part for t, parts in gradients.states.items() for n, part in enumerate(parts)}
    strategy.finish()
    return found, kept


def assert_equal(one: tuple[list[Any], dict[str, Any]], other: tuple[list[Any], dict[str, Any]]) -> None:
    for left, right in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(left, right)
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        assert torch.equal(value, other[1][name]), name


SCHEDULES: dict[str, dict[str, Any]] = {
    "online": {"window": 1},
    "tbptt": {"window": 4},
    "fresh": {"window": 4, "carry": False},
    "overlap": {"window": 5, "stride": 2},
    "accumulated": {"window": 2, "update_every": 8},
    "overlap, accumulated": {"window": 5, "stride": 2, "update_every": 6},
    "whole": {"window": None, "carry": False},
    "ragged": {"window": 7, "clip_norm": None},
}


@pytest.mark.parametrize(
    "model", ["elman", "gru", "lstm", "indrnn", "lnlstm", "lru", "mingru", "cornn", "rnn", "tcn"]
)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.covering(1, long=2)
def test_repeated_updates_give_the_same_bits(model: str, schedule: str) -> None:
    engine = Counting()
    context = DeviceContext(torch.device("cpu"), torch.float32)
    results = []
    for each in (None, engine):
        batches = [random_batch(16, 8, seed=seed, valid=1.0, starts=0.0) for seed in range(3)]
        network = make_network(model, kernel="torch", num_layers=1).float()
        results.append(train(each, network, batches, context=context, **SCHEDULES[schedule]))
    assert_equal(*results)
    assert engine.repeated > 4


@pytest.mark.parametrize("schedule", ["accumulated", "overlap, accumulated"])
@pytest.mark.parametrize("engine", [Recording, Direct])
def test_windows_side_by_side_give_the_same_bits(schedule: str, engine: Any) -> None:
    results = []
    for each in (None, engine()):
        batches = [random_batch(48, 3, seed=seed, valid=1.0 - seed / 4, starts=seed / 50) for seed in range(2)]
        network = make_network("gru", kernel="torch")
        results.append(train(each, network, batches, is_folded=True, **SCHEDULES[schedule]))
    assert_equal(*results)


@pytest.mark.parametrize(("valid", "starts", "classes"), [(0.5, 0.0, False), (1.0, 0.2, False), (0.6, 0.2, True)])
def test_missing_targets_and_sequences_that_start(valid: float, starts: float, classes: bool) -> None:
    results, engine = [], Counting()
    for each in (None, engine):
        batches = [random_batch(8, 2, seed=seed, valid=valid, starts=starts, classes=classes) for seed in range(2)]
        network = make_network("lstm", kernel="torch")
        loss = "cross_entropy" if classes else "mse"
        results.append(train(each, network, batches, window=4, sizes=(4,) * 10, loss=loss))
    assert_equal(*results)
    assert engine.repeated


def test_random_numbers_are_drawn_for_each_repetition() -> None:
    results = []
    for each in (None, Recording()):
        network = make_network("gru", kernel="torch", num_layers=2, dropout=0.5)
        results.append(train(each, network, [random_batch(16, 2, valid=1.0, starts=0.0)], window=4))
    assert_equal(*results)


@pytest.mark.parametrize("bad", [2, 5, 9])
def test_an_update_that_diverges_is_not_applied(bad: int) -> None:
    results = []
    for each in (None, Counting()):
        batches = [random_batch(4, 2, seed=seed, valid=1.0, starts=0.0) for seed in range(12)]
        batches[bad].chunk.inputs[1] = math.nan
        network = make_network("gru", kernel="torch", num_layers=2, dropout=0.5)
        results.append(train(each, network, batches, window=None, carry=False, sizes=(12,)))
    assert_equal(*results)
    assert len(results[1][0][0]) == bad + 1


class Cell(torch.nn.Module):
    """h_t = tanh(W [x_t, h_{t−1}]), with something added that ``extra`` computes."""

    output_size = 3

    def __init__(self, extra: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.W, self.extra, self.calls = torch.nn.Linear(5, 3), extra, 0
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, inputs: Tensor, state: Any) -> Any:
        h, outputs = state[0][0], []
        for x in inputs:
            h = torch.tanh(self.W(torch.cat([x, h], dim=1)) + self.extra(self, h))
            outputs.append(h)
        return torch.stack(outputs), (h[None],)

    def initial_state(self, streams: int) -> Any:
        return (self.W.weight.new_zeros(1, streams, 3),)

    def recurrent_weights(self) -> Any:
        return []


def count(cell: Cell) -> int:
    cell.calls += 1
    return cell.calls


def running_mean(cell: Cell, h: Tensor) -> Tensor:
    with torch.no_grad():
        cell.mean.mul_(0.9).add_(0.1 * h.mean(dim=0))
    return 0.1 * cell.mean.clone()


def outside_of_torch(cell: Cell, h: Tensor) -> Tensor:
    found = torch.empty(3, dtype=h.dtype)
    found.numpy()[:] = h.detach().numpy().mean(axis=0)
    return found


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (lambda cell, h: 0.0, None),
        (running_mean, None),
        (lambda cell, h: 0.01 * count(cell), "keeps something in Python"),
        (lambda cell, h: 0.1 if count(cell) > 60 else 0.0, "keeps something in Python"),
        (lambda cell, h: torch.from_numpy(np.array([0.1 * count(cell)] * 3)), "keeps something in Python"),
        (lambda cell, h: 0.1 if h.mean() > 0 else -0.1, "Python depends on a number"),
        (lambda cell, h: h.detach()[h.detach() > 0].sum(), "Python depends on a number"),
        (outside_of_torch, "something outside of torch"),
        (lambda cell, h: torch.from_numpy(h.detach().numpy() * 2.0), "keeps something in Python"),
    ],
)
def test_a_cell_that_cannot_be_repeated_is_noticed(extra: Any, reason: str | None) -> None:
    results: list[Any] = []
    notes: list[str] = []
    engine = Counting()
    for each in (None, engine):
        torch.manual_seed(0)
        network = Network(Cell(extra), 2, "torch", **HEAD).double()  # type: ignore[arg-type]
        batches = [random_batch(20, 2, valid=1.0, starts=0.0)]
        results.append(train(each, network, batches, window=2, carry=True, notes=notes))
    if "count" not in extra.__code__.co_names:  # such a cell is called more often where updates are compared
        assert_equal(*results)
    if reason is None:
        assert notes == []
        assert engine.repeated > 10
    else:
        assert len(set(notes)) == 1
        assert reason in notes[0]


def test_what_takes_much_memory_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqrnn.strategies.replay.MOST_BYTES", 1000)
    notes: list[str] = []
    network = make_network("gru", kernel="torch")
    train(Recording(), network, [random_batch(16, 2)], window=8, notes=notes)
    assert notes
    assert all("not be faster" in note for note in notes)


@pytest.mark.parametrize("engine", [Recording, pytest.param(Direct, marks=pytest.mark.long)])
def test_nothing_is_fetched_while_updates_are_repeated(engine: Any) -> None:
    plan = make_schedule(window=4, carry=True, clip_norm=1.0, epochs=10)
    task = StubTask([[random_batch(40, 2, valid=1.0, starts=0.0)]])
    network = make_network("gru", kernel="torch")
    gradients = WindowByWindow(network, loss_of("mse", False), True, CPU64, DataFormat.of(task))
    strategy = Plain(network, ELEMENTWISE["sgd"](network.parameters()), plan, gradients, engine())
    sampler = WindowSampler(plan, lambda epoch: task.train(epoch, 2))
    strategy(sampler.take(20), np.ones(20))
    ranges = sampler.take(10)
    assert fetches(lambda: strategy(ranges, np.ones(10))) == 0


class OnDevice(torch.optim.SGD):
    """Descends by a learning rate that is a tensor, and counts its steps in a tensor, as with ``capturable``."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.1)
        self.param_groups[0]["capturable"] = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        group = self.param_groups[0]
        for parameter in group["params"]:
            count = self.state[parameter].setdefault("step", torch.zeros(()))
            count += 1
            parameter.sub_(torch.as_tensor(group["lr"], dtype=parameter.dtype) * parameter.grad / count.sqrt())


@pytest.mark.parametrize("bad", [pytest.param(None, marks=pytest.mark.long), 3, 17])
def test_captured_steps_take_their_learning_rate_from_a_tensor(bad: int | None) -> None:
    results, engine = [], Direct()
    for each in (None, engine):
        batches = [random_batch(4, 2, seed=seed, valid=1.0, starts=0.0) for seed in range(24)]
        if bad is not None:
            batches[bad].chunk.inputs[1] = math.nan
        network = make_network("gru", kernel="torch")
        results.append(train(each, network, batches, window=None, carry=False, optimizer=light(OnDevice)))
    (figures, kept), (captured_figures, captured) = results
    for left, right in zip(figures, captured_figures, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)  # the tensor of the learning rate has single precision
    for name, value in kept.items():
        torch.testing.assert_close(captured[name], value, rtol=1e-5, atol=1e-7)
    assert bad == 3 or engine.captured > 1


def test_an_optimizer_is_left_as_it_was() -> None:
    network = make_network("gru", kernel="torch")
    optimizer = light(OnDevice)(network.parameters())
    step = CapturedStep(network, optimizer, None, Direct(), lambda text: None)
    for number in range(6):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        step.gather(1)
        step([0.1 * (number + 1)])
    before = network.head.weight.detach().clone()
    step.finish()
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert not optimizer.param_groups[0]["capturable"]
    optimizer.step()
    assert not torch.equal(before, network.head.weight)


def test_a_step_that_cannot_be_captured_is_taken_all_the_same() -> None:
    class Refusing(Direct):
        def capture(self, function: Any) -> Any:
            raise NotCapturable("no")

    results: list[Any] = []
    notes: list[str] = []
    for each in (None, Refusing()):
        network = make_network("gru", kernel="torch")
        batches = [random_batch(4, 2, seed=seed, valid=1.0, starts=0.0) for seed in range(24)]
        results.append(
            train(each, network, batches, window=None, carry=False, optimizer=light(OnDevice), notes=notes)
        )
    np.testing.assert_allclose(results[0][0][0], results[1][0][0], rtol=1e-6)
    assert sum("steps of OnDevice" in note for note in notes) == 1


@pytest.mark.parametrize("model", ["elman", "gru", "lstm", "indrnn", "mingru"])
def test_mixed_precision_carries_states_in_single_precision(model: str) -> None:
    mixed = DeviceContext(torch.device("cpu"), torch.float32, torch.bfloat16)
    plain = DeviceContext(torch.device("cpu"), torch.float32)
    losses = []
    for context in (plain, mixed):
        network = make_network(model, kernel="torch").float()
        batch = random_batch(24, 2, valid=1.0, starts=0.0)
        (first, *_), kept = train(None, network, [batch], window=4, context=context, sizes=(5,))
        states = [value for name, value in kept.items() if name.startswith("state ")]
        assert states
        assert all(value.dtype == torch.float32 for value in states)
        losses.append(first)
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)


def test_an_optimizer_from_elsewhere_steps_alike() -> None:
    make, engine, results = light(torch.optim.Adadelta), Counting(), []
    for each in (None, engine):
        network, batch = make_network("gru", kernel="torch"), random_batch(16, 2, valid=1.0, starts=0.0)
        results.append(train(each, network, [batch], window=4, optimizer=make, clip_norm=0.01))
    assert_equal(*results)
    assert engine.repeated > 10
