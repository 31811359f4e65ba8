"""Many runs of ``seqrnn.train``, side by side and resumable; what came out of them, from their summaries alone."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.diagnosis import intervals
from seqrnn.diagnosis.intervals import Interval

FINISHED = ("finished", "diverged")  # what need not be run again
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Sweep:
    """One config under several seeds.

    Args:
        name: of its folder; two sweeps of one name are taken for the same.
        overrides: what the command line says, the seed apart.
    """

    name: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]

    def directory(self, folder: Path, seed: int) -> Path:
        return folder / self.name / f"seed-{seed}"


def summary_of(directory: Path) -> dict[str, Any] | None:
    """The summary of a run that is over; None if there is none, or it was interrupted."""
    try:
        summary: dict[str, Any] = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if summary.get("status") in FINISHED else None


def missing(sweep: Sweep, folder: Path) -> list[int]:
    """The seeds that have not been run."""
    return [seed for seed in sweep.seeds if summary_of(sweep.directory(folder, seed)) is None]


def make(sweeps: Sequence[Sweep], folder: Path, processes: int, say: Callable[[str], None]) -> None:
    """Runs what has not been run yet, several sweeps side by side.

    Raises:
        RuntimeError: a sweep failed; what was made before is there.
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
            say(f"{number}/{len(waiting)}  {futures[future].name}")


def run_sweep(sweep: Sweep, folder: Path) -> None:
    """One hydra multirun, in this process: ``python -m seqrnn.train -m …``, its output in a file."""
    from seqrnn import train

    seeds = missing(sweep, folder)
    for seed in seeds:
        shutil.rmtree(sweep.directory(folder, seed), ignore_errors=True)  # what an interrupted run left
    (folder / sweep.name).mkdir(parents=True, exist_ok=True)
    log = folder / sweep.name / f"log-from-seed-{seeds[0]}.txt"
    before = sys.argv
    sys.argv = [
        "seqrnn-train", "-m", *sweep.overrides, f"seed={','.join(map(str, seeds))}",
        f"hydra.sweep.dir={quoted(folder / sweep.name)}", "hydra.sweep.subdir='seed-${seed}'",
    ]  # fmt: skip
    try:
        with log.open("w", encoding="utf-8") as file, _output_to(file.fileno()):
            train.main()
    except SystemExit as stop:
        if stop.code not in (0, None, 3):  # 3: a run diverged, and its summary says so
            raise RuntimeError(f"{sweep.name}: no result; {log} says why") from None
    finally:
        sys.argv = before


def quoted(path: Path) -> str:
    """A path as a value that hydra takes as it is."""
    text = str(path).replace("'", r"\'")
    return f"'{text}'"


@contextlib.contextmanager
def _output_to(file: int) -> Any:
    """Sends what this process prints to a file, whoever prints it."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


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
        """The geometric mean of the test errors."""
        return geometric_mean(self.test)

    @property
    def interval(self) -> Interval:
        """Of that mean, by Student's t on the logarithms."""
        if not np.isfinite(self.test).all():
            return Interval(math.inf, 0.0, math.inf)
        return intervals.of_ratio(self.test, np.ones_like(self.test))


def collect(sweep: Sweep, folder: Path, metric: str = "mae") -> Result:
    """What the runs of a sweep came to, read from their summary.json.

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
    """Which of several results has the least validation error: so the test data chooses nothing."""
    return int(np.argmin([geometric_mean(result.validation) for result in results]))


def ratio(result: Result, other: Result) -> Interval:
    """How many times the error of ``other`` that of ``result`` is, over the seeds that both have: pairs, which share
    initial weights and test data."""
    common = [seed for seed in result.seeds if seed in other.seeds]
    errors = [np.array([one.test[one.seeds.index(seed)] for seed in common]) for one in (result, other)]
    if not np.isfinite(errors).all():
        return Interval(math.nan, 0.0, math.inf)
    return intervals.of_ratio(*errors)
