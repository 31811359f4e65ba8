"""The processes that share a run: how they find one another, and what they send.

Process 0 leads. It sends messages to all others, which do as they say; gradients are summed over all processes.
Tensors on the CPU travel by gloo, those on a GPU by nccl. A message is packed as a checkpoint is; nothing is pickled.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from seqrnn.checkpoints import file
from seqrnn.errors import ConfigError, UserError, reason_of
from seqrnn.processes.environment import ProcessEnvironment

JOIN_TIMEOUT = timedelta(minutes=5)  # in which all processes must have started
TIMEOUT = timedelta(minutes=30)  # that a process waits for another, as during an evaluation
LEAVE_SECONDS = 5.0  # that process 0 waits for the others to leave, where they would lose contact with its end
FAILURE, ENDED = "failure", "ended"  # keys of the store
LOST = 1  # exit code of a process that has lost the others


class Lost(UserError):
    """Another process has failed or ended."""

    def __init__(self, *problems: str, exit_code: int = LOST) -> None:
        super().__init__(*problems)
        self.exit_code = exit_code


class Group:
    """The processes that share a run, seen from one of them.

    Raises:
        UserError: the others cannot be reached.
    """

    def __init__(self, environment: ProcessEnvironment) -> None:
        self.environment, self.rank, self.size = environment, environment.rank, environment.size
        if environment.is_one_machine:  # else by the address of the machine's name
            name = "lo0" if sys.platform == "darwin" else "lo"
            for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(variable, name)
        where = f"MASTER_ADDR={environment.address} MASTER_PORT={environment.port}"
        try:
            self._store = PrefixStore("seqrnn", self._connect())
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
            dist.init_process_group(
                backend, store=PrefixStore("group", self._store), rank=self.rank, world_size=self.size,
                timeout=TIMEOUT,
            )  # fmt: skip
            self._count("joined")
            self._wait_for("joined", self.size, JOIN_TIMEOUT.total_seconds())
        except (RuntimeError, OSError, ValueError) as error:
            raise UserError(
                f"process {self.rank} of {self.size}: the other processes cannot be reached by {where}: "
                f"{reason_of(error).splitlines()[0]}; have all {self.size} been started, and is the port free?"
            ) from None
        self._is_listening = True  # whether the other processes wait for a message

    def _connect(self) -> Store:
        """Returns the store by which processes find one another. torchrun has one; else process 0 makes it."""
        environment = self.environment
        if environment.has_agent or not environment.is_one_machine:
            store: Store = next(rendezvous("env://", timeout=JOIN_TIMEOUT))[0]
            return store
        listening = None
        if environment.rank == 0:  # torch would listen on all addresses of the machine
            listening = socket.create_server(("127.0.0.1", environment.port)).detach()
        return TCPStore(
            "127.0.0.1", environment.port, self.size, self.rank == 0, JOIN_TIMEOUT, wait_for_workers=False,
            master_listen_fd=listening,
        )  # fmt: skip

    def _count(self, key: str) -> int:
        """Counts this process among those that have reached a point."""
        return self._store.add(key, 1)

    def _wait_for(self, key: str, processes: int, seconds: float) -> None:
        """Waits until so many processes have reached a point.

        Raises:
            TimeoutError: they have not come in time.
        """
        until = time.monotonic() + seconds
        while (found := self._store.add(key, 0)) < processes:
            if time.monotonic() > until:
                raise TimeoutError(f"only {found} of {processes} have come in {seconds:.0f} s")
            time.sleep(0.01)

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message from process 0 to all others."""
        content = torch.frombuffer(file.packed(message), dtype=torch.uint8)
        with self._explained():
            dist.broadcast(torch.tensor([len(content)]), 0)
            dist.broadcast(content, 0)

    def receive(self) -> dict[str, Any]:
        """Returns the next message of process 0."""
        with self._explained():
            length = torch.zeros(1, dtype=torch.int64)
            dist.broadcast(length, 0)
            content = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(content, 0)
        return file.unpacked(content.numpy().tobytes())

    def sum(self, values: Tensor) -> None:
        """Replaces values by their sums over all processes. On a GPU, does not wait for it."""
        with self._explained():
            dist.all_reduce(values)

    def largest(self, number: int) -> int:
        """Returns the largest of the numbers that all processes give."""
        numbers = torch.tensor([number])
        with self._explained():
            dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return int(numbers)

    def give(self, values: Tensor) -> None:
        """Sends a tensor on the CPU to process 0, which takes it."""
        with self._explained():
            dist.send(values.contiguous(), 0)

    def take(self, values: Tensor, rank: int) -> Tensor:
        """Fills a tensor on the CPU with the one that process ``rank`` gives, and returns it."""
        with self._explained():
            dist.recv(values, rank)
        return values

    def report(self, error: BaseException) -> None:
        """Leaves word of an error of this process, for process 0 to show."""
        problems = error.problems if isinstance(error, UserError) else [f"{type(error).__name__}: {reason_of(error)}"]
        problems = [f"process {self.rank} of {self.size}: {problem}" for problem in problems]
        with suppress(RuntimeError):  # process 0 has gone, and its store with it
            self._store.set(FAILURE, json.dumps([problems, getattr(error, "exit_code", LOST)]))

    def failure(self) -> Lost:
        """Returns the error that another process has reported, or that there is no contact with it any more."""
        with suppress(RuntimeError):
            if self._store.check([FAILURE]):
                problems, exit_code = json.loads(self._store.get(FAILURE))
                return Lost(*map(str, problems), exit_code=int(exit_code))
        return Lost(
            f"another of the {self.size} processes of this run has ended, or has not answered for "
            f"{TIMEOUT.total_seconds() / 60:.0f} minutes; the run can be resumed from its last checkpoint"
        )

    def exit_code(self) -> int:
        """Returns with which exit code process 0 has ended; ``LOST`` where that is not known."""
        with suppress(RuntimeError):
            if self._store.check([ENDED]):
                return int(self._store.get(ENDED))
        return LOST

    def dismiss(self) -> None:
        """Lets the other processes end: process 0 needs them no more."""
        if self._is_listening:
            self._is_listening = False
            self.send({"do": "end"})

    def leave(self, exit_code: int) -> None:
        """Ends the contact with the other processes. If they are at work, they notice, and end too.

        Args:
            exit_code: with which process 0 ends, and the others with it.
        """
        with suppress(RuntimeError, Lost):
            if self.rank == 0:
                self._store.set(ENDED, str(exit_code))
                if exit_code == 0:
                    self.dismiss()
            dist.destroy_process_group()
            self._count("left")
            if self.rank == 0 and not self.environment.has_agent and exit_code != LOST:
                with suppress(TimeoutError):
                    self._wait_for("left", self.size, LEAVE_SECONDS)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns an error of torch's messages within its block into one that says which process has failed.

        Raises:
            Lost: another process has failed or ended.
        """
        try:
            yield
        except RuntimeError:
            raise self.failure() from None


def use_gpu(environment: ProcessEnvironment) -> None:
    """Chooses the GPU of this process.

    Raises:
        ConfigError: there are fewer GPUs than processes.
    """
    gpus, number = torch.cuda.device_count(), environment.local_rank
    if environment.allots_gpus and gpus == 1:
        number = 0
    if number >= gpus:
        raise ConfigError(
            f"device=cuda: {environment.local_size} processes on a machine with {gpus} GPU{'s' * (gpus != 1)}; start "
            "one process for each GPU, or use device=cpu"
        )
    torch.cuda.set_device(number)


def shards_of(streams: int, size: int) -> Sequence[slice]:
    """Returns the streams of each of ``size`` processes: as many for each, or one more for the first ones."""
    ends = [-(-streams * rank // size) for rank in range(size + 1)]
    return [slice(begin, end) for begin, end in pairwise(ends)]
