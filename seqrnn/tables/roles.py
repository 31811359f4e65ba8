"""Decides what each column of a table is, by the user's settings and, where they leave it open, by its first rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from seqrnn.errors import DataError, printable
from seqrnn.tables.blocks import ColumnKind
from seqrnn.tables.cells import ReadOptions, cell_error, short
from seqrnn.tables.numbers import is_number_somehow
from seqrnn.tables.reading import Sample, missing_column
from seqrnn.tables.settings import TableSettings
from seqrnn.tables.times import TimeFormat, guess_format, have_offsets, other_format

TARGET_NAMES = ("target", "y", "label", "class")
TIME_NAMES = ("time", "date", "datetime", "timestamp", "year")
DATE_PARTS = ("year", "month", "day", "hour", "minute", "second")
MOST_CATEGORIES = 50  # of a column that is read although no key names it
SHARE_OF_NUMBERS = 0.5  # above it, a column holds numbers, and a text in it is a mistake
SHARE_IN_ANY_NOTATION = 0.9  # the same where they are numbers in another notation than that of the settings


@dataclass
class Roles:
    """What each column is.

    Args:
        wanted: the columns to be read, and as what.
        past, known: the inputs besides the targets' own past, by name.
        guessed: those of them that nobody named, which may be left out.
        notes: a line for each guess.
    """

    time: TimeFormat
    targets: tuple[str, ...]
    past: tuple[str, ...]
    known: tuple[str, ...]
    wanted: dict[str, ColumnKind]
    guessed: frozenset[str]
    notes: list[str] = field(default_factory=list)


def choose_roles(settings: TableSettings, sample: Sample) -> Roles:
    """Decides what the columns of a table are.

    Raises:
        DataError: a column that is named is not there, or is not what it should be.
    """
    names, notes = sample.names, list[str]()
    _check_named(settings, sample)
    kinds = {name: _kind_of(name, settings, sample) for name in names}
    time = _time(settings, sample, kinds, notes)
    taken = {*time.columns, *([settings.group] if settings.group is not None else [])}
    targets = _targets(settings, sample, kinds, taken, notes)
    others = [name for name in names if name not in taken and name not in targets and name not in settings.known]
    if settings.inputs == "auto":
        past = _worth_reading(others, settings, sample, kinds, notes)
        guessed = frozenset(past)
    else:
        past, guessed = (
            [name for name in settings.inputs if name not in targets and name not in settings.known],
            frozenset(),
        )
        repeated = [name for name in settings.inputs if name in targets]
        if repeated:
            notes.append(
                f"{', '.join(repeated)}: a target and an input as well; its past values are read, never those to be "
                "predicted"
            )
    if settings.kind == "forecast" and settings.mode == "recursive" and past:
        raise DataError(
            f"task.mode=recursive: {', '.join(map(short, past[:8]))} would have to be predicted as well, to be "
            "fed back; use task.mode=direct, name those that are known in advance in task.known, or leave them out "
            "of task.inputs"
        )
    wanted: dict[str, ColumnKind] = {}
    for name in time.columns:
        wanted[name] = "time" if kinds[name] == "time" else "number"
    if settings.group is not None:
        wanted[settings.group] = "category"
    for name in targets:
        wanted[name] = "category" if settings.kind == "classification" else "number"
    for name in (*past, *settings.known):
        wanted.setdefault(name, "number" if kinds[name] == "number" else "category")
    if settings.kind != "forecast" and not past and not settings.known:
        raise DataError(
            f"{sample.source.name}: no column is left to predict {targets[0]} from; name some with task.inputs"
        )
    return Roles(time, targets, tuple(past), settings.known, wanted, guessed, notes)


def _check_named(settings: TableSettings, sample: Sample) -> None:
    given: list[tuple[str, Sequence[str]]] = [
        ("task.target", () if settings.target == "auto" else settings.target),
        ("task.inputs", () if settings.inputs == "auto" else settings.inputs),
        ("task.known", settings.known),
        ("task.categories", settings.categories),
        ("task.time", () if settings.time in ("auto", None) else settings.time or ()),
        ("task.group", () if settings.group is None else (settings.group,)),
    ]
    problems = [
        problem
        for key, columns in given
        for name in columns
        if name not in sample.names
        for problem in missing_column(sample.source, name, sample.names, key).problems
    ]
    if problems:
        raise DataError(*problems)


def _kind_of(name: str, settings: TableSettings, sample: Sample) -> ColumnKind:
    if name in settings.categories:
        return "category"
    if name in sample.declared:
        return sample.declared[name]
    if settings.time not in ("auto", None) and name in (settings.time or ()) and settings.time_format:
        return "time"
    texts = [text for text in sample.texts[name] if text is not None]
    if sum(settings.read.number_of(text) is not None for text in texts) >= SHARE_OF_NUMBERS * len(texts):
        return "number"
    if guess_format(texts) is not None:
        return "time"
    return "number" if sum(map(is_number_somehow, texts)) >= SHARE_IN_ANY_NOTATION * len(texts) else "category"


def _time(settings: TableSettings, sample: Sample, kinds: dict[str, ColumnKind], notes: list[str]) -> TimeFormat:
    if settings.time is None:
        return TimeFormat()
    columns = _guess_time(settings, sample, kinds) if settings.time == "auto" else settings.time
    if not columns:
        return TimeFormat()
    if len(columns) > 1:
        unknown = [name for name in columns if name.lower() not in DATE_PARTS]
        if unknown or "year" not in {name.lower() for name in columns}:
            raise DataError(
                f"task.time={list(columns)}: several columns are read as {', '.join(DATE_PARTS)}, by their names, "
                "and a year must be there; name one column that holds the whole time, or rename them"
            )
    pattern, offsets = settings.time_format, False
    name = columns[0]
    if len(columns) == 1 and kinds[name] == "category":
        pattern = pattern or guess_format(sample.texts[name])
        if pattern is None:
            row, value = _first_text(sample, name)
            raise DataError(
                f"task.time={printable(name)}: {sample.source.name}, row {row}: {short(value)!r} is in "
                "no format of times that is known; give it, such as task.time_format='%d.%m.%Y %H:%M'"
            )
        kinds[name] = "time"
    elif len(columns) == 1 and kinds[name] == "time" and name not in sample.declared:
        pattern = pattern or guess_format(sample.texts[name])
    if settings.time_format is None and len(columns) == 1 and kinds[name] == "time" and name not in sample.declared:
        _check_unambiguous(sample, name, pattern)
    if pattern is not None and len(columns) == 1:
        offsets = have_offsets(sample.texts[name])
    if settings.time == "auto":
        how = f", read as {pattern}" if pattern not in (None, "ISO8601") else ""
        notes.append(f"time: {', '.join(columns)}{how} (task.time, task.time_format)")
    return TimeFormat(columns=tuple(columns), pattern=pattern, offsets=offsets, timezone=settings.timezone)


def _first_text(sample: Sample, name: str) -> tuple[int, str]:
    """Returns the row and the text of the first cell of a column that is not missing."""
    index = next((n for n, text in enumerate(sample.texts[name]) if text is not None), 0)
    return sample.source.first_row + index, sample.texts[name][index] or ""


def _check_unambiguous(sample: Sample, name: str, pattern: str | None) -> None:
    other = other_format(sample.texts[name])
    if other is not None:
        row, value = _first_text(sample, name)
        raise cell_error(
            sample.source, row, name, value,
            f"can be read as {pattern} and as {other}, and the other rows do not tell which is meant; give it: "
            f"task.time_format='{pattern}' or task.time_format='{other}'",
        )  # fmt: skip


def _guess_time(settings: TableSettings, sample: Sample, kinds: dict[str, ColumnKind]) -> tuple[str, ...]:
    named = {*settings.known, *([] if settings.group is None else [settings.group])}
    named |= {name for names in (settings.target, settings.inputs) if names != "auto" for name in names}
    names = [name for name in sample.names if name not in named]  # what is named for something else is no time
    for name in names:
        if kinds[name] == "time":
            return (name,)
    by_name = {name.lower(): name for name in names}
    if {"year", "month", "day"} <= by_name.keys() or {"year", "month"} <= by_name.keys():
        return tuple(by_name[part] for part in DATE_PARTS if part in by_name and kinds[by_name[part]] == "number")
    for name in names:
        if name.lower() in TIME_NAMES and kinds[name] == "number" and len(sample.names) > 1:
            values = _numbers(sample, name, settings.read)
            if len(values) == sample.rows and all(a < b for a, b in pairwise(values)):
                return (name,)
    return ()


def _numbers(sample: Sample, name: str, options: ReadOptions) -> list[float]:
    numbers = [options.number_of(text) for text in sample.texts[name] if text is not None]
    return [number for number in numbers if number is not None]


def _targets(
    settings: TableSettings, sample: Sample, kinds: dict[str, ColumnKind], taken: set[str], notes: list[str]
) -> tuple[str, ...]:
    if settings.target != "auto":
        if settings.kind != "classification":
            for name in settings.target:
                if kinds[name] != "number":
                    raise _no_target(settings, sample, name)
        return settings.target
    wanted: ColumnKind = "number" if settings.kind != "classification" else "category"
    open_to_choice = [name for name in sample.names if name not in taken and name not in settings.known]
    fitting = [name for name in open_to_choice if kinds[name] == wanted]
    named = [name for name in fitting if name.lower() in TARGET_NAMES]
    if not fitting and settings.kind == "classification":  # classes may be numbers
        fitting = named = [name for name in open_to_choice if name.lower() in TARGET_NAMES]
    if not fitting:
        raise DataError(
            f"{sample.source.name}: no column of {'texts' if wanted == 'category' else 'numbers'} is there to be "
            f"predicted; the columns are {', '.join(map(short, sample.names[:20]))}: name one with task.target"
        )
    target = named[0] if named else fitting[-1]
    notes.append(f"target: {printable(target)} (task.target)")
    return (target,)


def _no_target(settings: TableSettings, sample: Sample, name: str) -> DataError:
    texts = sample.texts[name]
    index = next((n for n, text in enumerate(texts) if text and settings.read.number_of(text) is None), 0)
    return cell_error(
        sample.source, sample.source.first_row + index, name, texts[index],
        f"is not a number, and a {settings.kind} predicts numbers (task.target={printable(name)}); name another "
        "column, or set task.kind=classification",
    )  # fmt: skip


def _worth_reading(
    others: list[str], settings: TableSettings, sample: Sample, kinds: dict[str, ColumnKind], notes: list[str]
) -> list[str]:
    """Returns the columns that are read although no key names them, and notes those that are not."""
    kept, left_out = [], []
    for name in others:
        texts = [text for text in sample.texts[name] if text is not None]
        reason = None
        if not texts:
            reason = "empty"
        elif kinds[name] == "time":
            reason = "a time"
        elif kinds[name] == "category" and len(set(texts)) > MOST_CATEGORIES:
            reason = "texts that are all different" if len(set(texts)) == len(texts) else "too many categories"
        elif kinds[name] == "number" and _counts(_numbers(sample, name, settings.read), sample.rows):
            reason = "a count of rows"
        if reason is None:
            kept.append(name)
        else:
            left_out.append(f"{printable(name)} ({reason})")
    if others:
        shown = ", ".join(map(short, kept[:12])) + (f" and {len(kept) - 12} more" if len(kept) > 12 else "")
        without = f"; left out: {', '.join(left_out[:12])}" if left_out else ""
        notes.append(f"inputs: {shown or 'none'}{without} (task.inputs)")
    return kept


def _counts(values: list[float], rows: int) -> bool:
    """Returns whether a column counts its rows."""
    return len(values) == rows > 3 and all(b - a == 1 for a, b in pairwise(values))
