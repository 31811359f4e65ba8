"""Updates that torch computes: nothing is fetched from the device inside a block of them, all parameters are stepped
as one, windows are read once, and a divergence in the middle of a block leaves the weights from before it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import StubTask, folded, make_network, make_schedule, plain, random_batch

from seqrnn.models.network import Network
from seqrnn.optimizers import light
from seqrnn.schedule import Schedule, WindowSampler
from seqrnn.strategies.optimizer_step import FlatStep, ParameterStep, optimizer_step
from seqrnn.strategies.protocol import UpdateStats, WindowRanges
from seqrnn.strategies.reading import select, selected
from seqrnn.tasks.protocol import stored

ELEMENTWISE: dict[str, Any] = {
    "sgd": lambda weights: light(torch.optim.SGD)(weights, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda weights: light(torch.optim.Adam)(weights, lr=0.01, amsgrad=True),
    "adamw": lambda weights: light(torch.optim.AdamW)(weights, lr=0.01, weight_decay=0.1),
    "nadam": lambda weights: light(torch.optim.NAdam)(weights, lr=0.01, weight_decay=0.1),
    "radam": lambda weights: light(torch.optim.RAdam)(weights, lr=0.01),
    "rmsprop": lambda weights: light(torch.optim.RMSprop)(weights, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda weights: light(torch.optim.Adagrad)(weights, lr=0.01),
}


def block(task: StubTask, schedule: Schedule, updates: int) -> WindowRanges:
    return WindowSampler(schedule, lambda epoch: task.train(epoch, schedule.streams)).take(updates)


def fetches(call: Any) -> int:
    """Returns how many single numbers a call fetches from the device: each time, the processor waits for it."""
    with torch.autograd.profiler.profile() as profile:
        call()
    return sum(event.name == "aten::_local_scalar_dense" for event in profile.function_events)


@pytest.mark.parametrize("make", [plain, folded])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_nothing_is_fetched_from_the_device_inside_a_block(
    make: Any, optimizer: str, clip_norm: float | None
) -> None:
    task = StubTask([[random_batch(40, 2)]])
    schedule = make_schedule(window=4, stride=4, update_every=8, carry=True, clip_norm=clip_norm)
    network = make_network("gru", kernel="torch")
    strategy = make(network, task, ELEMENTWISE[optimizer](network.parameters()), schedule)
    ranges = block(task, schedule, 5)
    strategy(ranges, np.ones(5))
    # Adam reads its own count of steps, which torch keeps on the CPU, whatever the device is.
    assert fetches(lambda: strategy(ranges, np.ones(5))) == (5 if optimizer == "adam" else 0)
    assert fetches(lambda: network.head.weight.detach().sum().item()) == 1


def trained(network: Any, step: Any, updates: int = 12) -> list[torch.Tensor]:
    """Takes steps by drawn gradients; returns norms and weights."""
    generator = torch.Generator().manual_seed(0)
    norms = []
    for number in range(updates):
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        norms.append(step.gather(number + 1).clone())
        step([0.01 * (number + 1)])
    return [*norms, *(parameter.detach().clone() for parameter in network.parameters())]


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_all_parameters_stepped_as_one_get_the_same_bits(name: str, clip_norm: float | None) -> None:
    results = []
    for kind in (ParameterStep, FlatStep):
        network = make_network("gru", seed=1).float()
        optimizer = ELEMENTWISE[name](network.parameters())
        assert FlatStep.applies_to(network, optimizer)
        step = kind(network, optimizer, clip_norm)
        found = trained(network, step)
        state = step.state()
        found += [torch.as_tensor(state[key][part]) for key in sorted(state) for part in sorted(state[key])]
        step.finish()
        again = optimizer_step(network, optimizer, clip_norm)  # with the state that torch would have
        assert type(again) is FlatStep
        results.append(found + trained(network, again, 2))
    for one, other in zip(*results, strict=True):
        is_only_reported = clip_norm is None and not one.dim()  # the norm, which is then taken of all at once
        torch.testing.assert_close(one, other, rtol=1e-6 if is_only_reported else 0, atol=0)


class Halved(torch.nn.Module):
    """A cell with a parameter that it never uses, and one that it uses only for long windows."""

    output_size = 3

    def __init__(self, unused: int) -> None:
        super().__init__()
        self.stack, self.sometimes = torch.nn.GRU(2, 3), torch.nn.Parameter(torch.ones(3))
        self.unused = torch.nn.ParameterList(torch.ones(4) for _ in range(unused))

    def forward(self, inputs: torch.Tensor, state: Any) -> Any:
        outputs, h = self.stack(inputs, state[0])
        return (outputs * self.sometimes if len(inputs) > 2 else outputs), (h,)

    def initial_state(self, streams: int) -> Any:
        return (self.sometimes.new_zeros(1, streams, 3),)

    def recurrent_weights(self) -> Any:
        return []


@pytest.mark.parametrize("unused", [0, 1])
def test_a_parameter_without_a_gradient_is_left_alone(unused: int) -> None:
    settings = {"head": "linear", "head_size": 5, "head_bias": True, "recurrent_init": "default", "init_std": {}}
    generator = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(5, 2, 2, generator=generator).double() for _ in range(2))
    task = StubTask([[stored(inputs, targets)]])  # windows of 3 timesteps, and of 2
    schedule = make_schedule(window=3, carry=True)
    network = Network(Halved(unused), 2, "torch", **settings).double()  # type: ignore[arg-type]
    optimizer = light(torch.optim.AdamW)(network.parameters(), lr=0.1, weight_decay=0.5)
    strategy = plain(network, task, optimizer, schedule)
    assert len(strategy(block(task, schedule, 2), np.ones(2))) == 2
    strategy.finish()
    assert all(torch.equal(each, torch.ones(4).double()) for each in network.cell.unused)
    assert optimizer.state[network.cell.sometimes]["step"] == 1
    assert optimizer.state[network.head.weight]["step"] == 2


def diverging(batch_number: int | None, updates: int, sizes: list[int]) -> tuple[list[UpdateStats], dict[str, Any]]:
    """Trains a network with dropout, whose data is not finite in one batch, in blocks of such sizes."""
    torch.manual_seed(0)
    batches = [random_batch(4, 2, seed=seed) for seed in range(updates)]
    if batch_number is not None:
        batches[batch_number].chunk.inputs[2] = math.nan
    task, schedule = StubTask([batches]), make_schedule(window=None, carry=False)
    network = make_network("gru", num_layers=2, dropout=0.5, kernel="torch")
    strategy = plain(network, task, ELEMENTWISE["adam"](network.parameters()), schedule)
    sampler, stats = WindowSampler(schedule, lambda epoch: task.train(epoch, 2)), []
    for size in sizes:
        stats.append(strategy(sampler.take(size), np.ones(size)))
        if stats[-1].diverged:
            break
    return stats, {**network.state_dict(), "state": strategy.state(2, []).parameters}


@pytest.mark.parametrize("bad", [1, 4, 6])
def test_an_update_that_diverges_inside_a_block_is_not_applied(bad: int) -> None:
    (whole,), found = diverging(bad, 7, [7])
    singly, expected = diverging(bad, 7, [1] * 7)
    assert whole.diverged
    assert len(whole) == len(singly) == bad + 1
    np.testing.assert_array_equal(whole.losses, [stats.losses[0] for stats in singly])
    np.testing.assert_array_equal(whole.norms, [stats.norms[0] for stats in singly])
    _, before = diverging(None, bad, [1] * bad)
    for name, value in found.items():
        if name == "state":
            assert all(
                torch.equal(value[one][key], expected["state"][one][key]) for one in value for key in value[one]
            )
        else:
            assert torch.equal(value, expected[name])
            assert torch.equal(value, before[name])


def test_windows_are_read_once_and_repeated_epochs_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch(40, 2)
    reads: list[tuple[int, int]] = []
    original = type(batch).read
    monkeypatch.setattr(type(batch), "read", lambda self, *at: reads.append(at) or original(self, *at))
    task, schedule = StubTask([[batch]] * 3), make_schedule(window=6, stride=2, carry=True, epochs=3)
    network = make_network("gru", kernel="torch")
    strategy = plain(network, task, ELEMENTWISE["sgd"](network.parameters()), schedule)
    strategy(block(task, schedule, 60), np.ones(60))
    assert reads == [(0, 40)]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_valid_targets_are_selected_in_their_order(share: float) -> None:
    generator = np.random.default_rng(0)
    values = torch.randn(5, 3, 2)
    masks = [generator.random((5, 3)) < share, np.repeat(np.arange(5) == 4, 3).reshape(5, 3)]
    masks.append(np.repeat(generator.random(5) < share, 3).reshape(5, 3))
    for valid in masks:
        selection, count = select(valid, values.device)
        assert count == valid.sum()
        assert torch.equal(selected(values, selection), values[torch.from_numpy(valid)])


def test_an_optimizer_from_elsewhere_takes_its_own_steps() -> None:
    class Sign(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for parameter in self.param_groups[0]["params"]:
                parameter -= self.param_groups[0]["lr"] * parameter.grad.mean().sign()

    network = make_network("gru")
    assert type(optimizer_step(network, light(Sign)(network.parameters(), lr=0.1), None)) is ParameterStep
