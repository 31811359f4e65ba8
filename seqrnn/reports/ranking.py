"""A ranking: the conditions of one task and metric, as rows of the leaderboard and as data of plots. Every text is
printable here, and is escaped where it becomes HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqrnn.errors import printable
from seqrnn.reports import curves, numbers
from seqrnn.reports.forest import Forest, Scale
from seqrnn.reports.key_effects import Key, key_of
from seqrnn.reports.links import link_to
from seqrnn.reports.numbers import count_of, total_seconds
from seqrnn.reports.significance import LEVEL, Difference, differences, notes_of
from seqrnn.reports.thumbnails import try_thumbnail
from seqrnn.rundir.request import SafeLine, safe_line
from seqrnn.sweeping.comparison import Condition, Result, higher_is_better
from seqrnn.sweeping.tables import short_names
from seqrnn.sweeping.watching import duration

PREDICTIONS = "predictions.png"
NEGLIGIBLE = 1e-6  # times the largest mean: rounding


@dataclass(frozen=True)
class RunLine:
    """A run in the details of a condition."""

    name: str
    link: str
    seed: str
    value: str
    status: str
    updates: str
    seconds: str
    command: SafeLine


@dataclass(frozen=True)
class Row:
    """A condition in the leaderboard. Numbers are given twice: as they are written, and as they are sorted.

    Args:
        difference: to the best condition.
        verdict: ``best``, ``worse``, ``unclear``, ``untested``, or empty for a condition without a result.
        search: what the filter looks at.
    """

    number: int
    rank: str
    settings: list[str]
    label: str
    runs: list[RunLine]
    runs_text: str
    mean: float | None
    mean_text: str
    half: float | None
    half_text: str
    difference: Difference | None
    difference_text: str
    p_text: str
    verdict: str
    baseline: str
    baseline_text: str
    beats_baseline: bool | None
    updates: float | None
    updates_text: str
    seconds: float | None
    seconds_text: str
    forest: Forest | None
    search: str


@dataclass(frozen=True)
class Picture:
    """The predictions of a run."""

    label: str
    score: str
    source: str
    link: str


@dataclass(frozen=True)
class Ranking:
    """The conditions of one task and metric, the best first.

    Args:
        baseline: the best trivial predictor, if it is the same one for all conditions.
        headline: the best condition.
        facts: numbers about the ranking, each with what it is.
        notes: how the comparison is to be read.
        columns: of the metrics that are drawn, each with its name for people.
        data: what the plots draw.
    """

    number: int
    task: str
    metric: str
    is_higher_better: bool
    keys: list[Key]
    rows: list[Row]
    scale: Scale | None
    baseline: str
    headline: str
    facts: list[tuple[str, str]]
    notes: list[str]
    pictures: list[Picture]
    columns: list[tuple[str, str]]
    data: dict[str, Any]


def ranking_of(
    number: int, ranked: Sequence[Condition], folder: Path, points: int, pictures: int, problems: dict[str, str]
) -> Ranking:
    task, metric = ranked[0].task, ranked[0].metric
    is_higher = higher_is_better(task, metric)
    alone = len(ranked) == 1
    names = [key for key in ranked[0].settings if alone or len({one.settings[key] for one in ranked}) > 1]
    compared = differences(ranked)
    scores = [one.mean for one in ranked]
    form = numbers.column_format(scores)
    scale = Scale.of([value for one in ranked for value in one.values])
    shorts = dict(zip(names, short_names(names), strict=True))
    rows = [
        _row(place, one, names, shorts, difference, is_higher, form, scale, folder)
        for place, (one, difference) in enumerate(zip(ranked, compared, strict=True))
    ]
    rows = _aligned(rows, form)
    keys = [key_of(name, shorts[name], ranked, form, is_higher) for name in names]
    return Ranking(
        number=number,
        task=printable(task),
        metric=printable(metric),
        is_higher_better=is_higher,
        keys=keys,
        rows=rows,
        scale=scale,
        baseline=_common_baseline(rows),
        headline=rows[0].label if ranked[0].values else "no run has a result",
        facts=_facts(ranked, rows),
        notes=notes_of(ranked, compared),
        pictures=_pictures(ranked, rows, folder, pictures, problems),
        columns=[(printable(name), _column_text(name)) for name in curves.columns_of_interest(metric)],
        data=_data(ranked, rows, keys, is_higher, points, problems),
    )


def _row(
    place: int,
    one: Condition,
    names: Sequence[str],
    shorts: dict[str, str],
    difference: Difference | None,
    is_higher: bool,
    form: Callable[[float | None], str],
    scale: Scale | None,
    folder: Path,
) -> Row:
    settings = [printable(one.settings[name]) for name in names]
    label = " ".join(f"{printable(shorts[name])}={value}" for name, value in zip(names, settings, strict=True))
    finished, count = one.finished, len(one.results)
    baseline, mean = one.baseline, one.mean
    beats = None
    if baseline is not None and mean is not None:
        beats = mean > baseline[1] if is_higher else mean < baseline[1]
    statuses = sorted({result.outcome.status for result in one.results})
    full = " ".join(f"{printable(name)}={value}" for name, value in zip(names, settings, strict=True))
    return Row(
        number=place,
        rank=str(place + 1) if one.values else "",
        settings=settings,
        label=label or "all runs",
        runs=[_run_line(result, form, folder) for result in one.results],
        runs_text=str(count) if finished == count else f"{finished} of {count}",
        mean=mean,
        mean_text=form(mean),
        half=one.half_width,
        half_text="",
        difference=difference,
        difference_text="",
        p_text=numbers.p_value(difference.p) if difference else "",
        verdict=_verdict(place, one, difference),
        baseline=printable(baseline[0]) if baseline else "",
        baseline_text=f"{baseline[1]:.4g}" if baseline else "",
        beats_baseline=beats,
        updates=one.average("updates"),
        updates_text="",
        seconds=one.average("train_seconds"),
        seconds_text="",
        forest=scale.forest(one.values, mean, one.half_width, baseline[1] if baseline else None) if scale else None,
        search=f"{label} {full} {' '.join(statuses)}".lower(),
    )


def _aligned(rows: Sequence[Row], form: Callable[[float | None], str]) -> list[Row]:
    """Writes the numbers of the columns whose format depends on all rows. Differences have the digits of their
    intervals.

    Args:
        form: of scores.
    """
    means = [abs(row.mean) for row in rows if row.mean is not None and math.isfinite(row.mean)]
    least = NEGLIGIBLE * max(means, default=0.0)
    interval = numbers.column_format([row.half for row in rows], digits=2, least=least)
    spreads = [half for row in rows if row.difference and (half := row.difference.half_width or 0.0) > least]
    difference = numbers.column_format(spreads, digits=2) if spreads else form
    seconds = numbers.column_format([row.seconds for row in rows], digits=2)
    return [
        replace(
            row,
            half_text=interval(row.half),
            difference_text=numbers.signed(difference(row.difference.mean)) if row.difference else "",
            updates_text="" if row.updates is None else f"{row.updates:,.0f}",
            seconds_text=seconds(row.seconds),
        )
        for row in rows
    ]


def _common_baseline(rows: Sequence[Row]) -> str:
    """Returns the trivial predictor that all conditions are compared with; empty if there are several."""
    names = {row.baseline for row in rows if row.baseline}
    return names.pop() if len(names) == 1 else ""


def _verdict(place: int, one: Condition, difference: Difference | None) -> str:
    if not one.values:
        return ""
    if place == 0:
        return "best"
    if difference is None or difference.p is None:
        return "untested"
    return "worse" if difference.p < LEVEL else "unclear"


def _run_line(result: Result, form: Callable[[float | None], str], folder: Path) -> RunLine:
    updates, seconds = result.summary.get("updates"), result.summary.get("train_seconds")
    return RunLine(
        name=printable(result.directory.name),
        link=link_to(result.directory, folder),
        seed="" if result.seed is None else str(result.seed),
        value=form(result.value),
        status=result.outcome.status,
        updates=f"{updates:,}" if isinstance(updates, int) else "",
        seconds=f"{seconds:.3g}" if isinstance(seconds, int | float) else "",
        command=safe_line(result.job.overrides),
    )


def _column_text(name: str) -> str:
    """Returns the name of a column of the metrics, for people."""
    return "training loss" if name == "train_loss" else f"validation {printable(name.removeprefix('eval_'))}"


def _facts(ranked: Sequence[Condition], rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Returns numbers about the ranking, each with what it is."""
    best, row = ranked[0], rows[0]
    facts = []
    if best.mean is not None:
        half = f" ± {row.half_text}" if row.half_text else ""
        facts.append((f"{row.mean_text}{half}", f"mean over {count_of(len(best.values), 'seed')}"))
    if row.baseline:
        beaten = "" if row.beats_baseline else ", not beaten"
        facts.append((row.baseline_text, f"the best trivial predictor, {row.baseline}{beaten}"))
    unclear = sum(one.verdict == "unclear" for one in rows)
    tested = unclear + sum(one.verdict == "worse" for one in rows)
    if tested:
        facts.append((f"{unclear} of {tested}", "other conditions cannot be told from the best"))
    runs = [result for one in ranked for result in one.results]
    known = total_seconds(result.summary.get("train_seconds") for result in runs)
    facts.append((duration(known), f"of training, in {count_of(len(runs), 'run')}"))
    return facts


