"""What ``python -m seqrnn.evaluate`` does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqrnn.assessment.assessment import Assessment, Difference, Estimate, assess
from seqrnn.assessment.judged import judge, mean_of, with_common_data
from seqrnn.prediction import trained
from seqrnn.prediction.terminal import counted, line
from seqrnn.prediction.trained import TrainedRun, Which
from seqrnn.recording.header import relative
from seqrnn.recording.score_table import ScoreTable
from seqrnn.recording.terminal import Screen
from seqrnn.rundir.names import SUMMARY

CLOSE = 1e-3  # relative difference between a score and that of the summary, from another device or kernel


def evaluate(
    directories: Sequence[Path],
    *,
    files: Sequence[Path] = (),
    is_ensemble: bool = False,
    confidence: float = 0.95,
    which: Which = "last",
    plugins: Sequence[str] = (),
) -> dict[str, Assessment]:
    """Repeats the tests of runs, prints their scores with confidence intervals, and returns them by run.

    Args:
        files: to be scored instead of the test data.
        is_ensemble: whether the mean of the runs is scored as well.
        confidence: of the intervals.
        which: the weights, see ``seqrnn.prediction.trained.load``.

    Raises:
        UserError: a run or its data cannot be used.
    """
    runs = [trained.load(directory, plugins, which) for directory in directories]
    if is_ensemble:
        runs = with_common_data(runs, plugins)
    screen = Screen(highlight=False)
    screen.print(f"seqrnn: {'new data' if files else 'the test'} of {counted(len(runs), 'run')}", style="bold")
    judged = [judge(run, files) for run in runs]
    found = {}
    if is_ensemble:
        found[f"ensemble of {len(runs)}"] = assess(mean_of(runs, judged), confidence)
    for run, one in zip(runs, judged, strict=True):
        found[_free(_name(run), found)] = assessment = assess(one, confidence)
        if not files and which == "last" and run.seed == run.values["seed"]:
            _compare_with_summary(screen, run, assessment)
    for table in _together(found):
        _print_scores(screen, table)
    return found


def _name(run: TrainedRun) -> str:
    return f"{run.run.directory.resolve().name} ({run.values['model']['name']}, seed {run.values['seed']})"


def _free(name: str, taken: Mapping[str, object]) -> str:
    """Returns the name, with a number where it is taken: directories of different parents may have one name."""
    return next(one for one in [name, *(f"{name} #{n}" for n in range(2, len(taken) + 3))] if one not in taken)


def _compare_with_summary(screen: Screen, run: TrainedRun, found: Assessment) -> None:
    """Prints a line for each score that is not the one in the summary."""
    recorded = run.run.summary.get("test") or {}
    for name, one in found.scores.items():
        before = recorded.get(name)
        if before is not None and not math.isclose(before, one.value, rel_tol=CLOSE, abs_tol=1e-9):
            path = relative(run.run.directory.absolute() / SUMMARY)
            line(screen, f"  note: {name} is {_number(name, one.value)} here, and {_number(name, before)} in {path}")


def _together(found: Mapping[str, Assessment]) -> list[dict[str, Assessment]]:
    """Puts runs into one table whose baselines have the same scores, so that they were tested on the same data."""
    tables: list[dict[str, Assessment]] = []
    for name, one in found.items():
        for table in tables:
            if _same_data(next(iter(table.values())), one):
                table[name] = one
                break
        else:
            tables.append({name: one})
    return tables


def _same_data(one: Assessment, other: Assessment) -> bool:
    return (
        list(one.scores) == list(other.scores)
        and one.baselines.keys() == other.baselines.keys()
        and all(
            score.value == other.baselines[name][metric].value
            for name, scores in one.baselines.items()
            for metric, score in scores.items()
        )
    )


def _print_scores(screen: Screen, found: Mapping[str, Assessment]) -> None:
    first = next(iter(found.values()))
    line(screen, f"  intervals of {100 * first.confidence:g} %, by the bootstrap over {first.groups.description}")
    scores: dict[str, Mapping[str, Any]] = {name: one.scores for name, one in found.items()}
    screen.print(ScoreTable({**scores, **first.baselines}, "", _shown, len(found)))
    for name, one in found.items():
        if one.difference is not None:
            line(screen, f"{name} − {one.difference.baseline}, {one.difference.metric}: {_signed(one.difference)}")


def _shown(metric: str, estimate: Estimate) -> str:
    """Returns a score and its interval as a cell shows them."""
    value = _number(metric, estimate.value)
    if math.isnan(estimate.low):
        return value
    return f"{value} [{_number(metric, estimate.low)}, {_number(metric, estimate.high)}]"


def _signed(difference: Difference) -> str:
    """Returns a difference and its interval, with their signs."""
    estimate = difference.estimate
    value, low, high = (f"{part:+.3g}".replace("-", "−") for part in (estimate.value, estimate.low, estimate.high))
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"


def _number(metric: str, value: float) -> str:
    if metric == "r2" or metric.startswith(("accuracy", "coverage")):
        return f"{value:.4f}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.5g}"
