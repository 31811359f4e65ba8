"""Reads new tables as the preprocessing of a run describes them. T timesteps, I inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path

from seqrnn import device
from seqrnn.errors import DataError, did_you_mean, printable
from seqrnn.tables.blocks import ColumnKind
from seqrnn.tables.cells import short
from seqrnn.tables.encoding import Encoded, check_not_empty, describe_unknown, encode
from seqrnn.tables.files import find_sources
from seqrnn.tables.preprocessing import Preprocessing
from seqrnn.tables.reading import Sample, check_memory, read_sample, read_table
from seqrnn.tables.sequences import Sequence, filled, gaps_of, resampled, sequences_of
from seqrnn.tables.times import MOST_NAMED


@dataclass(frozen=True)
class TableData:
    """New tables, ready to be predicted from.

    Args:
        sequences: in the order of the files, each in the order of its times.
        encoded: the same as arrays.
        has_targets: whether the files have the columns that are predicted.
        notes: lines for the user, about what was done to the data.
    """

    sequences: list[Sequence]
    encoded: list[Encoded]
    has_targets: bool
    notes: list[str]


def read_tables(preprocessing: Preprocessing, paths: Many[Path]) -> TableData:
    """Reads new tables: the same columns, formats, steps and categories as those that the run was trained on.

    Raises:
        DataError: a column is missing, a cell is not what it should be, a category is unknown, or times are not in
            steps of the run; names the file, the row and the column.
    """
    sources = [source for path in paths for source in find_sources(str(path), "--data")]
    samples = [read_sample(source, preprocessing.read) for source in sources]
    has_targets = _check_columns(preprocessing, samples)
    wanted = _wanted(preprocessing, has_targets)
    available = device.available_memory()
    sequences: list[Sequence] = []
    notes: list[str] = []
    rows = 0
    for source, sample in zip(sources, samples, strict=True):
        if not source.is_parquet:
            check_memory(source, rows + source.size / max(sample.row_bytes, 1.0), len(wanted), available)
        table = read_table(source, wanted, preprocessing.read, preprocessing.time, available)
        rows += table.rows
        sequences += sequences_of(
            table,
            preprocessing.time,
            preprocessing.group,
            sort=preprocessing.sort or preprocessing.resample is not None,
            several=len(sources) > 1,
            average=preprocessing.resample is not None,
        )
    if preprocessing.time.columns:
        sequences = _regular(preprocessing, sequences, notes)
    encoded: list[Encoded] = []
    unknown: Counter[str] = Counter()
    for each in sequences:
        arrays = encode(preprocessing, each)
        check_not_empty(arrays, each)
        encoded.append(arrays)
        unknown.update(arrays.unknown)
    if unknown:
        notes.append(describe_unknown(unknown))
    return TableData(sequences, encoded, has_targets, notes)


def _check_columns(preprocessing: Preprocessing, samples: Many[Sample]) -> bool:
    """Checks that all files have the columns that are read; returns whether they have the targets, too."""
    problems = []
    for sample in samples:
        for name in preprocessing.columns:
            if name not in sample.names:
                problems.append(
                    f"{sample.source.name}, row 1: no column {printable(name)!r}, which the run reads"
                    f"{did_you_mean(name, sample.names)} (there are: {', '.join(map(short, sample.names[:20]))})"
                )
    if problems:
        raise DataError(*problems)
    return all(name in sample.names for sample in samples for name in preprocessing.targets)


def _wanted(preprocessing: Preprocessing, has_targets: bool) -> dict[str, ColumnKind]:
    """Returns the columns that are read, and as what."""
    times = preprocessing.time.columns
    holds_dates = len(times) == 1 and preprocessing.step.unit != "number"
    wanted: dict[str, ColumnKind] = dict.fromkeys(times, "time" if holds_dates else "number")
    if preprocessing.group is not None:
        wanted[preprocessing.group] = "category"
    for feature in preprocessing.features:
        wanted[feature.column] = feature.kind
    if has_targets:
        for name in preprocessing.targets:
            wanted.setdefault(name, "category" if preprocessing.kind == "classification" else "number")
    return wanted


def _regular(preprocessing: Preprocessing, sequences: list[Sequence], notes: list[str]) -> list[Sequence]:
    """Returns sequences with one timestep per step of the run; as in training, all together may have so many gaps."""
    step, rule = preprocessing.step, preprocessing.resample
    if rule is not None:
        sequences = [resampled(each, rule, preprocessing.time.timezone) for each in sequences]
    if not preprocessing.gaps:
        return sequences
    found = [gaps_of(each, step) for each in sequences]
    missing = sum(count for count, _ in found)
    if not missing:
        return sequences
    lines = [line for _, each in found for line in each][:MOST_NAMED]
    what = f"{sequences[0].source.name}: {missing:,} timesteps are missing ({step.length} each): {'; '.join(lines)}"
    if missing > preprocessing.most_gaps * sum(map(len, sequences)):
        raise DataError(f"{what}; add rows for them, with empty cells where nothing is known")
    notes.append(f"{what}; they are filled with missing values")
    return [filled(each, step) for each in sequences]
