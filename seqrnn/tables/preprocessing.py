"""What is done to a table before a network reads it, and to the network's outputs: a document stored with the run.

``Preprocessing`` is written into the run directory as ``preprocessing.json``, and holds everything that was fitted on
the training rows. ``seqrnn.tables.encoding`` turns sequences into arrays by it, and ``to_units`` turns outputs of the
network back into the user's units. T timesteps, N sequences, O outputs.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from seqrnn.tables.cells import ReadOptions
from seqrnn.tables.times import DAY, YEAR, Step, TimeFormat

Kind = Literal["forecast", "regression", "classification"]
Mode = Literal["direct", "recursive"]
Missing = Literal["mask", "interpolate", "drop"]
UnknownCategories = Literal["error", "ignore"]
Cycle = Literal["day", "week", "year"]
CYCLES: dict[Cycle, float] = {"day": DAY, "week": 7 * DAY, "year": YEAR}  # nanoseconds
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
