"""Reads many run directories into a table and learning curves: ``seqrnn.load_all("outputs/…")``.

The directories may come from anyone: nothing in them is run, and what cannot be read is named and left out.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from seqrnn.errors import DataError, UserError
from seqrnn.keys import flattened
from seqrnn.rundir.names import CONFIG, METRICS_JSONL
from seqrnn.rundir.reader import RunReader, was_not_closed

MOST_LEVELS = 6  # folders between the directory that is searched and a run
NOT_FINISHED = "running or killed"
# Keys that say how a run was carried out, not which run it is.
INCIDENTAL = ("resume", "plugins")


def load_all(*paths: str | Path) -> Runs:
    """Returns all runs at or below one or more directories, as a table and curves.

        runs = seqrnn.load_all("outputs/sweep")
        runs.table.groupby("model.name")["test.mse"].mean()
        runs.curves, runs.problems

    Directories that are damaged, or that other programs have written, are named in ``problems`` and left out.

    Raises:
        DataError: a directory does not exist, or holds no run at all.
    """
    return Runs([Path(path).expanduser() for path in paths or ("outputs",)])


class Runs:
    """Run directories below one or more folders, read when something of them is asked for.

    Args:
        paths: folders, or run directories.

    Raises:
        DataError: a folder does not exist, or holds no run at all.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.problems: dict[str, str] = {}  # by directory: why it is not in the table
        self._records: dict[Path, tuple[dict[str, Any], dict[str, Any]]] = {}
        for path in paths:
            if not path.is_dir():
                raise DataError(f"{path}: there is no such directory")
        for directory in find_all_runs(paths):
            try:
                self._records[directory] = read_record(directory)
            except UserError as error:
                self.problems[str(directory)] = "; ".join(error.problems)
        if not self._records and not self.problems:
            raise DataError(f"{', '.join(map(str, paths))}: no run directories (none has a {CONFIG})")

    @property
    def directories(self) -> list[Path]:
        """The run directories that could be read."""
        return [*self._records]

    @cached_property
    def table(self) -> Any:
        """A pandas DataFrame with a row for each run: the config keys that differ (``model.name``), ``status``, test
        metrics (``test.mse``), those of the baselines (``persistence.mse``), ``updates``, ``timesteps``,
        ``train_seconds`` and ``directory``."""
        import pandas

        flats = [config for config, _ in self._records.values()]
        keys = differing_keys(flats)
        rows = [
            {**{key: _cell(config.get(key)) for key in keys}, **results, "directory": str(directory)}
            for directory, (config, results) in self._records.items()
        ]
        columns = dict.fromkeys(key for row in rows for key in row if key != "directory")
        return pandas.DataFrame(rows, columns=[*columns, "directory"])

    @cached_property
    def curves(self) -> Any:
        """A pandas DataFrame with the rows of metrics.jsonl of all runs; ``directory`` says which run each is of."""
        import pandas

        parts = []
        for directory in self._records:
            if not (directory / METRICS_JSONL).is_file():
                continue
            try:
                columns = RunReader(directory).metrics()
            except UserError as error:
                self.problems[str(directory / METRICS_JSONL)] = "; ".join(error.problems)
                continue
            parts.append(pandas.DataFrame({"directory": str(directory), **columns}))
        return pandas.concat(parts, ignore_index=True) if parts else pandas.DataFrame({"directory": []})

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        unread = f", {len(self.problems)} not read (see .problems)" if self.problems else ""
        return f"<{len(self)} seqrnn runs{unread}>"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the table, in which every text is escaped."""
        return str(self.table.to_html(escape=True, max_rows=60))


def find_runs(path: Path, marks: Collection[str] = (CONFIG,)) -> Iterator[Path]:
    """Yields the run directories at or below ``path``, sorted; links are not followed.

    Args:
        marks: files of which a run directory has at least one.
    """
    for folder, below, files in os.walk(path):
        depth = len(Path(folder).relative_to(path).parts)
        is_run = any(mark in files for mark in marks)
        if is_run:
            yield Path(folder)
        if is_run or depth >= MOST_LEVELS:
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))


def find_all_runs(paths: Iterable[Path], marks: Collection[str] = (CONFIG,)) -> list[Path]:
    """Returns the run directories at or below several paths. One to which two paths lead is there once, so that no
    run counts twice.

    Args:
        marks: as of ``find_runs``.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for directory in find_runs(path, marks):
            found.setdefault(directory.resolve(), directory)
    return [*found.values()]


def read_record(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the flat config of a run, and its results: status, scores, updates and seconds.

    Raises:
        DataError: a file is missing or damaged.
    """
    reader = RunReader(directory)
    config = flattened({key: value for key, value in reader.config().items() if key not in INCIDENTAL})
    summary = reader.summary()
    status = summary.get("status") or "unknown"
    if status == "running" or (status == "finished" and was_not_closed(directory)):
        status = NOT_FINISHED
    numbers = {
        f"{name}.{metric}": value
        for name, values in scores_by_name(summary).items()
        for metric, value in (values.items() if isinstance(values, Mapping) else ())
    }
    counts = {key: summary.get(key) for key in ("updates", "timesteps", "train_seconds")}
    return config, {"status": status, **numbers, **counts}


def scores_by_name(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the scores of a summary on the test data: those of the network as ``test``, and those of the baselines
    by name. A baseline that a stranger calls ``test`` does not stand for the network."""
    own = {"test": summary.get("test") or {}}
    return {**own, **(summary.get("baselines") or {}), **own}


def differing_keys(flats: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the keys that do not have the same value in all configs, in the order of their first appearance."""
    keys = dict.fromkeys(key for flat in flats for key in flat)
    first = flats[0] if flats else {}
    return [key for key in keys if any(flat.get(key, ...) != first.get(key, ...) for flat in flats)]


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
