"""What a user may say about a table: the settings of task=csv that concern its columns."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from seqrnn.tables.preprocessing import Kind, Missing, Mode, UnknownCategories
from seqrnn.tables.reading import ReadOptions


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
