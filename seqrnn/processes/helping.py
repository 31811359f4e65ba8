"""The processes beside process 0: they compute their share of the updates, and write and print nothing."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

import numpy as np

from seqrnn import plugins, settings
from seqrnn.checkpoints.signals import HANDLED
from seqrnn.components import Components
from seqrnn.processes.environment import ProcessEnvironment
from seqrnn.processes.group import Group, Lost
from seqrnn.processes.sharing import ShardUpdates, build_components
from seqrnn.schedule import WindowRange
from seqrnn.strategies.strategy_state import StrategyState
from seqrnn.tasks.protocol import Batch


def help_leader(environment: ProcessEnvironment) -> int:
    """Does what process 0 says until it needs nothing more; returns the exit code.

    Raises:
        UserError: process 0 cannot be reached.
    """
    received: list[int] = []

    def receive(signum: int, frame: FrameType | None) -> None:
        received.append(signum)

    for signum in HANDLED:  # process 0 decides what is done; a terminal sends Ctrl-C to it as well
        signal.signal(signum, signal.SIG_IGN if signum == signal.SIGINT else receive)
    group = Group(environment)
    exit_code = 0
    try:
        _follow(group, received)
    except Lost:
        exit_code = group.exit_code()
    except Exception as error:
        group.report(error)
        exit_code = getattr(error, "exit_code", 1)
    group.leave(exit_code)
    return exit_code


def _follow(group: Group, received: list[int]) -> None:
    """Does what one message after another says.

    Args:
        received: numbers of signals that this process has received, and has not passed on yet.
    """
    helper: Helper | None = None
    while (message := group.receive())["do"] != "end":
        if message["do"] == "build":
            plugins.load_components(settings.plugins_of(message["values"]))
            helper = Helper(build_components(message["values"], group), group)
            group.largest(0)
            continue
        assert helper is not None
        if message["do"] == "load":
            helper.load(message)
        elif message["do"] == "update":
            helper.update(message)
            group.largest(received.pop(0) if received else 0)
        elif message["do"] == "state":
            helper.give_state(message)


class Helper:
    """Computes this process's share of the updates, as process 0 asks for it."""

    def __init__(self, run: Components, group: Group) -> None:
        self.task, self.network, self.group = run.task, run.network, group
        self.streams = run.schedule.streams
        self.own = ShardUpdates(run, group)
        self._epoch = -1
        self._batches: Sequence[Batch] = ()  # of that epoch
        self._kept: dict[tuple[int, int], Batch] = {}  # those of the last updates, by epoch and number

    def load(self, message: dict[str, Any]) -> None:
        """Continues with the weights and the state of process 0."""
        carried = {int(one["before"]): tuple(one["parts"]) for one in message["carried"]}
        self.own.plain.finish()
        self.network.load_state_dict(message["model"])
        self.own.restore(StrategyState(message["parameters"], message["groups"], carried))

    def update(self, message: dict[str, Any]) -> None:
        """Computes updates."""
        kept: dict[tuple[int, int], Batch] = {}
        ranges = []
        for epoch, number, first, count, ends_epoch, epochs in message["ranges"]:
            key = epoch, number
            batch = kept[key] = self._kept.get(key) or kept.get(key) or self._batch(epoch, number)
            ranges.append(WindowRange(epoch, batch, first, count, ends_epoch, epochs, number))
        self._kept = kept
        self.own(ranges, message["factors"].numpy().astype(np.float64))

    def _batch(self, epoch: int, number: int) -> Batch:
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self.task.train(epoch, self.streams)
        return self._batches[number]

    def give_state(self, message: dict[str, Any]) -> None:
        """Sends the carried states of this process's streams to process 0."""
        state = self.own.state(message["streams"], message["pending"])
        for before in message["pending"]:
            for part in state.carried.get(before, ()):
                self.group.give(part)
