"""Updates of many runs that are computed together are those of each run alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU64, StubTask, make_network, make_schedule, plain, random_batch

from seqrnn.components import Components
from seqrnn.losses import loss_of
from seqrnn.models.network import Network
from seqrnn.population import recurrences, stack, steps
from seqrnn.population.members import Member, Turn, Turns
from seqrnn.population.updates import Population
from seqrnn.schedule import WindowSampler
from seqrnn.strategies.protocol import Numbers, Strategy, UpdateStats

OPTIMIZERS: dict[str, Callable[[Any, float], Any]] = {
    "sgd": lambda weights, lr: torch.optim.SGD(weights, lr=lr, weight_decay=lr),
    "momentum": lambda weights, lr: torch.optim.SGD(weights, lr=lr, momentum=1 - 10 * lr, nesterov=True),
    "adam": lambda weights, lr: torch.optim.Adam(weights, lr=lr, betas=(1 - 10 * lr, 0.99), weight_decay=lr),
    "amsgrad": lambda weights, lr: torch.optim.Adam(weights, lr=lr, amsgrad=True),
    "adamw": lambda weights, lr: torch.optim.AdamW(weights, lr=lr, weight_decay=10 * lr),
    "nadam": lambda weights, lr: torch.optim.NAdam(weights, lr=lr, weight_decay=lr),
    "radam": lambda weights, lr: torch.optim.RAdam(weights, lr=lr, betas=(0.9, 0.95)),
    "rmsprop": lambda weights, lr: torch.optim.RMSprop(weights, lr=lr, alpha=1 - 10 * lr),
    "centered": lambda weights, lr: torch.optim.RMSprop(weights, lr=lr, momentum=1 - 10 * lr, centered=True),
    "adagrad": lambda weights, lr: torch.optim.Adagrad(weights, lr=lr, weight_decay=lr),
}  # fmt: skip
RATES = (0.02, 0.01, 0.005)


class Runs:
    """Three runs, computed together or each alone. Weights, data, learning rates and clip norms differ."""

    def __init__(
        self, model: str, optimizer: str, *, streams: int = 2, captures: bool = True, **changes: Any
    ) -> None:
        self.schedules = [
            make_schedule(**{"streams": streams, "epochs": 1000, **changes}, clip_norm=clip)
            for clip in (None, 0.1, 1.0)
        ]
        self.tasks = [StubTask([[random_batch(24, streams, seed=seed)]]) for seed in range(3)]
        self.model, self.optimizer, self.captures = model, optimizer, captures

    def parts(self, number: int) -> tuple[Network, Any]:
        network = make_network(self.model, seed=number, kernel="torch")
        return network, OPTIMIZERS[self.optimizer](network.parameters(), RATES[number])

    def member(self, number: int) -> Member:
        network, optimizer = self.parts(number)
        values = {"optimizer": {"name": self.optimizer}}
        loss, task, schedule = loss_of("mse", False), self.tasks[number], self.schedules[number]
        settings: Any = SimpleNamespace(capture=self.captures)
        parts = Components(values, settings, task, loss, network, optimizer, schedule, CPU64)
        return Member(parts, lambda: None)

    def sampler(self, number: int) -> WindowSampler[Any]:
        task, schedule = self.tasks[number], self.schedules[number]
        return WindowSampler(schedule, lambda epoch: task.train(epoch, schedule.streams))

    def alone(self, number: int, updates: int) -> tuple[Strategy, UpdateStats]:
        network, optimizer = self.parts(number)
        strategy = plain(network, self.tasks[number], optimizer, self.schedules[number])
        return strategy, strategy(self.sampler(number).take(updates), np.ones(updates))


def trained(runs: Runs, updates: int, block: int = 7) -> tuple[list[Member], list[Numbers]]:
    """Trains members together, each in blocks of its own length; returns them, and the losses of their updates."""
    members = [runs.member(number) for number in range(3)]
    population, turns = Population(), Turns()

    def train(number: int, turn: Turn) -> None:
        members[number]._wait = turn.wait
        sampler, left, length = runs.sampler(number), updates, block + number
        while left:
            count = min(left, length)
            stats = members[number](sampler.take(count), np.ones(count))
            found[number].append(stats)
            left -= count

    found: list[list[UpdateStats]] = [[], [], []]
    threads = [turns.start(partial(train, number)) for number in range(3)]
    while not all(turn.has_ended for turn in threads):
        running = [number for number, turn in enumerate(threads) if not turn.has_ended]
        population.advance([members[number] for number in running])
        for number in running:
            if not members[number].pending:
                turns.give(threads[number])
    for turn in threads:
        if turn.error is not None:
            raise turn.error
    return members, [np.concatenate([stats.losses for stats in own]) for own in found]


def check(runs: Runs, updates: int, tolerance: float = 1e-9) -> None:
    """Compares members that are trained together with each run alone: losses, weights and optimizers' states."""
    members, losses = trained(runs, updates)
    for number, member in enumerate(members):
        alone, stats = runs.alone(number, updates)
        assert len(stats) == updates
        np.testing.assert_allclose(losses[number], stats.losses, rtol=0, atol=tolerance * 100)
        member.finish()
        for own, other in zip(member.network.parameters(), alone.network.parameters(), strict=True):
            torch.testing.assert_close(own, other, rtol=0, atol=tolerance)
            assert not own.storage_offset()
        own, expected = (strategy.state(0, []).parameters for strategy in (member, alone))
        assert own.keys() == expected.keys()
        for name, kept in expected.items():
            assert own[name].keys() == kept.keys()
            for key, value in kept.items():
                torch.testing.assert_close(
                    torch.as_tensor(own[name][key], dtype=torch.float64),
                    torch.as_tensor(value, dtype=torch.float64),
                    rtol=1e-7, atol=tolerance,
                )  # fmt: skip


