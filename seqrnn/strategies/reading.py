"""Reads the data of windows for updates that torch computes: once, and with what must be known about it on the CPU.

T timesteps, B streams, I inputs, O outputs; T' timesteps of a window, N valid targets.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.device import DeviceContext
from seqrnn.models.unroll import Restarts
from seqrnn.schedule import Schedule, Window
from seqrnn.strategies.capture import inputs_layout
from seqrnn.strategies.protocol import WindowRanges
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Batch, Chunk

AHEAD = 16384  # (timestep, stream) pairs that are read at a time, if a window has no more
KEPT = 1024  # windows of a piece whose data is kept for when the piece is read again
Flags = NDArray[np.bool_]
# Of timesteps, if all targets of theirs are valid; else indices of (timestep, stream) pairs.
Selection = slice | Tensor


@dataclass(slots=True)
class WindowData:
    """The data of a window.

    Args:
        inputs: (T', B, I), on the device.
        restarts: where sequences start.
        selection: the valid targets among the fresh timesteps.
        targets: those targets, (N, O) or (N,), on the device.
        count: N.
    """

    inputs: Tensor
    restarts: Restarts
    selection: Selection
    targets: Tensor
    count: int

    @property
    def layout(self) -> Hashable:
        """All that a computation depends on besides the numbers in its tensors."""
        chosen = self.selection
        selection = (chosen.start, chosen.stop) if isinstance(chosen, slice) else len(chosen)
        restarts = tuple(step for step, _ in self.restarts)
        return inputs_layout(self.inputs), self.targets.shape, self.count, selection, restarts

    def tensors(self) -> list[Tensor]:
        """Returns its tensors."""
        found = [self.inputs, self.targets]
        if isinstance(self.selection, Tensor):
            found.append(self.selection)
        return found + [streams for _, streams in self.restarts] if self.restarts else found

    def with_tensors(self, tensors: Sequence[Tensor]) -> WindowData:
        """Returns the same with other tensors."""
        inputs, targets, *others = tensors
        selection = others.pop(0) if isinstance(self.selection, Tensor) else self.selection
        restarts = [(step, streams) for (step, _), streams in zip(self.restarts, others, strict=True)]
        return WindowData(inputs, restarts, selection, targets, self.count)


@dataclass(slots=True)
class Piece:
    """Timesteps ``start`` to ``stop`` of a batch, (T, B, …): inputs and targets on the device, flags on the CPU."""

    batch: Batch
    start: int
    stop: int
    inputs: Tensor
    targets: Tensor
    valid: Flags
    starts: Flags
    has_starts: Sequence[bool]  # (T,): in any stream
    all_valid: bool
    windows: dict[Window, WindowData] = field(default_factory=dict)

    def window(self, window: Window) -> WindowData:
        """Returns the data of a window that lies in the piece."""
        found = self.windows.get(window)
        if found is None:
            found = self._cut(window)
            if len(self.windows) < KEPT:
                self.windows[window] = found
        return found

    def between(self, start: int, stop: int) -> Chunk:
        """Returns timesteps ``start`` to ``stop``, flags on the CPU."""
        at = slice(start - self.start, stop - self.start)
        flags = torch.from_numpy(self.valid[at]), torch.from_numpy(self.starts[at])
        return Chunk(self.inputs[at], self.targets[at], *flags)

    def _cut(self, window: Window) -> WindowData:
        begin, fresh, end = window.start - self.start, window.fresh - self.start, window.stop - self.start
        targets = self.targets[fresh:end]
        restarts = [
            (step, torch.from_numpy(self.starts[begin + step]).to(targets.device))
            for step, has_start in enumerate(self.has_starts[begin:end])
            if has_start
        ]
        if self.all_valid:
            count = (end - fresh) * self.valid.shape[1]
            return WindowData(self.inputs[begin:end], restarts, EVERYTHING, targets.flatten(0, 1), count)
        selection, count = select(self.valid[fresh:end], targets.device)
        return WindowData(self.inputs[begin:end], restarts, selection, selected(targets, selection), count)


EVERYTHING = slice(None)


def select(valid: Flags, device: torch.device) -> tuple[Selection, int]:
    """Returns where ``valid`` (T, B) is true, and at how many places."""
    count = int(valid.sum())
    rows = np.flatnonzero(valid.any(axis=1))
    if count == valid.size:
        return EVERYTHING, count
    if not count:
        return slice(0, 0), 0
    if count == len(rows) * valid.shape[1] and rows[-1] - rows[0] + 1 == len(rows):
        return slice(int(rows[0]), int(rows[-1]) + 1), count
    return torch.from_numpy(np.flatnonzero(valid)).to(device, non_blocking=True), count


def selected(values: Tensor, selection: Selection) -> Tensor:
    """Returns the chosen ones (N, …) of values (T, B, …)."""
    if isinstance(selection, Tensor):
        return values.flatten(0, 1).index_select(0, selection)
    chosen = (values if selection is EVERYTHING else values[selection]).flatten(0, 1)
    # Matrix products round differently by where their operands lie in memory; a copy lies where all new tensors do.
    return chosen.clone() if chosen.storage_offset() else chosen


class WindowReader:
    """Reads the data of windows, checks its format, and puts it on the device, for many windows at a time."""

    def __init__(self, context: DeviceContext, data_format: DataFormat) -> None:
        self.context, self.data_format = context, data_format
        self._coming: list[tuple[Batch, int, int]] = []
        self._pieces: list[Piece] = []

    def plan(self, ranges: WindowRanges, schedule: Schedule) -> None:
        """Takes note of the windows that will be read, so that no more than those are read at a time."""
        self._coming = []
        for each in ranges:
            timesteps = each.batch.timesteps
            first = schedule.window_at(timesteps, each.first)
            last = first if each.count == 1 else schedule.window_at(timesteps, each.first + each.count - 1)
            self._coming.append((each.batch, first.start, last.stop))
        batches = [each.batch for each in ranges]
        self._pieces = [piece for piece in self._pieces if any(piece.batch is batch for batch in batches)]

    def __call__(self, batch: Batch, window: Window) -> WindowData:
        """Returns the data of a window."""
        return self.piece(batch, window.start, window.stop).window(window)

    def chunk(self, batch: Batch, start: int, stop: int) -> Chunk:
        """Returns timesteps ``start`` to ``stop`` of a batch, with inputs and targets on the device."""
        return self.piece(batch, start, stop).between(start, stop)

    def piece(self, batch: Batch, start: int, stop: int) -> Piece:
        """Returns a piece of a batch that holds timesteps ``start`` to ``stop``."""
        for piece in reversed(self._pieces):
            if piece.batch is batch and piece.start <= start and stop <= piece.stop:
                return piece
        ends = [end for other, begin, end in self._coming if other is batch and begin <= start and stop <= end]
        stop = max(stop, min([*ends, start + AHEAD // batch.streams])) if ends else stop
        # An endless stream needs one piece after the other, each once; a batch that is read whole is kept for the
        # epochs that repeat it.
        self._pieces = [piece for piece in self._pieces if piece.batch is not batch]
        self._pieces.append(piece := self._read(batch, start, stop))
        return piece

    def _read(self, batch: Batch, start: int, stop: int) -> Piece:
        chunk = self.data_format.read(batch, start, stop)
        valid, starts = chunk.valid.cpu().numpy(), chunk.starts.numpy()
        chunk = self.context(chunk)
        has_starts: list[bool] = np.any(starts, axis=1).tolist()
        return Piece(
            batch, start, stop, chunk.inputs, chunk.targets, valid, starts, has_starts, all_valid=bool(valid.all())
        )
