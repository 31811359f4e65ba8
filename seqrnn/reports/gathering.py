"""Reads run directories, of sweeps or not. They may come from anyone: nothing in them is run, and what cannot be read
is named and left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from seqrnn.errors import DataError, UserError
from seqrnn.keys import flattened, prefixes
from seqrnn.metrics import is_higher_better
from seqrnn.plugins import load_components
from seqrnn.run_table import NOT_FINISHED, differing_keys, find_all_runs
from seqrnn.rundir.names import CONFIG, OVERRIDES, SUMMARY
from seqrnn.rundir.reader import RunReader, was_not_closed
from seqrnn.sweeping.combining import key_of
from seqrnn.sweeping.comparison import SEED, Result, result_of, seed_of, settings_of
from seqrnn.sweeping.directory import JOB, Job, Outcome, Status, SweepDirectory
from seqrnn.sweeping.search_record import SearchRecord, read_search

# Keys that change no result: runs that differ in nothing else are compared as one condition.
NO_PART = frozenset(
    {"hydra", "sweep", "resume", "plugins", "plots", "logger", "log_every", "checkpoint", "diagnose", SEED}
    | {"task.data_dir", "task.download"}
)


@dataclass
class Gathered:
    """
    Args:
        results: of all runs that could be read.
        searches: records of searches, by the directory of the sweep.
        problems: why a directory or a file could not be read, by its path.
    """

    results: list[Result] = field(default_factory=list)
    searches: dict[Path, SearchRecord] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def gather(paths: Sequence[Path]) -> Gathered:
    """Reads all runs at or below directories.

    Raises:
        DataError: a directory does not exist, or they hold no run at all.
    """
    found = Gathered()
    for path in paths:
        if not path.is_dir():
            raise DataError(f"{path}: there is no such directory")
    directories = find_all_runs(paths, (CONFIG, JOB))
    if not directories:
        raise DataError(f"{', '.join(map(str, paths))}: no run directories (none has a {CONFIG})")
    for directory in directories:
        try:
            found.results.append(_read(directory))
        except UserError as error:
            found.problems[str(directory)] = "; ".join(error.problems)
    sweeps = {path.resolve(): path for path in [*paths, *(directory.parent for directory in directories)]}
    for sweep in sweeps.values():
        try:
            record = read_search(sweep)
        except UserError as error:
            found.problems[str(sweep)] = "; ".join(error.problems)
            continue
        if record is not None:
            found.searches[sweep] = record
    found.results = with_settings(found.results)
    metrics = {result.metric for result in found.results} - {""}
    if any(is_higher_better(metric, None) is None for metric in metrics):
        load_components()  # the task declares whether higher values are better
    return found


def _read(directory: Path) -> Result:
    """Reads a job of a sweep, or a run.

    Raises:
        DataError: a file is damaged.
    """
    if (directory / JOB).is_file():
        sweep = SweepDirectory(directory.parent)
        return result_of(sweep, sweep.read_job(directory.name), {})
    reader = RunReader(directory)
    overrides = reader.overrides() if reader.has(OVERRIDES) else []
    summary = reader.summary() if reader.has(SUMMARY) else {}
    job = Job.model_construct(name=directory.name, number=0, identity={}, overrides=overrides, values=reader.config())
    return Result(job, _outcome(directory, summary), {}, summary, seed_of(job), directory)


def _outcome(directory: Path, summary: Mapping[str, Any]) -> Outcome:
    """Returns how a run ended that is no job of a sweep."""
    status = summary.get("status", "")
    if was_not_closed(directory) or status == "running":
        return Outcome(status="running", reason=NOT_FINISHED)
    return Outcome.model_construct(
        status=status if status in get_args(Status) else "interrupted",
        reason="" if status == "finished" else "; ".join(summary.get("problems", ())),
        attempts=1,
        seconds=summary.get("wall_seconds") or 0.0,
    )


def with_settings(results: Sequence[Result]) -> list[Result]:
    """Returns results with the keys that tell them apart: those that some run was given on its command line, and
    those in which configs differ although the command lines do not, because files in conf/ have been changed."""
    typed = [key for result in results for key in map(key_of, result.job.overrides)]
    keys = [key for key in dict.fromkeys(typed) if not _is_no_part(key)]
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(settings_of(result.job, keys).values()), []).append(result)
    hidden = dict[str, None]()
    for group in groups.values():
        if len(group) > 1:
            hidden |= dict.fromkeys(differing_keys([flattened(result.job.values) for result in group]))
    keys += [key for key in hidden if not _is_no_part(key) and key not in keys]
    seed = [SEED] if SEED in typed else []
    return [replace(result, settings=settings_of(result.job, [*keys, *seed])) for result in results]


def _is_no_part(key: str) -> bool:
    return not NO_PART.isdisjoint(prefixes(key.replace("/", ".")))
