"""What the scores of a finished run mean, and why its training ended."""

from __future__ import annotations

import math
from collections.abc import Mapping

from seqrnn.metrics import is_higher_better
from seqrnn.schedule import Schedule
from seqrnn.tasks.protocol import Task

Scores = Mapping[str, Mapping[str, float]]


def shortfall(scores: Scores, task: Task, headline: str) -> str | None:
    """Returns a sentence if the network does not beat every trivial predictor, with the best of these; else None.

    Args:
        scores: test scores by name: the network first, then the baselines; empty for a run without a test.
        headline: the metric that is compared.
    """
    if not scores:
        return None
    sign = -1 if is_higher_better(headline, getattr(task, "higher_is_better", None)) else 1
    (_, network), *baselines = ((name, values.get(headline, math.nan)) for name, values in scores.items())
    # A floor is the best that any predictor can do.
    trivial = [(name, value) for name, value in baselines if math.isfinite(value) and not name.startswith("floor")]
    if not trivial:
        return None
    name, value = min(trivial, key=lambda baseline: sign * baseline[1])
    if sign * network < sign * value:
        return None
    return f"does not beat the trivial predictor {name}: {headline} {network:.4g}, not {value:.4g}"


def early_stop(schedule: Schedule) -> str:
    """Returns why early stopping has ended a training."""
    return f"{schedule.patience} evaluations without a lower validation loss (schedule.patience={schedule.patience})"
