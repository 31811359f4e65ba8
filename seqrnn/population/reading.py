"""The data of windows of many members, side by side.

N members, T timesteps, B streams, I inputs.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqrnn.schedule import Window
from seqrnn.strategies.reading import EVERYTHING, KEPT, Flags, Piece, select
from seqrnn.tasks.protocol import Chunk


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
        self._pieces: list[Piece] = []
        self._joined: JointPiece | None = None

    def __call__(self, pieces: Sequence[Piece], windows: Sequence[Window]) -> JointData:
        """Returns the data of windows of the same extents.

        Args:
            pieces: of the members, which hold the windows.
        """
        window, start, stop = windows[0], pieces[0].start, pieces[0].stop
        if any(each != window for each in windows) or any(
            piece.start != start or piece.stop != stop for piece in pieces
        ):
            parts = [piece.between(each.start, each.stop) for piece, each in zip(pieces, windows, strict=True)]
            return JointPiece(parts, window.start).window(window)
        if (
            self._joined is None
            or len(pieces) != len(self._pieces)
            or any(map(operator.is_not, pieces, self._pieces))
        ):
            self._pieces = list(pieces)
            self._joined = JointPiece([piece.between(start, stop) for piece in pieces], start)
        return self._joined.window(window)


class JointPiece:
    """Data of the members from one timestep to another, side by side.

    Args:
        parts: of the members, of the same shapes.
        start: their first timestep, as windows count it.
    """

    def __init__(self, parts: Sequence[Chunk], start: int) -> None:
        self._start = start
        self._inputs = torch.stack([part.inputs for part in parts])  # (N, T, B, I)
        self._targets = torch.stack([part.targets for part in parts])
        self._valid = torch.stack([part.valid for part in parts]).numpy()  # (N, T, B)
        self._starts = torch.stack([part.starts for part in parts]).numpy()
        self._has_starts: list[bool] = np.any(self._starts, axis=(0, 2)).tolist()
        self._windows: dict[Window, JointData] = {}

    def window(self, window: Window) -> JointData:
        """Returns the data of a window that lies within."""
        found = self._windows.get(window)
        if found is None:
            found = self._cut(window)
            if len(self._windows) < KEPT:
                self._windows[window] = found
        return found

    def _cut(self, window: Window) -> JointData:
        begin, fresh, end = (at - self._start for at in (window.start, window.fresh, window.stop))
        valid = self._valid[:, fresh:end]
        chosen, targets, is_real = _selected(self._targets[:, fresh:end], valid)
        return JointData(
            _copy(self._inputs[:, begin:end]),
            {
                step: torch.from_numpy(self._starts[:, begin + step]).to(self._inputs.device)
                for step, has_start in enumerate(self._has_starts[begin:end])
                if has_start
            },
            chosen,
            targets,
            is_real,
            valid.sum(axis=(1, 2)).tolist(),
        )


def _copy(part: Tensor) -> Tensor:
    # Matrix products round differently by where their operands lie in memory; a copy lies where all new tensors do.
    return part.clone(memory_format=torch.contiguous_format)


def _selected(targets: Tensor, valid: Flags) -> tuple[slice | Tensor, Tensor | None, Tensor | None]:
    """Returns which targets are valid, these, and which are real: see ``JointData``.

    Args:
        targets: (N, T, B, …).
        valid: (N, T, B).
    """
    if not valid.any():
        return EVERYTHING, None, None
    if (valid == valid[0]).all():
        selection, _ = select(valid[0], targets.device)
        if isinstance(selection, slice):
            return selection, _copy(targets[:, selection].flatten(1, 2)), None
    flat = valid.reshape(len(valid), -1)
    counts = flat.sum(axis=1, keepdims=True)
    most = int(counts.max())
    places = torch.from_numpy(np.argsort(~flat, axis=1, kind="stable")[:, :most]).to(
        targets.device
    )  # valid ones first
    members = torch.arange(len(valid), device=targets.device).unsqueeze(1)
    found = targets.flatten(1, 2)[members, places]
    if (counts == most).all():
        return places, found, None
    is_real = torch.from_numpy(np.arange(most) < counts).to(targets.device)
    # What is not valid may be NaN, whose gradient is NaN even where its loss does not count.
    found.masked_fill_(~is_real.view(is_real.shape + (1,) * (found.dim() - 2)), 0)
    return places, found, is_real
