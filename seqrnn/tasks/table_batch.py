"""The batches of task=csv: stretches of a table's timesteps that are read in parallel. T timesteps, B streams."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn.tables.dataset import Dataset
from seqrnn.tables.recursion import RecursiveForecasts
from seqrnn.tasks.protocol import Chunk

Rows = NDArray[np.int64]


@dataclass(eq=False)
class TableBatch:
    """B stretches of a table's timesteps; the shorter ones are padded at their end.

    Args:
        begins: (B,) where each stretch begins: a row of ``data``, or, with ``spans``, a position in them.
        lengths: (B,) timesteps of each.
        timesteps: of the batch: at least those of the longest.
        part: the part of the data whose targets count.
        names: (B,) of the sequences that the stretches are from.
        spans: (K, 2) begin and end rows that are read as if they were one sequence; None: rows are read as they are.
        labels: (B,) class of each stretch, which counts at its last timestep; None: each timestep has a target.
        source: what the network reads, where this is what its recursive forecasts are judged by.
    """

    data: Dataset
    begins: Rows
    lengths: Rows
    timesteps: int
    part: int
    names: list[str]
    spans: Rows | None = None
    labels: Rows | None = None
    source: TableBatch | None = None

    @property
    def streams(self) -> int:
        return len(self.begins)

    def read(self, start: int, stop: int) -> Chunk:
        rows, inside = self._rows(start, stop)
        starts = self.data.starts[rows] & inside
        if start == 0:
            starts[0] = True
        targets: NDArray[Any]
        if self.labels is None:
            targets = self.data.outputs(rows)
            valid = inside & (self.data.parts[rows] == self.part)
        else:
            targets = np.broadcast_to(self.labels, rows.shape).copy()
            valid = np.arange(start, stop)[:, None] == self.lengths - 1
        return Chunk(*map(torch.from_numpy, (self.data.inputs(rows), targets, valid, starts)))

    def _rows(self, start: int = 0, stop: int | None = None) -> tuple[Rows, NDArray[np.bool_]]:
        """Returns the row of each timestep and stream (T, B), and whether it lies within its stretch."""
        times = np.arange(start, self.timesteps if stop is None else stop)[:, None]
        inside = times < self.lengths
        rows: Rows = self.begins + np.minimum(times, self.lengths - 1)
        if self.spans is not None:
            ends = np.cumsum(self.spans[:, 1] - self.spans[:, 0])
            span = np.searchsorted(ends, rows, "right")
            rows = self.spans[span, 1] - ends[span] + rows
        return rows, inside

    @property
    def recursive(self) -> TableBatch | None:
        """The same timesteps with all steps of a recursive forecast as targets; None: forecasts are not recursive."""
        judged = self.data.evaluated
        return None if judged is self.data else replace(self, data=judged, source=self)

    @property
    def steps(self) -> int:
        """How many timesteps are predicted from each."""
        return self.data.preprocessing.steps_ahead

    def begin(self, timesteps: Rows, streams: Rows) -> RecursiveForecasts:
        """Returns the beginning of recursive forecasts from timesteps (B,) of streams (B,)."""
        assert self.source is not None
        data, rows = self.source.data, self.begins[streams] + timesteps
        last = data.last_of(rows)

        def later(distance: int) -> list[NDArray[Any]]:
            found: list[NDArray[Any]] = []
            if data.ahead.shape[1]:
                found.append(data.ahead[np.minimum(rows + distance + 1, last)])
            if data.preprocessing.calendar and data.clock is not None:
                found.append(data.preprocessing.phases(data.clock[np.minimum(rows + distance, last)]))
            return found

        return RecursiveForecasts(data.preprocessing, data.here[rows], data.origins(rows), later)

    def first(self, count: int) -> TableBatch:
        """Returns the first streams."""
        return replace(
            self,
            begins=self.begins[:count],
            lengths=self.lengths[:count],
            names=self.names[:count],
            labels=None if self.labels is None else self.labels[:count],
        )

    @property
    def origins(self) -> NDArray[np.float64]:
        """The last known values of the targets in their units, (T, B, targets)."""
        return self.data.origins(self._rows()[0])

    @property
    def actual(self) -> NDArray[np.float64]:
        """The values to be predicted in their units, (T, B, steps ahead, targets); NaN where one is missing."""
        return self.data.actual(self._rows()[0])

    @property
    def times(self) -> NDArray[Any]:
        """The present at each timestep, (T, B): datetime64[ns], the numbers of the time column, or numbers of rows,
        from 0. A forecast of the next timestep lies one step behind it."""
        rows = self._rows()[0]
        if self.data.times is None:
            return rows - self.data.first_of(rows)
        times: NDArray[Any] = self.data.times[rows]
        return times.astype("datetime64[ns]") if times.dtype == np.int64 else times

    @property
    def share_time(self) -> bool:
        """Whether times of different sequences can be compared, which numbers of rows cannot."""
        return self.data.times is not None

    @property
    def keys(self) -> NDArray[np.str_]:
        """The names of the sequences, (B,)."""
        return np.array(self.names)
