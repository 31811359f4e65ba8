"""Updates as CUDA graphs. Where there is no GPU, tests/test_capture.py tests all but the graphs themselves."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from helpers import StubTask, make_network, make_schedule, random_batch

from seqrnn.device import DeviceContext
from seqrnn.losses import loss_of
from seqrnn.optimizers import light
from seqrnn.schedule import WindowSampler
from seqrnn.strategies.cuda_graph import CudaGraphs
from seqrnn.strategies.engine import Engine
from seqrnn.strategies.folded import Folded
from seqrnn.strategies.plain import Plain, WindowByWindow
from seqrnn.tasks.checks import DataFormat

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
OPTIMIZERS: dict[str, Any] = {
    "adam": lambda weights: light(torch.optim.Adam)(weights, lr=0.01),
    "sgd": lambda weights: light(torch.optim.SGD)(weights, lr=0.1, momentum=0.9),
}


def strategy_for(
    captures: bool,
    model: str,
    optimizer: str,
    notes: list[str],
    autocast: torch.dtype | None = None,
    is_folded: bool = False,
    **plan: Any,
) -> tuple[Plain, WindowSampler[Any]]:
    """Returns a strategy on the GPU, and what chooses its windows."""
    device = torch.device("cuda", torch.cuda.current_device())
    context = DeviceContext(device, torch.float32, autocast)
    schedule = make_schedule(**{"epochs": 100, "clip_norm": 0.5, "carry": True, **plan})
    task = StubTask([[random_batch(48, 8, seed=seed, valid=1.0, starts=0.0) for seed in range(2)]])
    network = make_network(model, kernel="torch").float().to(device)
    kind = Folded if is_folded else WindowByWindow
    gradients = kind(network, loss_of("mse", False), schedule.carry, context, DataFormat.of(task))
    engine: Engine | None = CudaGraphs(device) if captures else None
    strategy = Plain(network, OPTIMIZERS[optimizer](network.parameters()), schedule, gradients, engine)
    strategy.prepare(notes.append)
    return strategy, WindowSampler(schedule, lambda epoch: task.train(epoch, 8))


@pytest.mark.parametrize("model", ["gru", "lstm", "elman"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_graphs_give_the_same_losses(model: str, optimizer: str, autocast: torch.dtype | None) -> None:
    losses = []
    for captures in (False, True):
        notes: list[str] = []
        strategy, sampler = strategy_for(captures, model, optimizer, notes, autocast, window=4)
        losses.append([strategy(sampler.take(12), np.linspace(1.0, 0.5, 12)).losses for _ in range(4)])
        strategy.finish()
        assert all("captured: it decides on the CPU" in note for note in notes)  # sgd
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4 if autocast is None else 5e-2)


def test_windows_side_by_side_are_captured() -> None:
    losses = []
    for captures in (False, True):
        strategy, sampler = strategy_for(captures, "gru", "adam", [], is_folded=True, window=2, update_every=8)
        losses.append([strategy(sampler.take(12), np.ones(12)).losses for _ in range(4)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_the_processor_waits_once_in_a_block() -> None:
    strategy, sampler = strategy_for(True, "gru", "adam", [], window=4)
    strategy(sampler.take(48), np.ones(48))
    ranges = sampler.take(24)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            strategy(ranges, np.ones(24))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [each for each in found if "synchroniz" in str(each.message)]
    assert len(waits) <= 2  # the figures of the block, and data that is read for it


def test_an_update_that_diverges_is_not_applied() -> None:
    results = []
    for captures in (False, True):
        strategy, sampler = strategy_for(captures, "gru", "adam", [], window=4)
        strategy(sampler.take(24), np.ones(24))
        with torch.no_grad():
            strategy.network.head.weight.mul_(1e30)
        stats = strategy(sampler.take(12), np.ones(12))
        assert stats.diverged
        results.append((len(stats), strategy.network.state_dict()))
    assert results[0][0] == results[1][0]
