"""Opens a table: reads its files, makes its timesteps regular, divides them into parts, and encodes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Many
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn import device
from seqrnn.errors import DataError, printable
from seqrnn.forecasting.naive import best_period
from seqrnn.tables.cells import short
from seqrnn.tables.counting import NOWHERE, latest, parts_of, reasons_of
from seqrnn.tables.dataset import Dataset, DataSummary, FileSummary
from seqrnn.tables.encoding import Encoded, check_not_empty, describe_unknown, encode
from seqrnn.tables.files import Source, checksum, find_sources
from seqrnn.tables.fitting import fit, label_of
from seqrnn.tables.memory import release_memory
from seqrnn.tables.preprocessing import SHARE_OF_GAPS, Preprocessing
from seqrnn.tables.reading import Sample, check_memory, read_sample, read_table
from seqrnn.tables.roles import Roles, choose_roles
from seqrnn.tables.sequences import Sequence, averaging, filled, gaps_of, resampled, sequences_of
from seqrnn.tables.settings import TableSettings
from seqrnn.tables.splits import (
    NAMES,
    TRAINING,
    Regions,
    cut_times,
    holds_all_parts,
    split_at,
    split_in_time,
    split_sequences,
)
from seqrnn.tables.synthetic import synthetic_table
from seqrnn.tables.times import MOST_NAMED, Step, infer_step, show

LONGEST_GUESSED_WARMUP = 256  # timesteps
MOST_FILES_NAMED = 100
MOST_JUDGED = 2**14  # timesteps of a part that recursive forecasts are judged from: the latest, as they take time


def open_dataset(settings: TableSettings, seed: int) -> Dataset:
    """Reads and prepares a table. The last one is kept, so that a second task of the same settings need not wait.

    Raises:
        DataError: something is wrong with the data.
    """
    seed = seed if settings.splits_groups or settings.path is None else 0  # nothing else is drawn at random
    states = tuple(
        (source.name, source.path.stat().st_mtime_ns, source.path.stat().st_size)
        for source in _sources(settings, seed)
        if source.content is None
    )
    return _opened(settings, seed, states)


def _sources(settings: TableSettings, seed: int) -> list[Source]:
    return [synthetic_table(settings.kind, seed)] if settings.path is None else find_sources(settings.path)


@lru_cache(maxsize=1)
def _opened(settings: TableSettings, seed: int, states: tuple[tuple[str, int, int], ...]) -> Dataset:
    sources = _sources(settings, seed)
    sample = read_sample(sources[0], settings.read)
    roles = choose_roles(settings, sample)
    notes = list(roles.notes)
    sequences, files = _read(settings, roles, sources, sample)
    step, inserted = _make_regular(settings, roles, sequences, notes)
    regions = _split(settings, roles, sequences, seed, notes)
    fitted = fit(settings, roles, sequences, regions, step, settings.gaps != "ignore")
    notes += fitted.notes
    season = _season(settings, roles, sequences, regions, step)
    known = fitted.preprocessing
    preprocessing = known.model_copy(update={"warmup": _warmup(settings, known, season)})
    summary = DataSummary(
        files=tuple(files[:MOST_FILES_NAMED]),
        sha256=checksum(sources),
        rows=sum(file.rows for file in files),
        sequences=len(sequences),
        timesteps=sum(map(len, sequences)),
        columns=tuple(roles.wanted),
        missing=_missing(sequences, roles),
        inserted=inserted,
        targets={},
        skipped=0,
        step=str(step),
        season=season,
        notes=(),
    )
    dataset = _joined(preprocessing, roles, sequences, regions, season, summary, notes)
    release_memory()
    return dataset


def _read(
    settings: TableSettings, roles: Roles, sources: Many[Source], sample: Sample
) -> tuple[list[Sequence], list[FileSummary]]:
    available = device.available_memory()
    sequences: list[Sequence] = []
    files: list[FileSummary] = []
    total = 0
    for source in sources:
        if source is not sources[0]:
            sample = read_sample(source, settings.read)
            for name in roles.wanted:
                if name not in sample.names:
                    raise DataError(
                        f"{source.name}, row 1: no column {printable(name)!r}, which {sources[0].name} has; all "
                        "files need the same columns"
                    )
        if not source.is_parquet:
            check_memory(source, total + source.size / max(sample.row_bytes, 1.0), len(roles.wanted), available)
        table = read_table(source, roles.wanted, settings.read, roles.time, available)
        total += table.rows
        files.append(FileSummary(name=printable(source.member or source.path.name), rows=table.rows))
        found = sequences_of(
            table, roles.time, settings.group, sort=settings.sort or settings.resample is not None,
            several=len(sources) > 1, average=settings.resample is not None,
        )  # fmt: skip
        sequences += found
    release_memory()
    return sequences, files


def _make_regular(
    settings: TableSettings, roles: Roles, sequences: list[Sequence], notes: list[str]
) -> tuple[Step, int]:
    """Resamples, or fills gaps, in place; returns the distance between timesteps, and how many were inserted."""
    if not roles.time.columns:
        return Step(unit="row", count=1), 0
    if settings.resample is not None:
        sequences[:] = [resampled(each, settings.resample, settings.timezone) for each in sequences]
    times = [each.times for each in sequences if each.times is not None]
    step = infer_step(times, not sequences[0].has_dates, settings.timezone)
    if settings.gaps == "ignore":
        return step, 0
    before = sum(map(len, sequences))
    missing = 0
    lines: list[str] = []
    for each in sequences:
        count, found = gaps_of(each, step)
        missing, lines = missing + count, [*lines, *found][:MOST_NAMED]
    if not missing:
        return step, 0
    what = f"{missing:,} timesteps are missing ({step.length} each): {'; '.join(lines)}"
    if settings.gaps == "error" or (settings.gaps == "auto" and missing > SHARE_OF_GAPS * before):
        more = " and more" if missing > len(lines) else ""
        raise DataError(
            f"{sequences[0].source.name}: {what}{more}; fill them with missing values with task.gaps=fill, or take "
            f"the rows as they come with task.gaps=ignore{averaging(sequences[0], 'longer steps')}"
            f"{_how_read(settings, roles)}"
        )
    sequences[:] = [filled(each, step) for each in sequences]
    notes.append(f"{what}; they are filled with missing values (task.gaps)")
    return step, missing


def _how_read(settings: TableSettings, roles: Roles) -> str:
    pattern = roles.time.pattern
    if pattern is None or settings.time_format is not None:
        return ""
    return f"; or, if the times are not meant as they were read ({pattern}), give task.time_format"


def _split(
    settings: TableSettings, roles: Roles, sequences: Many[Sequence], seed: int, notes: list[str]
) -> list[Regions]:
    keys, file = [each.key for each in sequences], sequences[0].source.name
    if not settings.splits_groups:
        horizon = settings.horizon if settings.kind == "forecast" else 1
        by_date = _split_at_dates(settings, sequences, horizon, notes) if settings.split != "time" else None
        if by_date is not None:
            return by_date
        lengths = [len(each) for each in sequences]
        return split_in_time(lengths, keys, settings.validation, settings.test, horizon, file)
    is_classification = settings.kind == "classification"
    classes = [label_of(each, roles.targets[0]) if is_classification else "" for each in sequences]
    parts = split_sequences(classes, keys, settings.validation, settings.test, seed, file)
    return [np.full(len(each), part, np.int8) for each, part in zip(sequences, parts, strict=True)]


def _split_at_dates(
    settings: TableSettings, sequences: Many[Sequence], horizon: int, notes: list[str]
) -> list[Regions] | None:
    """Returns the part that each timestep belongs to, cut at the same dates in all sequences: what happened to
    several of them at once is then either trained on or tested on. None: it was not asked for, and there is one
    sequence, or one that has too few timesteps on a side of the dates.

    Raises:
        DataError: it was asked for, and cannot be done.
    """
    times = [each.times for each in sequences if each.times is not None]
    asked_for = settings.split == "date"
    if asked_for and len(times) < len(sequences):
        raise DataError(f"task.split=date: {sequences[0].source.name} has no column of times; see task.time")
    if not asked_for and (len(sequences) < 2 or not all(each.has_dates for each in sequences)):
        return None
    cuts = cut_times(times, settings.validation, settings.test)
    found = split_at(times, cuts)
    whole = sum(holds_all_parts(each, horizon) for each in found)
    begins = [show(cut, not sequences[0].has_dates) for cut in cuts]
    if asked_for and not whole:
        raise DataError(
            f"task.split=date: with validation data from {begins[0]} and test data from {begins[1]} on, no sequence "
            f"has data on all sides that holds the horizon of {horizon}; set task.split=time, or task.validation and "
            "task.test"
        )
    if not asked_for and whole < len(sequences):
        notes.append(
            f"split: each sequence by itself, as {len(sequences) - whole:,} of {len(sequences):,} have too few "
            f"timesteps before {begins[0]}, before {begins[1]} or after it (task.split)"
        )
        return None
    notes.append(
        f"split: validation data from {begins[0]} on, test data from {begins[1]} on, in all sequences (task.split)"
    )
    return found


def _season(
    settings: TableSettings, roles: Roles, sequences: Many[Sequence], regions: Many[Regions], step: Step
) -> int:
    """Returns the season that was given, or that of the calendar's cycles which, repeated, fits the longest training
    part best; 1: there is none."""
    if settings.season != "auto":
        return settings.season
    if settings.kind == "classification" or not sequences[0].has_dates:
        return 1
    longest = max(range(len(sequences)), key=lambda number: int((regions[number] == TRAINING).sum()))
    chosen = regions[longest] == TRAINING
    training = np.stack([sequences[longest].numbers[name][chosen] for name in roles.targets], axis=1)
    return best_period(training, step.seasons()) or 1


def _warmup(settings: TableSettings, preprocessing: Preprocessing, season: int) -> int:
    if preprocessing.kind == "classification":
        return 0
    if settings.warmup != "auto":
        return settings.warmup
    return max(LONGEST_GUESSED_WARMUP, season + preprocessing.horizon)


def _missing(sequences: Many[Sequence], roles: Roles) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in (*roles.targets, *roles.past, *roles.known):
        count = 0
        for each in sequences:
            if name in each.numbers:
                count += int(np.isnan(each.numbers[name]).sum())
            else:
                count += int((each.codes[name] < 0).sum())
        if count:
            counts[name] = count
    return counts


def _joined(
    preprocessing: Preprocessing,
    roles: Roles,
    sequences: list[Sequence],
    regions: list[Regions],
    season: int,
    summary: DataSummary,
    notes: list[str],
) -> Dataset:
    """Encodes the sequences one after another, and joins them."""
    is_classification = preprocessing.kind == "classification"
    labels = [preprocessing.classes.index(label_of(each, roles.targets[0])) if is_classification else -1
              for each in sequences]  # fmt: skip
    keys = [each.key for each in sequences]
    encoded: list[Encoded] = []
    times: list[NDArray[Any] | None] = []
    parts: list[NDArray[np.int8]] = []
    all_steps: list[NDArray[np.int8]] = []
    uncounted: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    bounds = np.full((len(sequences), 3, 2), -1, np.int64)
    lengths: list[int] = []
    begin = 0
    for number, (sequence, region) in enumerate(zip(sequences, regions, strict=True)):
        each = encode(preprocessing, sequence, region)
        check_not_empty(each, sequence)
        if each.kept is not None:
            region = region[each.kept]
        for part in range(3):
            rows = np.flatnonzero(region == part)
            if len(rows):
                bounds[number, part] = begin + rows[0], begin + rows[-1] + 1
        own = sequence.times
        times.append(own if own is None or each.kept is None else own[each.kept])
        parts.append(parts_of(each, region))
        if preprocessing.is_recursive:
            of_all_steps = replace(each, preprocessing=preprocessing.evaluated)
            all_steps.append(latest(parts_of(of_all_steps, region), -(-MOST_JUDGED // len(sequences))))
        if not is_classification:
            uncounted.update(reasons_of(each, region, parts[-1]))
        unknown.update(each.unknown)
        encoded.append(each)
        lengths.append(len(each))
        begin += len(each)
    sequences.clear()  # the raw columns are not needed any more
    ends = np.cumsum(lengths)
    found, judged_by = _concatenated(parts), _concatenated(all_steps) if all_steps else None
    if not is_classification:
        for part, name in enumerate(NAMES):
            if not ((found if judged_by is None else judged_by) == part).any():
                raise DataError(
                    f"{name} data: no timestep has a target that counts, because values of "
                    f"{', '.join(map(short, preprocessing.targets))} are missing there; see task.validation and "
                    "task.test, or take a shorter task.horizon"
                )
    judged = [(bounds[:, part, 0] >= 0) if is_classification else found == part for part in range(len(NAMES))]
    counts = {name: int(which.sum()) for name, which in zip(NAMES, judged, strict=True)}
    if summary.missing:
        shown = ", ".join(f"{printable(name)} {count:,}" for name, count in list(summary.missing.items())[:8])
        notes.append(f"missing values: {shown} (task.missing={preprocessing.missing})")
    if unknown:
        notes.append(f"{describe_unknown(unknown)} (task.unknown_categories)")
    if uncounted:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in uncounted.most_common())
        notes.append(f"{uncounted.total():,} of {len(found):,} timesteps predict nothing that counts: {reasons}")
    if judged_by is not None and len(found) > MOST_JUDGED:
        notes.append(
            f"recursive forecasts of {preprocessing.horizon} steps are judged from the latest {MOST_JUDGED:,} "
            "timesteps of the validation data and of the test data, where there are more"
        )
    targets = _concatenated([each.targets for each in encoded])
    return Dataset(
        preprocessing,
        _concatenated([each.here for each in encoded]),
        _concatenated([each.ahead if each.kept is None else each.ahead[each.kept] for each in encoded]),
        _concatenated_or_none([each.clock for each in encoded]),
        targets,
        _concatenated([each.levels for each in encoded]),
        _concatenated([each.starts for each in encoded]),
        _concatenated_or_none(times),
        found,
        ends - np.array(lengths),
        ends - 1,
        bounds,
        np.array(labels),
        keys,
        season,
        summary.model_copy(
            update={
                "targets": counts,
                "skipped": int((found == NOWHERE).sum()),
                "notes": tuple(notes),
                "trained_on": _class_counts(preprocessing, np.array(labels)[bounds[:, TRAINING, 0] >= 0]),
                "deviations": _deviations(preprocessing, targets, bounds[:, TRAINING]),
            }
        ),
        judged_by,
    )


def _class_counts(preprocessing: Preprocessing, labels: NDArray[np.int64]) -> dict[str, int]:
    counts = np.bincount(labels[labels >= 0], minlength=len(preprocessing.classes))
    return {label: int(count) for label, count in zip(preprocessing.classes, counts, strict=False)}


def _deviations(
    preprocessing: Preprocessing, targets: NDArray[np.float64], training: NDArray[np.int64]
) -> tuple[float, ...]:
    """Returns the standard deviation of each of several targets over the training rows, in its unit; 1 for one that
    does not vary.

    Args:
        training: (S, 2) begin and end rows of each sequence's training part; -1 where it has none.
    """
    if len(preprocessing.targets) == 1:
        return ()
    values = np.concatenate([targets[begin:end] for begin, end in training if begin >= 0])
    found = np.nanstd(np.exp(values) if preprocessing.log else values, axis=0)
    return tuple(float(one) if 0 < one < np.inf else 1.0 for one in found)


def _concatenated(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _concatenated_or_none(arrays: list[Any]) -> NDArray[Any] | None:
    return None if any(each is None for each in arrays) else _concatenated(arrays)
