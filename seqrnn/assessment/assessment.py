"""Scores with confidence intervals: the percentile bootstrap over whole sequences, or over blocks of time.

The timesteps that count are drawn in groups (``seqrnn.forecasting.groups``). Every score is computed
anew for every draw, and all predictors are scored on the same draws, so that their difference has an interval, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqrnn.assessment.judged import Array, Judged
from seqrnn.forecasting import bootstrap
from seqrnn.forecasting.groups import Groups, Rows, group
from seqrnn.forecasting.metrics import mean as known_mean
from seqrnn.forecasting.verdict import Outcome, outcome
from seqrnn.metrics import is_higher_better


@dataclass(frozen=True)
class Estimate:
    """A score and its confidence interval; both bounds are NaN where it cannot be known."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The headline score of a network minus that of the best baseline."""

    metric: str
    baseline: str
    estimate: Estimate

    @property
    def outcome(self) -> Outcome:
        """Whether the network is better, as far as the data can tell."""
        one = self.estimate
        return outcome(one.value, one.low, one.high, bool(is_higher_better(self.metric, None)))


@dataclass(frozen=True)
class Assessment:
    """
    Args:
        networks: scores by network and metric, the headline first.
        baselines: by name and metric.
        differences: by network, from the best baseline; empty where there is none to compare with.
        groups: what is drawn.
        confidence: of the intervals.
    """

    networks: Mapping[str, Mapping[str, Estimate]]
    baselines: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Difference]
    groups: Groups
    confidence: float


def assess(judged: Mapping[str, Judged], confidence: float = 0.95) -> Assessment:
    """Scores networks and the baselines, with confidence intervals.

    Args:
        judged: by network, all on the same data.
    """
    first = next(iter(judged.values()))
    groups = groups_of(first)
    networks, baselines = list(judged), list(first.baselines)
    outputs = [*(one.network for one in judged.values()), *first.baselines.values()]
    values = [first.metrics(one, first.targets) for one in outputs]
    metrics = [first.headline, *(name for name in values[0] if name != first.headline)]
    drawn = np.array([_scores(first, outputs, metrics, rows) for rows in groups.draws()], np.float64)
    drawn = drawn.reshape(-1, len(outputs), len(metrics))
    scores = [
        {
            metric: _estimate(found.get(metric, np.nan), drawn[:, number, column], confidence)
            for column, metric in enumerate(metrics)
        }
        for number, found in enumerate(values)
    ]
    differences = {}
    best = _best([found[first.headline] for found in values], networks, baselines, first.headline)
    if best is not None:
        for number, name in enumerate(networks):
            value = values[number][first.headline] - values[best][first.headline]
            estimate = _estimate(value, drawn[:, number, 0] - drawn[:, best, 0], confidence)
            differences[name] = Difference(first.headline, baselines[best - len(networks)], estimate)
    return Assessment(
        dict(zip(networks, scores, strict=False)),
        dict(zip(baselines, scores[len(networks) :], strict=True)),
        differences,
        groups,
        confidence,
    )


def _best(scores: Sequence[float], networks: Sequence[str], baselines: Sequence[str], headline: str) -> int | None:
    """Returns the place of the best baseline among the scores; None: there is none, or only floors."""
    sign = -1 if is_higher_better(headline, None) else 1
    trivial = [len(networks) + number for number, name in enumerate(baselines) if not name.startswith("floor")]
    return min(trivial, key=lambda place: sign * scores[place], default=None)


def _scores(judged: Judged, outputs: Sequence[Array], metrics: Sequence[str], rows: Rows) -> list[list[float]]:
    """Returns the scores of some rows by predictor and metric; NaN where a metric is not there."""
    targets = judged.targets[rows]
    found = (judged.metrics(one[rows], targets) for one in outputs)
    return [[scores.get(name, np.nan) for name in metrics] for scores in found]


def _estimate(value: float, drawn: NDArray[np.float64], confidence: float) -> Estimate:
    known = len(drawn) and np.isfinite(value) and np.isfinite(drawn).all()
    low, high = bootstrap.interval(drawn, confidence) if known else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))


def groups_of(judged: Judged) -> Groups:
    """Groups the timesteps that count."""
    return group(judged.times, judged.sequences, _losses(judged), judged.horizon, share_time=judged.share_time)


def _losses(judged: Judged) -> NDArray[np.float64]:
    """Returns whether each prediction is wrong, or how far off it is, (N',)."""
    if judged.kind == "classification":
        return np.asarray(judged.network.argmax(axis=1) != judged.targets, np.float64)
    error = (judged.network.astype(np.float64) - judged.targets) / judged.units
    return known_mean(np.square(error).reshape(len(error), -1), 1)  # of the values that are known
