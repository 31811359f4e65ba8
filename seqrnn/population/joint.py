"""The gradient of an update, of many members at once.

N members, T timesteps, B streams, I inputs, H hidden units, L layers, O outputs. It is the gradient that
``seqrnn.strategies.plain.WindowByWindow`` computes of each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, detached
from seqrnn.population.reading import JointData
from seqrnn.population.recurrences import joint_cell, joint_initial_state, joint_module, named_below
from seqrnn.population.stack import Stack
from seqrnn.schedule import Window
from seqrnn.strategies.reading import EVERYTHING


@dataclass(frozen=True, slots=True)
class JointWindow:
    """A window of all members, with its data.

    Args:
        fresh: timesteps from its first one to those that add loss.
        keep: timesteps from its first one to the one before which the state is kept.
        state: that it begins with, parts (N, L, B, H); none: with the initial one.
        restarts: timesteps at which sequences start, and where, (N, B).
        inputs, chosen, targets, is_real: see ``seqrnn.population.reading.JointData``.
    """

    fresh: int
    keep: int
    inputs: Tensor
    state: State
    restarts: Sequence[tuple[int, Tensor]]
    chosen: slice | Tensor
    targets: Tensor | None
    is_real: Tensor | None

    @property
    def layout(self) -> Hashable:
        """All that its computation depends on besides the numbers in its tensors."""
        chosen = (self.chosen.start, self.chosen.stop) if isinstance(self.chosen, slice) else None
        steps = tuple(step for step, _ in self.restarts)
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in self.tensors())
        missing = (len(self.state), self.targets is None, self.is_real is None)
        return self.fresh, self.keep, steps, chosen, missing, shapes

    def tensors(self) -> list[Tensor]:
        """Returns its tensors."""
        others = (self.chosen, self.targets, self.is_real)
        given = [tensor for tensor in others if isinstance(tensor, Tensor)]
        return [self.inputs, *self.state, *(streams for _, streams in self.restarts), *given]

    def with_tensors(self, tensors: Iterable[Tensor]) -> JointWindow:
        """Returns the same with other tensors."""
        left = iter(tensors)
        return replace(
            self,
            inputs=next(left),
            state=tuple(next(left) for _ in self.state),
            restarts=[(step, next(left)) for step, _ in self.restarts],
            chosen=next(left) if isinstance(self.chosen, Tensor) else self.chosen,
            targets=next(left) if self.targets is not None else None,
            is_real=next(left) if self.is_real is not None else None,
        )


class WindowResult(NamedTuple):
    """What a window gives.

    Args:
        losses: (N,), summed over the valid targets; None: there are none.
        gradients: of the sum of these by the trained parameters, (N, …) each; empty without losses.
        kept: the state before its timestep ``keep``, parts (N, L, B, H).
    """

    losses: Tensor | None
    gradients: Sequence[Tensor]
    kept: State


class JointNetwork:
    """Computes windows of networks of one architecture, each with its own weights and data.

    Args:
        network: one of them.
        loss: of all.
        stack: their weights.
    """

    def __init__(self, network: Network, loss: Loss, stack: Stack) -> None:
        self.loss, self.stack = loss, stack
        self.modules = list(network.modules())
        self._recur, self._initial = joint_cell(network.cell), joint_initial_state(network.cell)
        self._head = joint_module(network.head)

    def __call__(self, window: JointWindow) -> WindowResult:
        """Computes a window of each member, forward and backward."""
        with torch.enable_grad():
            weights = {**self.stack.fixed, **self.stack.leaves}
            hidden, kept = self._unroll(named_below(weights, "cell."), window)
            if window.targets is None:
                return WindowResult(None, [], detached(kept))
            hidden = hidden[:, window.fresh :]
            if isinstance(window.chosen, slice):
                chosen = (hidden if window.chosen is EVERYTHING else hidden[:, window.chosen]).flatten(1, 2)
            else:
                places = window.chosen.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
                chosen = hidden.flatten(1, 2).gather(1, places)
            outputs = self._head(named_below(weights, "head."), chosen)  # (N, M, O)
            losses = self.loss(outputs.flatten(0, 1), window.targets.flatten(0, 1)).view(len(outputs), -1)
            if window.is_real is not None:
                losses = torch.where(window.is_real, losses, 0.0)
            summed = losses.sum(1)
            gradients = torch.autograd.grad(summed.sum(), list(self.stack.leaves.values()))
        return WindowResult(summed.detach(), gradients, detached(kept))

    def _unroll(self, cell: Mapping[str, Tensor], window: JointWindow) -> tuple[Tensor, State]:
        """Returns the outputs (N, T, B, H), and the state before timestep ``keep``."""
        timesteps, streams = window.inputs.shape[1:3]
        state = window.state or self._initial(cell, streams)
        starting, keep = dict(window.restarts), window.keep
        cuts = sorted({0, timesteps, *starting, *([keep] if keep < timesteps else [])})
        pieces, kept = [], state
        for begin, end in pairwise(cuts):
            if begin in starting:
                mask = starting[begin][:, None, :, None]
                initial = self._initial(cell, streams)
                state = tuple(torch.where(mask, new, old) for new, old in zip(initial, state, strict=True))
            outputs, state = self._recur(cell, window.inputs[:, begin:end], state)
            pieces.append(outputs)
            if end <= keep:
                kept = state
        return (torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]), kept


@dataclass(frozen=True, slots=True)
class MemberState:
    """What a member has of states that were kept for all.

    Args:
        states: parts (N, L, B, H).
        number: of the member.
    """

    states: State
    number: int

    def parts(self) -> State:
        """Returns the member's state, parts (L, B, H)."""
        return tuple(part[self.number] for part in self.states)


