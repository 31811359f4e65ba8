"""What several predictors predict of the same data, and what came: of a test, or of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn import evaluation
from seqrnn.errors import ConfigError, DataError
from seqrnn.evaluation import Predictions
from seqrnn.metrics import classification, probabilities
from seqrnn.prediction import batch, table_baselines, table_command, table_data, table_predictions
from seqrnn.prediction import trained as trained_runs
from seqrnn.prediction.trained import TrainedRun
from seqrnn.recording.summary import headline_of
from seqrnn.rundir.names import PREPROCESSING
from seqrnn.rundir.reader import RunReader
from seqrnn.tables.preprocessing import Preprocessing

Array = NDArray[Any]
Metrics = Callable[[Array, Array], Mapping[str, float]]


@dataclass(frozen=True)
class Judged:
    """Predictions at N' timesteps that count.

    Args:
        times: (N',) when each is, where the task knows times; otherwise which timestep of its sequence it is.
        sequences: (N',) of which sequence each is.
        targets: (N', …) what came.
        network: (N', …) outputs of the network.
        baselines: (N', …) by name.
        metrics: scores by name of outputs and targets.
        headline: the metric that stands for all.
        kind: regression or classification.
        horizon: steps of a forecast.
        share_time: whether equal times of different sequences are the same time, as dates are.
        notes: lines for the user.
        units: by which errors of each target are divided, where they are averaged over targets.
    """

    times: Array
    sequences: NDArray[np.int64]
    targets: Array
    network: Array
    baselines: Mapping[str, Array]
    metrics: Metrics
    headline: str
    kind: str
    horizon: int = 1
    share_time: bool = False
    notes: tuple[str, ...] = ()
    units: Array | float = 1.0


def judge(run: TrainedRun, files: Sequence[Path] = ()) -> Judged:
    """Returns what a run predicts of its test data, or of files.

    Raises:
        ConfigError: the task reads no files.
        DataError: the files cannot be used, or hold no true values; or the data that the test was read from has
            changed since.
    """
    if not files:
        check_data_is_unchanged(run)
        return _of_predictions(run, evaluation.predict(run.network(), run.task.test(), run.context))
    if run.reads_tables:
        return _of_tables(run, files)
    sequences = batch.read_files(run, files)
    if not sequences.has_targets:
        raise _no_targets(files)
    return _of_predictions(run, batch.predict_files(run, sequences))


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
            f"{run.run.directory}: task.path={run.values['task'].get('path')} has changed since the run was trained "
            "on it, so its test cannot be repeated; restore the file, or score rows of it with --data FILE"
        )


def _of_predictions(run: TrainedRun, predictions: Predictions) -> Judged:
    task, loss = run.task, run.loss
    sequences = np.nonzero(predictions.valid)[1]
    outputs, targets = evaluation.judged(predictions, task)

    def with_loss(outputs: Array, targets: Array) -> Mapping[str, float]:
        losses = loss(torch.from_numpy(outputs), torch.from_numpy(targets))
        return {**task.metrics(outputs, targets), "loss": losses.mean(dtype=torch.float64).item()}

    times, share_time = evaluation.times_of(predictions)
    in_units = hasattr(task, "judged")  # where the loss is not that of the network's outputs
    return Judged(
        times,
        sequences,
        targets,
        outputs,
        {name: evaluation.judged(made, task)[0] for name, made in evaluation.predict_baselines(predictions, task)},
        task.metrics if in_units else with_loss,
        headline_of(task),
        task.kind,
        evaluation.horizon_of(outputs, task),
        share_time,
        units=getattr(task, "units", 1.0) if in_units else 1.0,
    )


def _of_tables(run: TrainedRun, files: Sequence[Path]) -> Judged:
    """Returns what a run of task=csv predicts of new tables, where a warm-up comes before and true values after."""
    preprocessing = run.preprocessing()
    data = table_data.read_tables(preprocessing, files)
    if not data.has_targets:
        raise _no_targets(files)
    network = run.network()
    if preprocessing.kind == "classification":
        logits = np.stack([table_predictions.outputs_of(network, one, run.context)[-1] for one in data.encoded])
        labels = np.array([table_command.label_number(preprocessing, one) for one in data.sequences])
        count = np.arange(len(labels))
        baselines = table_baselines.class_frequencies(run, preprocessing, len(labels))
        return Judged(
            np.zeros_like(count), count, labels, logits, baselines, classification, "accuracy", "classification"
        )
    one_by_one = [
        table_predictions.predict_sequence(network, sequence, encoded, preprocessing.horizon, run.context)
        for sequence, encoded in zip(data.sequences, data.encoded, strict=True)
    ]
    comparison = table_baselines.compare(run, preprocessing, data, one_by_one)
    times, sequences, targets = [], [], []
    made: dict[str, list[Array]] = {}
    for number, (one, sequence) in enumerate(zip(one_by_one, data.sequences, strict=True)):
        counts = np.asarray(np.isfinite(one.judged).any(axis=(1, 2)))
        counts[: comparison.warmups[number]] = False
        times.append(np.flatnonzero(counts) if sequence.times is None else sequence.times[counts])
        sequences.append(np.full(int(counts.sum()), number))
        targets.append(one.judged[counts])
        predictors = {"": one.predicted, **{name: each[number] for name, each in comparison.baselines.items()}}
        for name, values in predictors.items():
            made.setdefault(name, []).append(values[counts])
    outputs = {name: np.concatenate(values) for name, values in made.items()}
    if not len(outputs[""]):
        raise DataError(
            f"{', '.join(map(str, files))}: no timestep can be judged; after rows that set the state of the network, "
            f"there should be true values"
        )
    network_outputs = outputs.pop("")
    return Judged(
        np.concatenate(times),
        np.concatenate(sequences),
        np.concatenate(targets),
        network_outputs,
        outputs,
        comparison.scores,
        "rmse",
        "regression",
        preprocessing.horizon,
        all(sequence.times is not None for sequence in data.sequences),
        tuple(comparison.notes),
        comparison.units,
    )


def _no_targets(files: Sequence[Path]) -> DataError:
    return DataError(
        f"{', '.join(map(str, files))}: no true values to compare with; python -m seqrnn.predict predicts without"
    )


def with_common_data(runs: Sequence[TrainedRun], plugins: Sequence[str] = ()) -> list[TrainedRun]:
    """Returns runs with the test data of the first one: a task that generates its data draws another test with each
    seed.

    Raises:
        ConfigError: they are runs of different tasks.
    """
    first = runs[0]
    for run in runs[1:]:
        mine, other = first.values["task"], run.values["task"]
        different = [key for key in {**mine, **other} if mine.get(key) != other.get(key)]
        if different:
            key = different[0]
            raise ConfigError(
                f"--ensemble: {first.run.directory} has task.{key}={mine.get(key)}, and {run.run.directory} has "
                f"task.{key}={other.get(key)}; the runs of an ensemble should have the same task, and differ in "
                "seed, model, optimizer or schedule"
            )
    if hasattr(first.task, "fingerprint"):  # it reads files; what it holds out must be held out of all runs
        return list(runs)
    return [first, *(trained_runs.load(run.run.directory, plugins, run.which, first.seed) for run in runs[1:])]


def same_data(one: Judged, other: Judged) -> bool:
    """Returns whether two predict the same timesteps of the same data."""
    same = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("times", "sequences"))
    return same and np.array_equal(one.targets, other.targets, equal_nan=one.kind == "regression")


def mean_of(runs: Sequence[TrainedRun], judged: Sequence[Judged]) -> Judged:
    """Returns what an ensemble predicts (Lakshminarayanan et al. 2017): the mean of the outputs; of a classification,
    the logarithm of the mean probabilities.

    Raises:
        DataError: the data of a run differs from that of the first.
    """
    first = judged[0]
    for run, one in zip(runs[1:], judged[1:], strict=True):
        if not same_data(first, one):
            raise DataError(
                f"--ensemble: {run.run.directory} is tested on other data than {runs[0].run.directory}: "
                f"{_reason(runs[0], run)}"
            )
    outputs = np.stack([one.network for one in judged]).astype(np.float64)
    if first.kind == "classification":
        shares = probabilities(outputs).mean(axis=0)
        mean: Array = np.log(np.maximum(shares, np.finfo(np.float64).tiny))
    else:
        mean = outputs.mean(axis=0)
    return replace(first, network=mean.astype(first.network.dtype))


def _reason(first: TrainedRun, other: TrainedRun) -> str:
    if first.seed != other.seed:
        return (
            f"with seeds {first.seed} and {other.seed}, the task holds out different sequences, so one run was "
            "trained on what the other is tested on; choose runs that hold out the same"
        )
    return "choose runs of the same data, prepared alike"