@pytest.mark.parametrize("at_once", [stack.STEP_AT_ONCE, 1], ids=["together", "one by one"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_makes_the_steps_of_torch(
    optimizer: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "STEP_AT_ONCE", at_once)
    check(Runs("rnn", optimizer, window=4, stride=4), 9)


@pytest.mark.parametrize("model", ["gru", "lstm", "elman", "esn", "tcn"])
def test_cells_get_the_gradients_that_they_get_alone(model: str) -> None:
    check(Runs(model, "adam", window=6, stride=3, update_every=6), 5)


@pytest.mark.parametrize("optimizer", ["adam", "amsgrad", "adamw"])
def test_adams_step_as_on_a_gpu_is_that_of_torch(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "FUSED_ON", ())
    check(Runs("rnn", optimizer, window=4, stride=4), 9)


def test_an_lstm_of_many_streams_is_computed_by_torchs_own_layer() -> None:
    check(Runs("lstm", "sgd", window=6, streams=recurrences.LSTM_STREAMS + 1), 3)


# Not all pairs: where training is unstable, 200 updates magnify what differs by rounding beyond any bound. The two of
# which this is known have fewer updates: other weights by 1e-15 make the same differences there.
PAIRS = {"rnn": "sgd", "gru": "momentum", "lstm": "adam", "elman": "amsgrad", "indrnn": "adamw", "mingru": "radam",
         "minlstm": "rmsprop", "cornn": "adagrad", "tcn": "sgd", "esn": "momentum"}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(("model", "optimizer"), PAIRS.items())
def test_200_updates_in_double_precision_end_within_1e9(model: str, optimizer: str) -> None:
    check(Runs(model, optimizer, window=4, stride=4), 200)


@pytest.mark.parametrize(("model", "optimizer"), [("lnlstm", "nadam"), ("lru", "centered")])
def test_unstable_trainings_are_equal_before_rounding_grows(model: str, optimizer: str) -> None:
    check(Runs(model, optimizer, window=4, stride=4), 15)
