"""What ``python -m seqrnn.predict RUN_DIR --data FILE`` does for a run of task=csv."""

from __future__ import annotations

from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from seqrnn import metrics as class_metrics
from seqrnn.errors import ConfigError, printable
from seqrnn.metrics import probabilities
from seqrnn.prediction import outputs, table_baselines, table_data, table_predictions
from seqrnn.prediction.table_data import TableData
from seqrnn.prediction.table_predictions import SequencePredictions
from seqrnn.prediction.terminal import NEW, counted, line, title
from seqrnn.prediction.trained import TrainedRun
from seqrnn.recording.score_table import ScoreTable
from seqrnn.recording.terminal import Screen
from seqrnn.streaming.run_documents import Ends, read_ends
from seqrnn.tables.fitting import label_of
from seqrnn.tables.output_names import OutputNames
from seqrnn.tables.preprocessing import Preprocessing
from seqrnn.tables.sequences import Sequence
from seqrnn.tables.times import with_offsets

Columns = dict[str, Any]


def predict_on_tables(
    trained: TrainedRun, paths: Many[Path], horizon: int | None, out: Path | None, is_latest: bool = False
) -> None:
    """Predicts the values or classes of new tables; prints the scores where the true values are there.

    Args:
        is_latest: whether only the forecasts from the last observed timestep of each sequence are written.
    """
    preprocessing = trained.preprocessing()
    steps = table_predictions.check_horizon(preprocessing, horizon)
    if is_latest and not preprocessing.is_forecast:
        raise ConfigError(f"--latest: a {preprocessing.kind} predicts no future; leave it out")
    screen = title(trained)
    data = table_data.read_tables(preprocessing, paths)
    timesteps = sum(map(len, data.sequences))
    line(screen, f"  data       {counted(len(data.sequences), 'sequence')}, {counted(timesteps, 'timestep')}")
    for note in data.notes:
        line(screen, f"  note       {note}")
    if preprocessing.kind == "classification":
        columns = _classify(screen, trained, preprocessing, data)
    else:
        columns = _predict(screen, trained, preprocessing, data, steps, is_latest)
    if out is not None:
        outputs.write(out, columns, exact=_given(preprocessing, columns))
        rows = len(next(iter(columns.values())))
        screen.print(Text(f"{printable(str(out))} ({counted(rows, 'row')})"), soft_wrap=True)


def _predict(
    screen: Screen, trained: TrainedRun, preprocessing: Preprocessing, data: TableData, steps: int, is_latest: bool
) -> Columns:
    network, context = trained.network(), trained.context
    made = [
        table_predictions.predict_sequence(network, sequence, encoded, steps, context)
        for sequence, encoded in zip(data.sequences, data.encoded, strict=True)
    ]
    ends = read_ends(trained.run.directory, steps, len(preprocessing.targets))
    if ends is None:
        line(screen, "  note       no intervals: the run has none (intervals.json)")
    elif np.isnan(ends.lower).any():
        known = int(np.isfinite(ends.lower).all(axis=1).sum())
        line(screen, f"  note       intervals were calibrated for {known} of {steps} steps; the others have none")
    left_out = sum(int(each.interpolated.sum()) for each in data.encoded)
    if left_out:
        line(
            screen,
            f"  note       nothing is predicted from {counted(left_out, 'timestep')}, where a missing input lies on "
            "a line to a later value (task.missing=interpolate)",
        )
    written = [each.latest(preprocessing) for each in made] if is_latest else made
    if preprocessing.ahead and any(each.positions[-1, -1] >= len(each.sequence) for each in written):
        names = ", ".join(feature.column for feature in preprocessing.ahead)
        line(
            screen,
            f"  note       beyond the last row, {names} stays as it is there; if it is known, append rows with it "
            "and without a target",
        )
    if data.has_targets:
        _print_scores(screen, trained, preprocessing, data, made, ends)
    if is_latest:
        return _columns(preprocessing, data, written, ends, has_targets=False)
    return _columns(preprocessing, data, made, ends, data.has_targets)


