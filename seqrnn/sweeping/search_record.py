"""The record of a search: search.json in the directory of a sweep. The report shows it if it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from seqrnn.rundir.atomic import replacing
from seqrnn.rundir.bounded import ByName, Items, Name, read_model, resolve_inside
from seqrnn.rundir.strict_json import to_json

SEARCH = "search.json"
MOST_TRIALS = 100_000
Value = str | int | float | bool | None


class SearchTrial(BaseModel, frozen=True):
    """A trial of a search.

    Args:
        number: its place in the search, from 0.
        job: the name of its directory.
        state: how it ended.
        value: of the metric; None if the trial has none.
        parameters: what was chosen for it, by key.
    """

    number: Annotated[int, Field(ge=0)]
    job: Name
    state: Literal["complete", "pruned", "failed"]
    value: float | None
    parameters: ByName[Value]


class SearchRecord(BaseModel, frozen=True):
    """search.json.

    Args:
        metric: what was optimized.
        trials: in the order in which they were made.
        importance: the share that each key has in the variation of the metric, from 0 to 1; empty if it is unknown.
    """

    metric: Name
    direction: Literal["minimize", "maximize"]
    trials: Annotated[Items[SearchTrial], Field(max_length=MOST_TRIALS)]
    importance: ByName[float]


def write_search(directory: Path, record: SearchRecord) -> None:
    """Writes search.json into the directory of a sweep."""
    with replacing(directory / SEARCH) as path:
        path.write_text(to_json(record.model_dump(mode="json")) + "\n", encoding="utf-8")


def read_search(directory: Path) -> SearchRecord | None:
    """Reads search.json, which may come from anyone; None if there is none.

    Raises:
        DataError: it is damaged, or not what it should be.
    """
    path = resolve_inside(directory, SEARCH)
    return read_model(path, SearchRecord) if path.is_file() else None
