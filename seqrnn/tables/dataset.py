"""The timesteps of a table as arrays, from which the batches of task=csv are cut. R rows of all sequences."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from seqrnn.bounds import Natural
from seqrnn.tables.encoding import join_inputs
from seqrnn.tables.preprocessing import Preprocessing, Scale
from seqrnn.tables.splits import (
    NAMES,
    TRAINING,
)
from seqrnn.tables.times import show

CLASS_FREQUENCIES = "constant (class frequencies)"  # the baseline of a classification


class FileSummary(BaseModel, frozen=True):
    """A file that was read."""

    name: str
    rows: int


class DataSummary(BaseModel, frozen=True):
    """data.json: what was read, and what was done about it.

    Args:
        files: the first of them.
        sha256: of the files.
        rows: of all files.
        timesteps: of all sequences, after resampling and filling gaps.
        columns: those that are read.
        missing: by column, how many timesteps have no value.
        inserted: timesteps that were missing, and are filled with missing values.
        targets: by part of the data, how many timesteps, or sequences of a classification, have a target that counts.
        skipped: how many have not; ``notes`` say why.
        notes: guesses, and what was noticed.
        trained_on: of a classification, how many sequences of each class.
        deviations: of several targets, the standard deviation of each over the training rows, in its unit. Its errors
            are divided by it before the mean over the targets is taken.
    """

    files: tuple[FileSummary, ...]
    sha256: str
    rows: int
    sequences: int
    timesteps: int
    columns: tuple[str, ...]
    missing: dict[str, int]
    inserted: int
    targets: dict[str, int]
    skipped: int
    step: str
    season: int
    notes: tuple[str, ...]
    trained_on: dict[str, Natural] = {}
    deviations: tuple[Scale, ...] = ()

    def class_logits(self, classes: Many[str]) -> NDArray[np.float64]:
        """Returns the logarithms (O,) of how frequent classes are among the sequences that are trained on."""
        counts = np.array([self.trained_on.get(label, 0) for label in classes], np.float64)
        found: NDArray[np.float64] = np.log(np.maximum(counts / max(counts.sum(), 1.0), 1e-12))
        return found


@dataclass(eq=False)
class Dataset:
    """The timesteps of all sequences, one sequence behind the other.

    Args:
        here, ahead, clock, targets, levels, starts: (R, …), see ``seqrnn.tables.encoding.Encoded``.
        times: (R,) nanoseconds since 1970, or numbers; None: there is no time column.
        parts: (R,) int8, the part of the data that a timestep's prediction belongs to, ``NOWHERE`` where its target
            does not count.
        first, last: (S,) the first and the last row of each sequence.
        regions: (S,) (begin, end) rows of each part, by sequence; -1 where a sequence has none.
        labels: (S,) class of each sequence; −1 where there are none.
        keys: (S,) their names.
        season: timesteps after which the series is likely to repeat itself; 1: none is known.
        parts_of_all_steps: of recursive forecasts, ``parts`` for all steps of the horizon; otherwise None.
    """

    preprocessing: Preprocessing
    here: NDArray[np.float32]
    ahead: NDArray[np.float32]
    clock: NDArray[np.int64] | None
    targets: NDArray[np.float64]
    levels: NDArray[np.float64]
    starts: NDArray[np.bool_]
    times: NDArray[Any] | None
    parts: NDArray[np.int8]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    regions: NDArray[np.int64]  # (S, 3, 2)
    labels: NDArray[np.int64]
    keys: list[str]
    season: int
    summary: DataSummary
    parts_of_all_steps: NDArray[np.int8] | None = None

    @cached_property
    def evaluated(self) -> Dataset:
        """What predictions are judged by: the same, but for recursive forecasts, which are judged by all steps."""
        if self.parts_of_all_steps is None:
            return self
        return replace(self, preprocessing=self.preprocessing.evaluated, parts=self.parts_of_all_steps)

    def last_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the last row of the sequence that each row belongs to."""
        if len(self.last) == 1:
            return np.broadcast_to(self.last[0], rows.shape)
        return self.last[np.searchsorted(self.first, rows, "right") - 1]

    def first_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the first row of the sequence that each row belongs to."""
        return self.first[np.searchsorted(self.first, rows, "right") - 1]

    @cached_property
    def misses_targets(self) -> bool:
        """Whether predictions have several values, of which some are missing."""
        return self.preprocessing.output_size > 1 and bool(np.isnan(self.targets).any())

    def inputs(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the inputs (…, I) at ``rows`` (…)."""
        last, clock = self.last_of(rows), None if self.clock is None else self.clock[rows]

        def known(distance: int) -> NDArray[np.float32]:
            return self.ahead[np.minimum(rows + distance, last)]

        return join_inputs(self.preprocessing, self.here[rows], known, clock)

    def outputs(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns what the network should output at ``rows`` (…), (…, O); NaN where one of several values is
        missing."""
        preprocessing = self.preprocessing
        if preprocessing.is_forecast:
            last = self.last_of(rows)
            distances = range(1, preprocessing.steps_ahead + 1)
            values = np.stack([self.targets[np.minimum(rows + k, last)] for k in distances], axis=-2)
        else:
            values = self.targets[rows][..., None, :]
        if preprocessing.difference:
            values = values - self.levels[rows][..., None, :]
        values = (values - np.array(preprocessing.output_mean)) / np.array(preprocessing.output_scale)
        flat: NDArray[np.float64] = values.reshape(*rows.shape, -1)
        if not self.misses_targets:  # then a timestep with a missing value does not count
            np.nan_to_num(flat, copy=False)
        return flat.astype(np.float32)

    def origins(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the last known values of the targets at ``rows`` (…) in their units, (…, targets)."""
        levels = self.levels[rows]
        return np.exp(levels) if self.preprocessing.log else levels

    def actual(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the values to be predicted at ``rows`` (…) in their units, (…, steps ahead, targets); NaN where one
        is missing."""
        preprocessing = self.preprocessing
        if preprocessing.is_forecast:
            last = self.last_of(rows)
            distances = range(1, preprocessing.steps_ahead + 1)
            parts = [
                np.where((rows + k <= last)[..., None], self.targets[np.minimum(rows + k, last)], np.nan)
                for k in distances
            ]
            values = np.stack(parts, axis=-2)
        else:
            values = self.targets[rows][..., None, :]
        return np.exp(values) if preprocessing.log else values


def describe_parts(dataset: Dataset) -> str:
    """Returns from when to when each part of the data is, for people."""
    if dataset.times is None or len(dataset.keys) > 1:
        unit = "sequences" if dataset.preprocessing.kind == "classification" else "timesteps"
        return ", ".join(f"{name} {count:,} {unit}" for name, count in dataset.summary.targets.items())
    is_number = dataset.times.dtype != np.int64
    pieces = []
    for part, name in enumerate(NAMES):
        begin, end = dataset.regions[0, part]
        times = dataset.times
        pieces.append(f"{name} {show(times[begin], is_number)} to {show(times[end - 1], is_number)}")
    return ", ".join(pieces)


def training_rows(dataset: Dataset) -> NDArray[np.int64]:
    """Returns the begin and end rows of each sequence's training part, (S', 2)."""
    bounds = dataset.regions[:, TRAINING]
    return bounds[bounds[:, 0] >= 0]
