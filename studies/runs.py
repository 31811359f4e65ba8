"""Makes many runs, several at a time, and collects their results from their summaries alone."""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import seqrnn
from seqrnn.diagnosis import intervals
from seqrnn.diagnosis.intervals import Interval
from seqrnn.keys import as_override

FINISHED = ("finished", "diverged")  # statuses of runs that are complete
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Sweep:
    """One config under several seeds.

    Args:
        name: of its folder; each sweep has another.
        overrides: without the seed.
    """

    name: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]

    def directory(self, folder: Path, seed: int) -> Path:
        return folder / self.name / f"seed-{seed}"


def summary_of(directory: Path) -> dict[str, Any] | None:
    """Returns the summary of a run that is over; None if there is none, or it was interrupted."""
    try:
        summary: dict[str, Any] = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if summary.get("status") in FINISHED else None


def missing(sweep: Sweep, folder: Path) -> list[int]:
    """Returns the seeds that have not been run."""
    return [seed for seed in sweep.seeds if summary_of(sweep.directory(folder, seed)) is None]


def make(sweeps: Sequence[Sweep], folder: Path, processes: int, announce: Callable[[str], None]) -> None:
    """Trains the missing runs of some sweeps, several sweeps at a time.

    Raises:
        RuntimeError: a run could not be made; those made before it are kept.
    """
    waiting = [sweep for sweep in dict.fromkeys(sweeps) if missing(sweep, folder)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn) as pool:
        futures = {pool.submit(run_sweep, sweep, folder): sweep for sweep in waiting}
        for number, future in enumerate(as_completed(futures), 1):
            try:
                future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            announce(f"{number}/{len(waiting)}  {futures[future].name}")


def run_sweep(sweep: Sweep, folder: Path) -> None:
    """Trains the missing seeds of a sweep in this process. What a run prints goes to its train.log alone.

    Raises:
        RuntimeError: a run could not be made; the message says why.
    """
    for seed in missing(sweep, folder):
        directory = sweep.directory(folder, seed)
        shutil.rmtree(directory, ignore_errors=True)  # of an interrupted run
        try:
            seqrnn.run([*sweep.overrides, f"seed={seed}", as_override("hydra.run.dir", str(directory))], quiet=True)
        except seqrnn.Diverged:
            continue  # its summary says so
        except seqrnn.UserError as error:
            raise RuntimeError(f"{sweep.name}, seed {seed}: {error}") from None


@dataclass(frozen=True)
class Result:
    """Test and validation errors of one config, a number per seed; infinite where a run diverged."""

    seeds: tuple[int, ...]
    test: Numbers
    validation: Numbers
    updates: int
    timesteps: int
    seconds: float

    @property
    def typical(self) -> float:
        """Returns the geometric mean of the test errors."""
        return geometric_mean(self.test)

    @property
    def interval(self) -> Interval:
        """Returns the interval of that mean, by Student's t on the logarithms."""
        if not np.isfinite(self.test).all():
            return Interval(math.inf, 0.0, math.inf)
        return intervals.of_ratio(self.test, np.ones_like(self.test))


def collect(sweep: Sweep, folder: Path, metric: str = "mae") -> Result:
    """Returns the errors of the runs of a sweep, read from their summary.json.

    Raises:
        RuntimeError: a run is missing.
    """
    summaries = []
    for seed in sweep.seeds:
        summary = summary_of(sweep.directory(folder, seed))
        if summary is None:
            raise RuntimeError(f"{sweep.directory(folder, seed)}: no finished run; run the study again")
        summaries.append(summary)
    return Result(
        sweep.seeds,
        np.array([_error(summary, "test", metric) for summary in summaries]),
        np.array([_error(summary, "validation", metric) for summary in summaries]),
        summaries[0]["updates"],
        summaries[0]["timesteps"],
        float(np.mean([summary["train_seconds"] for summary in summaries])),
    )


def _error(summary: Mapping[str, Any], where: str, metric: str) -> float:
    value = (summary.get(where) or {}).get(metric) if summary["status"] == "finished" else None
    return math.inf if value is None else float(value)


def geometric_mean(values: Numbers) -> float:
    return float(np.exp(np.mean(np.log(values))))


def tuned(results: Sequence[Result]) -> int:
    """Returns the index of the result with the least validation error; test data plays no part."""
    return int(np.argmin([geometric_mean(result.validation) for result in results]))


def ratio(result: Result, other: Result) -> Interval:
    """Returns the error of ``result`` as a multiple of that of ``other``, over the seeds that both have. Runs of a
    seed are paired: they share initial weights and test data."""
    common = [seed for seed in result.seeds if seed in other.seeds]
    errors = [np.array([one.test[one.seeds.index(seed)] for seed in common]) for one in (result, other)]
    if not np.isfinite(errors).all():
        return Interval(math.nan, 0.0, math.inf)
    return intervals.of_ratio(*errors)
