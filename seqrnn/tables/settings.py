"""The settings of task=csv that concern its table, and what does not fit together in them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from seqrnn.tables.cells import ReadOptions
from seqrnn.tables.preprocessing import Kind, Missing, Mode, UnknownCategories
from seqrnn.tables.times import is_timezone


class TableSettings(BaseModel, frozen=True, extra="forbid"):
    """The settings of a table; conf/task/csv.yaml explains each of them. ``auto`` is guessed from the data. Without a
    path, a table is generated."""

    path: str | None
    kind: Kind
    horizon: int
    mode: Mode
    target: tuple[str, ...] | Literal["auto"]
    inputs: tuple[str, ...] | Literal["auto"]
    known: tuple[str, ...]
    categories: tuple[str, ...]
    time: tuple[str, ...] | Literal["auto"] | None
    time_format: str | None
    timezone: str | None
    group: str | None
    resample: str | None
    sort: bool
    gaps: Literal["auto", "fill", "ignore", "error"]
    calendar: Literal["auto", "none"]
    missing: Missing
    unknown_categories: UnknownCategories
    log: bool
    difference: bool | Literal["auto"]
    split: Literal["auto", "time", "date", "group"]
    validation: float
    test: float
    season: int | Literal["auto"]
    warmup: int | Literal["auto"]
    read: ReadOptions

    @property
    def splits_groups(self) -> bool:
        """Whether whole sequences are trained on or held out; otherwise the end of each is held out."""
        return self.split == "group" or (self.split == "auto" and self.kind == "classification")


def problems_of(settings: TableSettings) -> list[str]:
    """Returns what does not fit together in the settings, a line each."""
    problems = []
    targets = () if settings.target == "auto" else settings.target
    if settings.target == ():
        problems.append("task.target=[]: there is nothing to predict; name a column")
    if settings.kind == "classification" and len(targets) > 1:
        problems.append(f"task.target={list(targets)}: a classification has one label; name one column")
    if settings.kind != "forecast":
        both = [name for name in targets if settings.inputs != "auto" and name in settings.inputs]
        problems += [
            f"task.inputs: {name} is the target, and a {settings.kind} would only copy it; leave it out"
            for name in both
        ]
        if settings.horizon != 1:
            problems.append(f"task.horizon={settings.horizon}: only task.kind=forecast has a horizon; leave it at 1")
        if settings.difference is True:
            problems.append(f"task.difference=true: a {settings.kind} reads no past targets; leave it at auto")
    if settings.kind == "classification" and settings.log:
        problems.append("task.log=true: a classification predicts no number; leave it false")
    if settings.kind == "classification" and settings.split in ("time", "date"):
        problems.append(f"task.split={settings.split}: a classification divides whole sequences; leave it at auto")
    if settings.split == "date" and settings.time is None:
        problems.append("task.split=date: needs a column of times, and task.time=null says that there is none")
    problems += [
        f"task.known: {name} is the target, which is not known in advance; leave it out"
        for name in settings.known
        if name in targets
    ]
    times = settings.time if isinstance(settings.time, tuple) else ()
    if settings.timezone is not None and not is_timezone(settings.timezone):
        problems.append(f"task.timezone={settings.timezone}: no such time zone; write it as Europe/Berlin or UTC")
    if settings.group is not None and settings.group in times:
        problems.append(f"task.group: {settings.group} is the column of task.time; name another, or null")
    for key, names in (("inputs", settings.inputs), ("known", settings.known), ("target", targets)):
        for name in names if names != "auto" else ():
            if name in times or name == settings.group:
                what = "time" if name in times else "group"
                problems.append(f"task.{key}: {name} is the column of task.{what}; leave it out (see task.calendar)")
    if settings.read.thousands == settings.read.decimal:
        problems.append(f"task.thousands={settings.read.thousands}: is the decimal mark, too; see task.decimal")
    if settings.validation + settings.test >= 1:
        problems.append(
            f"task.validation={settings.validation}, task.test={settings.test}: nothing is left to train on; make "
            "them less than 1 together"
        )
    return problems
