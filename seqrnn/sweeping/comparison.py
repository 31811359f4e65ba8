"""Compares the conditions of a sweep: jobs that differ in nothing but their seed are one condition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqrnn.errors import UserError
from seqrnn.keys import as_typed, flattened
from seqrnn.metrics import is_higher_better
from seqrnn.registry import find
from seqrnn.rundir.reader import RunReader
from seqrnn.sweeping.combining import key_of
from seqrnn.sweeping.directory import Job, Outcome, SweepDirectory

CONFIDENCE = 0.95
MOST_PICTURED = 8  # conditions of a task, the best, whose pictures are shown
SEED = "seed"


@dataclass(frozen=True)
class Result:
    """A job, how it ended, and what it measured.

    Args:
        settings: the value of each key that some job of the sweep overrides.
        summary: summary.json; empty if there is none that can be read.
        seed: of the run.
        directory: of the run.
    """

    job: Job
    outcome: Outcome
    settings: dict[str, str]
    summary: dict[str, Any]
    seed: int | None
    directory: Path = Path()

    @property
    def metric(self) -> str:
        """The headline metric, or an empty text."""
        return str(self.summary.get("headline") or "")

    @property
    def value(self) -> float | None:
        """The headline metric on the test data, of a job that has finished; None if it is not finite."""
        value = (self.summary.get("test") or {}).get(self.metric)
        if self.outcome.status != "finished" or value is None or not math.isfinite(value):
            return None
        return float(value)


@dataclass
class Condition:
    """Jobs that differ in nothing but their seed.

    Args:
        settings: the keys that differ between conditions.
        results: of the jobs.
    """

    task: str
    metric: str
    settings: dict[str, str]
    results: list[Result] = field(default_factory=list)

    @property
    def by_seed(self) -> dict[int, float]:
        """The headline metric by seed; of several runs with one seed, which are no more than one draw, their mean."""
        found: dict[int, list[float]] = {}
        for result in self.results:
            if result.seed is not None and result.value is not None:
                found.setdefault(result.seed, []).append(result.value)
        return {seed: mean_of(values) for seed, values in found.items()}

    @property
    def values(self) -> list[float]:
        """The headline metric of each seed, and of each run of which no seed is known."""
        unknown = [result.value for result in self.results if result.seed is None and result.value is not None]
        return [*self.by_seed.values(), *unknown]

    @property
    def finished(self) -> int:
        """How many runs have a result."""
        return sum(result.value is not None for result in self.results)

    @property
    def mean(self) -> float | None:
        """The mean over seeds."""
        return mean_of(self.values) if self.values else None

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % confidence interval of the mean; None for fewer than two seeds."""
        return half_width(self.values)

    @property
    def baseline(self) -> tuple[str, float] | None:
        """The best trivial predictor and its mean over seeds. One that is called floor is none: it is the best that
        any predictor can do."""
        scores: dict[str, list[float]] = {}
        for result in self.results:
            for name, metrics in (result.summary.get("baselines") or {}).items():
                score = metrics.get(self.metric)
                is_known = score is not None and math.isfinite(score) and result.value is not None
                if is_known and not name.startswith("floor"):
                    scores.setdefault(name, []).append(metrics[self.metric])
        means = {name: mean_of(values) for name, values in scores.items()}
        choose = max if higher_is_better(self.task, self.metric) else min
        return choose(means.items(), key=lambda item: item[1]) if means else None

    @property
    def typical(self) -> Result | None:
        """The result that is the nearest to the mean; None if none has finished."""
        mean = self.mean
        scored = [result for result in self.results if result.value is not None]
        return min(scored, key=lambda result: abs((result.value or 0.0) - (mean or 0.0)), default=None)

    def average(self, key: str) -> float | None:
        """Returns the mean of a number of summary.json over the jobs that have finished."""
        numbers = [result.summary.get(key) for result in self.results if result.value is not None]
        known = [float(number) for number in numbers if isinstance(number, int | float) and math.isfinite(number)]
        return mean_of(known) if known else None


def mean_of(values: Sequence[float]) -> float:
    """Returns the mean; infinity where the sum is too large for a number."""
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.inf


