"""Scores with confidence intervals: the percentile bootstrap over whole sequences, or over blocks of time.

The timesteps that count are grouped: many sequences are independent of each other, so each is a group; of few
sequences, each timestep is a group (with all sequences), and neighbouring ones are drawn together, because their
errors depend on each other (``seqrnn.forecasting.bootstrap``). Every score is computed anew for every draw, and all
predictors are scored on the same draws, so that their difference has an interval, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqrnn.assessment.judged import Array, Judged
from seqrnn.forecasting import bootstrap
from seqrnn.forecasting.residuals import autocorrelation, white_noise_band
from seqrnn.metrics import is_higher_better

MANY = 20  # sequences that are independent groups
MOST_ROWS = 3e8  # over all draws, of which there are fewer for very long tests
FEWEST_DRAWS = 199
MOST_LAGS = 1000
Rows = NDArray[np.int64]


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


@dataclass(frozen=True)
class Groups:
    """The timesteps that count, in groups.

    Args:
        order: the rows of all groups, one group behind the other.
        counts: rows of each group.
        block: groups that are drawn together.
        description: what is drawn.
    """

    order: Rows
    counts: Rows
    block: int
    description: str

    def draws(self) -> Iterator[Rows]:
        """Yields the rows of each draw; nothing where there are too few groups for an interval."""
        count = len(self.counts)
        if count < 3 * self.block or count < 2:
            return
        number = int(np.clip(MOST_ROWS / max(len(self.order), 1), FEWEST_DRAWS, bootstrap.RESAMPLES))
        for chosen in bootstrap.draws(count, self.block, number):
            yield self.rows(chosen)

    def rows(self, chosen: Rows) -> Rows:
        """Returns the rows of groups, with repetitions."""
        counts = self.counts[chosen]
        begins = np.cumsum(self.counts) - self.counts
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found: Rows = self.order[np.repeat(begins[chosen], counts) + inside]
        return found


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
    found, numbers = np.unique(judged.sequences, return_inverse=True)
    steps, steps_of = np.unique(judged.times, return_inverse=True)
    if len(found) >= MANY or (len(steps) == 1 and len(found) > 1):
        order = np.argsort(numbers, kind="stable")
        return Groups(order, np.bincount(numbers), 1, f"{len(found):,} sequences")
    counts = np.bincount(steps_of)
    means = np.bincount(steps_of, _losses(judged)) / counts
    block = max(bootstrap.block_length(len(steps), judged.horizon), _memory(means))
    block = max(1, min(block, len(steps) // 3))
    what = f"{len(steps):,} timesteps"
    order = np.argsort(steps_of, kind="stable")
    return Groups(order, counts, block, f"{what} in blocks of {block:,}" if block > 1 else what)


def _losses(judged: Judged) -> NDArray[np.float64]:
    """Returns whether each prediction is wrong, or how far off it is, (N',)."""
    if judged.kind == "classification":
        return np.asarray(judged.network.argmax(axis=1) != judged.targets, np.float64)
    error = judged.network.astype(np.float64) - judged.targets
    squares: NDArray[np.float64] = np.square(error).reshape(len(error), -1).mean(axis=1)
    return squares


def _memory(losses: NDArray[np.float64]) -> int:
    """Returns how many neighbouring losses depend on each other: twice the lags up to which their autocorrelation is
    more than that of noise, as in Politis & White (2004)."""
    lags = min(MOST_LAGS, len(losses) // 4)
    if lags < 1:
        return 1
    correlation = autocorrelation(losses, lags)[1:]
    within = np.abs(np.nan_to_num(correlation)) < white_noise_band(len(losses))
    return 2 * (int(np.argmax(within)) if within.any() else lags)
