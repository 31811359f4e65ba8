"""Several processes that share a run give the numbers of one; they end together."""

from __future__ import annotations

import json
import queue
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import Child, Ended, Server, assert_same, contents, wait_for
from helpers import CPU64, StubTask, loss_for, make_network, make_schedule, plain, random_batch
from safetensors.torch import load_file
from torch import Tensor

from seqrnn import settings, training
from seqrnn.checkpoints import file
from seqrnn.components import Components, build_components
from seqrnn.errors import ConfigError, DataError, UserError
from seqrnn.loop import TrainingCursor
from seqrnn.processes import helping, sharing
from seqrnn.processes.environment import Place, place
from seqrnn.processes.group import Lost, parts_of
from seqrnn.processes.leading import Leading
from seqrnn.processes.sharing import StreamShare
from seqrnn.schedule import Schedule, WindowSampler
from seqrnn.strategies.choice import choose

TORCHRUN = {
    "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "node3",
    "MASTER_PORT": "29500", "TORCHELASTIC_USE_AGENT_STORE": "True",
}  # fmt: skip
RUN = (
    "task=integral", "model=gru", "model.hidden_size=8", "task.train_timesteps=4000", "task.test_sequences=2",
    "task.test_timesteps=60", "task.validation_sequences=2", "task.validation_timesteps=60", "schedule=tbptt",
    "schedule.window=10", "schedule.stride=5", "schedule.streams=5", "schedule.epochs=2", "schedule.clip_norm=0.5",
    "schedule.evaluate_every=50", "log_every=10", "checkpoint.every=20", "device=cpu", "threads=1",
    "plots.draw=false", "kernel=torch", "precision=float64",
)  # fmt: skip


