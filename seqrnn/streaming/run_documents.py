"""Reads what a run of task=csv has stored with its network: its preprocessing and its prediction intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import DataError, printable
from seqrnn.forecasting.intervals import Interval, Intervals, as_array
from seqrnn.rundir.bounded import MOST_NAME_CHARACTERS, read_model, resolve_inside
from seqrnn.rundir.names import INTERVALS, PREPROCESSING
from seqrnn.tables.preprocessing import Preprocessing

CONFIDENCE = 0.9


@dataclass(frozen=True)
class Ends:
    """How far intervals reach from predictions, (H, K) each; NaN where that is not known.

    Args:
        lower, upper: of all series, or of one whose scale is 1.
        scales: by series, (K,) that those are multiplied by.
        other_lower, other_upper: of series that have no scale, where others have.
    """

    percent: int
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    other_lower: NDArray[np.float64]
    other_upper: NDArray[np.float64]
    scales: Mapping[str, NDArray[np.float64]]

    def of(self, series: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns how far the intervals of a series reach, (H, K) each."""
        if not self.scales:
            return self.lower, self.upper
        scale = self.scales.get(printable(series)[:MOST_NAME_CHARACTERS])
        return (self.other_lower, self.other_upper) if scale is None else (self.lower * scale, self.upper * scale)


def has_preprocessing(directory: Path) -> bool:
    """Returns whether the run in a directory reads tables."""
    return (directory / PREPROCESSING).exists()


def read_preprocessing(directory: Path, input_size: int, output_size: int) -> Preprocessing:
    """Reads what is done to a table before the network of the run reads it.

    Raises:
        DataError: it is damaged, or does not fit the network.
    """
    path = resolve_inside(directory, PREPROCESSING)
    preprocessing = read_model(path, Preprocessing)
    sizes = preprocessing.input_size, preprocessing.output_size
    if sizes != (input_size, output_size):
        raise DataError(
            f"{path}: describes {sizes[0]} inputs and {sizes[1]} outputs, and the network has {input_size} and "
            f"{output_size}; is it from another run?"
        )
    return preprocessing


def read_ends(directory: Path, horizon: int, targets: int) -> Ends | None:
    """Reads how far the run's prediction intervals reach; None: it has none. Steps beyond those that they were
    calibrated for have no interval."""
    if not (directory / INTERVALS).exists():
        return None
    path = resolve_inside(directory, INTERVALS)
    document = read_model(path, Intervals)
    interval: Interval | None = document.with_confidence(CONFIDENCE)
    if interval is None:
        return None
    ends = []
    for rows in (interval.lower, interval.upper, interval.split_lower, interval.split_upper):
        values = as_array(rows)
        if values.shape[1] != targets:
            raise DataError(f"{path}: has intervals of {values.shape[1]} targets; should be {targets}")
        missing = np.full((max(0, horizon - len(values)), targets), np.nan)
        ends.append(np.concatenate([values, missing])[:horizon])
    scales = {name: np.array(scale) for name, scale in document.scales.items()}
    lower, upper, other_lower, other_upper = ends
    return Ends(round(100 * CONFIDENCE), lower, upper, other_lower, other_upper, scales)
