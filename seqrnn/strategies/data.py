"""The data of compiled updates: that of many windows in flat arrays, and tables of where each window is in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.errors import DataError
from seqrnn.schedule import Schedule, WindowRange
from seqrnn.strategies.protocol import WindowRanges
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Batch

WHOLE = 65536  # (timestep, stream) pairs up to which a batch is read whole, and kept while it is used
Array = NDArray[Any]


@dataclass(eq=False)
class Piece:
    """Timesteps ``start`` to ``stop`` of a batch: inputs, targets, labels, valid and starts, (T, B, …) each."""

    batch: Batch
    streams: int
    timesteps: int  # of the whole batch
    start: int
    stop: int
    arrays: tuple[Array, ...]


@dataclass(frozen=True)
class Sizes:
    """The sizes that compiled code has allocated memory for. It checks no bounds itself."""

    data_format: DataFormat
    streams: int
    timesteps: int

    def check_batch(self, streams: int, timesteps: int) -> None:
        """Checks the size of a batch.

        Raises:
            DataError: the batch is larger than those of the first epoch.
        """
        if streams > self.streams or timesteps > self.timesteps:
            raise DataError(
                f"the task gave a training batch of {streams} streams and {timesteps} timesteps, where "
                f"those of its first epoch had at most {self.streams} and {self.timesteps}; every epoch must be alike"
            )


class Data:
    """Reads the data of windows. Pieces are kept while they are used, so that a repeated batch is read once.

    Args:
        shares: the number of threads that share the streams of each batch.
    """

    def __init__(self, dtype: Any, shares: int, sizes: Sizes) -> None:
        self.dtype, self.shares, self.sizes = dtype, shares, sizes
        self.nothing, self.no_labels = np.zeros((0, 0), dtype), np.zeros((0, 0), np.int64)
        self.pieces: list[Piece] = []
        self.joined: list[tuple[Array, ...]] = []

    def of(self, ranges: WindowRanges, schedule: Schedule) -> list[tuple[Array, tuple[Array, ...]]]:
        """Returns for each share the table of the ranges, and inputs, targets, labels, valid and starts, flat."""
        pieces: list[Piece] = []
        chosen: list[int] = []  # for each range, the number of the piece that holds it
        is_new = False
        for each in ranges:
            piece = self._find(each, schedule, pieces)
            if piece is None:
                piece = self._read(each, schedule)
                is_new = True
            if not pieces or pieces[-1] is not piece:
                pieces.append(piece)
            chosen.append(len(pieces) - 1)
        if is_new or pieces != self.pieces:
            self.pieces = pieces
            self.joined = [self._join(share) for share in range(self.shares)]
        return [(self._table(ranges, chosen, share), self.joined[share]) for share in range(self.shares)]

    def split(self, streams: int) -> list[slice]:
        """Returns the streams of each share."""
        return [self._streams(streams, share) for share in range(self.shares)]

    def _streams(self, streams: int, share: int) -> slice:
        return slice(streams * share // self.shares, streams * (share + 1) // self.shares)

    def _join(self, share: int) -> tuple[Array, ...]:
        columns: Iterable[Sequence[Array]] = zip(*(piece.arrays for piece in self.pieces), strict=True)
        if self.shares > 1:
            streams = [self._streams(piece.streams, share) for piece in self.pieces]
            columns = ([array[:, which] for array, which in zip(column, streams, strict=True)] for column in columns)
        return tuple(
            np.concatenate([array.reshape(-1) for array in column])
            if len(column) > 1
            else np.ascontiguousarray(column[0]).reshape(-1)
            for column in columns
        )

    def _table(self, ranges: WindowRanges, chosen: list[int], share: int) -> Array:
        """Returns a row (``seqrnn.kernels.layout.PART_FIELDS`` numbers) for each range, flat."""
        table: list[tuple[int, ...]] = []
        begins, streams, begin = [], [], 0
        for piece in self.pieces:
            which = self._streams(piece.streams, share)
            begins.append(begin)
            streams.append(which.stop - which.start)
            begin += (piece.stop - piece.start) * streams[-1]
        for each, index in zip(ranges, chosen, strict=True):
            piece = self.pieces[index]
            windows = (each.first, each.count, each.ends_epoch)
            where = (piece.start, begins[index])
            table.append((streams[index], piece.timesteps, *windows, *where, each.epoch, each.epochs))
        return np.array(table, np.int64).reshape(-1)

    def _flat(self, values: Tensor) -> Array:
        return values.numpy().astype(self.dtype, order="C", copy=False)

    def _find(self, windows: WindowRange[Batch], schedule: Schedule, pieces: list[Piece]) -> Piece | None:
        """Returns a piece that holds the windows, of those of this call or of the last one; None: there is none."""
        for piece in (*pieces[-1:], *self.pieces):
            if piece.batch is windows.batch and piece.stop - piece.start == piece.timesteps:
                return piece
            if piece.batch is windows.batch:
                start, stop = _extent(windows, schedule, piece.timesteps)
                if piece.start <= start and stop <= piece.stop:
                    return piece
        return None

    def _read(self, windows: WindowRange[Batch], schedule: Schedule) -> Piece:
        batch = windows.batch
        streams, timesteps = batch.streams, batch.timesteps
        self.sizes.check_batch(streams, timesteps)
        start, stop = (0, timesteps) if streams * timesteps <= WHOLE else _extent(windows, schedule, timesteps)
        chunk = self.sizes.data_format.read(batch, start, stop)
        floating = not self.sizes.data_format.classes
        arrays = (
            self._flat(chunk.inputs),
            self._flat(chunk.targets) if floating else self.nothing,
            self.no_labels if floating else chunk.targets.numpy(),
            chunk.valid.numpy().view(np.uint8),
            chunk.starts.numpy().view(np.uint8),
        )
        return Piece(batch, streams, timesteps, start, stop, arrays)


def _extent(windows: WindowRange[Batch], schedule: Schedule, timesteps: int) -> tuple[int, int]:
    """Returns the first timestep that some windows read, and the one after the last."""
    last = windows.first + windows.count - 1
    return schedule.window_at(timesteps, windows.first).start, schedule.window_at(timesteps, last).stop
