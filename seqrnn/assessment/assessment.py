"""The test of a trained run, or of an ensemble, repeated: scores of it and of the baselines, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn import evaluation
from seqrnn.assessment.resampling import Estimate, Groups, estimate, groups_of, scorer
from seqrnn.errors import DataError
from seqrnn.evaluation import Predictions
from seqrnn.losses import Loss
from seqrnn.prediction import batch
from seqrnn.prediction.trained import TrainedRun
from seqrnn.tasks.protocol import Task

Estimates = Mapping[str, Estimate]


@dataclass(frozen=True)
class Assessment:
    """
    Args:
        scores: by metric.
        baselines: by name and metric.
        groups: what was drawn for the intervals.
        confidence: of the intervals.
    """

    scores: Estimates
    baselines: Mapping[str, Estimates]
    groups: Groups
    confidence: float


def predict(run: TrainedRun, data: Sequence[Path] = ()) -> Predictions:
    """Returns the predictions of a run on its test data, or on files.

    Raises:
        ConfigError: the task reads no files.
        DataError: the files cannot be used, or hold no targets to compare with.
    """
    if not data:
        return evaluation.predict(run.network(), run.task.test(), run.context)
    sequences = batch.read_files(run, data)
    if not sequences.has_targets:
        raise DataError(
            f"{', '.join(map(str, data))}: no true values to compare predictions with; python -m seqrnn.predict "
            "predicts without"
        )
    return batch.predict_files(run, sequences)


def assess(predictions: Predictions, task: Task, loss: Loss, confidence: float = 0.95) -> Assessment:
    """Scores predictions, and the task's baselines on the same data, with confidence intervals."""
    losses = _losses(predictions, loss)
    groups = groups_of(predictions.valid, losses, _horizon(task))
    return Assessment(
        _estimates(predictions, task, losses, groups, confidence),
        {
            name: _estimates(made, task, _losses(made, loss), groups, confidence)
            for name, made in evaluation.predict_baselines(predictions, task)
        },
        groups,
        confidence,
    )


def _estimates(
    predictions: Predictions, task: Task, losses: NDArray[np.float64], groups: Groups, confidence: float
) -> dict[str, Estimate]:
    outputs, targets = evaluation.judged(predictions, task)
    return estimate(scorer(outputs, targets, losses, task.metrics), groups, confidence)


def _losses(predictions: Predictions, loss: Loss) -> NDArray[np.float64]:
    """Returns the loss of each valid target, (N',)."""
    outputs, targets = predictions.judged()
    found: NDArray[np.float64] = loss(torch.from_numpy(outputs), torch.from_numpy(targets)).double().numpy()
    return found


def _horizon(task: Task) -> int:
    preprocessing = getattr(task, "preprocessing", None)
    return int(getattr(preprocessing, "steps_ahead", 1))


def mean_of(predictions: Sequence[Predictions], kind: str) -> Predictions:
    """Returns the predictions of an ensemble: the mean of the outputs; of a classification, the logarithm of the mean
    probabilities."""
    outputs = np.stack([one.outputs for one in predictions]).astype(np.float64)
    if kind == "classification":
        probabilities = torch.softmax(torch.from_numpy(outputs), dim=-1).mean(dim=0)
        mean = probabilities.clamp_min(torch.finfo(torch.float64).tiny).log().numpy()
    else:
        mean = outputs.mean(axis=0)
    return replace(predictions[0], outputs=mean.astype(predictions[0].outputs.dtype))