Carried = dict[int, State | MemberState]  # the states of a member by the timestep that they come before


def joint_window(windows: Sequence[Window], data: JointData, carried: Sequence[Carried]) -> JointWindow:
    """Returns a window of all members.

    Args:
        windows: of the same extents.
        data: theirs.
        carried: of the members; the states that the windows begin with are taken from there.
    """
    first, restarts = windows[0], dict(data.restarts)
    states = []
    for window, own in zip(windows, carried, strict=True):
        if window.fresh == 0:
            own.clear()  # a batch begins: other sequences
        states.append(own.pop(window.start, None))
    state = _together(states)
    if not state:
        restarts.pop(0, None)  # sequences that start here are in that state already
    elif any(each is None for each in states):  # those begin with the initial state, as if they started here
        mask = torch.tensor([each is None for each in states], device=state[0].device).unsqueeze(1)
        restarts[0] = restarts[0] | mask if 0 in restarts else mask.expand(-1, data.inputs.shape[2])
    return JointWindow(
        first.fresh - first.start,
        first.keep - first.start,
        data.inputs,
        state,
        sorted(restarts.items()) if restarts else (),
        data.chosen,
        data.targets,
        data.is_real,
    )


def _together(states: Sequence[State | MemberState | None]) -> State:
    """Returns the states of members side by side, parts (N, L, B, H), zeros for those that have none; nothing if none
    has one."""
    first = states[0]
    if isinstance(first, MemberState) and len(states) == len(first.states[0]):
        kept = first.states
        if all(
            isinstance(each, MemberState) and each.states is kept and each.number == n
            for n, each in enumerate(states)
        ):
            return kept
    own = [each.parts() if isinstance(each, MemberState) else each for each in states]
    given = next((each for each in own if each is not None), None)
    if given is None:
        return ()
    zeros = tuple(map(torch.zeros_like, given))
    return tuple(torch.stack(part) for part in zip(*(zeros if each is None else each for each in own), strict=True))


def keep_states(kept: State, windows: Sequence[Window], timesteps: Sequence[int], carried: Sequence[Carried]) -> None:
    """Hands the states (N, L, B, H) before the windows' timesteps ``keep`` to the members.

    Args:
        timesteps: of the windows' batches.
    """
    for number, (window, end, own) in enumerate(zip(windows, timesteps, carried, strict=True)):
        if window.keep < end:
            own[window.keep] = MemberState(kept, number)