def _pictures(
    ranked: Sequence[Condition], rows: Sequence[Row], folder: Path, most: int, problems: dict[str, str]
) -> list[Picture]:
    """Returns the predictions of the best conditions, each by the run whose score is the nearest to the mean."""
    found: list[Picture] = []
    for one, row in zip(ranked, rows, strict=True):
        typical = one.typical
        if len(found) >= most or typical is None:
            break
        source = try_thumbnail(typical.directory, PREDICTIONS, problems)
        if source is not None:
            seed = "" if typical.seed is None else f", seed {typical.seed}"
            score = f"{printable(one.metric)} {typical.value:.4g}{seed}"
            found.append(Picture(row.label, score, source, link_to(typical.directory / PREDICTIONS, folder)))
    return found


def _data(
    ranked: Sequence[Condition],
    rows: Sequence[Row],
    keys: Sequence[Key],
    is_higher: bool,
    points: int,
    problems: dict[str, str],
) -> dict[str, Any]:
    """Returns what the plots of a ranking draw."""
    baseline = ranked[0].baseline
    return {
        "metric": printable(ranked[0].metric),
        "higher": is_higher,
        "points": points,
        "keys": [
            {"name": key.name, "short": key.short, "number": key.is_number, "log": key.is_log, "values": key.values}
            for key in keys
        ],
        "baseline": {"name": printable(baseline[0]), "value": baseline[1]} if baseline else None,
        "validation": _validation_baseline(ranked, is_higher),
        "rows": [
            {
                "label": row.label,
                "settings": row.settings,
                "mean": row.mean,
                "half": row.half,
                "seeds": sorted(one.by_seed.items()),
                "updates": row.updates,
                "seconds": row.seconds,
                "curves": curves.curves_of(one, points, problems),
            }
            for one, row in zip(ranked, rows, strict=True)
        ],
    }


def _validation_baseline(ranked: Sequence[Condition], is_higher: bool) -> dict[str, Any]:
    """Returns the best trivial predictor on the validation data, by column of the metrics: of the first run
    of the best condition that has a result."""
    run = next((result for result in ranked[0].results if result.value is not None), None)
    scores = (run.summary.get("validation_baselines") or {}) if run else {}
    found = {}
    for metric in dict.fromkeys([ranked[0].metric, "loss"]):
        known = {
            name: values[metric]
            for name, values in scores.items()
            if values.get(metric) is not None and not name.startswith("floor")
        }
        if known:
            choose = max if is_higher and metric != "loss" else min
            name = choose(known, key=known.__getitem__)
            found[f"eval_{printable(metric)}"] = {"name": printable(name), "value": known[name]}
    return found
