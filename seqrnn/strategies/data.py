"""What compiled updates read: the data of many windows in flat arrays, and tables that say where each lies."""

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

WHOLE = 65536  # (timestep, stream) pairs up to which a batch is read whole, and kept while it is in use
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
    """What compiled code has made room for: it does not look where it reads and writes."""

    data_format: DataFormat
    streams: int
    timesteps: int

    def check_batch(self, streams: int, timesteps: int) -> None:
        """
        Raises:
            DataError: the batch is larger than those of the first epoch.
        """
        if streams > self.streams or timesteps > self.timesteps:
            raise DataError(
                f"the task gave a training batch of {streams} streams and {timesteps} timesteps, where "
                f"those of its first epoch had at most {self.streams} and {self.timesteps}; every epoch must be alike"
            )


class Data:
    """Reads what parts need. Pieces stay while they are in use, so a batch that comes again is read once.

    Args:
        shares: the streams of each batch are shared out among so many.
    """

    def __init__(self, dtype: Any, shares: int, sizes: Sizes) -> None:
        self.dtype, self.shares, self.sizes = dtype, shares, sizes
        self.nothing, self.no_labels = np.zeros((0, 0), dtype), np.zeros((0, 0), np.int64)
        self.pieces: list[Piece] = []
        self.joined: list[tuple[Array, ...]] = []

    def of(self, parts: WindowRanges, schedule: Schedule) -> list[tuple[Array, tuple[Array, ...]]]:
        """For each share: the table of the parts, and their inputs, targets, labels, valid and starts, joined."""
        pieces: list[Piece] = []
        chosen: list[int] = []  # by part: the piece that holds it
        fresh = False
        for part in parts:
            piece = self._held(part, schedule, pieces)
            if piece is None:
                piece = self._read(part, schedule)
                fresh = True
            if not pieces or pieces[-1] is not piece:
                pieces.append(piece)
            chosen.append(len(pieces) - 1)
        if fresh or pieces != self.pieces:
            self.pieces = pieces
            self.joined = [self._join(share) for share in range(self.shares)]
        return [(self._table(parts, chosen, share), self.joined[share]) for share in range(self.shares)]

    def split(self, streams: int) -> list[slice]:
        """The streams of each share."""
        return [self._streams(streams, share) for share in range(self.shares)]

    def _streams(self, streams: int, share: int) -> slice:
        return slice(streams * share // self.shares, streams * (share + 1) // self.shares)

    def _join(self, share: int) -> tuple[Array, ...]:
        columns: Iterable[Sequence[Array]] = zip(*(piece.arrays for piece in self.pieces), strict=True)
        if self.shares > 1:
            streams = [self._streams(piece.streams, share) for piece in self.pieces]
            columns = ([part[:, which] for part, which in zip(column, streams, strict=True)] for column in columns)
        return tuple(
            np.concatenate([part.reshape(-1) for part in column])
            if len(column) > 1
            else np.ascontiguousarray(column[0]).reshape(-1)
            for column in columns
        )

    def _table(self, parts: WindowRanges, chosen: list[int], share: int) -> Array:
        table: list[tuple[int, ...]] = []
        begins, streams, begin = [], [], 0
        for piece in self.pieces:
            which = self._streams(piece.streams, share)
            begins.append(begin)
            streams.append(which.stop - which.start)
            begin += (piece.stop - piece.start) * streams[-1]
        for part, index in zip(parts, chosen, strict=True):
            piece = self.pieces[index]
            windows = (part.first, part.count, part.last)
            place = (piece.start, begins[index])
            table.append((streams[index], piece.timesteps, *windows, *place, part.epoch, part.epochs))
        return np.array(table, np.int64).reshape(-1)

    def _flat(self, values: Tensor) -> Array:
        return values.numpy().astype(self.dtype, order="C", copy=False)

    def _held(self, part: WindowRange[Batch], schedule: Schedule, pieces: list[Piece]) -> Piece | None:
        """A piece that is in use, or has been in the last call, and holds the part."""
        for piece in (*pieces[-1:], *self.pieces):
            if piece.batch is part.batch and piece.stop - piece.start == piece.timesteps:
                return piece
            if piece.batch is part.batch:
                start, stop = _extent(part, schedule, piece.timesteps)
                if piece.start <= start and stop <= piece.stop:
                    return piece
        return None

    def _read(self, part: WindowRange[Batch], schedule: Schedule) -> Piece:
        batch = part.batch
        streams, timesteps = batch.streams, batch.timesteps
        self.sizes.check_batch(streams, timesteps)
        start, stop = (0, timesteps) if streams * timesteps <= WHOLE else _extent(part, schedule, timesteps)
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


def _extent(part: WindowRange[Batch], schedule: Schedule, timesteps: int) -> tuple[int, int]:
    """The timesteps that a part's windows read."""
    last = part.first + part.count - 1
    return schedule.window_at(timesteps, part.first).start, schedule.window_at(timesteps, last).stop
