"""What ``python -m seqrnn.evaluate`` does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from seqrnn.assessment import ensemble
from seqrnn.assessment.assessment import Assessment, assess, predict
from seqrnn.assessment.resampling import Estimate
from seqrnn.errors import DataError, printable
from seqrnn.prediction import trained
from seqrnn.prediction.trained import TrainedRun, Which
from seqrnn.recording.header import relative
from seqrnn.recording.score_table import ScoreTable
from seqrnn.recording.terminal import Screen
from seqrnn.rundir.names import PREPROCESSING, SUMMARY
from seqrnn.rundir.reader import RunReader
from seqrnn.tables.preprocessing import Preprocessing

CLOSE = 1e-3  # relative difference between a score and that of the summary, from another device or kernel


def evaluate(
    directories: Sequence[Path],
    *,
    data: Sequence[Path] = (),
    is_ensemble: bool = False,
    confidence: float = 0.95,
    which: Which = "last",
    plugins: Sequence[str] = (),
) -> dict[str, Assessment]:
    """Repeats the tests of runs, prints their scores with confidence intervals, and returns them by run.

    Args:
        data: files to be scored instead of the test data.
        is_ensemble: whether the mean of the runs is scored as well.
        confidence: of the intervals.
        which: the weights, see ``seqrnn.prediction.trained.load``.

    Raises:
        UserError: a run or its data cannot be used.
    """
    runs = [trained.load(directory, plugins, which) for directory in directories]
    for run in runs if not data else ():
        check_data_is_unchanged(run)
    screen = Screen(highlight=False)
    _title(screen, f"seqrnn: {'new data' if data else 'test'} of {len(runs)} run{'s' * (len(runs) != 1)}")
    if is_ensemble:
        runs = ensemble.common_runs(runs, plugins)
    found = {}
    for run in runs:
        found[name_of(run)] = one = assess(predict(run, data), run.task, run.loss, confidence)
        if not data and run.seed == run.values["seed"] and which == "last":
            _compare_with_summary(screen, run, one)
    if is_ensemble:
        mean = ensemble.predict_mean(runs, data)
        found = {f"ensemble of {len(runs)}": assess(mean, runs[0].task, runs[0].loss, confidence), **found}
    for shown in _together(found):
        _print_scores(screen, shown, runs[0].task.loss)
    return found


def name_of(run: TrainedRun) -> str:
    """Returns a short name of a run: its model, its seed and its directory."""
    directory = run.run.directory
    parent = directory.parent.name
    where = f"{parent}/{directory.name}" if parent else directory.name
    return f"{run.values['model']['name']}, seed {run.values['seed']} ({where})"


def check_data_is_unchanged(run: TrainedRun) -> None:
    """Checks that the files from which a run's test data is read are those that it was trained on.

    Raises:
        DataError: they are others.
    """
    reader = RunReader(run.run.directory)
    if not reader.has(PREPROCESSING):
        return
    stored = reader.document(PREPROCESSING, Preprocessing)
    if stored != getattr(run.task, "preprocessing", None):
        raise DataError(
            f"{run.run.directory}: the data that it was trained on has changed since, so that its test cannot be "
            f"repeated; restore {run.values['task'].get('path')}, or score the new rows with --data FILE"
        )


def _compare_with_summary(screen: Screen, run: TrainedRun, found: Assessment) -> None:
    """Prints a line for each score that is not the one in the summary."""
    recorded = run.run.summary.get("test") or {}
    for name, one in found.scores.items():
        before = recorded.get(name)
        if before is not None and not math.isclose(before, one.value, rel_tol=CLOSE, abs_tol=1e-9):
            _line(screen, f"  note: {name} is {one.value:.4g} here, and {before:.4g} in {_path(run)}/{SUMMARY}")


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


def _print_scores(screen: Screen, found: Mapping[str, Assessment], loss: str) -> None:
    first = next(iter(found.values()))
    _line(screen, f"  intervals of {first.confidence:.4g}, by the bootstrap over {first.groups.description}")
    scores: dict[str, Mapping[str, Any]] = {name: one.scores for name, one in found.items()}
    screen.print(ScoreTable({**scores, **first.baselines}, loss, _shown, len(found)))


def _shown(metric: str, estimate: Estimate) -> str:
    """Returns a score and its interval as a cell shows them."""
    value = _number(metric, estimate.value)
    if math.isnan(estimate.low):
        return value
    return f"{value} [{_number(metric, estimate.low)}, {_number(metric, estimate.high)}]"


def _number(metric: str, value: float) -> str:
    if metric == "r2" or metric.startswith(("accuracy", "coverage")):
        return f"{value:.4f}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.5g}"


def _path(run: TrainedRun) -> str:
    return relative(run.run.directory.absolute())


def _title(screen: Screen, text: str) -> None:
    screen.print(Text(printable(text), style="bold"))


def _line(screen: Screen, text: str) -> None:
    screen.print(Text(printable(text)))
