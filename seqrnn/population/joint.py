"""The gradient of an update, of many members at once.

N members, T timesteps, B streams, I inputs, H hidden units, L layers, O outputs. It is the gradient that
``seqrnn.strategies.plain.WindowByWindow`` computes of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, detached
from seqrnn.population.recurrences import joint_cell, joint_initial_state, joint_module, named_below
from seqrnn.schedule import Window
from seqrnn.strategies.reading import EVERYTHING, WindowData
from seqrnn.tasks.protocol import Batch

Carried = dict[int, State]  # the states of a member by the timestep that they come before


class JointNetwork:
    """Computes the windows of networks of one architecture, each with its own weights and data.

    Args:
        network: one of them.
        loss: of all.
        carry: whether the state crosses from one window to the next.
    """

    def __init__(self, network: Network, loss: Loss, carry: bool) -> None:
        self.loss, self.carry = loss, carry
        self._recur, self._initial = joint_cell(network.cell), joint_initial_state(network.cell)
        self._head = joint_module(network.head)

    def window(
        self,
        weights: Mapping[str, Tensor],
        windows: Sequence[tuple[Batch, Window]],
        data: Sequence[WindowData],
        carried: Sequence[Carried],
    ) -> Tensor | None:
        """Computes a window of each member, and the states that later windows begin with.

        Args:
            weights: parameters and buffers of the networks by name, (N, …) each.
            windows: of the same extents (see ``extent``).
            data: theirs.
            carried: of the members; changed in place.

        Returns:
            The losses (N,), summed over the valid targets; None if there is no valid target.
        """
        cell = named_below(weights, "cell.")
        first = windows[0][1]
        state = self._begin(cell, windows, carried)
        hidden, kept = self._unroll(cell, data, state, first.keep - first.start)
        if self.carry:
            parts = zip(*(part.unbind() for part in detached(kept)), strict=True)
            for (batch, window), own, states in zip(windows, parts, carried, strict=True):
                if window.keep < batch.timesteps:
                    states[window.keep] = own
        if not any(each.count for each in data):
            return None
        chosen, targets, counts = _selected(hidden[:, first.fresh - first.start :], data)
        outputs = self._head(named_below(weights, "head."), chosen)  # (N, M, O)
        losses = self.loss(outputs.flatten(0, 1), targets.flatten(0, 1)).view(len(data), -1)
        return (losses if counts is None else torch.where(counts, losses, 0.0)).sum(1)

    def _begin(
        self, cell: Mapping[str, Tensor], windows: Sequence[tuple[Batch, Window]], carried: Sequence[Carried]
    ) -> State:
        """Returns the states that windows begin with, parts (N, L, B, H)."""
        found = []
        for (_, window), states in zip(windows, carried, strict=True):
            if window.fresh == 0:
                states.clear()  # a batch begins: other sequences
            found.append(states.pop(window.start, None))
        if all(state is None for state in found):
            return self._initial(cell, windows[0][0].streams)
        if any(state is None for state in found):
            rows = zip(*(part.unbind() for part in self._initial(cell, windows[0][0].streams)), strict=True)
            found = [initial if state is None else state for state, initial in zip(found, rows, strict=True)]
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True))

    def _unroll(
        self, cell: Mapping[str, Tensor], data: Sequence[WindowData], state: State, keep: int
    ) -> tuple[Tensor, State]:
        """Returns the outputs (N, T, B, H), and the state before timestep ``keep``."""
        inputs = torch.stack([each.inputs for each in data])
        timesteps, streams = inputs.shape[1:3]
        starting: dict[int, Tensor] = {}  # (N, B)
        for number, each in enumerate(data):
            for step, starts in each.restarts:
                if step not in starting:
                    starting[step] = torch.zeros(len(data), streams, dtype=torch.bool)
                starting[step][number] = starts
        cuts = sorted({0, timesteps, *starting, *([keep] if keep < timesteps else [])})
        pieces, kept = [], state
        for begin, end in pairwise(cuts):
            if begin in starting:
                mask = starting[begin].to(inputs.device)[:, None, :, None]
                initial = self._initial(cell, streams)
                state = tuple(torch.where(mask, new, old) for new, old in zip(initial, state, strict=True))
            outputs, state = self._recur(cell, inputs[:, begin:end], state)
            pieces.append(outputs)
            if end <= keep:
                kept = state
        return (torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]), kept


def extent(batch: Batch, window: Window) -> tuple[int, int, int, int]:
    """Returns what must be equal for windows to be computed together."""
    start = window.start
    return window.stop - start, window.fresh - start, min(window.keep, window.stop) - start, batch.streams


def _selected(hidden: Tensor, data: Sequence[WindowData]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns those of the outputs of cells (N, T, B, H) whose targets are valid.

    Returns:
        Outputs (N, M, H), targets (N, M, …), and where members have fewer than M valid targets, (N, M), which are
        real; None: all are.
    """
    flat = hidden.flatten(1, 2)
    first = data[0].selection
    if all(isinstance(each.selection, slice) and each.selection == first for each in data):
        chosen = flat if first is EVERYTHING else hidden[:, first].flatten(1, 2)
        return chosen, torch.stack([each.targets for each in data]), None
    streams, most = hidden.shape[2], max(each.count for each in data)
    places = torch.zeros(len(data), most, dtype=torch.int64, device=hidden.device)
    example = next(each.targets for each in data if each.count)
    targets = example.new_zeros(len(data), most, *example.shape[1:])
    for number, each in enumerate(data):
        where = each.selection
        if isinstance(where, slice):
            where = torch.arange(flat.shape[1], device=hidden.device).view(-1, streams)[where].flatten()
        places[number, : each.count], targets[number, : each.count] = where, each.targets
    counts = torch.tensor([each.count for each in data], device=hidden.device)
    is_real = torch.arange(most, device=hidden.device) < counts.unsqueeze(1)
    chosen = flat.gather(1, places.unsqueeze(-1).expand(-1, -1, flat.shape[-1]))
    return chosen, targets, None if bool(np.all([each.count == most for each in data])) else is_real
