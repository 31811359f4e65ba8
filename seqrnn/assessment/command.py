"""What ``python -m seqrnn.evaluate`` does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from seqrnn.assessment.assessment import Assessment, Difference, Estimate, assess
from seqrnn.assessment.judged import Judged, judge, mean_of, same_data, with_common_data
from seqrnn.errors import ConfigError, DataError
from seqrnn.forecasting.verdict import Outcome
from seqrnn.prediction import trained
from seqrnn.prediction.terminal import NEW, counted, line
from seqrnn.prediction.trained import TrainedRun
from seqrnn.recording.header import relative
from seqrnn.recording.score_table import ScoreTable
from seqrnn.recording.terminal import Screen
from seqrnn.results import Which
from seqrnn.rundir.names import CONFIG, SUMMARY

OUTCOMES: dict[Outcome, str] = {
    "better": "better",
    "worse": "worse: it does not beat the baseline",
    "unclear": "the data cannot tell which is better",
}
CLOSE = 1e-3  # relative difference between a score and that of the summary, from another device or kernel
LONGEST_NAME = 36  # letters of a directory: those of a single run have fewer


def evaluate(
    directories: Sequence[Path],
    *,
    files: Sequence[Path] = (),
    is_ensemble: bool = False,
    confidence: float = 0.95,
    which: Which = "tested",
    plugins: Sequence[str] = (),
) -> list[Assessment]:
    """Repeats the tests of runs, and prints their scores with confidence intervals.

    Args:
        files: to be scored instead of the test data.
        is_ensemble: whether the mean of the runs is scored as well.
        confidence: of the intervals.
        which: the weights, see ``seqrnn.prediction.trained.load``.

    Returns:
        The scores, of runs that are tested on the same data together.

    Raises:
        UserError: a run or its data cannot be used.
    """
    runs = [trained.load(directory, plugins, which) for directory in run_directories(directories)]
    if is_ensemble and len(runs) < 2:
        raise ConfigError("--ensemble: takes two run directories or more")
    if is_ensemble:
        runs = with_common_data(runs, plugins)
    screen = Screen(highlight=False)
    screen.print(f"seqrnn: {'new data' if files else 'the test'} of {counted(len(runs), 'run')}", style="bold")
    judged: dict[str, Judged] = {}
    for run in runs:
        name = _free(_name(run), judged)
        judged[name] = judge(run, files)
        for note in judged[name].notes:
            line(screen, f"  note: {name}: {note}" if len(runs) > 1 else f"  note: {note}")
    by_name = dict(zip(judged, runs, strict=True))
    if is_ensemble:
        judged = {f"ensemble of {len(runs)}": mean_of(runs, list(judged.values())), **judged}
    found = [assess(table, confidence) for table in _together(judged)]
    for assessment in found:
        for name, scores in assessment.networks.items():
            if name in by_name and not files and which == "tested":
                _compare_with_summary(screen, by_name[name], scores)
        _print_scores(screen, assessment, NEW if files else "test")
    return found


def run_directories(paths: Sequence[Path]) -> list[Path]:
    """Returns the run directories among paths. Beside them, files are left out: ``outputs/csv-gru/*`` names those of
    a sweep, too.

    Raises:
        DataError: a path is not there, or a directory is none of a run; names the directories below it that are.
    """
    found = [path for path in paths if path.is_dir() or not path.exists()]
    problems = []
    for path in found:
        if path.is_dir() and not (path / CONFIG).exists() and any(path.glob(f"*/{CONFIG}")):
            problems.append(f"{path}: is not a run directory, but holds some: write {path / '*'}")
    if problems:
        raise DataError(*problems)
    return found or list(paths)


def _name(run: TrainedRun) -> str:
    """Returns what tables call a run. Directories of a sweep have long names, of which the ends differ."""
    name = run.run.directory.resolve().name
    shown = name if len(name) <= LONGEST_NAME else f"…{name[-10:]}"
    return f"{shown} ({run.values['model']['name']}, seed {run.values['seed']})"


def _free(name: str, taken: Mapping[str, object]) -> str:
    """Returns the name, with a number where it is taken: directories of different parents may have one name."""
    return next(one for one in [name, *(f"{name} #{n}" for n in range(2, len(taken) + 3))] if one not in taken)


def _compare_with_summary(screen: Screen, run: TrainedRun, found: Mapping[str, Estimate]) -> None:
    """Prints a line for each score of a run's own test that is not the one in the summary."""
    if run.seed != run.values["seed"]:  # it was tested on other data
        return
    recorded = run.run.summary.get("test") or {}
    for name, one in found.items():
        before = recorded.get(name)
        if before is not None and not math.isclose(before, one.value, rel_tol=CLOSE, abs_tol=1e-9):
            path = relative(run.run.directory.absolute() / SUMMARY)
            line(screen, f"  note: {name} is {_number(name, one.value)} here, and {_number(name, before)} in {path}")


def _together(judged: Mapping[str, Judged]) -> list[dict[str, Judged]]:
    """Puts runs together that predict the same data and have the same baselines."""
    tables: list[dict[str, Judged]] = []
    for name, one in judged.items():
        for table in tables:
            first = next(iter(table.values()))
            if same_data(first, one) and first.baselines.keys() == one.baselines.keys():
                table[name] = one
                break
        else:
            tables.append({name: one})
    return tables


def _print_scores(screen: Screen, found: Assessment, title: str) -> None:
    line(screen, f"  intervals of {100 * found.confidence:g} %, by the bootstrap over {found.groups.description}")
    screen.print(ScoreTable({**found.networks, **found.baselines}, "", _shown, len(found.networks), title))
    for name, difference in found.differences.items():
        found_out = OUTCOMES[difference.outcome]
        line(screen, f"{name} − {difference.baseline}, {difference.metric}: {_signed(difference)}: {found_out}")


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
