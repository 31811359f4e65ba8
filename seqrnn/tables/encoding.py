"""Turns sequences of a table into arrays that a network reads, as a ``Preprocessing`` describes it.

T timesteps, N sequences, I inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import DataError, printable
from seqrnn.forecasting.origins import last_known
from seqrnn.tables.preprocessing import Feature, Preprocessing
from seqrnn.tables.sequences import Sequence

BLOCK = 2**20  # timesteps that are scaled at a time


@dataclass
class Encoded:
    """A sequence of T timesteps as arrays.

    Args:
        here: (T, ·) float32: the inputs that are read at the present timestep.
        ahead: (T', ·) float32: those that a forecast reads at the timesteps to be predicted, of all timesteps of the
            sequence: also of those that are left out.
        clock: (T,) what a clock shows, in nanoseconds; None: there are no calendar cycles.
        targets: (T, targets) in the network's space before scaling (after ``log``); NaN where one is missing.
        levels: (T, targets) the same, with the last known value where one is missing.
        starts: (T,) whether a new sequence begins.
        usable: (T,) False where a missing input was filled, by a value that may come from the future.
        interpolated: (T,) True where an input lies on a line to a later value, so that it does come from the future.
        kept: (T,) the timestep of the sequence that each is; None: all are there.
        unknown: by column, how many of its categories were not in the training rows, and are encoded as none.
    """

    preprocessing: Preprocessing
    here: NDArray[np.float32]
    ahead: NDArray[np.float32]
    clock: NDArray[np.int64] | None
    targets: NDArray[np.float64]
    levels: NDArray[np.float64]
    starts: NDArray[np.bool_]
    usable: NDArray[np.bool_]
    interpolated: NDArray[np.bool_]
    kept: NDArray[np.int64] | None = None
    unknown: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.here)

    @property
    def origins(self) -> NDArray[np.float64]:
        """(T, targets): the last known values of the targets in their units."""
        return np.exp(self.levels) if self.preprocessing.log else self.levels

    def inputs(self) -> NDArray[np.float32]:
        """Returns the inputs of all timesteps, (T, I). Beyond the end, what is known in advance is taken to stay."""
        return join_inputs(self.preprocessing, self.here, self.known, self.clock)

    def known(self, distance: int) -> NDArray[np.float32]:
        """Returns what is known in advance of the timesteps (T, ·) that come so many after each."""
        timesteps = np.arange(len(self)) if self.kept is None else self.kept
        return self.ahead[np.minimum(timesteps + distance, len(self.ahead) - 1)]


def join_inputs(
    preprocessing: Preprocessing,
    here: NDArray[np.float32],
    known: Callable[[int], NDArray[np.float32]],
    clock: NDArray[np.int64] | None,
) -> NDArray[np.float32]:
    """Returns the inputs (…, I) of timesteps.

    Args:
        here: (…, ·) what is read at each.
        known: returns what is known in advance (…, ·) of the timestep that comes so many after each.
        clock: (…) what a clock shows at each.
    """
    parts = [here]
    if preprocessing.ahead:
        parts += [known(distance) for distance in range(1, preprocessing.steps_ahead + 1)]
    if preprocessing.calendar and clock is not None:
        parts.append(preprocessing.phases(clock))
    return np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]


def _interpolated(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a column in which missing values lie on a straight line between their neighbours."""
    missing = np.isnan(values)
    if not missing.any() or missing.all():
        return values
    present = np.flatnonzero(~missing)
    filled = values.copy()
    filled[missing] = np.interp(np.flatnonzero(missing), present, values[present], left=np.nan)
    return filled


def _before_known(missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns where (T,) a value is missing, and there is one before it and one behind it."""
    present = np.flatnonzero(~missing)
    if not len(present):
        return np.zeros_like(missing)
    timesteps = np.arange(len(missing))
    found: NDArray[np.bool_] = missing & (timesteps > present[0]) & (timesteps < present[-1])
    return found


def transformed_target(preprocessing: Preprocessing, sequence: Sequence, name: str) -> NDArray[np.float64]:
    """Returns a target's values, as logarithms where that is asked for.

    Raises:
        DataError: the logarithm of a value does not exist.
    """
    values = sequence.numbers[name]
    if not preprocessing.log:
        return values
    wrong = np.flatnonzero(values <= 0)
    if len(wrong):
        raise sequence.error(int(wrong[0]), name, f"{values[wrong[0]]:g}", "has no logarithm; set task.log=false")
    return np.log(values)


def encode(preprocessing: Preprocessing, sequence: Sequence, regions: Any = None) -> Encoded:
    """Turns a sequence into arrays. Where every row is left out, they are empty; see ``check_not_empty``.

    Args:
        regions: (T,) which part of the data each timestep belongs to, so that no line is drawn from one part to the
            next; None: all are one part.

    Raises:
        DataError: a category is unknown, or the logarithm of a value does not exist.
    """
    count = len(sequence)
    has_targets = all(name in sequence.numbers for name in preprocessing.targets)
    predicted = preprocessing.targets if has_targets and preprocessing.kind != "classification" else ()
    columns = {name: transformed_target(preprocessing, sequence, name) for name in predicted}
    usable = np.ones(count, bool)
    interpolated = np.zeros(count, bool)
    dropped = np.zeros(count, bool)
    here = np.zeros((count, sum(each.width for each in preprocessing.here)), np.float32)
    ahead = np.zeros((count, sum(each.width for each in preprocessing.ahead)), np.float32)
    unknown: dict[str, int] = {}
    for array, features in ((here, preprocessing.here), (ahead, preprocessing.ahead)):
        first = 0
        for feature in features:
            part = array[:, first : first + feature.width]
            if feature.kind == "category":
                missing, others = _encode_category(feature, sequence, part)
                if len(others):
                    if preprocessing.unknown_categories == "error":
                        raise _unknown_category(feature, sequence, int(others[0]))
                    unknown[feature.column] = len(others)
            else:
                values = columns[feature.column] if feature.role == "target" else sequence.numbers[feature.column]
                missing = np.isnan(values)
                if missing.any():
                    if preprocessing.missing == "interpolate":
                        values = _by_region(values, regions)
                        usable &= ~missing
                        if array is here:
                            interpolated |= _before_known(missing)
                    else:
                        values = last_known(values)
                _scale(values, feature, feature.role == "target" and preprocessing.difference, out=part[:, 0])
            if feature.masked:
                part[:, -1] = missing
            dropped |= missing
            first += feature.width
    targets = np.stack(list(columns.values()), axis=1) if columns else np.zeros((count, 0))
    levels = targets
    if columns and np.isnan(targets).any():
        levels = last_known(targets)
        levels = np.where(np.isnan(levels), np.array(preprocessing.target_levels), levels)
    clock = sequence.clock(preprocessing.time.timezone) if preprocessing.calendar else None
    starts = np.zeros(count, bool)
    starts[:1] = True
    encoded = Encoded(preprocessing, here, ahead, clock, targets, levels, starts, usable, interpolated, None, unknown)
    if preprocessing.missing == "drop" and dropped.any():
        return _without(encoded, dropped)
    return encoded


def _scale(values: NDArray[np.float64], feature: Feature, changes: bool, out: NDArray[np.float32]) -> None:
    """Scales values, or their changes, into ``out``; 0 where there is none. A block at a time: a long column would
    need several copies of itself."""
    for begin in range(0, len(values), BLOCK):
        block = values[begin : begin + BLOCK]
        if changes:
            block = np.diff(block, prepend=values[max(begin - 1, 0)])
        scaled = (block - feature.mean) / feature.scale
        out[begin : begin + BLOCK] = np.where(np.isnan(scaled), 0.0, scaled)


def _by_region(values: NDArray[np.float64], regions: Any) -> NDArray[np.float64]:
    """Interpolates within each part by itself; at the end of a part, the last known value stays."""
    if regions is None:
        return last_known(_interpolated(values))
    bounds = np.flatnonzero(np.diff(regions)) + 1
    parts = [_interpolated(part) for part in np.split(values, bounds)]
    return last_known(np.concatenate(parts))


def _encode_category(
    feature: Feature, sequence: Sequence, part: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Writes the inputs of a category; returns where it is missing (T,), and the timesteps of other categories than
    those of the training rows, whose inputs are 0."""
    codes, labels = sequence.codes[feature.column], sequence.labels[feature.column]
    known = {label: number for number, label in enumerate(feature.categories)}
    numbers = np.array([known.get(label, -1) for label in labels] + [-1])  # the last: a missing value, code −1
    found, missing = numbers[codes], codes < 0
    rows = np.flatnonzero(found >= 0)
    part[rows, found[rows]] = 1.0
    return missing, np.flatnonzero((found < 0) & ~missing)


def _unknown_category(feature: Feature, sequence: Sequence, timestep: int) -> DataError:
    label = sequence.labels[feature.column][sequence.codes[feature.column][timestep]]
    shown = ", ".join(printable(one)[:30] for one in feature.categories[:20])
    return sequence.error(
        timestep, feature.column, label,
        f"is a category that was not in the training rows (there were: {shown}); a run with "
        "task.unknown_categories=ignore reads such as none of them",
    )  # fmt: skip


def describe_unknown(unknown: Mapping[str, int]) -> str:
    """Returns a line about categories that were not in the training rows."""
    counts = ", ".join(f"{printable(name)} {count:,}" for name, count in unknown.items())
    return f"categories that were not in the training rows, read as none of those: {counts}"


def check_not_empty(encoded: Encoded, sequence: Sequence) -> None:
    """Checks that rows of a sequence are left.

    Raises:
        DataError: every row has a missing value, and such rows are left out.
    """
    if not len(encoded):
        which = "" if isinstance(sequence.numbering, int) else f" of {sequence.key}"
        raise DataError(
            f"{sequence.source.name}: every row{which} has a missing value, and task.missing=drop leaves such rows "
            "out; set task.missing=mask, or leave the sequence out"
        )


def _without(encoded: Encoded, dropped: NDArray[np.bool_]) -> Encoded:
    """Leaves timesteps out; a new sequence begins behind each gap."""
    kept = np.flatnonzero(~dropped)
    starts = encoded.starts[kept]
    starts[:1] = True
    starts[1:] |= np.diff(kept) > 1
    clock = encoded.clock[kept] if encoded.clock is not None else None
    return Encoded(
        encoded.preprocessing, encoded.here[kept], encoded.ahead, clock, encoded.targets[kept],
        encoded.levels[kept], starts, encoded.usable[kept], encoded.interpolated[kept], kept, encoded.unknown,
    )  # fmt: skip
