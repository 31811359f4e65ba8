"""What is done to a table before a network reads it, and to the network's outputs: a document stored with the run.

``Preprocessing`` is written into the run directory as ``preprocessing.json``, and holds everything that was fitted on
the training rows. ``encode`` turns a sequence into arrays, ``Encoded.inputs`` gathers what the network reads from
them, and ``to_units`` turns outputs back into the user's units. T timesteps, N sequences, I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from seqrnn.errors import DataError, printable
from seqrnn.tables.reading import ReadOptions
from seqrnn.tables.sequences import Sequence
from seqrnn.tables.times import DAY, YEAR, Step, TimeFormat

Kind = Literal["forecast", "regression", "classification"]
Mode = Literal["direct", "recursive"]
Missing = Literal["mask", "interpolate", "drop"]
UnknownCategories = Literal["error", "ignore"]
Cycle = Literal["day", "week", "year"]
CYCLES: dict[Cycle, float] = {"day": DAY, "week": 7 * DAY, "year": YEAR}  # nanoseconds
BLOCK = 2**20  # timesteps that are scaled at a time
SHARE_OF_GAPS = 0.05  # of missing timesteps that are filled without being asked to
LARGEST_LOG = 700.0  # exp of it is still finite
Finite = Annotated[float, Field(allow_inf_nan=False)]
Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Feature(BaseModel, frozen=True, extra="forbid"):
    """A column that the network reads.

    Args:
        column: its name.
        kind: a category is encoded as one input per category, which is 1 where it is that one.
        role: ``target`` (its past values), ``past`` (known up to the present), or ``known`` (known in advance: a
            forecast reads it at the timesteps to be predicted).
        mean, scale: subtracted, and divided by; of the training rows.
        categories: of the training rows.
        masked: whether another input says where its value is missing.
    """

    column: str
    kind: Literal["number", "category"]
    role: Literal["target", "past", "known"]
    mean: Finite = 0.0
    scale: Scale = 1.0
    categories: tuple[str, ...] = ()
    masked: bool = False

    @property
    def width(self) -> int:
        """The number of inputs."""
        return (len(self.categories) if self.kind == "category" else 1) + self.masked

    @property
    def names(self) -> list[str]:
        """The names of the inputs."""
        own = [f"{self.column}={label}" for label in self.categories] if self.kind == "category" else [self.column]
        return own + ([f"{self.column} is missing"] if self.masked else [])


class Preprocessing(BaseModel, frozen=True, extra="forbid"):
    """How tables become inputs, and outputs become values in the user's units.

    Args:
        version: of this format.
        kind: ``forecast`` of the next values, ``regression`` of the value at the same timestep, or ``classification``
            of whole sequences.
        mode: of a forecast: ``direct`` (an output for each timestep of the horizon) or ``recursive`` (one step ahead,
            fed back).
        horizon: timesteps that are predicted; 1 where it is no forecast.
        targets: the columns that are predicted.
        features: the columns that are read, in the order of the inputs.
        group: the column whose values tell sequences apart.
        time, step: how times are read, and the distance between timesteps.
        resample: the length of the steps over which rows are averaged, as pandas writes it; None: they are not.
        sort: whether rows are put into the order of their times.
        gaps: whether missing timesteps are filled with missing values; otherwise rows simply follow each other.
        most_gaps: the largest share of missing timesteps that are filled; more is an error.
        calendar: the cycles whose phase (as a sine and a cosine) is read.
        missing: what is done about missing inputs: ``mask`` reads the last value and an input that says so,
            ``interpolate`` draws a straight line to the next value, ``drop`` leaves the timestep out and starts a new
            sequence behind it.
        unknown_categories: what is done about a category that was not in the training rows, in rows that are held out
            as in new ones: it is an ``error``, or ``ignore`` encodes it as none of those.
        log: whether targets are predicted as their logarithms.
        difference: whether a forecast predicts changes from the present value.
        output_mean, output_scale: (horizon, targets) of the outputs.
        target_levels: the mean of each target over the training rows, after ``log``.
        classes: labels, in the order of the outputs.
        warmup: timesteps before the first prediction that set the state.
        read: how the texts of a file are read.
    """

    version: Literal[1] = 1
    kind: Kind
    mode: Mode = "direct"
    horizon: Annotated[int, Field(ge=1, le=100_000)] = 1
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    features: tuple[Feature, ...]
    group: str | None = None
    time: TimeFormat = TimeFormat()
    step: Step = Step(unit="row", count=1)
    resample: str | None = None
    sort: bool = False
    gaps: bool = False
    most_gaps: Annotated[float, Field(ge=0)] = SHARE_OF_GAPS
    calendar: tuple[Cycle, ...] = ()
    missing: Missing = "mask"
    unknown_categories: UnknownCategories = "error"
    log: bool = False
    difference: bool = False
    output_mean: tuple[tuple[Finite, ...], ...] = ()
    output_scale: tuple[tuple[Scale, ...], ...] = ()
    target_levels: tuple[Finite, ...] = ()
    classes: tuple[str, ...] = ()
    warmup: Annotated[int, Field(ge=0)] = 0
    read: ReadOptions = ReadOptions()

    @model_validator(mode="after")
    def _fits_together(self) -> Preprocessing:
        if self.kind == "classification":
            if len(self.classes) < 2:
                raise ValueError("classes: a classification has at least two")
            return self
        count = len(self.targets)
        for name, rows in (("output_mean", self.output_mean), ("output_scale", self.output_scale)):
            if len(rows) != self.steps_ahead or any(len(row) != count for row in rows):
                raise ValueError(f"{name}: should have {self.steps_ahead} rows of {count} numbers")
        if len(self.target_levels) != count:
            raise ValueError(f"target_levels: should have {count} numbers")
        read = tuple(each.column for each in self.features[:count] if each.role == "target")
        if self.is_forecast and read != self.targets:
            raise ValueError("features: a forecast's begin with its targets, in their order")
        return self

    @property
    def is_forecast(self) -> bool:
        return self.kind == "forecast"

    @property
    def steps_ahead(self) -> int:
        """How many timesteps one output vector covers."""
        return self.horizon if self.is_forecast and self.mode == "direct" else 1

    @property
    def evaluated(self) -> Preprocessing:
        """That of what predictions are judged by. A recursive forecast is judged by all steps of its horizon, as if
        each had an output of its own; changes over several steps are scaled as if they did not depend on each other.
        """
        if not self.is_recursive:
            return self
        means, scales = [], []
        for step in range(1, self.horizon + 1):
            passed = step if self.difference else 1
            means.append(tuple(passed * mean for mean in self.output_mean[0]))
            scales.append(tuple(math.sqrt(passed) * scale for scale in self.output_scale[0]))
        update = {"mode": "direct", "output_mean": tuple(means), "output_scale": tuple(scales)}
        return self.model_copy(update=update)

    @property
    def is_recursive(self) -> bool:
        """Whether forecasts feed predicted values back."""
        return self.is_forecast and self.mode == "recursive" and self.horizon > 1

    @property
    def here(self) -> list[Feature]:
        """The features that are read at the present timestep."""
        return [each for each in self.features if not (self.is_forecast and each.role == "known")]

    @property
    def ahead(self) -> list[Feature]:
        """The features that a forecast reads at the timesteps to be predicted."""
        return [each for each in self.features if self.is_forecast and each.role == "known"]

    @property
    def input_names(self) -> list[str]:
        """The name of each input of the network, in order."""
        names = [name for feature in self.here for name in feature.names]
        for distance in range(1, self.steps_ahead + 1):
            names += [f"{name} (t+{distance})" for feature in self.ahead for name in feature.names]
        return names + [f"{wave} of the {cycle}" for cycle in self.calendar for wave in ("sine", "cosine")]

    @property
    def input_size(self) -> int:
        here, ahead = (sum(each.width for each in group) for group in (self.here, self.ahead))
        return here + self.steps_ahead * ahead + 2 * len(self.calendar)

    @property
    def output_size(self) -> int:
        return len(self.classes) if self.kind == "classification" else self.steps_ahead * len(self.targets)

    @property
    def columns(self) -> list[str]:
        """The names of the columns that a file must have to be predicted from."""
        group = [self.group] if self.group is not None else []
        return list(dict.fromkeys([*self.time.columns, *group, *(each.column for each in self.features)]))

    def encode(self, sequence: Sequence) -> Encoded:
        """Turns a sequence into arrays.

        Raises:
            DataError: a category is unknown, the logarithm of a value does not exist, or every row is left out.
        """
        encoded = encode(self, sequence)
        check_not_empty(encoded, sequence)
        return encoded

    def to_units(self, outputs: NDArray[Any], origins: NDArray[Any]) -> NDArray[np.float64]:
        """Returns outputs of the network in the units of the table.

        Args:
            outputs: (T, N, O).
            origins: (T, N, targets), the last known values of the targets at each timestep, in their units.

        Returns:
            (T, N, steps ahead, targets).
        """
        shape = (*outputs.shape[:-1], self.steps_ahead, len(self.targets))
        values: NDArray[np.float64] = outputs.reshape(shape).astype(np.float64)
        values = values * np.array(self.output_scale) + np.array(self.output_mean)
        if self.difference:
            values += self._transformed(origins)[..., None, :]
        return np.exp(np.minimum(values, LARGEST_LOG)) if self.log else values

    def from_units(self, values: NDArray[Any], origins: NDArray[Any]) -> NDArray[np.float64]:
        """Returns values (T, N, steps ahead, targets) as the network would output them, (T, N, O): the inverse of
        ``to_units``."""
        inner = self._transformed(values)
        if self.difference:
            inner = inner - self._transformed(origins)[..., None, :]
        inner = (inner - np.array(self.output_mean)) / np.array(self.output_scale)
        flat: NDArray[np.float64] = inner.reshape(*inner.shape[:-2], -1)
        return flat

    def _transformed(self, values: NDArray[Any]) -> NDArray[np.float64]:
        values = np.asarray(values, np.float64)
        return np.log(values) if self.log else values

    def phases(self, clock: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns sine and cosine of each calendar cycle, (…, 2 · cycles), at what a clock shows. A forecast is given
        those of the first timestep that it predicts."""
        later = self.step.nominal if self.is_forecast else 0.0
        waves = []
        for cycle in self.calendar:
            angle = 2 * np.pi * np.mod(clock + int(later), CYCLES[cycle]) / CYCLES[cycle]
            waves += [np.sin(angle), np.cos(angle)]
        return np.stack(waves, axis=-1).astype(np.float32)


