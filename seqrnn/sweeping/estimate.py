"""Estimates how long jobs will take, from runs of the same kind that have been measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqrnn import components, smoke, training
from seqrnn.errors import UserError
from seqrnn.keys import flattened
from seqrnn.run_table import find_all_runs
from seqrnn.rundir.reader import RunReader
from seqrnn.settings import Values
from seqrnn.sweeping.directory import Job

MOST_BUILT = 100  # configs whose updates are counted; each takes its data to be made or read
MOST_RUNS = 2000  # directories that are searched for measured runs
# Runs in which these are equal take the same time for an update.
COST = ("task.name", "model.name", "model.hidden_size", "model.num_layers", "schedule.gradient", "schedule.streams",
        "schedule.window", "schedule.stride", "schedule.update_every", "precision", "device", "kernel", "threads",
        "smoke")  # fmt: skip


def planned_updates(jobs: Sequence[Job]) -> dict[str, int | None]:
    """Returns how many updates each job makes at most, by name. Jobs that differ in their seed alone count once.

    Returns:
        None for a job whose data cannot be made or read now (nothing is downloaded), and for configs beyond the first
        hundred.
    """
    counted: dict[str, int | None] = {}
    found = {}
    for job in jobs:
        key = repr(sorted((name, repr(value)) for name, value in flattened(job.values).items() if name != "seed"))
        if key not in counted:
            counted[key] = _count(job.values) if len(counted) < MOST_BUILT else None
        found[job.name] = counted[key]
    return found


def _count(values: Values) -> int | None:
    task = {**values["task"], **({"download": False} if "download" in values["task"] else {})}
    try:
        resolved = components.resolve_suggestions({**values, "task": task, "init_from": None})
        return training.planned_updates(
            components.build_components(smoke.shrink(resolved) if resolved["smoke"] else resolved)
        )
    except UserError:
        return None


def measured_runs(folders: Iterable[Path]) -> dict[str, tuple[float, int]]:
    """Returns the seconds and the updates of finished runs below some folders, summed by what an update costs."""
    found: dict[str, tuple[float, int]] = {}
    for directory in find_all_runs(folder for folder in folders if folder.is_dir())[:MOST_RUNS]:
        try:
            reader = RunReader(directory)
            summary, values = reader.summary(), reader.config()
        except UserError:
            continue
        seconds, updates = summary.get("wall_seconds"), summary.get("updates")
        if summary.get("status") == "finished" and isinstance(seconds, int | float) and updates:
            before = found.get(cost_of(values), (0.0, 0))
            found[cost_of(values)] = before[0] + seconds, before[1] + updates
    return found


def cost_of(values: Mapping[str, Any]) -> str:
    """Returns what decides how long an update takes."""
    flat = flattened(values)
    return repr([flat.get(key) for key in COST])


def seconds_of(job: Job, updates: int | None, measured: Mapping[str, tuple[float, int]]) -> float | None:
    """Returns how long a job will take, or None where no run like it has been measured."""
    known = measured.get(cost_of(_as_run(job.values)))
    return None if known is None or updates is None else known[0] / known[1] * updates


def _as_run(values: Values) -> Values:
    """Returns the config as a run directory would record it."""
    try:
        return smoke.shrink(values) if values["smoke"] else values
    except (KeyError, TypeError, UserError):
        return values