class Exchange:
    """What the threads of a test, which stand in for processes, exchange."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier = size, threading.Barrier(size, timeout=30)
        self.values: list[Any] = [None] * size
        self.given = [queue.Queue[Tensor]() for _ in range(size)]
        self.messages = [queue.Queue[bytes]() for _ in range(size)]
        self.reported: list[Lost] = []


class ThreadGroup:
    """Stands in for ``seqrnn.processes.group.Group``."""

    def __init__(self, rank: int, exchange: Exchange) -> None:
        self.rank, self.size, self.exchange = rank, exchange.size, exchange
        self.place = Place(rank, exchange.size, rank, exchange.size, "localhost", 1, True, False, False)

    def all(self, values: Any) -> list[Any]:
        self.exchange.values[self.rank] = values
        self.exchange.barrier.wait()
        found = [*self.exchange.values]
        self.exchange.barrier.wait()
        return found

    def sum(self, values: Tensor) -> None:
        values.copy_(torch.stack(self.all(values.clone())).sum(0))

    def largest(self, number: int) -> int:
        return int(max(self.all(number)))

    def send(self, message: dict[str, Any]) -> None:
        for messages in self.exchange.messages[1:]:
            messages.put(bytes(file.packed(message)))

    def receive(self) -> dict[str, Any]:
        return file.unpacked(self.exchange.messages[self.rank].get(timeout=30))

    def give(self, values: Tensor) -> None:
        self.exchange.given[self.rank].put(values)

    def take(self, values: Tensor, rank: int) -> Tensor:
        found = self.exchange.given[rank].get(timeout=30)
        assert found.shape == values.shape
        return values.copy_(found)

    def report(self, error: BaseException) -> None:
        self.exchange.reported.append(Lost(f"process {self.rank}: {error}", exit_code=getattr(error, "exit_code", 1)))

    def failure(self) -> Lost:
        return self.exchange.reported[0]

    def dismiss(self) -> None:
        self.send({"do": "end"})


def in_threads(size: int, work: Callable[[Any], Any]) -> list[Any]:
    """Calls ``work`` with the group of each of ``size`` threads; returns what each returns or raises."""
    exchange, found = Exchange(size), [None] * size

    def run(rank: int) -> None:
        try:
            found[rank] = work(ThreadGroup(rank, exchange))
        except BaseException as error:
            found[rank] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def stub_run(task: Any, schedule: Schedule) -> Components:
    """The objects of a run on a stub task, with the same weights each time."""
    torch.manual_seed(0)
    network = make_network("gru", kernel="torch")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    return Components({}, None, task, loss_for(task), network, optimizer, schedule, CPU64)  # type: ignore[arg-type]


def weights_of(network: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def all_ranges(task: Any, schedule: Schedule) -> Sequence[Any]:
    return WindowSampler(schedule, lambda epoch: task.train(epoch, schedule.streams)).take(10**6)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "lengths",
    [
        {"window": 4, "stride": 2, "update_every": 6, "clip_norm": 0.01},
        {"window": 3, "carry": False, "lr_decay": "cosine", "warmup": 2},
        {"window": None},
    ],
    ids=["overlap", "no carry", "whole"],
)
def test_processes_that_share_streams_give_the_numbers_of_one(size: int, lengths: dict[str, Any]) -> None:
    """Also where a process has fewer streams, fewer valid targets, or, in the batch of one stream, none."""
    schedule = make_schedule(streams=5, epochs=2, **lengths)
    task = StubTask([[random_batch(11, 5, valid=0.3), random_batch(7, 1), random_batch(11, 4, valid=0.05)]])
    task.epochs[0][0].chunk.targets[:, 0, 1] = torch.nan  # type: ignore[index]
    task.missing_targets = True
    ranges = all_ranges(task, schedule)
    factors = np.linspace(1, 0.5, len(ranges) * 10)
    one = stub_run(task, schedule)
    expected = plain(one.network, task, one.optimizer, schedule)(ranges, factors)
    runs = [stub_run(task, schedule) for _ in range(size)]

    def work(group: Any) -> Any:
        return StreamShare(runs[group.rank], group)(ranges, factors)

    for stats, run in zip(in_threads(size, work), runs, strict=True):
        assert not isinstance(stats, BaseException), stats
        torch.testing.assert_close(weights_of(run.network), weights_of(one.network), rtol=0, atol=1e-12)
        np.testing.assert_allclose(stats.losses, expected.losses, rtol=1e-12)
        np.testing.assert_allclose(stats.norms, expected.norms, rtol=1e-12)
        assert stats.targets.tolist() == expected.targets.tolist()
    assert not torch.equal(weights_of(one.network), weights_of(stub_run(task, schedule).network))


def test_a_divergence_is_the_same_in_all_processes() -> None:
    schedule = make_schedule(streams=4, window=2)
    batch = random_batch(10, 4, valid=1.0)
    batch.chunk.targets[5, 3] = torch.inf  # of the last process
    ranges = all_ranges(StubTask([[batch]]), schedule)
    runs = [stub_run(StubTask([[batch]]), schedule) for _ in range(2)]
    found = in_threads(2, lambda group: StreamShare(runs[group.rank], group)(ranges, np.ones(5)))
    assert [stats.diverged for stats in found] == [True, True]
    assert [len(stats) for stats in found] == [3, 3]
    assert torch.equal(*(weights_of(run.network) for run in runs))


def test_an_error_of_one_process_ends_all() -> None:
    """None waits for the sum of gradients that the one with the error does not give."""
    schedule = make_schedule(streams=4, window=2)
    task = StubTask([[random_batch(10, 4, valid=1.0)]])
    ranges, runs = all_ranges(task, schedule), [stub_run(task, schedule) for _ in range(2)]

    def fail(*_: Any) -> Tensor:
        raise MemoryError("too little")

    runs[1] = replace(runs[1], loss=fail)
    leader, helper = in_threads(2, lambda group: StreamShare(runs[group.rank], group)(ranges, np.ones(5)))
    assert isinstance(helper, MemoryError)
    assert isinstance(leader, Lost)
    assert "process 1" in str(leader)


def test_wrong_data_is_the_same_error_in_all_processes() -> None:
    schedule, batch = make_schedule(streams=4, window=2), random_batch(10, 4, valid=1.0, classes=True)
    batch.chunk.targets[5, 3] = 7
    task = StubTask([[batch]], loss="cross_entropy", kind="classification")
    ranges, runs = all_ranges(task, schedule), [stub_run(task, schedule) for _ in range(2)]
    found = in_threads(2, lambda group: StreamShare(runs[group.rank], group)(ranges, np.ones(5)))
    assert [type(error) for error in found] == [DataError, DataError]
    assert str(found[0]) == str(found[1])


def test_a_leader_and_its_helper_train_stop_and_continue_as_one_process_does() -> None:
    values = settings.composed_values([*RUN, "schedule.max_updates=60"])
    one = build_components(values)
    training.fit(one)

    def work(group: Any) -> Any:
        if group.rank:
            return helping._follow(group, [])
        run = sharing.build_components(values, group)
        strategy = Leading(run, group)
        cursor = TrainingCursor(run.task, run.schedule, 60)
        strategy(cursor.sampler.take(13), cursor.decay.factors(0, 13))
        batch = cursor.sampler.current_batch
        assert batch is not None
        pending = run.schedule.pending_carries(batch.timesteps, cursor.sampler.window)
        state = strategy.state(batch.streams, pending)
        weights = {name: value.clone() for name, value in run.network.state_dict().items()}
        strategy(cursor.sampler.take(5), cursor.decay.factors(13, 5))  # updates that are undone
        cursor.sampler.restore({**cursor.sampler.state(), "window": cursor.sampler.window - 5})
        run.network.load_state_dict(weights)
        strategy.restore(state)
        strategy(cursor.sampler.take(47), cursor.decay.factors(13, 47))
        strategy.finish()
        return run, state, pending

    (run, state, pending), ended = in_threads(2, work)
    assert ended is None
    torch.testing.assert_close(weights_of(run.network), weights_of(one.network), rtol=0, atol=1e-12)
    alone = build_components(values)
    strategy, cursor = choose(alone), TrainingCursor(alone.task, alone.schedule, 60)
    strategy(cursor.sampler.take(13), cursor.decay.factors(0, 13))
    expected = strategy.state(5, pending)
    assert expected.carried.keys() == state.carried.keys() != set()
    for before, parts in expected.carried.items():
        torch.testing.assert_close(state.carried[before], parts, rtol=0, atol=1e-12)
    assert state.parameters.keys() == expected.parameters.keys()


def test_streams_are_shared_out_as_evenly_as_can_be_and_process_0_has_some() -> None:
    assert parts_of(5, 2) == [slice(0, 3), slice(3, 5)]
    assert parts_of(1, 3) == [slice(0, 1), slice(1, 1), slice(1, 1)]
    assert [part.stop - part.start for part in parts_of(64, 4)] == [16] * 4


def test_the_place_of_a_process_is_read_from_the_variables_of_torchrun_and_of_slurm() -> None:
    assert place({}) is None
    assert place({"WORLD_SIZE": "1", "RANK": "0"}) is None
    found = place(TORCHRUN)
    assert found == Place(1, 2, 1, 2, "node3", 29500, is_one_machine=True, has_agent=True, allots_gpus=False)
    slurm = {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "node3", "MASTER_PORT": "29500", "SLURM_LOCALID": "1"}
    assert place(slurm) == Place(5, 8, 1, 1, "node3", 29500, False, has_agent=False, allots_gpus=True)
    alone = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    assert place(alone) == Place(1, 2, 1, 2, "localhost", 29500, True, has_agent=False, allots_gpus=False)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"RANK": ""}, "RANK must be set too"),
        ({"RANK": "2"}, "RANK=2: the processes have the numbers 0 to 1"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two: should be a whole number"),
        ({"MASTER_PORT": "-1"}, "MASTER_PORT=-1: should be a whole number"),
    ],
)
def test_variables_that_are_missing_or_wrong_are_named(changes: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        place({**TORCHRUN, **changes})


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["schedule.streams=2"], "schedule.streams=2: 3 processes"),
        (["schedule.gradient=rtrl", "schedule.stride=null"], "schedule.gradient=rtrl: several processes"),
        (["schedule.gradient=snap1", "schedule.stride=null"], "schedule.gradient=snap1: several processes"),
        (["model=esn", "optimizer=ridge"], "optimizer=ridge: is not shared out"),
    ],
)
def test_what_cannot_be_shared_is_refused_by_name(overrides: list[str], problem: str) -> None:
    base = [one for one in RUN if not (overrides[0] == "model=esn" and one.startswith("model"))]
    values = settings.composed_values([*base, *overrides])
    with pytest.raises(ConfigError, match=problem):
        sharing.check_shareable(values, 3)


def test_a_network_that_draws_random_numbers_is_refused() -> None:
    values = settings.composed_values([*RUN, "model.num_layers=2", "model.dropout=0.3"])
    with pytest.raises(ConfigError, match="has dropout, with which 2 processes would not give the numbers of one"):
        sharing.build_components(values, ThreadGroup(0, Exchange(2)))  # type: ignore[arg-type]


def test_messages_arrive_as_they_were_sent() -> None:
    message = {"do": "load", "numbers": [1.5, None, "a"], "model": {"w": torch.randn(3, 2, dtype=torch.float64)}}
    found = file.unpacked(bytes(file.packed(message)))
    assert torch.equal(found["model"].pop("w"), message["model"].pop("w"))  # type: ignore[attr-defined]
    assert found == message