@dataclass
class Encoded:
    """A sequence of T timesteps as arrays.

    Args:
        here: (T, ·) float32: the inputs that are read at the present timestep.
        ahead: (T, ·) float32: those that a forecast reads at the timesteps to be predicted.
        clock: (T,) what a clock shows, in nanoseconds; None: there are no calendar cycles.
        targets: (T, targets) in the network's space before scaling (after ``log``); NaN where one is missing.
        levels: (T, targets) the same, with the last known value where one is missing.
        starts: (T,) whether a new sequence begins.
        usable: (T,) False where an input was interpolated, which knows the future.
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
        rows = np.arange(len(self))
        return gather(self.preprocessing, self.here, self.ahead, self.clock, rows, np.full(len(self), len(self) - 1))


def gather(
    preprocessing: Preprocessing,
    here: NDArray[np.float32],
    ahead: NDArray[np.float32],
    clock: NDArray[np.int64] | None,
    rows: NDArray[np.int64],
    last: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Returns the inputs (…, I) at ``rows`` (…).

    Args:
        here, ahead, clock: of one sequence or several, see ``Encoded``.
        last: (…) the last row of the sequence that each row belongs to.
    """
    parts = [here[rows]]
    if ahead.shape[1]:
        parts += [ahead[np.minimum(rows + distance, last)] for distance in range(1, preprocessing.steps_ahead + 1)]
    if preprocessing.calendar and clock is not None:
        parts.append(preprocessing.phases(clock[rows]))
    return np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]


