"""Several processes that share a run give the numbers of one; they end together."""

from __future__ import annotations

import json
import queue
import signal
import socket
import threading
from collections.abc import Callable, Sequence
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
from seqrnn.errors import ConfigError, DataError
from seqrnn.loop import TrainingCursor
from seqrnn.optimizers import light
from seqrnn.processes import helping, sharing
from seqrnn.processes.environment import ProcessEnvironment, process_environment
from seqrnn.processes.group import Lost, shards_of
from seqrnn.processes.leading import Leading
from seqrnn.processes.sharing import ShardUpdates
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
        self.environment = ProcessEnvironment(
            rank, exchange.size, rank, exchange.size, "localhost", 1, True, False, False
        )

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
    optimizer = light(torch.optim.Adam)(network.parameters(), lr=0.01)
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
        return ShardUpdates(runs[group.rank], group)(ranges, factors)

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
    found = in_threads(2, lambda group: ShardUpdates(runs[group.rank], group)(ranges, np.ones(5)))
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
    leader, helper = in_threads(2, lambda group: ShardUpdates(runs[group.rank], group)(ranges, np.ones(5)))
    assert isinstance(helper, MemoryError)
    assert isinstance(leader, Lost)
    assert "process 1" in str(leader)


def test_wrong_data_is_the_same_error_in_all_processes() -> None:
    schedule, batch = make_schedule(streams=4, window=2), random_batch(10, 4, valid=1.0, classes=True)
    batch.chunk.targets[5, 3] = 7
    task = StubTask([[batch]], loss="cross_entropy", kind="classification")
    ranges, runs = all_ranges(task, schedule), [stub_run(task, schedule) for _ in range(2)]
    found = in_threads(2, lambda group: ShardUpdates(runs[group.rank], group)(ranges, np.ones(5)))
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
    assert shards_of(5, 2) == [slice(0, 3), slice(3, 5)]
    assert shards_of(1, 3) == [slice(0, 1), slice(1, 1), slice(1, 1)]
    assert [part.stop - part.start for part in shards_of(64, 4)] == [16] * 4


def test_the_rank_of_a_process_is_read_from_the_variables_of_torchrun_and_of_slurm() -> None:
    assert process_environment({}) is None
    assert process_environment({"WORLD_SIZE": "1", "RANK": "0"}) is None
    found = process_environment(TORCHRUN)
    assert found == ProcessEnvironment(
        1, 2, 1, 2, "node3", 29500, is_one_machine=True, has_agent=True, allots_gpus=False
    )
    slurm = {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "node3", "MASTER_PORT": "29500", "SLURM_LOCALID": "1"}
    assert process_environment(slurm) == ProcessEnvironment(
        5, 8, 1, 1, "node3", 29500, False, has_agent=False, allots_gpus=True
    )
    alone = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    assert process_environment(alone) == ProcessEnvironment(
        1, 2, 1, 2, "localhost", 29500, True, has_agent=False, allots_gpus=False
    )


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
        process_environment({**TORCHRUN, **changes})


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


FORKED = """
# This process and a copy of it are the two that share the run; the copy's exit code and output go to files.
import socket
real_exit = os._exit
if os.fork():
    os.environ["RANK"] = "0"
else:
    os.environ["RANK"] = "1"
    for target in (1, 2):
        os.dup2(os.open("helper.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), target)
    with open("helper.pid", "w") as file:
        file.write(str(os.getpid()))
    def exit(code):
        with open("helper.code", "w") as file:
            file.write(str(code))
        real_exit(code)
    os._exit = exit
"""


class Pair:
    """Two processes of one machine that share a run."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder

    def start(self, *arguments: str, before: str = "") -> Child:
        for name in ("out", "pid", "code"):
            (self.folder / f"helper.{name}").unlink(missing_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return self.server.start(*arguments, cwd=self.folder, before=FORKED + before, environment=variables)

    def run(self, *arguments: str, before: str = "") -> Ended:
        return self.start(*arguments, before=before).wait()

    @property
    def helper(self) -> int:
        wait_for(self.folder / "helper.pid")
        return int((self.folder / "helper.pid").read_text())

    def helper_ended(self) -> tuple[int, str]:
        """Returns the exit code and the output of the second process."""
        wait_for(self.folder / "helper.code")
        return int((self.folder / "helper.code").read_text()), (self.folder / "helper.out").read_text()


def printed(ended: Ended) -> str:
    """Returns what a process has printed, without line breaks."""
    return " ".join(f"{ended.out} {ended.err}".split())


@pytest.fixture
def pair(server: Server, tmp_path: Path) -> Pair:
    return Pair(server, tmp_path)


def stopping_helper_at(update: int, how: str) -> str:
    """Has the second process do something before the first update of the schedule from ``update`` on."""
    return f"""
if os.environ["RANK"] == "1":
    from seqrnn.processes import helping
    real_update, made = helping.Helper.update, [0]
    def counted(self, message):
        if made[0] >= {update}:
            {how}
        made[0] += len(message["factors"])
        real_update(self, message)
    helping.Helper.update = counted
