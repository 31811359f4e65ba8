"""The data of windows of many members, side by side.

N members, T timesteps, B streams, I inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqrnn.schedule import Window
from seqrnn.strategies.reading import EVERYTHING, KEPT, Piece, WindowData


@dataclass(frozen=True, slots=True)
class JointData:
    """The data of a window of each member.

    Args:
        inputs: (N, T, B, I).
        restarts: by the timestep where sequences start, in which streams, (N, B).
        chosen: the fresh timesteps whose targets are all valid, or the places (N, M) of valid targets among the pairs
            (timestep, stream).
        targets: those, (N, M, …); None: there are none.
        is_real: (N, M), which of them are a member's own, where members have different numbers of them; None: all.
        counts: the valid targets of each member.
    """

    inputs: Tensor
    restarts: Mapping[int, Tensor]
    chosen: slice | Tensor
    targets: Tensor | None
    is_real: Tensor | None
    counts: Sequence[int]


class JointReader:
    """Joins the data of members' windows. Pieces of the members that have the same timesteps are joined at once, and
    cut into windows later: joining many small tensors takes longer than computing with them."""

    def __init__(self) -> None:
        self._joined: JointPiece | None = None

    def __call__(self, pieces: Sequence[Piece], windows: Sequence[Window]) -> JointData:
        """Returns the data of windows of the same extents.

        Args:
            pieces: of the members, which hold the windows.
        """
        window, first = windows[0], pieces[0]
        if any(each != window for each in windows) or any(
            (each.start, each.stop) != (first.start, first.stop) for each in pieces
        ):
            return joined([piece.window(each) for piece, each in zip(pieces, windows, strict=True)], window)
        if self._joined is None or not self._joined.consists_of(pieces):
            self._joined = JointPiece(pieces)
        return self._joined.window(window)


class JointPiece:
    """Pieces of the same timesteps, side by side."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces, self._start = list(pieces), pieces[0].start
        self._windows: dict[Window, JointData] = {}
        self._all_valid = all(piece.all_valid for piece in pieces)
        if self._all_valid:
            self._inputs = torch.stack([piece.inputs for piece in pieces])
            self._targets = torch.stack([piece.targets for piece in pieces])
            self._starts = np.stack([piece.starts for piece in pieces])  # (N, T, B)
            self._has_starts: list[bool] = np.any(self._starts, axis=(0, 2)).tolist()

    def consists_of(self, pieces: Sequence[Piece]) -> bool:
        """Returns whether these are its pieces."""
        return len(pieces) == len(self._pieces) and all(map(_is, pieces, self._pieces))

    def window(self, window: Window) -> JointData:
        """Returns the data of a window that lies in the pieces."""
        found = self._windows.get(window)
        if found is None:
            found = self._cut(window) if self._all_valid else joined([p.window(window) for p in self._pieces], window)
            if len(self._windows) < KEPT:
                self._windows[window] = found
        return found

    def _cut(self, window: Window) -> JointData:
        begin, fresh, end = (at - self._start for at in (window.start, window.fresh, window.stop))
        device = self._inputs.device
        targets = self._targets[:, fresh:end].flatten(1, 2)
        return JointData(
            _copy(self._inputs[:, begin:end]),
            {
                step: torch.from_numpy(self._starts[:, begin + step]).to(device)
                for step, has_start in enumerate(self._has_starts[begin:end])
                if has_start
            },
            EVERYTHING,
            _copy(targets),
            None,
            [targets.shape[1]] * len(self._pieces),
        )


def _is(one: object, other: object) -> bool:
    return one is other


def _copy(part: Tensor) -> Tensor:
    # Matrix products round differently by where their operands lie in memory; a copy lies where all new tensors do.
    return part.clone(memory_format=torch.contiguous_format)


def joined(data: Sequence[WindowData], window: Window) -> JointData:
    """Joins the data of a window of each member.

    Args:
        window: one of theirs; all have the same extents.
    """
    inputs = torch.stack([each.inputs for each in data])
    chosen, targets, is_real = _selected(data, window.stop - window.fresh, inputs.shape[2])
    counts = [each.count for each in data]
    return JointData(inputs, _restarts(data, inputs.shape[2]), chosen, targets, is_real, counts)


def _restarts(data: Sequence[WindowData], streams: int) -> dict[int, Tensor]:
    """Returns by the timestep where sequences start, (N, B)."""
    starting: dict[int, Tensor] = {}
    for number, each in enumerate(data):
        for step, starts in each.restarts:
            if step not in starting:
                starting[step] = torch.zeros(len(data), streams, dtype=torch.bool, device=starts.device)
            starting[step][number] = starts
    return starting


def _selected(
    data: Sequence[WindowData], timesteps: int, streams: int
) -> tuple[slice | Tensor, Tensor | None, Tensor | None]:
    """Returns which targets are valid, these, and which are real: see ``JointData``.

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
    return places, targets, None if all(each.count == most for each in data) else is_real