def _print_scores(
    screen: Screen,
    trained: TrainedRun,
    preprocessing: Preprocessing,
    data: TableData,
    made: Many[SequencePredictions],
    ends: Ends | None,
) -> None:
    """Prints scores over the predictions whose true values are known, but for those of the warm-up."""
    comparison = table_baselines.compare(trained, preprocessing, data, made)
    for note in comparison.notes:
        line(screen, f"  note       {note}")

    def judged(values: Many[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.concatenate([one[warmup:] for one, warmup in zip(values, comparison.warmups, strict=True)])

    actual, predicted = judged([each.judged for each in made]), judged([each.predicted for each in made])
    if not np.isfinite(actual).any():
        line(screen, "no true values are known, so nothing is judged")
        return
    scores = {trained.values["model"]["name"]: comparison.scores(predicted, actual)}
    scores |= {name: comparison.scores(judged(values), actual) for name, values in comparison.baselines.items()}
    screen.print(ScoreTable(scores, trained.values["task"]["loss"], title=NEW))
    if ends is not None and np.isfinite(ends.lower).any():
        both = [_within(each, ends) for each in made]
        lower, upper = (judged([each[side] for each in both]) for side in (0, 1))
        known = np.isfinite(actual) & np.isfinite(lower)
        inside = (actual >= lower) & (actual <= upper)
        covered = 100 * inside[known].mean() if known.any() else np.nan
        line(screen, f"intervals of {ends.percent} % cover {covered:.1f} % of {int(known.sum()):,} true values")


def _within(made: SequencePredictions, ends: Ends) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the ends of the intervals of a sequence, (T, H, K) each."""
    lower, upper = ends.of(made.sequence.key)
    return made.predicted + lower, made.predicted + upper


def _columns(
    preprocessing: Preprocessing,
    data: TableData,
    made: Many[SequencePredictions],
    ends: Ends | None,
    has_targets: bool,
) -> Columns:
    """Returns predictions as a table: a row for each timestep and step of the horizon."""
    steps = made[0].predicted.shape[1]
    names = OutputNames(("origin", "step") if steps > 1 else ())
    columns: Columns = {}
    if preprocessing.group is not None or len(data.sequences) > 1:
        keys = [np.full(each.positions.size, each.sequence.key, object) for each in made]
        columns[names.add(preprocessing.group or "sequence")] = np.concatenate(keys)
    times = [table_predictions.times_of(preprocessing, each.sequence, steps) for each in made]
    has_dates = made[0].sequence.has_dates
    if steps > 1:
        present = [each.positions[:, :1] - 1 + np.zeros(steps, np.int64) for each in made]
        origins = [when[rows.ravel()] for when, rows in zip(times, present, strict=True)]
        columns["origin"] = _shown_times(preprocessing, np.concatenate(origins), has_dates)
        columns["step"] = np.concatenate([np.tile(np.arange(1, steps + 1), len(each.positions)) for each in made])
    predicted_at = [when[each.positions.ravel()] for when, each in zip(times, made, strict=True)]
    columns[names.add(_time_name(preprocessing))] = _shown_times(
        preprocessing, np.concatenate(predicted_at), has_dates
    )
    both = [] if ends is None else [_within(each, ends) for each in made]
    within = [np.concatenate(values) for values in zip(*both, strict=True)]  # (R, H, K) each
    for number, target in enumerate(preprocessing.targets):
        predicted = np.concatenate([each.predicted[..., number] for each in made])  # (R, H)
        if has_targets:
            columns[names.add(target)] = np.concatenate([each.actual[..., number] for each in made]).ravel()
        columns[names.add(f"{target}_predicted")] = predicted.ravel()
        for side, values in zip(("lower", "upper"), within, strict=False):
            assert ends is not None
            columns[names.add(f"{target}_{side}_{ends.percent}")] = values[..., number].ravel()
    return columns


def _given(preprocessing: Preprocessing, columns: Columns) -> set[str]:
    """Returns the columns whose values are those of the table: times and true values."""
    own = {_time_name(preprocessing), *preprocessing.targets}
    return set(columns) & {"origin", *own, *(f"{name}_" for name in own)}


def _time_name(preprocessing: Preprocessing) -> str:
    names = preprocessing.time.columns
    return names[0] if len(names) == 1 else ("time" if names else "row")


def _shown_times(preprocessing: Preprocessing, times: NDArray[Any], has_dates: bool) -> Any:
    if not has_dates:
        return times
    import pandas as pd

    if preprocessing.time.is_utc:
        return with_offsets(times, preprocessing.time.timezone)
    return pd.DatetimeIndex(times.astype("datetime64[ns]"))


def _classify(screen: Screen, trained: TrainedRun, preprocessing: Preprocessing, data: TableData) -> Columns:
    network, context = trained.network(), trained.context
    logits = np.stack(
        [table_predictions.outputs_of(network, encoded, context)[-1] for encoded in data.encoded]
    )  # (N, O)
    classes = np.array(preprocessing.classes, object)
    shares, predicted = probabilities(logits), logits.argmax(axis=1)
    names = OutputNames(["predicted"])
    keys = np.array([each.key for each in data.sequences], object)
    columns: Columns = {names.add(preprocessing.group or "sequence"): keys}
    if data.has_targets:
        labels = [label_number(preprocessing, sequence) for sequence in data.sequences]
        columns[names.add(preprocessing.targets[0])] = classes[labels]
        made = {
            trained.values["model"]["name"]: logits,
            **table_baselines.class_frequencies(trained, preprocessing, len(labels)),
        }
        scores = {name: class_metrics.classification(one, np.array(labels)) for name, one in made.items()}
        screen.print(ScoreTable(scores, "cross_entropy", title=NEW))
    columns["predicted"] = classes[predicted]
    for number, label in enumerate(preprocessing.classes):
        columns[names.add(f"probability_{label}")] = shares[:, number]
    return columns


def label_number(preprocessing: Preprocessing, sequence: Sequence) -> int:
    """Returns the number of a sequence's class.

    Raises:
        DataError: the run does not know it.
    """
    target = preprocessing.targets[0]
    label = label_of(sequence, target)
    if label not in preprocessing.classes:
        known = ", ".join(printable(one)[:30] for one in preprocessing.classes[:20])
        raise sequence.error(0, target, label, f"is a class that the run does not know (it knows {known})")
    return preprocessing.classes.index(label)


def refuse_drawing(trained: TrainedRun) -> None:
    """Refuses to draw data for a run that reads tables.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(f"{trained.name}: predicts from tables: name one with --data FILE, or use --stream")
