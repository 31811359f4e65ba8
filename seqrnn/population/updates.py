"""Makes the updates of members together."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrnn.monitor import Pace
from seqrnn.population.captured import CapturedWindows
from seqrnn.population.joint import JointNetwork, JointWindow, WindowResult, joint_window, keep_states
from seqrnn.population.members import Member
from seqrnn.population.reading import JointReader
from seqrnn.population.stack import Stack
from seqrnn.strategies.choice import engine_on
from seqrnn.strategies.reading import Piece

# That a block of updates of all members takes, and an interruption waits at most. A block costs each member a turn, a
# reading of its data and rows of metrics: with the tenth of a second of a single run, a quarter of the time.
BLOCK_SECONDS = 1.0


class CommonPace(Pace):
    """The pace of all members. It changes only between their turns, so that their blocks have the same updates, and
    their data can be read and joined a block at a time."""

    def took(self, count: int, seconds: float) -> None:
        pass  # while others had their turns

    def measured(self, count: int, seconds: float) -> None:
        """Takes note that ``count`` updates of all members took ``seconds``."""
        super().took(count, seconds)


class Group:
    """Members whose updates are computed side by side."""

    def __init__(self, members: Sequence[Member]) -> None:
        first = members[0]
        self.stack, self.reader = Stack([member.row for member in members]), JointReader()
        network = JointNetwork(first.network, first.loss, self.stack)
        engine = engine_on(self.stack.weights.device) if first.captures else None
        self.compute: Callable[[JointWindow], WindowResult] = (
            network if engine is None else CapturedWindows(network, engine, first.announce)
        )


class Population:
    """Computes the updates of members together, those whose windows have the same extents."""

    def __init__(self) -> None:
        self.pace = CommonPace(BLOCK_SECONDS)
        self._groups: dict[tuple[int, ...], Group] = {}

    def advance(self, members: Sequence[Member]) -> None:
        """Makes updates until one of the members has none pending."""
        torch.set_num_threads(members[0].threads)  # which is a setting of each thread
        began, count = time.perf_counter(), 0
        while all(member.pending for member in members):
            count += 1
            alike: dict[Any, list[Member]] = defaultdict(list)
            for member in members:
                alike[member.update.extents].append(member)
            for group in alike.values():
                try:
                    self._update(group)
                except Exception as error:  # such as a lack of memory: each run reports it as its own
                    for member in group:
                        member.fail(error)
        if count:
            self.pace.measured(count, time.perf_counter() - began)

    def _update(self, group: Sequence[Member]) -> None:
        """Makes one update of each member of a group."""
        read: list[list[Piece]] = []
        members = []
        for member in group:
            reader, batches = member.reader, member.batches
            try:
                read.append(
                    [reader.piece(batches[of.number], each.start, each.stop) for of, each in member.update.windows]
                )
                members.append(member)
            except Exception as error:  # its data is wrong, which does not concern the others
                member.fail(error)
        if not members:
            return
        parts = self._group(members)
        stack = parts.stack
        carried, carries = [member.carried for member in members], members[0].schedule.carry
        losses = torch.zeros(len(members), device=stack.weights.device, dtype=stack.weights.dtype)
        targets, has_gradient = [0] * len(members), False
        sides = zip(*(member.update.windows for member in members), strict=True)
        for side, pieces in zip(sides, zip(*read, strict=True), strict=True):
            shapes, windows = zip(*side, strict=True)
            data = parts.reader(pieces, windows)
            found = parts.compute(joint_window(windows, data, carried))
            targets = [count + more for count, more in zip(targets, data.counts, strict=True)]
            if carries:
                kept = tuple(part.clone() for part in found.kept)
                keep_states(kept, windows, [shape.timesteps for shape in shapes], carried)
            if found.losses is not None:
                losses = losses + found.losses
                stack.add(found.gradients, is_first=not has_gradient)
                has_gradient = True
        _take_step(members, stack, losses, targets, has_gradient)

    def _group(self, members: Sequence[Member]) -> Group:
        """Returns the group of these members."""
        key = tuple(id(member.row) for member in members)  # which the group's stack keeps alive
        if key not in self._groups:
            # The rows of any of these members are in another place now.
            self._groups = {old: group for old, group in self._groups.items() if not {*old} & {*key}}
            self._groups[key] = Group(members)
        return self._groups[key]


def _take_step(
    members: Sequence[Member], stack: Stack, losses: Tensor, targets: Sequence[int], has_gradient: bool
) -> None:
    """Takes the optimizers' steps of those members that have targets and have not diverged, and reports the update to
    all of them."""
    norms = torch.zeros_like(losses)
    if has_gradient:
        clips = np.array([member.clip for member in members], dtype=np.float64)
        norms = stack.gather(np.maximum(targets, 1).astype(np.float64), clips)
    # The only time that the processor waits for the device, once for the update of all members.
    found = torch.stack([losses.double(), norms.double()]).cpu().numpy()
    is_finite = np.isfinite(found).all(axis=0).tolist()
    which = [number for number, count in enumerate(targets) if count and is_finite[number]]
    if which:
        rates = np.array([members[number].update_rate for number in which])
        with torch.no_grad():
            stack.step(which, rates)
    for member, loss, count, norm in zip(members, found[0].tolist(), targets, found[1].tolist(), strict=True):
        member.made(loss, count, norm)
