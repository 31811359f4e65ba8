"""Compares the strategies with each other: compiled and folded updates are those of the plain strategy.

tests/test_loop.py holds all of them to a reference that shares no code with any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from helpers import (
    CPU64,
    MakeStrategy,
    StubTask,
    compiled,
    folded,
    lengths,
    make_monitor,
    make_network,
    make_schedule,
    plain,
    random_batch,
    shared,
    windows_of,
)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_configs import composed
from test_optimizers import values_of
from torch import Tensor, nn

from seqrnn import device, evaluation, loop, registry
from seqrnn.components import Components, build_components
from seqrnn.errors import ConfigError, DataError, Diverged
from seqrnn.kernels import layout, support
from seqrnn.losses import LOSSES
from seqrnn.models.network import Network
from seqrnn.rundir.reader import RunReader
from seqrnn.rundir.writer import RunWriter
from seqrnn.schedule import Schedule, WindowSampler
from seqrnn.strategies import compiled as compiled_strategy
from seqrnn.strategies import data
from seqrnn.strategies import folded as folding
from seqrnn.strategies.choice import choose
from seqrnn.strategies.compiled import Compiled
from seqrnn.strategies.compiled_workspace import ThreadWorkspace
from seqrnn.strategies.folded import Folded
from seqrnn.strategies.plain import Plain, WindowByWindow
from seqrnn.strategies.protocol import UpdateStats

needs_compiler = pytest.mark.skipif(support.machine_obstacle() is not None, reason=str(support.machine_obstacle()))
CPU32 = device.DeviceContext(torch.device("cpu"), torch.float32)
OTHERS = [
    pytest.param(compiled, marks=needs_compiler, id="compiled"),
    pytest.param(shared, marks=needs_compiler, id="shared"),
    pytest.param(folded, id="folded"),
]


class SGD(torch.optim.SGD):
    """An optimizer of a type that compiled code does not have: torch takes its steps."""


def run(
    make: MakeStrategy,
    network: Network,
    task: StubTask,
    schedule: Schedule,
    optimizer: torch.optim.Optimizer,
    *,
    context: device.DeviceContext = CPU64,
    calls: Sequence[int] = (10**6,),
) -> UpdateStats:
    """Makes all updates of a run, as many per call as ``calls`` says in turn; returns their figures."""
    strategy, asked = make(network, task, optimizer, schedule, context), cycle(calls)
    sampler = WindowSampler(schedule, lambda epoch: task.train(epoch, schedule.streams))
    decay = schedule.decay(schedule.count_updates(task.train(0, schedule.streams)))
    made: list[UpdateStats] = []
    while parts := sampler.take(count := next(asked)):
        made.append(strategy(parts, decay.factors(sum(len(one.losses) for one in made), min(count, 10_000))))
        if not math.isfinite(made[-1].losses[-1] + made[-1].norms[-1]):
            break
    names = ("epochs", "timesteps", "losses", "targets", "norms", "rates")
    return UpdateStats(*(np.concatenate([getattr(one, name) for one in made]) for name in names))


def gradients(
    make: MakeStrategy, network: Network, task: StubTask, schedule: Schedule, context: device.DeviceContext = CPU64
) -> list[list[Tensor]]:
    """Returns the gradient of each update, as an optimizer gets it; the weights do not change."""
    found: list[list[Tensor]] = []
    optimizer = SGD(network.parameters(), lr=0.0)
    optimizer.register_step_pre_hook(
        lambda *_: found.append([parameter.grad.clone() for parameter in network.parameters()])  # type: ignore[union-attr]
    )
    run(make, network, task, schedule, optimizer, context=context)
    return found


def weights_of(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def assert_close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Checks that tensors are equal to ``tolerance``, relative to the largest number in all of them."""
    largest = max(float(tensor.abs().max()) for tensor in expected)
    assert math.isfinite(largest)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert float((one.to(other.dtype) - other).abs().max()) <= tolerance * max(largest, 1e-3)


def assert_equal_gradients(
    make: MakeStrategy, model: str, task: StubTask, schedule: Schedule, tolerance: float = 1e-12, **changes: Any
) -> None:
    sizes = task.input_size, task.output_size
    expected = gradients(plain, make_network(model, *sizes, **changes), task, schedule)
    found = gradients(make, make_network(model, *sizes, **changes), task, schedule)
    assert len(found) == len(expected) > 0
    assert any(float(part.abs().max()) > 1e-6 for step in expected for part in step)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, tolerance)


