"""What the predictions of new tables are compared with: the warm-up before them, the baselines of the run's own test,
and whether the run was trained on them. T timesteps, H steps of the horizon, K targets."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import ConfigError, DataError
from seqrnn.forecasting import metrics, naive
from seqrnn.forecasting.autoregression import RidgeAutoregression
from seqrnn.forecasting.verdict import LINEAR
from seqrnn.prediction.table_data import TableData
from seqrnn.prediction.table_predictions import SequencePredictions
from seqrnn.prediction.trained import TrainedRun
from seqrnn.rundir.names import DATA
from seqrnn.rundir.reader import RunReader
from seqrnn.tables.dataset import CLASS_FREQUENCIES, Dataset, DataSummary
from seqrnn.tables.encoding import Encoded
from seqrnn.tables.files import find_sources
from seqrnn.tables.preprocessing import Preprocessing
from seqrnn.tables.splits import TRAINING

Array = NDArray[Any]
MOST_TRAINING_BYTES = 2**26  # of files that are read again for the sake of a baseline


@dataclass(frozen=True)
class TrainingData:
    """What a run was trained on, read again.

    Args:
        data: None: it is too large, not there, or not as it was.
        linear: the linear model that was fitted to it.
        note: why there is none.
    """

    data: Dataset | None = None
    linear: RidgeAutoregression | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """How predictions of new tables are judged.

    Args:
        targets: their names.
        units: (K,) by which the errors of each are divided, as in the run's own test.
        warmups: by sequence, how many timesteps set the state and are not judged.
        baselines: by name, predictions (T, H, K) of each sequence.
        notes: lines for the user.
    """

    targets: Many[str]
    units: Array
    warmups: Many[int]
    baselines: Mapping[str, Many[Array]]
    notes: Many[str] = field(default_factory=list)

    def scores(self, predicted: Array, actual: Array) -> dict[str, float]:
        """Returns the errors of predictions (N', H, K), each the mean over the targets of which a value is known; of
        several targets, the RMSE of each in its unit, too."""
        axes, errors = (0, 1), {"mae": metrics.mae, "rmse": metrics.rmse, "smape": metrics.smape}
        made, came = predicted / self.units, actual / self.units
        found = {name: metrics.over_targets(error(came, made, axes), came) for name, error in errors.items()}
        if len(self.targets) > 1:
            each = metrics.rmse(actual, predicted, axes)
            found |= {f"rmse_{name}": float(error) for name, error in zip(self.targets, each, strict=True)}
        return found


def compare(
    run: TrainedRun, preprocessing: Preprocessing, data: TableData, made: Many[SequencePredictions]
) -> Comparison:
    """Returns what predictions of a forecast or a regression are compared with."""
    warmups = [warmup_of(preprocessing, each) for each in made]
    training = read_training_data(run, preprocessing)
    season = season_of(run)
    by_sequence = [
        _baselines(preprocessing, encoded, each, training.linear, season)
        for encoded, each in zip(data.encoded, made, strict=True)
    ]
    notes = [training.note] if training.note else []
    units = _units(run, preprocessing, training)
    if units is None:
        notes.append(
            "the errors of the targets are averaged in their own units: the run is from an older version, and does "
            "not say how much each of them varies"
        )
        units = np.ones(len(preprocessing.targets))
    if min(warmups) < preprocessing.warmup:
        notes.append(_warmup_note(preprocessing, warmups))
    if training.data is not None:
        judged = [np.asarray(np.isfinite(each.judged).any(axis=(1, 2))) for each in made]
        for one, warmup in zip(judged, warmups, strict=True):
            one[:warmup] = False
        known = sum(
            int((trained_on(training.data, each) & one).sum()) for each, one in zip(made, judged, strict=True)
        )
        if known:
            total = sum(int(one.sum()) for one in judged)
            notes.append(f"the run was trained on {known:,} of the {total:,} timesteps that are judged")
    baselines = {name: [each[name] for each in by_sequence] for name in by_sequence[0]}
    return Comparison(preprocessing.targets, units, warmups, baselines, notes)


def warmup_of(preprocessing: Preprocessing, made: SequencePredictions) -> int:
    """Returns how many timesteps of a sequence set the state: as many as in the run's own test, but at most half of
    those that could be judged."""
    (judged,) = np.nonzero(np.isfinite(made.judged).any(axis=(1, 2)))
    return min(preprocessing.warmup, (int(judged[-1]) + 1) // 2 if len(judged) else 0)


def _warmup_note(preprocessing: Preprocessing, warmups: Many[int]) -> str:
    least, most = min(warmups), max(warmups)
    rows = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return (
        f"{rows} rows set the state before what is judged (the run takes up to {preprocessing.warmup:,}). The first "
        "predictions know no past: put the earlier rows of each sequence in front of the new ones, in one file"
    )


def _units(run: TrainedRun, preprocessing: Preprocessing, training: TrainingData) -> Array | None:
    """Returns by what errors are divided, (K,): the standard deviations of several targets over the training rows;
    None where they are not known."""
    if len(preprocessing.targets) == 1:
        return np.ones(1)
    reader = RunReader(run.run.directory)
    summaries = [reader.document(DATA, DataSummary)] if reader.has(DATA) else []
    summaries += [] if training.data is None else [training.data.summary]
    found = next((one.deviations for one in summaries if len(one.deviations) == len(preprocessing.targets)), None)
    return None if found is None else np.array(found)


def season_of(run: TrainedRun) -> int:
    """Returns the timesteps of the season that the run's seasonal baseline repeats; 1: there is none."""
    reader = RunReader(run.run.directory)
    return reader.document(DATA, DataSummary).season if reader.has(DATA) else 1


def class_frequencies(run: TrainedRun, preprocessing: Preprocessing, count: int) -> dict[str, Array]:
    """Returns the baseline of a classification by its name: for each of ``count`` sequences, the logarithms (O,) of
    how frequent the classes are in the run's training data; nothing where the run does not say that."""
    reader = RunReader(run.run.directory)
    summary = reader.document(DATA, DataSummary) if reader.has(DATA) else None
    if summary is None or not summary.trained_on:
        return {}
    logits = summary.class_logits(preprocessing.classes)
    return {CLASS_FREQUENCIES: np.broadcast_to(logits, (count, len(logits)))}


def read_training_data(run: TrainedRun, preprocessing: Preprocessing) -> TrainingData:
    """Reads what a run was trained on again, if it is there as it was, and is not large."""
    task: Any = run.task
    path = run.values["task"].get("path")
    left_out = f"{LINEAR} is left out: task.path={path}"
    try:
        sizes = [source.size for source in find_sources(path)] if path is not None else []
        if sum(sizes) > MOST_TRAINING_BYTES:
            return TrainingData(note=f"{left_out} is large, and is not read again")
        if task.preprocessing != preprocessing:
            return TrainingData(note=f"{left_out} has changed since the run was trained on it")
        return TrainingData(task.data, task.linear)
    except (DataError, ConfigError):
        return TrainingData(note=f"{left_out} cannot be read here")


def _baselines(
    preprocessing: Preprocessing,
    encoded: Encoded,
    made: SequencePredictions,
    linear: RidgeAutoregression | None,
    season: int,
) -> dict[str, Array]:
    """Returns the predictions (T, H, K) of the baselines for a sequence, by name."""
    steps, judged = made.predicted.shape[1], replace(encoded, preprocessing=preprocessing.evaluated)
    preprocessing = judged.preprocessing
    found: dict[str, Array] = {}
    if linear is not None and steps <= preprocessing.steps_ahead:
        outputs = linear(judged.inputs()[:, None], judged.starts[:, None])
        found[LINEAR] = preprocessing.to_units(outputs, made.origins[:, None])[:, 0, :steps]
    levels = made.origins[:, None]
    if preprocessing.is_forecast:
        found["persistence"] = naive.persistence(levels, steps)[:, 0]
        if season > 1:
            found[f"seasonal naive ({season})"] = naive.seasonal_naive(levels, steps, season)[:, 0]
    if steps <= preprocessing.steps_ahead:
        zeros = np.zeros((len(encoded), 1, preprocessing.output_size))
        name = "mean change" if preprocessing.difference else "mean"
        found[name] = preprocessing.to_units(zeros, levels)[:, 0, :steps]
    return found


def trained_on(data: Dataset, made: SequencePredictions) -> NDArray[np.bool_]:
    """Returns at which timesteps (T,) of a sequence the run was trained: those of training rows with the same time
    and the same values of the targets. Without times, it is not known of any."""
    found = np.zeros(len(made.origins), bool)
    if data.times is None or made.sequence.times is None:
        return found
    if len(data.keys) > 1 and made.sequence.key not in data.keys:
        return found
    number = data.keys.index(made.sequence.key) if len(data.keys) > 1 else 0
    rows = np.arange(data.first[number], data.last[number] + 1)
    rows = rows[data.parts[rows] == TRAINING]
    if not len(rows):
        return found
    present = made.positions[:, 0] - int(data.preprocessing.is_forecast)
    own, times = made.sequence.times[present], data.times[rows]
    places = np.minimum(np.searchsorted(times, own), len(times) - 1)
    values = data.origins(rows)[places]
    same: NDArray[np.bool_] = (times[places] == own) & np.isclose(values, made.origins, equal_nan=True).all(axis=1)
    return same