def deviation_of(values: Sequence[float]) -> float:
    """Returns the standard deviation of at least two values, with n - 1; infinity where it is too large."""
    mean = mean_of(values)
    try:
        return math.sqrt(math.fsum((value - mean) * (value - mean) for value in values) / (len(values) - 1))
    except OverflowError:
        return math.inf


def half_width(values: Sequence[float]) -> float | None:
    """Returns t · s / √n, half of the 95 % confidence interval of a mean of normal values (Student 1908); None for
    fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * deviation_of(values) / math.sqrt(count)


def higher_is_better(task: str, metric: str) -> bool:
    """Returns whether higher values of a metric are better. Where nobody declares it, lower ones are."""
    try:
        declared = getattr(find("task", task), "higher_is_better", None)
    except UserError:  # a plugin's task, read without its plugin
        declared = None
    return bool(is_higher_better(metric, declared if not isinstance(declared, str) else None))


def results_of(sweep: SweepDirectory, jobs: Sequence[Job]) -> list[Result]:
    """Reads the results of jobs."""
    keys = [*dict.fromkeys(key_of(text) for job in jobs for text in job.overrides)]
    return [result_of(sweep, job, settings_of(job, keys)) for job in jobs]


def result_of(sweep: SweepDirectory, job: Job, settings: dict[str, str]) -> Result:
    """Reads the result of a job."""
    outcome, summary, directory = sweep.outcome(job.name), {}, sweep.job_directory(job.name)
    try:
        if outcome.status != "waiting":
            summary = RunReader(directory).summary()
    except UserError:
        summary = {}
    return Result(job, outcome, settings, summary, seed_of(job), directory)


def seed_of(job: Job) -> int | None:
    """Returns the seed of a job."""
    seed = job.values.get(SEED)
    return seed if isinstance(seed, int) else None


def settings_of(job: Job, keys: Sequence[str]) -> dict[str, str]:
    """Returns the value of each key in a job: as its config has it, else (choices of groups) as it was typed."""
    typed = {key_of(text): text.partition("=")[2] for text in job.overrides}
    flat = flattened(job.values)
    named = {key: flat[key] for key in keys if key in flat}
    return {
        key: as_typed(named[key]) if key in named else typed.get(key, as_typed(flat.get(f"{key}.name", "")))
        for key in keys
    }


def differing(results: Sequence[Result], *, without: Sequence[str] = ()) -> list[str]:
    """Returns the keys in which jobs differ."""
    keys = results[0].settings if results else {}
    return [key for key in keys if key not in without and len({result.settings[key] for result in results}) > 1]


def conditions(results: Sequence[Result]) -> list[Condition]:
    """Returns the conditions of a sweep by task and metric, the best first; those without a result are last."""
    keys = differing(results, without=[SEED])
    found: dict[tuple[str, ...], Condition] = {}
    for result in results:
        settings = {key: result.settings[key] for key in keys}
        key = tuple(settings.values())
        task = str(result.summary.get("task") or _task(result.job.values))
        found.setdefault(key, Condition(task, "", settings)).results.append(result)
    for condition in found.values():
        condition.metric = next((result.metric for result in condition.results if result.metric), "")
    for condition in found.values():  # one without a result stands beside the others of its task
        same = {other.metric for other in found.values() if other.task == condition.task} - {""}
        if not condition.metric and len(same) == 1:
            (condition.metric,) = same

    def rank(condition: Condition) -> tuple[str, str, bool, float]:
        sign = -1 if higher_is_better(condition.task, condition.metric) else 1
        mean = condition.mean
        return condition.task, condition.metric, mean is None, sign * mean if mean is not None else 0.0

    return sorted(found.values(), key=rank)


def typical_results(results: Sequence[Result]) -> list[Result]:
    """Returns the typical result of each of the best conditions, whose pictures a report shows."""
    groups = itertools.groupby(conditions(results), key=lambda condition: (condition.task, condition.metric))
    best = [condition for _, group in groups for condition in itertools.islice(group, MOST_PICTURED)]
    return [condition.typical for condition in best if condition.typical is not None]


def _task(values: Mapping[str, Any]) -> str:
    task = values.get("task")
    return str(task.get("name", "")) if isinstance(task, dict) else ""