"""


@pytest.mark.long
def test_two_processes_train_as_one_does_and_resume_after_either_was_killed(
    pair: Pair, server: Server, tmp_path: Path
) -> None:
    line = (*RUN, "task.train_timesteps=2000", "resume=auto", "schedule.keep=best", "schedule.patience=9")
    ended = pair.run(*line, "hydra.run.dir=whole")
    assert (ended.exit_code, ended.err) == (0, "")
    assert "2 processes share out the 5 streams, 2 or 3 each; torch makes the updates" in ended.out
    assert pair.helper_ended() == (0, "")
    assert server.run(*line, "hydra.run.dir=one", cwd=tmp_path).exit_code == 0
    whole, one = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "one"))
    for name, weight in one.items():
        torch.testing.assert_close(whole[name], weight, rtol=0, atol=1e-12)
    rows = [contents(tmp_path / name)["metrics.csv"] for name in ("whole", "one")]
    assert [row["timesteps"] for row in rows[0]] == [row["timesteps"] for row in rows[1]]

    ended = pair.run(
        *line, "hydra.run.dir=run", before=stopping_helper_at(50, "os.kill(os.getpid(), signal.SIGKILL)")
    )
    assert ended.exit_code == 1
    assert "another of the 2 processes of this run has ended" in printed(ended)
    child = pair.start(
        *line, "hydra.run.dir=run", before=stopping_helper_at(30, "os.kill(os.getppid(), signal.SIGKILL)")
    )
    assert child.wait().exit_code == -signal.SIGKILL
    assert pair.helper_ended()[0] == 1
    ended = pair.run(*line, "hydra.run.dir=run")
    assert (ended.exit_code, ended.err) == (0, "")
    found, expected = contents(tmp_path / "run"), contents(tmp_path / "whole")
    for name in ("overrides.yaml", "config.yaml"):  # the directories have different names
        del found[name], expected[name]
    assert_same(found, expected)


@pytest.mark.long
def test_a_signal_that_only_the_second_process_receives_ends_both_after_a_checkpoint(
    pair: Pair, tmp_path: Path
) -> None:
    ended = pair.run(*RUN, "hydra.run.dir=run", before=stopping_helper_at(30, "os.kill(os.getpid(), signal.SIGUSR1)"))
    assert ended.exit_code == 128 + signal.SIGUSR1
    assert pair.helper_ended() == (128 + signal.SIGUSR1, "")
    assert ended.out.splitlines()[-1] == "python -m seqrnn.train resume=run"
    newest = max((tmp_path / "run" / "checkpoints").glob("*.safetensors"))
    with (tmp_path / "run" / "summary.json").open() as file:
        assert int(newest.stem) == json.load(file)["position"]
    assert pair.run("resume=run").exit_code == 0  # as it was started, in two processes


@pytest.mark.long
def test_both_processes_end_with_the_one_message_of_either(pair: Pair, tmp_path: Path) -> None:
    ended = pair.run(*RUN, "optimizer.lrr=1")
    assert (ended.exit_code, ended.err.count("\n")) == (2, 1)
    assert pair.helper_ended() == (2, "")
    ended = pair.run(*RUN, "hydra.run.dir=run", before=stopping_helper_at(30, "raise MemoryError('too little')"))
    assert ended.exit_code == 1
    assert printed(ended).count("process 1 of 2: MemoryError: too little") == 1
    assert pair.helper_ended() == (1, "")
    fails = """
if os.environ["RANK"] == "0":
    from seqrnn.checkpoints import manager
    def fail(*_): raise OSError(28, "No space left on device", "disk")
    manager.file.write = fail
"""
    ended = pair.run(*RUN, "hydra.run.dir=full", before=fails)
    assert ended.exit_code == 2
    assert "No space left on device" in printed(ended)
    assert pair.helper_ended() == (2, "")
    assert not [path for path in tmp_path.iterdir() if path.name == "outputs"]


@pytest.mark.long
def test_the_processes_of_one_machine_listen_on_loopback_alone(pair: Pair, tmp_path: Path) -> None:
    listening = Path("/proc/net/tcp")
    if not listening.exists():
        pytest.skip("needs /proc")
    record = """
def sockets():
    mine = set()
    for fd in os.listdir("/proc/self/fd"):
        if os.path.lexists(f"/proc/self/fd/{fd}"):
            mine.add(os.readlink(f"/proc/self/fd/{fd}"))
    rows = [line.split() for kind in ("tcp", "tcp6") for line in open(f"/proc/net/{kind}").read().splitlines()[1:]]
    return [row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in mine]
if os.environ["RANK"] == "0":
    from seqrnn.processes import leading
    real_prepare = leading.Leading.prepare
    def prepare(self, announce):
        open("sockets", "w").write(" ".join(sockets()))
        real_prepare(self, announce)
    leading.Leading.prepare = prepare
"""
    assert pair.run(*RUN, "schedule.max_updates=5", "hydra.run.dir=run", before=record).exit_code == 0
    assert set((tmp_path / "sockets").read_text().split()) == {"0100007F"}  # 127.0.0.1
