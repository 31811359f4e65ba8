"""What the report shows, as plain values. Every text is printable here, and is escaped where it becomes HTML."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from seqrnn import __version__
from seqrnn.diagnosis.diagnosis import Verdict
from seqrnn.diagnosis.record import Record
from seqrnn.errors import UserError, printable
from seqrnn.keys import as_override
from seqrnn.reports import curves
from seqrnn.reports.gathering import Gathered
from seqrnn.reports.links import link_to
from seqrnn.reports.numbers import count_of, total_seconds
from seqrnn.reports.ranking import Ranking, ranking_of
from seqrnn.rundir.names import DIAGNOSIS, LOG
from seqrnn.rundir.reader import RunReader
from seqrnn.rundir.request import SafeLine, safe_command, safe_line
from seqrnn.sweeping.comparison import MOST_PICTURED, Result, conditions, differing
from seqrnn.sweeping.directory import FAILED, JOB_LOG, SweepDirectory
from seqrnn.sweeping.search_record import SearchRecord
from seqrnn.sweeping.tables import label
from seqrnn.sweeping.watching import duration

MOST_PICTURES = 24  # of a page
MOST_DIAGNOSES = 200
AS_PLANNED = ("finished", "pruned")
ORDER = ("finished", "running", "waiting", "interrupted", "diverged", "failed")


@dataclass(frozen=True)
class Unfinished:
    """A run that has not finished."""

    label: str
    link: str
    status: str
    reason: str
    logs: list[tuple[str, str]]
    command: SafeLine


@dataclass(frozen=True)
class Diagnosed:
    """What a diagnosis found."""

    label: str
    link: str
    headline: str
    causes: list[str]
    command: SafeLine


@dataclass(frozen=True)
class Search:
    """A search, and how much each key mattered."""

    number: int
    title: str
    counts: str
    importance: list[tuple[str, str, float]]
    data: dict[str, Any]


@dataclass
class Content:
    """Everything on the page."""

    title: str
    written: str
    line: SafeLine | None
    resume: str
    counts: list[tuple[str, int]]
    rankings: list[Ranking]
    unfinished: list[Unfinished] = field(default_factory=list)
    diagnoses: list[Diagnosed] = field(default_factory=list)
    more_diagnoses: int = 0
    searches: list[Search] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    work: str = ""


class _DiagnosisFile(Record):
    """What is read of diagnosis.json."""

    verdict: Verdict


def content_of(gathered: Gathered, paths: Sequence[Path], folder: Path) -> Content:
    """Returns what the report shows.

    Args:
        paths: the directories that were asked for.
        folder: where the report will lie; links are relative to it.
    """
    results, problems = gathered.results, dict(gathered.problems)
    keys, line = differing(results), _line(paths)
    statuses = [result.outcome.status for result in results]
    groups = itertools.groupby(conditions(results), key=lambda one: (one.task, one.metric))
    ranked = [list(group) for _, group in groups]
    points = curves.points_of_a_curve(sum(map(len, ranked)), 3)
    rankings, pictures = [], MOST_PICTURES
    for number, group in enumerate(ranked):
        rankings.append(ranking_of(number, group, folder, points, min(pictures, MOST_PICTURED), problems))
        pictures -= len(rankings[-1].pictures)
    order = {status: place for place, status in enumerate(ORDER)}
    unfinished = sorted(
        (result for result in results if result.outcome.status not in AS_PLANNED),
        key=lambda result: -order.get(result.outcome.status, 0),
    )
    diagnosed = [result for result in results if (result.directory / DIAGNOSIS).is_file()]
    diagnoses = [one for result in diagnosed[:MOST_DIAGNOSES] if (one := _diagnosed(result, keys, folder, problems))]
    return Content(
        title=printable(paths[0].resolve().name if len(paths) == 1 else f"{len(paths)} directories"),
        written=f"seqrnn {__version__}, {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        line=line,
        resume=safe_line([as_override("sweep.resume", str(paths[0]))], ["-m"]).text if line else "",
        counts=[
            (status, statuses.count(status)) for status in dict.fromkeys([*ORDER, *statuses]) if status in statuses
        ],
        rankings=rankings,
        unfinished=[_unfinished(result, keys, folder) for result in unfinished],
        diagnoses=diagnoses,
        more_diagnoses=max(0, len(diagnosed) - MOST_DIAGNOSES),
        searches=[_search(number, *item) for number, item in enumerate(gathered.searches.items())],
        problems=[(printable(where), printable(what)) for where, what in problems.items()],
        work=duration(total_seconds(result.outcome.seconds for result in results)),
    )


def _line(paths: Sequence[Path]) -> SafeLine | None:
    """Returns the line that made the sweep, if the report is of one."""
    if len(paths) != 1:
        return None
    try:
        line = SweepDirectory(paths[0]).read_plan().line
    except UserError:
        return None
    return safe_line(line, ["-m"])


def _unfinished(result: Result, keys: Sequence[str], folder: Path) -> Unfinished:
    status = result.outcome.status
    repeats = status in FAILED or status == "waiting"
    words = result.job.overrides if repeats else [as_override("resume", str(result.directory))]
    logs = [name for name in (JOB_LOG, LOG) if (result.directory / name).is_file()]
    return Unfinished(
        label=printable(label(result, keys)),
        link=link_to(result.directory, folder),
        status=status,
        reason=printable(result.outcome.reason),
        logs=[(name, link_to(result.directory / name, folder)) for name in logs],
        command=safe_line(words),
    )


def _diagnosed(result: Result, keys: Sequence[str], folder: Path, problems: dict[str, str]) -> Diagnosed | None:
    try:
        verdict = RunReader(result.directory).diagnosis(_DiagnosisFile).verdict
    except UserError as error:
        problems[str(result.directory / DIAGNOSIS)] = "; ".join(error.problems)
        return None
    return Diagnosed(
        label=printable(label(result, keys)),
        link=link_to(result.directory, folder),
        headline=printable(verdict.headline),
        causes=[printable(cause.finding.title) for cause in verdict.causes],
        command=safe_command(verdict.command or ""),
    )


def _search(number: int, directory: Path, record: SearchRecord) -> Search:
    states = [trial.state for trial in record.trials]
    counts = ", ".join(
        f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed") if state in states
    )
    importance = sorted(record.importance.items(), key=lambda item: -item[1])
    return Search(
        number=number,
        title=printable(f"{directory.resolve().name}: {record.metric}, {record.direction}d"),
        counts=f"{count_of(len(record.trials), 'trial')}: {counts}",
        importance=[(printable(key), f"{share:.0%}", share) for key, share in importance],
        data={
            "metric": printable(record.metric),
            "higher": record.direction == "maximize",
            "trials": [
                {
                    "number": trial.number,
                    "state": trial.state,
                    "value": trial.value,
                    "label": printable(" ".join(f"{key}={value}" for key, value in trial.parameters.items())),
                }
                for trial in record.trials
            ],
        },
    )