def assert_equal_training(
    make: MakeStrategy,
    model: str,
    task: StubTask,
    schedule: Schedule,
    optimizer: dict[str, Any],
    tolerance: float = 1e-10,
    **changes: Any,
) -> None:
    """Checks that the final weights and the figures of every update are the same."""
    trained = []
    for strategy in (make, plain):
        network = make_network(model, task.input_size, task.output_size, **changes)
        before = weights_of(network)
        made = run(strategy, network, task, schedule, registry.build("optimizer", optimizer, network.parameters()))
        assert any(not torch.equal(one, other) for one, other in zip(before, weights_of(network), strict=True))
        trained.append((weights_of(network), made))
    (found, made), (expected, same) = trained
    assert_close(found, expected, tolerance)
    for name in ("epochs", "timesteps", "targets"):
        np.testing.assert_array_equal(getattr(made, name), getattr(same, name))
    for name in ("losses", "norms", "rates"):
        np.testing.assert_allclose(getattr(made, name), getattr(same, name), rtol=1e-8, atol=1e-12)


def mixed_task(
    sizes: tuple[int, int] = (2, 2), loss: str = "mse", epochs: int = 2, streams: int = 5, **options: Any
) -> StubTask:
    """Returns a task with batches of different lengths and streams, in another order in each epoch; one batch has no
    valid target."""
    shapes = [(11, 3), (4, min(streams, 2)), (7, 1), (9, streams)]
    data = []
    for epoch in range(epochs):
        batches = [
            random_batch(
                *shapes[(epoch + number) % len(shapes)],
                seed=10 * epoch + number,
                sizes=sizes,
                classes=loss == "cross_entropy",
                valid=0.0 if number == 1 else 0.6,
                **options,
            )
            for number in range(len(shapes))
        ]
        data.append(batches)
    return StubTask(data, loss, *sizes)


NETWORKS = {
    "elman": ("elman", {}),
    "elman without biases": ("elman", {"bias": False, "head_bias": False}),
    "rnn of tanh": ("rnn", {}),
    "rnn of relu": ("rnn", {"nonlinearity": "relu"}),
    "gru": ("gru", {}),
    "lstm": ("lstm", {}),
    "indrnn of relu": ("indrnn", {}),
    "indrnn of tanh": ("indrnn", {"activation": "tanh"}),
    "indrnn of clip": ("indrnn", {"activation": "clip", "head": "mlp", "head_size": 7}),
    "mingru": ("mingru", {}),
    "mingru of positive candidates": ("mingru", {"candidate": "positive", "head": "mlp", "head_size": 7}),
    "minlstm": ("minlstm", {}),
    "minlstm of positive candidates": ("minlstm", {"candidate": "positive"}),
    "gru with mlp": ("gru", {"head": "mlp", "head_size": 7}),
    "lstm with mlp without biases": ("lstm", {"head": "mlp", "head_bias": False, "head_size": 17}),
}
MIXED = {"window": 5, "stride": 2, "update_every": 6, "carry": True, "epochs": 2}
needs_nothing = pytest.mark.parametrize("make", OTHERS)


# --- The same gradients


@pytest.mark.covering(1)
@needs_nothing
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_the_gradients_of_autograd(make: MakeStrategy, name: str, layers: int) -> None:
    model, changes = NETWORKS[name]
    schedule = make_schedule(**MIXED)
    assert_equal_gradients(make, model, mixed_task(), schedule, num_layers=layers, hidden_size=6, **changes)


@needs_nothing
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_every_loss_has_the_gradients_of_autograd(make: MakeStrategy, loss: str, head: str) -> None:
    task = mixed_task((3, 5), loss)
    assert_equal_gradients(make, "gru", task, make_schedule(**MIXED), hidden_size=6, head=head)


@needs_nothing
@pytest.mark.parametrize("loss", ["mse", "half_mse", "l1"])
def test_missing_targets_are_left_out_as_by_autograd(make: MakeStrategy, loss: str) -> None:
    task = mixed_task((3, 21), loss)
    task.missing_targets = True
    rng = torch.Generator().manual_seed(0)
    for batch in (batch for epoch in task.epochs for batch in epoch):
        missing = torch.rand(batch.chunk.targets.shape, generator=rng) < 0.4
        missing[..., 20] = False
        batch.chunk.targets[missing] = math.nan
    assert_equal_gradients(make, "gru", task, make_schedule(**MIXED), hidden_size=6)


@needs_nothing
@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_where_no_target_is_missing_the_weights_are_the_same_bit_by_bit(make: MakeStrategy, loss: str) -> None:
    trained = []
    for missing_targets in (False, True):
        task, network = mixed_task((3, 21), loss), make_network("gru", 3, 21, hidden_size=6)
        task.missing_targets = missing_targets
        made = run(make, network, task, make_schedule(**MIXED), torch.optim.Adam(network.parameters(), lr=0.01))
        trained.append((weights_of(network), made.losses))
    (weights, losses), (others, other_losses) = trained
    assert all(map(torch.equal, weights, others))
    np.testing.assert_allclose(losses, other_losses, rtol=1e-14)


SIZES = [(1, 1, 1), (6, 2, 3), (15, 3, 1), (16, 8, 2), (17, 20, 10), (33, 5, 17), (50, 1, 1), (70, 13, 9)]


