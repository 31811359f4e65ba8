"""What ``python -m seqrnn.predict`` does at once: predictions on drawn data or on files, their scores, their file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from seqrnn import evaluation, metrics
from seqrnn.errors import printable
from seqrnn.evaluation import Predictions
from seqrnn.prediction import batch, outputs
from seqrnn.prediction.terminal import NEW, counted, line, title
from seqrnn.prediction.trained import TrainedRun
from seqrnn.recording.score_table import ScoreTable
from seqrnn.recording.terminal import Screen
from seqrnn.tasks.protocol import FileSequences

SHOWN = 20  # predictions of files that are printed


def predict_on_drawn_data(trained: TrainedRun, timesteps: int | None, out: Path | None) -> None:
    """Predicts on data that the task draws, prints the scores beside those of the baselines, and writes the
    predictions to ``out``."""
    screen = title(trained)
    predictions = batch.predict_drawn(trained, timesteps)
    steps, sequences = predictions.valid.shape
    what = "test data" if timesteps is None else NEW
    note = getattr(trained.task, "data_note", None)
    line(
        screen, f"  data       {what} of seed {trained.seed}: {counted(sequences, 'sequence')} of {steps:,} timesteps"
    )
    if note:
        line(screen, f"  note       {note}")
    scores = {
        trained.values["model"]["name"]: evaluation.score(predictions, trained.task, trained.loss),
        **evaluation.score_baselines(predictions, trained.task, trained.loss),
    }
    screen.print(ScoreTable(scores, trained.task.loss, title="test" if timesteps is None else NEW))
    _write(screen, trained, predictions, out)


def predict_on_files(trained: TrainedRun, paths: Sequence[Path], out: Path | None) -> None:
    """Predicts on sequences from files; prints the predictions, and the scores where the files have true values."""
    screen = title(trained)
    sequences = batch.read_files(trained, paths)
    predictions = batch.predict_files(trained, sequences)
    line(screen, f"  data       {counted(len(sequences.names), 'sequence')} from {counted(len(paths), 'path')}")
    if sequences.note:
        line(screen, f"  note       {sequences.note}")
    if sequences.has_targets:
        scores = evaluation.score(predictions, trained.task, trained.loss)
        screen.print(ScoreTable({trained.values["model"]["name"]: scores}, trained.task.loss, title=NEW))
    elif trained.task.kind == "classification":
        _print_classes(screen, predictions, sequences)
    _write(screen, trained, predictions, out, sequences)


def _print_classes(screen: Screen, predictions: Predictions, sequences: FileSequences) -> None:
    number, step = predictions.valid.T.nonzero()
    logits = predictions.outputs[step, number]
    shares = metrics.probabilities(logits)
    for row, index in enumerate(number[:SHOWN]):
        predicted = logits[row].argmax()
        name = printable(sequences.names[index])
        line(screen, f"{name}: {predicted}  (probability {shares[row, predicted]:.3f})")
    if len(number) > SHOWN:
        line(screen, f"and {len(number) - SHOWN:,} more; --out FILE writes all of them")


def _write(
    screen: Screen,
    trained: TrainedRun,
    predictions: Predictions,
    out: Path | None,
    sequences: FileSequences | None = None,
) -> None:
    if out is None:
        return
    names = sequences.names if sequences else ()
    has_targets = sequences is None or sequences.has_targets
    columns = batch.columns_of(predictions, trained.task.kind, names, has_targets)
    outputs.write(out, columns)
    rows = len(next(iter(columns.values())))
    screen.print(Text(f"{printable(str(out))} ({counted(rows, 'row')})"), soft_wrap=True)