def last_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a column in which each missing value is the last one that was there; NaN before the first."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    index = np.where(missing, 0, np.arange(len(values)))
    np.maximum.accumulate(index, out=index)
    return values[index]


def _interpolated(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a column in which missing values lie on a straight line between their neighbours."""
    missing = np.isnan(values)
    if not missing.any() or missing.all():
        return values
    present = np.flatnonzero(~missing)
    filled = values.copy()
    filled[missing] = np.interp(np.flatnonzero(missing), present, values[present], left=np.nan)
    return filled


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
    """Turns a sequence into arrays; see ``Preprocessing.encode``. Where every row is left out, they are empty.

    Args:
        regions: (T,) which part of the data each timestep belongs to, so that no line is drawn from one part to the
            next; None: all are one part.
    """
    count = len(sequence)
    has_targets = all(name in sequence.numbers for name in preprocessing.targets)
    predicted = preprocessing.targets if has_targets and preprocessing.kind != "classification" else ()
    columns = {name: transformed_target(preprocessing, sequence, name) for name in predicted}
    usable = np.ones(count, bool)
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
        filled = [last_known(values) for values in columns.values()]
        levels = np.stack(filled, axis=1)
        levels = np.where(np.isnan(levels), np.array(preprocessing.target_levels), levels)
    clock = sequence.clock(preprocessing.time.timezone) if preprocessing.calendar else None
    starts = np.zeros(count, bool)
    starts[:1] = True
    encoded = Encoded(preprocessing, here, ahead, clock, targets, levels, starts, usable, None, unknown)
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
        encoded.preprocessing, encoded.here[kept], encoded.ahead[kept], clock, encoded.targets[kept],
        encoded.levels[kept], starts, encoded.usable[kept], kept, encoded.unknown,
    )  # fmt: skip