@pytest.mark.covering(1)
@needs_compiler
@pytest.mark.parametrize("model", ["elman", "rnn", "gru", "lstm", "indrnn", "mingru", "minlstm"])
@pytest.mark.parametrize(("hidden", "inputs", "outputs"), SIZES)
def test_sizes_that_are_no_multiples_of_a_vector_are_computed_correctly(
    model: str, hidden: int, inputs: int, outputs: int
) -> None:
    task, schedule = mixed_task((inputs, outputs)), make_schedule(**MIXED)
    changes = {"hidden_size": hidden, "num_layers": 2, "head": "mlp", "head_size": hidden + 1}
    assert_equal_gradients(compiled, model, task, schedule, **changes)

    exact = gradients(plain, make_network(model, inputs, outputs, **changes), task, schedule)
    single = make_network(model, inputs, outputs, **changes).float()
    found = gradients(compiled, single, task, schedule, CPU32)
    assert found[0][0].dtype == torch.float32
    for one, other in zip(found, exact, strict=True):
        assert_close(one, other, 2e-5)


@pytest.mark.covering(1)
@needs_compiler
@pytest.mark.parametrize("streams", [1, 2, 3, 4, 5, 31])
@pytest.mark.parametrize("window", [1, 2, 3, None])
def test_any_number_of_streams_is_computed_correctly(streams: int, window: int | None) -> None:
    task = StubTask([[random_batch(7, streams)]])
    for model in ("rnn", "gru", "indrnn"):
        assert_equal_gradients(compiled, model, task, make_schedule(window=window), hidden_size=9)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Draws a network, data and a schedule."""
    name = draw(st.sampled_from(sorted(NETWORKS)))
    model, changes = NETWORKS[name]
    loss = draw(st.sampled_from(sorted(LOSSES)))
    sizes = draw(st.integers(1, 20)), draw(st.integers(1, 5))
    shapes = st.tuples(st.integers(1, 12), st.integers(1, 5))
    seed, starts = draw(st.integers(0, 1000)), draw(st.sampled_from([0.0, 0.1, 0.5]))
    valid = draw(st.sampled_from([0.1, 0.6, 1.0]))
    data = [
        [
            random_batch(
                *shape, seed=seed + number, sizes=sizes, classes=loss == "cross_entropy", valid=valid, starts=starts
            )
            for number, shape in enumerate(epoch)
        ]
        for epoch in draw(st.lists(st.lists(shapes, min_size=1, max_size=4), min_size=1, max_size=2))
    ]
    sizes_of_network = {
        "num_layers": draw(st.integers(1, 3)),
        "hidden_size": draw(st.integers(1, 20)),
        "seed": seed,
    }
    schedule = make_schedule(
        **draw(lengths()),
        carry=draw(st.booleans()),
        clip_norm=draw(st.sampled_from([None, 0.05])),
        epochs=len(data) + draw(st.integers(0, 1)),
        lr_decay=draw(st.sampled_from(["constant", "cosine"])),
    )
    return {
        "model": model,
        "task": StubTask(data, loss, *sizes),
        "schedule": schedule,
        "changes": {**changes, **sizes_of_network},
    }


def assert_equal_gradients_and_training(make: MakeStrategy, case: dict[str, Any]) -> None:
    model, task, schedule, changes = case["model"], case["task"], case["schedule"], case["changes"]
    ways = (make, plain)
    networks = [make_network(model, task.input_size, task.output_size, **changes) for _ in ways]
    found, expected = (gradients(way, network, task, schedule) for way, network in zip(ways, networks, strict=True))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, 1e-12)

    networks = [make_network(model, task.input_size, task.output_size, **changes) for _ in ways]
    made = [
        run(way, network, task, schedule, torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9))
        for way, network in zip(ways, networks, strict=True)
    ]
    assert_close(*(weights_of(network) for network in networks), 1e-10)
    np.testing.assert_array_equal(made[0].targets, made[1].targets)
    np.testing.assert_array_equal(made[0].timesteps, made[1].timesteps)
    np.testing.assert_array_equal(made[0].epochs, made[1].epochs)
    np.testing.assert_allclose(made[0].losses, made[1].losses, rtol=1e-9)
    np.testing.assert_allclose(made[0].norms, made[1].norms, rtol=1e-9, atol=1e-14)


@pytest.mark.first(1)
@needs_nothing
@given(case=cases())
@hypothesis_settings(max_examples=20)
def test_any_network_schedule_and_data_give_the_gradients_and_the_training_of_autograd(
    make: MakeStrategy, case: dict[str, Any]
) -> None:
    assert_equal_gradients_and_training(make, case)


@pytest.mark.long
@needs_nothing
@given(case=cases())
@hypothesis_settings(max_examples=100)
def test_many_networks_schedules_and_data_give_the_gradients_and_the_training_of_autograd(
    make: MakeStrategy, case: dict[str, Any]
) -> None:
    assert_equal_gradients_and_training(make, case)


# --- The same optimizer steps

OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "sgd"},
    {"name": "sgd", "weight_decay": 0.1},
    {"name": "sgd", "momentum": 0.9},
    {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"name": "adam"},
    {"name": "adam", "beta1": 0.0, "beta2": 0.5, "eps": 1e-3},
    {"name": "adam", "amsgrad": True, "beta2": 0.5},
    {"name": "adam", "amsgrad": True, "weight_decay": 0.1},
    {"name": "adamw", "weight_decay": 0.1},
    {"name": "adamw", "weight_decay": 0.0, "beta2": 0.9},
    {"name": "nadam"},
    {"name": "nadam", "weight_decay": 0.1, "beta1": 0.5},
    {"name": "radam"},
    {"name": "radam", "weight_decay": 0.1, "beta2": 0.9},
    {"name": "rmsprop"},
    {"name": "rmsprop", "momentum": 0.9, "weight_decay": 0.1},
    {"name": "rmsprop", "centered": True, "alpha": 0.5},
    {"name": "rmsprop", "centered": True, "momentum": 0.9, "alpha": 0.9},
    {"name": "adagrad"},
    {"name": "adagrad", "weight_decay": 0.1, "eps": 1e-3},
]


def identifier(settings_: dict[str, Any]) -> str:
    return " ".join(str(value) if key == "name" else f"{key}={value}" for key, value in settings_.items())


@pytest.mark.covering(1)
@needs_compiler
@pytest.mark.parametrize("make", [compiled, shared])
@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("changes", OPTIMIZERS, ids=identifier)
def test_every_optimizer_makes_torchs_steps(
    make: MakeStrategy, changes: dict[str, Any], clip_norm: float | None
) -> None:
    optimizer = values_of(**{"lr": 0.01, **changes})
    schedule = make_schedule(window=3, carry=True, epochs=4, clip_norm=clip_norm, lr_decay="cosine", warmup=3)
    assert_equal_training(make, "gru", mixed_task(epochs=4), schedule, optimizer, hidden_size=5)


def test_the_optimizers_that_are_tried_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for changes in OPTIMIZERS:
        network = make_network("gru", hidden_size=5)
        optimizer = registry.build("optimizer", values_of(**{"lr": 0.01, **changes}), network.parameters())
        run(plain, network, mixed_task(), make_schedule(window=3, epochs=2), optimizer)
        ends.append(torch.cat([weight.flatten() for weight in weights_of(network)]))
    for number, end in enumerate(ends):
        assert all(float((end - other).abs().max()) > 1e-6 for other in ends[:number]), OPTIMIZERS[number]


class Eager(torch.optim.Adam):
    """An Adam that doubles its learning rate at each step."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["lr"] *= 2
        return super().step(closure)


