"""Fits a Preprocessing on the training rows of sequences, and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Collection
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import DataError, printable
from seqrnn.forecasting.origins import last_known
from seqrnn.tables.encoding import transformed_target
from seqrnn.tables.preprocessing import CYCLES, SHARE_OF_GAPS, Cycle, Feature, Preprocessing
from seqrnn.tables.roles import Roles
from seqrnn.tables.sequences import MOST_INSERTED, Sequence
from seqrnn.tables.settings import TableSettings
from seqrnn.tables.splits import TRAINING, Regions
from seqrnn.tables.times import Step

MOST_INPUTS = 100_000
MOST_MAGNIFIED = 1e20  # times the largest training value, beyond which single precision may end
SAMPLES_PER_CYCLE = 4  # timesteps that a calendar cycle must have, at least
LATEST = 6  # the latest values are one of so many parts of the training values
MOST_OUTSIDE = 0.1  # share of the latest values that may leave the range of those before them
CYCLES_SPANNED = 2  # times that a cycle must have passed in the training rows, at least


@dataclass
class Fitted:
    """A fitted preprocessing and what was noticed on the way."""

    preprocessing: Preprocessing
    notes: list[str] = field(default_factory=list)


def fit(
    settings: TableSettings, roles: Roles, sequences: Many[Sequence], regions: Many[Regions], step: Step, fills: bool
) -> Fitted:
    """Fits means, scales, categories and masks on the training rows.

    Args:
        regions: the part that each timestep of each sequence belongs to.
        fills: whether missing timesteps were filled.

    Raises:
        DataError: a target does not vary in the training rows, or an input that was named has no value there.
    """
    notes: list[str] = []
    is_forecast = settings.kind == "forecast"
    outline = Preprocessing.model_construct(  # what is fitted comes below
        kind=settings.kind,
        mode=settings.mode,
        horizon=settings.horizon if is_forecast else 1,
        targets=roles.targets,
        features=(),
        log=settings.log,
        difference=settings.difference is True,
    )
    rows = [region == TRAINING for region in regions]
    if settings.difference == "auto":
        outline, note = _with_difference(outline, roles, sequences, rows)
        notes += note
    features: list[Feature] = []
    levels: list[float] = []
    means: list[list[float]] = []
    scales: list[list[float]] = []
    for name in roles.targets if settings.kind != "classification" else ():
        columns = [transformed_target(outline, each, name) for each in sequences]
        mean, scale, missing = _moments(columns, rows)
        if math.isnan(mean):
            raise DataError(
                f"{_file(sequences)}, column {printable(name)}: the target has no value in any training row"
            )
        if not scale:
            raise DataError(
                f"{_file(sequences)}, column {printable(name)}: the target is {_shown(mean, settings.log)} in every "
                "training row, so there is nothing to learn; name another with task.target"
            )
        levels.append(mean)
        if outline.difference:
            changes = [_moments(columns, rows, distance) for distance in range(1, outline.steps_ahead + 1)]
            if not all(found[1] > 0 for found in changes):
                raise DataError(
                    f"{_file(sequences)}, column {printable(name)}: the target changes by the same amount in every "
                    "training row; set task.difference=false"
                )
            means.append([found[0] for found in changes])
            scales.append([found[1] for found in changes])
            mean, scale = means[-1][0], scales[-1][0]
        else:
            means.append([mean] * outline.steps_ahead)
            scales.append([scale] * outline.steps_ahead)
        if is_forecast:
            features.append(
                Feature(column=name, kind="number", role="target", mean=mean, scale=scale,
                        masked=missing > 0 and settings.missing == "mask")
            )  # fmt: skip
    groups: tuple[tuple[Literal["past", "known"], tuple[str, ...]], ...] = (
        ("past", roles.past),
        ("known", roles.known),
    )
    for role, names in groups:
        for name in names:
            feature = _feature(name, role, roles, settings, sequences, rows, notes)
            if feature is not None:
                features.append(feature)
    _check_magnitudes({*roles.targets, *(each.column for each in features)}, sequences, rows)
    calendar = _calendar(settings, sequences, rows, step)
    if calendar:
        notes.append(f"calendar: the phase of the {', '.join(calendar)} is an input (task.calendar)")
    fitted = outline.model_copy(
        update={
            "features": tuple(features),
            "group": settings.group,
            "time": roles.time,
            "step": step,
            "resample": settings.resample,
            "sort": settings.sort,
            "gaps": fills,
            "most_gaps": MOST_INSERTED if settings.gaps == "fill" else SHARE_OF_GAPS,
            "calendar": calendar,
            "missing": settings.missing,
            "unknown_categories": settings.unknown_categories,
            "output_mean": tuple(zip(*means, strict=True)),
            "output_scale": tuple(zip(*scales, strict=True)),
            "target_levels": tuple(levels),
            "classes": _classes(roles.targets[0], sequences) if settings.kind == "classification" else (),
            "read": settings.read,
        }
    )
    if not 1 <= fitted.input_size <= MOST_INPUTS:
        raise DataError(
            f"{_file(sequences)}: {fitted.input_size:,} inputs (columns, categories and, of what is known in "
            f"advance, one for each timestep of the horizon); there should be 1 to {MOST_INPUTS:,}: see task.inputs"
        )
    return Fitted(fitted, notes)


def _with_difference(
    outline: Preprocessing, roles: Roles, sequences: Many[Sequence], rows: Many[NDArray[np.bool_]]
) -> tuple[Preprocessing, list[str]]:
    """Returns the preprocessing with ``difference``, and a line about it, if a forecast needs it: where the latest
    training values leave the range of those before them, as those of a trend do, the values to be predicted will
    leave the range that the network is trained on."""
    for name in roles.targets if outline.kind == "forecast" else ():
        columns = [transformed_target(outline, each, name) for each in sequences]
        outside, count = 0, 0
        for column, chosen in zip(columns, rows, strict=True):
            values = column[chosen]
            values = values[~np.isnan(values)]
            before, latest = np.split(values, [len(values) - len(values) // LATEST])
            if len(latest):
                count += len(latest)
                outside += int(((latest < before.min()) | (latest > before.max())).sum())
        changes = range(1, outline.steps_ahead + 1)
        if outside > MOST_OUTSIDE * count and all(_moments(columns, rows, change)[1] > 0 for change in changes):
            note = (
                f"difference: the latest training values of {printable(name)} leave the range of those before them "
                f"({outside / count:.0%} of them), so changes are predicted (task.difference)"
            )
            return outline.model_copy(update={"difference": True}), [note]
    return outline, []


def _file(sequences: Many[Sequence]) -> str:
    return sequences[0].source.name


def _shown(value: float, log: bool) -> str:
    return f"{math.exp(value) if log else value:g}"


def _check_magnitudes(names: Collection[str], sequences: Many[Sequence], rows: Many[NDArray[np.bool_]]) -> None:
    """
    Raises:
        DataError: a number is so much larger than those of the training rows that a network cannot compute with it.
    """
    for name in sorted(names):
        columns = [
            (each, each.numbers[name], row) for each, row in zip(sequences, rows, strict=True) if name in each.numbers
        ]
        largest = max((np.fmax.reduce(np.abs(values[row]), initial=0.0) for _, values, row in columns), default=0.0)
        for sequence, values, _ in columns:
            beyond = np.flatnonzero(np.abs(values) > MOST_MAGNIFIED * largest)
            if largest and len(beyond):
                raise sequence.error(
                    int(beyond[0]), name, f"{values[beyond[0]]:g}",
                    f"is too far from the training rows, none of which is beyond {largest:g}; correct the cell, or "
                    "leave it empty where there is no value",
                )  # fmt: skip


def _moments(
    columns: Many[NDArray[np.float64]], rows: Many[NDArray[np.bool_]], distance: int = 0
) -> tuple[float, float, int]:
    """Returns mean and standard deviation over the training rows, and how many values are missing there.

    Args:
        distance: of changes over so many rows, both of which are training rows; 0: of the values themselves.
    """
    count, total, missing = 0, 0.0, 0
    parts = []
    for values, chosen in zip(columns, rows, strict=True):
        part = values[chosen]
        if distance:
            part = last_known(part)
            part = part[distance:] - part[:-distance]
        absent = int(np.isnan(part).sum())
        part = part[~np.isnan(part)] if absent else part
        parts.append(part)
        count, total, missing = count + len(part), total + float(part.sum()), missing + absent
    if not count:
        return math.nan, 0.0, missing
    mean = total / count
    squares = sum(float(np.square(part - mean).sum()) for part in parts)
    largest = max((float(np.abs(part).max()) for part in parts if len(part)), default=0.0)
    deviation = math.sqrt(squares / count)
    return mean, 0.0 if deviation <= 1e-12 * largest else deviation, missing


def _feature(
    name: str,
    role: Literal["past", "known"],
    roles: Roles,
    settings: TableSettings,
    sequences: Many[Sequence],
    rows: Many[NDArray[np.bool_]],
    notes: list[str],
) -> Feature | None:
    """Returns how an input is encoded; None where it says nothing, and nobody named it."""
    masked = settings.missing == "mask"
    if roles.wanted[name] == "category":
        labels: dict[str, None] = {}
        missing = 0
        for sequence, chosen in zip(sequences, rows, strict=True):
            codes, counts = np.unique(sequence.codes[name][chosen], return_counts=True)
            missing += int(counts[codes < 0].sum())
            labels.update(dict.fromkeys(sequence.labels[name][code] for code in codes[codes >= 0]))
        if len(labels) < 2:
            value = printable(next(iter(labels), "missing"))
            _leave_out(name, f"is {value} in every training row", roles, sequences, notes)
            return None
        return Feature(
            column=name, kind="category", role=role, categories=tuple(sorted(labels)), masked=masked and missing > 0
        )
    mean, scale, missing = _moments([each.numbers[name] for each in sequences], rows)
    if math.isnan(mean):
        _leave_out(name, "has no value in any training row", roles, sequences, notes)
        return None
    if not scale:
        _leave_out(name, f"is {mean:g} in every training row", roles, sequences, notes)
        return None
    return Feature(column=name, kind="number", role=role, mean=mean, scale=scale, masked=masked and missing > 0)


def _leave_out(name: str, reason: str, roles: Roles, sequences: Many[Sequence], notes: list[str]) -> None:
    if name not in roles.guessed:
        raise DataError(
            f"{_file(sequences)}, column {printable(name)}: {reason}, so nothing can be learned from it; leave it "
            "out of task.inputs"
        )
    notes.append(f"left out: {printable(name)}, which {reason}")


def _calendar(
    settings: TableSettings, sequences: Many[Sequence], rows: Many[NDArray[np.bool_]], step: Step
) -> tuple[Cycle, ...]:
    """Returns the cycles that the training rows span and resolve."""
    if settings.calendar == "none" or not all(each.has_dates for each in sequences):
        return ()
    span = 0.0
    for sequence, chosen in zip(sequences, rows, strict=True):
        assert sequence.times is not None
        times = sequence.times[chosen]
        if len(times):
            span = max(span, float(times[-1] - times[0]))
    return tuple(
        cycle
        for cycle, length in CYCLES.items()
        if step.nominal * SAMPLES_PER_CYCLE <= length * 1.01 and span >= CYCLES_SPANNED * length * 0.99
    )


def _classes(target: str, sequences: Many[Sequence]) -> tuple[str, ...]:
    found = sorted({label_of(sequence, target) for sequence in sequences})
    if len(found) < 2:
        raise DataError(
            f"{_file(sequences)}, column {printable(target)}: every sequence has the class {printable(found[0])!r}; "
            "at least two classes are needed"
        )
    return tuple(found)


def label_of(sequence: Sequence, target: str) -> str:
    """Returns the class of a whole sequence.

    Raises:
        DataError: it is missing, or changes within the sequence.
    """
    codes, labels = sequence.codes[target], sequence.labels[target]
    other = np.flatnonzero(codes != codes[0])
    if codes[0] < 0 or len(other):
        index = int(other[0]) if len(other) else 0
        value = labels[codes[index]] if codes[index] >= 0 else ""
        before = labels[codes[0]] if codes[0] >= 0 else "missing"
        raise sequence.error(
            index, target, value,
            f"the class of sequence {sequence.key} was {before!r} before; a sequence has one class in all of its rows"
            if len(other)
            else f"no class; each row of sequence {sequence.key} needs it",
        )  # fmt: skip
    return str(labels[codes[0]])
