"""The gradient of an update, of many members at once.

N members, T timesteps, B streams, I inputs, H hidden units, L layers, O outputs. It is the gradient that
``seqrnn.strategies.plain.WindowByWindow`` computes of each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, detached
from seqrnn.population.recurrences import joint_cell, joint_initial_state, joint_module, named_below
from seqrnn.population.stack import Stack
from seqrnn.schedule import Window
from seqrnn.strategies.reading import EVERYTHING, WindowData
from seqrnn.tasks.protocol import Batch

Carried = dict[int, State]  # the states of a member by the timestep that they come before


@dataclass(frozen=True, slots=True)
class JointWindow:
    """A window of all members, with its data.

    Args:
        fresh: timesteps from its first one to those that add loss.
        keep: timesteps from its first one to the one before which the state is kept.
        inputs: (N, T, B, I).
        state: that it begins with, parts (N, L, B, H); none: with the initial one.
        restarts: timesteps at which sequences start, and where, (N, B).
        chosen: the fresh timesteps whose targets are all valid, or the places (N, M) of valid targets among the pairs
            (timestep, stream).
        targets: those, (N, M, …); None: there are none.
        is_real: (N, M), which of them are a member's own, where members have different numbers of them; None: all.
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
        return (
            self.fresh,
            self.keep,
            len(self.state),
            steps,
            chosen,
            self.targets is None,
            self.is_real is None,
            shapes,
        )

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


class Found(NamedTuple):
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

    def __call__(self, window: JointWindow) -> Found:
        """Computes a window of each member, forward and backward."""
        with torch.enable_grad():
            weights = {**self.stack.fixed, **self.stack.leaves}
            hidden, kept = self._unroll(named_below(weights, "cell."), window)
            if window.targets is None:
                return Found(None, [], detached(kept))
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
        return Found(summed.detach(), gradients, detached(kept))

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


def joint_window(
    windows: Sequence[tuple[Batch, Window]], data: Sequence[WindowData], carried: Sequence[Carried]
) -> JointWindow:
    """Returns a window of all members.

    Args:
        windows: of the same extents (see ``extent``).
        data: theirs.
        carried: of the members; the states that the windows begin with are taken from there.
    """
    batch, first = windows[0]
    states = []
    for (_, window), own in zip(windows, carried, strict=True):
        if window.fresh == 0:
            own.clear()  # a batch begins: other sequences
        states.append(own.pop(window.start, None))
    given = next((state for state in states if state is not None), None)
    restarts = _restarts(data, batch.streams)
    if given is None:
        restarts.pop(0, None)  # sequences that start here are in that state already
    elif any(state is None for state in states):  # those begin with the initial state, as if they started here
        mask = torch.tensor([state is None for state in states], device=given[0].device).unsqueeze(1)
        restarts[0] = restarts[0] | mask if 0 in restarts else mask.expand(-1, batch.streams)
        states = [tuple(map(torch.zeros_like, given)) if state is None else state for state in states]
    parts = zip(*(state for state in states if state is not None), strict=True)
    chosen, targets, is_real = _selected(data, first.stop - first.fresh, batch.streams)
    return JointWindow(
        first.fresh - first.start,
        first.keep - first.start,
        torch.stack([each.inputs for each in data]),
        tuple(torch.stack(part) for part in parts),
        sorted(restarts.items()),
        chosen,
        targets,
        is_real,
    )


def keep_states(kept: State, windows: Sequence[tuple[Batch, Window]], carried: Sequence[Carried]) -> None:
    """Hands the states (N, L, B, H) before the windows' timesteps ``keep`` to the members."""
    parts = zip(*(part.unbind() for part in kept), strict=True)
    for (batch, window), own, states in zip(windows, parts, carried, strict=True):
        if window.keep < batch.timesteps:
            states[window.keep] = own


def _restarts(data: Sequence[WindowData], streams: int) -> dict[int, Tensor]:
    """Returns by the timestep where sequences start, (N, B)."""
    starting: dict[int, Tensor] = {}
    for number, each in enumerate(data):
        for step, starts in each.restarts:
            if step not in starting:
                starting[step] = torch.zeros(len(data), streams, dtype=torch.bool, device=starts.device)
            starting[step][number] = starts
    return starting


def extent(batch: Batch, window: Window) -> tuple[int, int, int, int]:
    """Returns what must be equal for windows to be computed together."""
    start = window.start
    return window.stop - start, window.fresh - start, min(window.keep, window.stop) - start, batch.streams


def _selected(
    data: Sequence[WindowData], timesteps: int, streams: int
) -> tuple[slice | Tensor, Tensor | None, Tensor | None]:
    """Returns which targets are valid, these, and which are real: see ``JointWindow``.

    Args:
        timesteps: fresh ones.
    """
    first = data[0].selection
    if not any(each.count for each in data):
        return EVERYTHING, None, None
    if all(isinstance(each.selection, slice) and each.selection == first for each in data):
        assert isinstance(first, slice)
        return first, torch.stack([each.targets for each in data]), None
    most, device = max(each.count for each in data), data[0].targets.device
    places = torch.zeros(len(data), most, dtype=torch.int64, device=device)
    example = next(each.targets for each in data if each.count)
    targets = example.new_zeros(len(data), most, *example.shape[1:])
    for number, each in enumerate(data):
        where = each.selection
        if isinstance(where, slice):
            where = torch.arange(timesteps * streams, device=device).view(-1, streams)[where].flatten()
        places[number, : each.count], targets[number, : each.count] = where, each.targets
    counts = torch.tensor([each.count for each in data], device=device)
    is_real = torch.arange(most, device=device) < counts.unsqueeze(1)
    return places, targets, None if bool(np.all([each.count == most for each in data])) else is_real