def two_groups(network: Network) -> torch.optim.Optimizer:
    groups = [{"params": network.cell.parameters(), "lr": 0.02}, {"params": network.head.parameters(), "lr": 0.003}]
    return torch.optim.Adam(groups)


def with_a_hook(network: Network) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)

    def double(*_: Any) -> None:
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter.grad *= 2

    optimizer.register_step_pre_hook(double)
    return optimizer


def of_the_head_alone(network: Network) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.head.parameters(), lr=0.01)


def in_another_order(network: Network) -> torch.optim.Optimizer:
    return torch.optim.Adam(list(network.parameters())[::-1], lr=0.01)


UNKNOWN = {
    "a subclass": lambda network: Eager(network.parameters(), lr=0.01),
    "two groups": two_groups,
    "maximize": lambda network: torch.optim.SGD(network.parameters(), lr=0.01, maximize=True),
    "dampening": lambda network: torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, dampening=0.5),
    "initial accumulator": lambda network: torch.optim.Adagrad(
        network.parameters(), lr=0.01, initial_accumulator_value=0.5
    ),
    "Adagrad's own decay": lambda network: torch.optim.Adagrad(network.parameters(), lr=0.01, lr_decay=0.5),
    "momentum decay": lambda network: torch.optim.NAdam(network.parameters(), lr=0.01, momentum_decay=0.5),
    "decoupled": lambda network: torch.optim.NAdam(
        network.parameters(), lr=0.01, weight_decay=0.1, decoupled_weight_decay=True
    ),
    "Adamax": lambda network: torch.optim.Adamax(network.parameters(), lr=0.01),
    "a hook": with_a_hook,
    "the head alone": of_the_head_alone,
    "another order": in_another_order,
}


