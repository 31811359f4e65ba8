"""Predictions on data that a task draws or reads from files. T timesteps, N sequences, I inputs, O outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn import evaluation, metrics
from seqrnn.errors import ConfigError
from seqrnn.evaluation import Predictions
from seqrnn.prediction.trained import TrainedRun
from seqrnn.tasks.protocol import FileSequences

MOST_TIMESTEPS = 2**24  # that are predicted at once


def predict_drawn(trained: TrainedRun, timesteps: int | None = None) -> Predictions:
    """Returns predictions on data that the task draws with the seed of ``trained``.

    Args:
        timesteps: of one new sequence; None: the task's test data.

    Raises:
        ConfigError: the task has no sequences of that length.
    """
    batches = trained.task.test()
    if timesteps is not None:
        if timesteps > MOST_TIMESTEPS:
            raise ConfigError(f"--timesteps {timesteps}: at most {MOST_TIMESTEPS:,} are predicted at once")
        rollout = getattr(trained.task, "rollout", None)
        batch = rollout(timesteps, 1) if rollout is not None else None
        if batch is None:
            raise ConfigError(
                f"--timesteps {timesteps}: the sequences of task={trained.values['task']['name']} have "
                f"{batches[0].timesteps} timesteps, and no other length; leave --timesteps out"
            )
        batches = [batch]
    return evaluation.predict(trained.network(), batches, trained.context)


def read_files(trained: TrainedRun, paths: Sequence[Path]) -> FileSequences:
    """Reads sequences from files, as the task does.

    Raises:
        ConfigError: the task reads no files.
        DataError: a file cannot be read, or does not hold what the task needs.
    """
    read = getattr(trained.task, "read_files", None)
    if read is None:
        name = trained.values["task"]["name"]
        raise ConfigError(
            f"--data: task={name} draws its data and reads none from files; leave --data out (--timesteps and --seed "
            "choose what is drawn)"
        )
    found: FileSequences = read(paths)
    return found


def predict_files(trained: TrainedRun, sequences: FileSequences) -> Predictions:
    """Returns predictions on sequences from files."""
    return evaluation.predict(trained.network(), sequences.batches, trained.context)


def columns_of(
    predictions: Predictions, kind: str, names: Sequence[str] = (), has_targets: bool = True
) -> dict[str, NDArray[Any]]:
    """Returns predictions as the columns of a table.

    Regression: a row for each timestep of each sequence, with its inputs, targets and outputs. Classification: a row
    for each timestep with a valid target, with the class that is most probable, and the probabilities of all.

    Args:
        names: of the sequences; without them, they are numbered from 0.
        has_targets: whether the true values are known.
    """
    steps, sequences = predictions.valid.shape
    where = np.ones((sequences, steps), bool) if kind == "regression" else predictions.valid.T
    number, step = np.nonzero(where)  # in the order of the sequences
    columns: dict[str, NDArray[Any]] = {
        "sequence": np.array(names, object)[number] if names else number,
        "timestep": step,
    }
    outputs, targets = predictions.outputs[step, number], predictions.targets[step, number]
    if kind == "classification":
        if has_targets:
            columns["target"] = targets
        columns["predicted"] = outputs.argmax(axis=1)
        return columns | named("probability", metrics.probabilities(outputs), numbered=True)
    columns |= named("input", predictions.inputs[step, number])
    if has_targets:
        columns |= named("target", targets)
    columns |= named("output", outputs)
    if not predictions.valid.all():
        columns["valid"] = predictions.valid[step, number]
    return columns


def named(name: str, values: NDArray[Any], numbered: bool = False) -> dict[str, NDArray[Any]]:
    """Returns the columns of values (R, F) by name, see ``column_names``."""
    names = column_names(name, values.shape[1], numbered)
    return {column: values[:, index] for index, column in enumerate(names)}


def column_names(name: str, count: int, numbered: bool = False) -> list[str]:
    """Returns the names of ``count`` columns: ``name``, or ``name_0``, ``name_1``, … where there are several."""
    return [name] if count == 1 and not numbered else [f"{name}_{index}" for index in range(count)]
