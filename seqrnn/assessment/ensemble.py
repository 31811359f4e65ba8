"""The mean of several runs of one task, on the same test data (Lakshminarayanan et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seqrnn.assessment.assessment import mean_of, predict
from seqrnn.errors import ConfigError, DataError
from seqrnn.evaluation import Predictions
from seqrnn.prediction import trained
from seqrnn.prediction.trained import TrainedRun


def common_runs(runs: Sequence[TrainedRun], plugins: Sequence[str] = ()) -> list[TrainedRun]:
    """Returns runs with the test data of the first one: a task that generates its data draws another test with each
    seed.

    Raises:
        ConfigError: they are runs of different tasks.
    """
    first = runs[0]
    for run in runs[1:]:
        different = [key for key in _keys(first, run) if first.values["task"].get(key) != run.values["task"].get(key)]
        if different:
            key = different[0]
            mine, other = first.values["task"].get(key), run.values["task"].get(key)
            raise ConfigError(
                f"--ensemble: {first.run.directory} has task.{key}={mine}, and {run.run.directory} has "
                f"task.{key}={other}; the runs of an ensemble should have the same task, and differ in seed, model, "
                "optimizer or schedule"
            )
    if hasattr(first.task, "fingerprint"):
        return list(runs)
    same = [trained.load(run.run.directory, plugins, run.which, first.seed) for run in runs[1:]]
    return [first, *same]


def _keys(*runs: TrainedRun) -> list[str]:
    return list(dict.fromkeys(key for run in runs for key in run.values["task"]))


def predict_mean(runs: Sequence[TrainedRun], data: Sequence[Path] = ()) -> Predictions:
    """Returns the mean of what runs predict of the same data.

    Args:
        runs: of ``common_runs``.

    Raises:
        DataError: the data of a run differs from that of the first.
    """
    made = [predict(run, data) for run in runs]
    for run, one in zip(runs[1:], made[1:], strict=True):
        for name in ("inputs", "targets", "valid", "starts"):
            mine, other = getattr(made[0], name), getattr(one, name)
            if mine.shape != other.shape or not np.array_equal(mine, other, equal_nan=mine.dtype.kind == "f"):
                raise DataError(
                    f"--ensemble: the {name} of {run.run.directory} differ from those of {runs[0].run.directory}: "
                    f"{_reason(runs[0], run)}"
                )
    return mean_of(made, runs[0].task.kind)


def _reason(first: TrainedRun, other: TrainedRun) -> str:
    if first.seed != other.seed:
        return (
            f"with seeds {first.seed} and {other.seed}, the task holds out different data, so that one run was "
            "trained on what the other is tested on; choose runs that hold out the same"
        )
    return "choose runs of the same data, prepared alike"