@pytest.mark.covering(1)
@needs_nothing
@pytest.mark.parametrize("repeated", [False, True], ids=["other data in each epoch", "the same data"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_optimizers_that_compiled_code_does_not_have_train_correctly(
    make: MakeStrategy, name: str, repeated: bool
) -> None:
    schedule = make_schedule(window=3, update_every=6, epochs=7, clip_norm=0.2, lr_decay="cosine")
    task = StubTask([[random_batch(11, 3)]]) if repeated else mixed_task(epochs=7)
    trained = []
    for way in (make, plain):
        network = make_network("lstm")
        made = run(way, network, task, schedule, UNKNOWN[name](network), calls=(5, 1))
        trained.append((weights_of(network), made))
    (found, made), (expected, same) = trained
    assert len(made.losses) == len(same.losses) == schedule.count_updates(task.epochs[0])
    assert_close(found, expected, 1e-10)
    np.testing.assert_allclose(made.rates, same.rates, rtol=1e-12)


def test_frozen_weights_do_not_change() -> None:
    schedule, trained = make_schedule(window=3, update_every=6, clip_norm=0.1), []
    for way in (folded, plain):
        network = make_network("gru")
        for parameter in network.cell.parameters():
            parameter.requires_grad_(False)
        before = weights_of(network.cell)
        moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
        run(way, network, mixed_task(), schedule, torch.optim.SGD(moving, lr=0.1))
        assert all(map(torch.equal, before, weights_of(network.cell)))
        trained.append(weights_of(network))
    assert_close(*trained, 1e-10)


# --- However the updates are handed out


@pytest.mark.covering(1)
@needs_compiler
@pytest.mark.parametrize("make", [compiled, shared])
@pytest.mark.parametrize("whole", [65536, 1], ids=["batches read whole", "batches read in part"])
@pytest.mark.parametrize(
    "cuts",
    [
        {"window": None, "stride": None, "update_every": None},
        {"window": 3, "stride": None, "update_every": None},
        {"window": 5, "stride": 2, "update_every": 6},
        {"window": 2, "stride": None, "update_every": 8},
    ],
    ids=str,
)
@pytest.mark.parametrize("repeated", [False, True], ids=["other data in each epoch", "the same data"])
def test_the_number_of_updates_per_call_changes_no_bit(
    make: MakeStrategy, repeated: bool, cuts: dict[str, Any], whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = make_schedule(**cuts, epochs=6, clip_norm=0.3, lr_decay="cosine")
    task = StubTask([[random_batch(23, 3)]]) if repeated else mixed_task(epochs=6)
    ends = []
    for calls in ((10**6,), (1,), (3, 1, 7), (10**6,)):
        monkeypatch.setattr(data, "WHOLE", whole if len(ends) else 65536)
        monkeypatch.setattr(compiled_strategy, "PORTION", whole if len(ends) else 2**17)
        network = make_network("lstm", num_layers=2).float()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        made = run(make, network, task, schedule, optimizer, context=CPU32, calls=calls)
        ends.append((weights_of(network), made))
    for weights, made in ends[1:]:
        assert all(map(torch.equal, weights, ends[0][0]))
        for name in ("epochs", "timesteps", "losses", "targets", "norms", "rates"):
            np.testing.assert_array_equal(getattr(made, name), getattr(ends[0][1], name))
    assert ends[0][1].epochs[-1] == 5


@pytest.mark.first(1)
@pytest.mark.first(2)
@needs_compiler
@pytest.mark.parametrize("model", ["elman", "gru", "lstm", "indrnn"])
def test_single_precision_stays_close_over_a_thousand_updates(model: str) -> None:
    schedule = make_schedule(window=2, stride=1, update_every=2, epochs=20)
    task = StubTask([[random_batch(100, 4, sizes=(3, 2))]], input_size=3)
    ends = []
    for way, context in ((compiled, CPU32), (plain, CPU64)):
        network = make_network(model, 3, 2, hidden_size=17).to(context.dtype)
        before = weights_of(network)
        made = run(way, network, task, schedule, torch.optim.SGD(network.parameters(), lr=0.02), context=context)
        assert len(made.losses) == 1000
        ends.append(weights_of(network))
        assert max(float((one - other).abs().max()) for one, other in zip(before, ends[-1], strict=True)) > 0.05
    for found, expected in zip(*ends, strict=True):
        assert float((found.double() - expected).norm() / expected.norm()) < 1e-5


@cache
def compiled_cut() -> Any:
    """Returns a compiled function that cuts all windows of a batch, as compiled updates do, into rows of a table."""
    from seqrnn.kernels import update
    from seqrnn.kernels.simd import offset, pointer

    cut, fields = update.cut, layout.WINDOW_FIELDS

    @numba.njit
    def cut_all(table: Any, part: Any, count: int, rows: Any) -> None:
        c, p, windows = pointer(table), pointer(part), pointer(rows)
        for number in range(count):
            cut(c, p, number, offset(windows, number * fields))

    return cut_all


@needs_compiler
@given(cuts=lengths(12), timesteps=st.integers(1, 40), streams=st.integers(1, 3), carry=st.booleans())
@hypothesis_settings(max_examples=150)
def test_compiled_code_cuts_the_windows_of_the_schedule(
    cuts: dict[str, Any], timesteps: int, streams: int, carry: bool
) -> None:
    schedule = make_schedule(**cuts, carry=carry, streams=streams)
    workspace = ThreadWorkspace(make_network("gru"), LOSSES["mse"], schedule, (streams, timesteps))
    windows = windows_of(schedule, timesteps)
    part = np.zeros(layout.PART_FIELDS, np.int64)
    part[[layout.PART_STREAMS, layout.PART_TIMESTEPS]] = streams, timesteps
    found = np.zeros((len(windows), layout.WINDOW_FIELDS), np.int64)
    compiled_cut()(workspace.flat.table, part, len(windows), found.reshape(-1))
    for number, (row, window) in enumerate(zip(found, windows, strict=True)):
        kept = carry and schedule.window is not None and window.keep < timesteps
        expected = {
            layout.W_STREAMS: streams,
            layout.W_LENGTH: window.stop - window.start,
            layout.W_LEAD: window.fresh - window.start,
            layout.W_DATA: window.start * streams,
            layout.W_FIRST: number == 0,
            layout.W_KEEP: window.keep - window.start if kept else 0,
        }
        assert {field: row[field] for field in expected} == expected
        if carry and schedule.window and window.start:  # the state comes from where an earlier window has put it
            (keeper,) = (earlier for earlier in range(number) if windows[earlier].keep == window.start)
            assert row[layout.W_SLOT] == found[keeper][layout.W_SLOT]


# --- When a run is over, and what it writes down


@needs_nothing
@pytest.mark.parametrize("name", ["losses", "gradients", "weights"])
@pytest.mark.parametrize("update_every", [None, 6])
def test_a_divergence_stops_at_the_same_update_with_the_same_message_and_weights(
    make: MakeStrategy, update_every: int | None, name: str
) -> None:
    ends = []
    for way in (make, plain):
        batches = [random_batch(12, 2, seed=seed, valid=1.0, starts=0.0) for seed in range(4)]
        network = make_network("rnn", nonlinearity="relu")
        lr = 0.05
        if name == "losses":
            batches[2].chunk.targets[7] = math.inf
        elif name == "gradients":  # a loss of 0 · ∞ is not finite either, but its square root's is
            batches[2].chunk.inputs[7] = 1e200
            batches[2].chunk.targets[7:] = 0.0
        else:
            lr = 1e12
        schedule, task = make_schedule(window=3, update_every=update_every), StubTask([batches], "l1")
        optimizer = torch.optim.SGD(network.parameters(), lr=lr)
        monitor = make_monitor(task, schedule, log_every=1)
        with pytest.raises(DataError if name == "losses" else Diverged) as caught:
            loop.train(task, schedule, way(network, task, optimizer, schedule), monitor)
        ends.append((str(caught.value), weights_of(network)))
    (found, weights), (expected, same) = ends
    assert found == expected
    assert all(weight.isfinite().all() for weight in weights)
    assert_close(weights, same, 1e-9)


@needs_compiler
def test_many_updates_at_once_end_with_the_one_that_diverged() -> None:
    batch = random_batch(30, 2, valid=1.0, starts=0.0)
    batch.chunk.targets[16] = math.nan
    schedule, task = make_schedule(window=3, epochs=3), StubTask([[batch]])
    for way in (compiled, shared, plain):
        network = make_network("gru")
        made = run(way, network, task, schedule, torch.optim.SGD(network.parameters(), lr=0.1))
        assert len(made.losses) == len(made.norms) == len(made.rates) == 6
        assert math.isnan(made.losses[-1])
        assert np.isfinite(made.losses[:-1]).all()


ENDINGS: dict[str, dict[str, Any]] = {
    "by itself": {},
    "after so many updates": {"max_updates": 13, "evaluate_every": 4},
    "for lack of improvement": {"patience": 2, "evaluate_every": 3},
    "on a plateau": {"lr_decay": "plateau", "lr_patience": 2, "evaluate_every": 5},
    "decaying": {"lr_decay": "onecycle", "clip_norm": 0.1, "evaluate_every": 7},
}


@pytest.mark.covering(1)
@needs_nothing
@pytest.mark.parametrize("log_every", [1, 3, 5, 1000])
@pytest.mark.parametrize("name", ENDINGS)
def test_the_rows_of_metrics_are_those_of_the_plain_strategy(make: MakeStrategy, name: str, log_every: int) -> None:
    schedule = make_schedule(window=3, update_every=6, epochs=4, **ENDINGS[name])
    task = mixed_task(epochs=4)
    judged = task.validation()
    kept = []
    for way in (make, plain):
        network = make_network("gru", hidden_size=9)
        rows: list[dict[str, Any]] = []
        evaluations = iter([5.0, 4.0, 3.0, 3.5, 3.2, *[6.0] * 50])

        def evaluate(network: Network = network, evaluations: Any = evaluations) -> dict[str, float]:
            scores = evaluation.score(evaluation.predict(network, judged, CPU64), task, LOSSES["mse"])
            return {"loss": next(evaluations), "real": scores["loss"]}

        monitor = make_monitor(task, schedule, evaluate, log_every=log_every, record=rows.append)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        loop.train(task, schedule, way(network, task, optimizer, schedule), monitor)
        kept.append(rows)
    found, expected = kept
    assert [list(row) for row in found] == [list(row) for row in expected]
    assert len(expected) > 2
    for one, other in zip(found, expected, strict=True):
        for key in other.keys() - {"seconds"}:
            assert (one[key] is None) == (other[key] is None)
            assert one[key] is None or one[key] == pytest.approx(other[key], rel=1e-6), key


@needs_nothing
def test_a_trained_network_can_be_saved_and_read_and_trained_on(make: MakeStrategy, tmp_path: Path) -> None:
    for model in ("elman", "lstm", "indrnn"):
        network, task = make_network(model, num_layers=2, head="mlp"), mixed_task()
        schedule = make_schedule(window=3)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        loop.train(task, schedule, make(network, task, optimizer, schedule), make_monitor(task, schedule))
        directory = RunWriter(tmp_path / model, {}, [])
        directory.write_weights(network.state_dict())
        directory.close()
        copy = make_network(model, num_layers=2, head="mlp", seed=1)
        copy.load_state_dict(RunReader(tmp_path / model).weights())
        storages = set()
        for one, other in zip(network.parameters(), copy.parameters(), strict=True):
            assert one.is_contiguous()
            assert torch.equal(one, other)
            storages.add(one.untyped_storage().data_ptr())
        assert len(storages) == len(list(network.parameters()))
        ours, theirs = (evaluation.predict(trained, task.test(), CPU64).outputs for trained in (network, copy))
        np.testing.assert_array_equal(ours, theirs)

        ends = []
        for trained, way in ((network, compiled), (copy, plain)):
            run(way, trained, task, schedule, torch.optim.SGD(trained.parameters(), lr=0.1))
            ends.append(weights_of(trained))
        assert_close(*ends, 1e-10)


# --- Folded


@pytest.mark.covering(1)
@pytest.mark.parametrize("carry", [True, False], ids=["carry", "no carry"])
@pytest.mark.parametrize("pairs", [1, 20, 50, 10**6])
@pytest.mark.parametrize("model", ["elman", "gru", "lstm", "indrnn"])
def test_how_many_windows_are_folded_at_a_time_does_not_change_the_gradient(
    model: str, pairs: int, carry: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "PAIRS", pairs)
    for cuts in ((3, None, 12), (5, 2, 8), (4, 1, 9), (7, 5, 20), (1, None, 6)):
        schedule = make_schedule(
            **dict(zip(("window", "stride", "update_every"), cuts, strict=True)), carry=carry, epochs=2
        )
        for layers in (1, 2):
            assert_equal_gradients(folded, model, mixed_task(), schedule, num_layers=layers)


def cell_calls(strategy: Any, network: Network, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, bool]]:
    """Returns a list to which each call of the cell adds its timesteps, its streams and whether it has gradients."""
    calls: list[tuple[int, int, bool]] = []
    cell = network.recur

    def recur(inputs: Tensor, state: Any) -> Any:
        calls.append((*inputs.shape[:2], torch.is_grad_enabled()))
        return cell(inputs, state)

    monkeypatch.setattr(network, "recur", recur)
    return calls


@pytest.mark.parametrize(
    ("model", "window", "stride", "carry", "expected"),
    [
        ("gru", 2, None, False, [(2, 15, True)]),
        ("gru", 2, None, True, [(8, 3, False), (2, 15, True)]),
        ("lstm", 2, None, True, [(2, 3, False)] * 4 + [(2, 15, True)]),
    ],
)
def test_folding_calls_a_cell_a_few_times_for_many_windows(
    model: str, window: int, stride: int | None, carry: bool, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, task = make_network(model), StubTask([[random_batch(10, 3, starts=0.0)]])
    schedule = make_schedule(window=window, stride=stride, update_every=10, carry=carry)
    strategy = folded(network, task, torch.optim.SGD(network.parameters(), lr=0.1), schedule)
    calls = cell_calls(strategy, network, monkeypatch)
    strategy(WindowSampler(schedule, lambda epoch: task.epochs[0]).take(1), np.ones(1))
    assert calls == expected


# --- The choice


class Noisy(nn.Module):
    """A cell from outside of this package; with ``noise``, it draws random numbers."""

    def __init__(self, inputs: int, noise: float) -> None:
        super().__init__()
        self.output_size, self.noise = 3, noise
        self.inward = nn.Linear(inputs, 3)
        self.normalised = nn.Identity()

    def forward(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        outputs, (h,) = [], state
        for x in self.inward(inputs):
            h = torch.tanh(x + h)
            if self.training and self.noise:
                h = h + self.noise * torch.randn_like(h)
            outputs.append(h[0])
        return torch.stack(outputs), (h,)

    def initial_state(self, streams: int) -> tuple[Tensor, ...]:
        return (torch.zeros(1, streams, 3, dtype=self.inward.weight.dtype),)


def with_cell(run_: Components, cell: nn.Module) -> Components:
    network = run_.network
    network.cell, network.head = cell, nn.Linear(3, run_.task.output_size)
    return replace(run_, optimizer=torch.optim.SGD(network.parameters(), lr=0.1))


def experiment(*overrides: str) -> Components:
    return build_components(composed("task=integral", "schedule=accumulate", "device=cpu", *overrides))


def way_of(run_: Components) -> type:
    strategy = choose(run_)
    return type(strategy.gradients) if isinstance(strategy, Plain) else type(strategy)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        pytest.param([], Compiled, marks=needs_compiler),
        pytest.param(["precision=float64", "model.head=mlp"], Compiled, marks=needs_compiler),
        pytest.param(["kernel=compiled", "model.hidden_size=2000"], Compiled, marks=needs_compiler),
        (["model.hidden_size=2000", "schedule.update_every=2"], WindowByWindow),
        (["kernel=torch"], Folded),
        (["kernel=torch", "schedule.update_every=2"], WindowByWindow),
        (["kernel=torch", "schedule.window=null", "schedule.stride=2"], WindowByWindow),
        (["kernel=torch", "schedule.streams=200"], WindowByWindow),
        (["kernel=torch", "schedule.streams=200", "schedule.carry=false"], Folded),
        (["kernel=torch", "schedule.streams=200", "schedule.window=4", "schedule.stride=2"], Folded),
        (["model.num_layers=2", "model.dropout=0.5"], WindowByWindow),
        (["kernel=torch", "model=elman", "model.num_layers=2", "model.dropout=0.5"], WindowByWindow),
        (["kernel=torch", "model=lstm", "model.num_layers=2"], Folded),
    ],
    ids=str,
)
def test_the_fastest_strategy_is_chosen(overrides: list[str], expected: type) -> None:
    cuts = ["schedule.window=2", "schedule.update_every=50"]
    keys = {override.split("=")[0] for override in overrides}
    cuts = [cut for cut in cuts if cut.split("=")[0] not in keys]
    assert way_of(experiment("model=gru", "model.hidden_size=50", *cuts, *overrides)) is expected


def test_a_cell_from_elsewhere_is_folded_unless_it_draws_random_numbers_or_looks_across_its_batch() -> None:
    run_ = experiment("schedule.window=2", "schedule.update_every=10")
    assert way_of(with_cell(run_, Noisy(1, 0.0))) is Folded
    noisy = with_cell(run_, Noisy(1, 0.1))
    before = torch.get_rng_state()
    assert way_of(noisy) is WindowByWindow
    assert torch.equal(torch.get_rng_state(), before)
    cell = Noisy(1, 0.0)
    cell.normalised = nn.BatchNorm1d(3)
    assert way_of(with_cell(run_, cell)) is WindowByWindow


@pytest.mark.parametrize("kernel", ["torch", "auto"])
def test_training_with_dropout_is_that_of_one_window_after_another_bit_for_bit(kernel: str) -> None:
    ends = []
    for way in (choose, None):
        run_ = experiment(
            "schedule.window=2", "schedule.update_every=10", "schedule.max_updates=5", "model.hidden_size=5",
            "model.num_layers=2", "model.dropout=0.5", f"kernel={kernel}", "task.train_timesteps=500",
        )  # fmt: skip
        task = StubTask([[random_batch(50, 3, sizes=(1, 1))]], "l1", 1, 1)
        strategy = way(run_) if way else plain(run_.network, task, run_.optimizer, run_.schedule, run_.context)
        strategy.prepare(lambda text: None)
        loop.train(task, run_.schedule, strategy, make_monitor(task, run_.schedule))
        ends.append(weights_of(run_.network))
    assert all(map(torch.equal, *ends))


@pytest.mark.parametrize(
    ("context", "cell", "obstacle"),
    [
        (CPU32, Noisy(1, 0.0), "is written for torch alone"),
        (device.DeviceContext(torch.device("cuda"), torch.float32), None, "device=cpu, not cuda"),
        (
            device.DeviceContext(torch.device("cpu"), torch.float32, torch.bfloat16),
            None,
            "precision=float32 or float64",
        ),
    ],
    ids=["a cell from elsewhere", "cuda", "mixed precision"],
)
def test_a_kernel_that_is_not_available_is_refused_with_the_obstacle_and_a_remedy(
    context: device.DeviceContext, cell: nn.Module | None, obstacle: str
) -> None:
    run_ = experiment("model=gru", "kernel=compiled")
    run_ = replace(with_cell(run_, cell) if cell else run_, context=context)
    with pytest.raises(ConfigError, match=f"kernel=compiled: .*{obstacle}.*kernel=torch"):
        choose(run_)
