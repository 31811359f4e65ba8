"""Has the network learned anything at all? Its test loss against that of the task's trivial predictors.

    ratio    mean loss of the network ÷ mean loss of a baseline, over the valid targets of the same test sequences

with a percentile bootstrap over sequences (of few sequences, over blocks of time), which keeps together what network
and baseline make of the same targets. A ratio below 1 with its whole interval has learned something that the baseline
does not know. It is measured on the first test sequences, of at most 60,000 timesteps together.

A baseline whose name begins with ``floor`` is the best that any predictor can do: ``best`` is never one of those.

Caveat: the best baseline is chosen by its loss on the same sequences, so a network that is no better than it looks
slightly worse than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn.diagnosis.intervals import Interval, Numbers, resampled, spread
from seqrnn.diagnosis.subject import Subject
from seqrnn.diagnosis.trajectories import cases_of
from seqrnn.evaluation import Predictions, predict
from seqrnn.losses import Loss
from seqrnn.tasks.protocol import Batch, Chunk, Stored

MOST = 60_000  # timesteps, over all sequences
SHOWN = {"regression": "mae", "classification": "accuracy"}


@dataclass(frozen=True)
class Baseline:
    """A trivial predictor: its mean loss, its metric, and the network's loss ÷ its own."""

    name: str
    loss: Interval
    metric: float
    ratio: Interval


@dataclass(frozen=True)
class Baselines:
    """
    Args:
        sequences: how many test sequences were judged.
        of: how many there are, those without a target included.
        over: what the intervals are over.
        loss: of the network.
        metric, metric_name: the network's score that the task is usually judged by.
        baselines: all of the task's.
        best: the name of the one with the least loss, floors aside; None if the task has none.
        ratio: the network's loss ÷ that of the best.
    """

    sequences: int
    of: int
    over: str
    loss: Interval
    metric: float
    metric_name: str
    baselines: list[Baseline]
    best: str | None
    ratio: Interval | None


def measure(subject: Subject) -> Baselines:
    """Runs the network, as it was trained (its precision, its kernel), over test sequences."""
    components = subject.components
    task = components.task
    batches = task.test()
    chosen = _first(batches)
    made = predict(components.network, chosen, components.context)
    chunk = Chunk(*(torch.from_numpy(values) for values in (made.inputs, made.targets, made.valid, made.starts)))
    others = {name: replace(made, outputs=predictor(chunk).numpy()) for name, predictor in task.baselines().items()}
    cases, over = _cases(made.valid)
    names, predictions = ["", *others], [made, *others.values()]
    count = int(cases.max()) + 1
    sums = np.zeros((count, len(names) + 1))  # losses of each predictor, and the number of targets
    for column, one in enumerate(predictions):
        np.add.at(sums[:, column], cases, _losses(one, components.loss))
    np.add.at(sums[:, -1], cases, 1)
    sums = sums[sums[:, -1] > 0]
    drawn = resampled(sums)

    def ratio(above: int, below: int) -> Interval:
        total = sums.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return spread(_ratio(total[above], total[below]), drawn[:, above] / drawn[:, below], len(sums))

    scores = [task.metrics(*one.judged()) for one in predictions]
    wanted = SHOWN[task.kind]
    metric = wanted if wanted in scores[0] else next(iter(scores[0]))
    found = [
        Baseline(name, ratio(column, len(names)), scores[column][metric], ratio(0, column))
        for column, name in enumerate(names)
        if column
    ]
    trivial = [baseline for baseline in found if not baseline.name.startswith("floor")]
    best = min(trivial, key=lambda baseline: baseline.loss.value, default=None)
    return Baselines(
        sequences=int(made.valid.any(axis=0).sum()),
        of=sum(batch.streams for batch in batches),
        over=over,
        loss=ratio(0, len(names)),
        metric=scores[0][metric],
        metric_name=metric,
        baselines=found,
        best=best.name if best else None,
        ratio=best.ratio if best else None,
    )


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below else (1.0 if not above else float("inf"))


def _first(batches: Sequence[Batch]) -> list[Batch]:
    """Sequences of at most ``MOST`` timesteps together, but at least one."""
    chosen: list[Batch] = []
    left = MOST
    for batch in batches:
        streams = min(batch.streams, left // batch.timesteps)
        if streams < batch.streams:
            if streams or not chosen:
                whole = batch.read(0, batch.timesteps)
                fields = (whole.inputs, whole.targets, whole.valid, whole.starts)
                chosen.append(Stored(Chunk(*(values[:, : max(1, streams)] for values in fields))))
            break
        chosen.append(batch)
        left -= streams * batch.timesteps
    return chosen


def _cases(valid: NDArray[np.bool_]) -> tuple[NDArray[np.int64], str]:
    """The case of each valid target, in the order of ``valid``; of sequences without any, there is none."""
    with_targets = np.flatnonzero(valid.any(axis=0))
    times = np.flatnonzero(valid.any(axis=1))
    cases, over = cases_of(len(times), len(with_targets))
    found: NDArray[np.int64] = cases.numpy()[valid[np.ix_(times, with_targets)]]
    return found, over


def _losses(predictions: Predictions, loss: Loss) -> Numbers:
    """Of each valid target."""
    outputs, targets = predictions.judged()
    found: Numbers = loss(torch.from_numpy(outputs), torch.from_numpy(targets)).double().numpy()
    return found
