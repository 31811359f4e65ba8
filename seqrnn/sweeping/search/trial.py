"""What a job of a search does while it trains: it reports its evaluations, and ends where they are hopeless."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seqrnn.errors import Pruned
from seqrnn.monitor import Progress
from seqrnn.sweeping.search.study import LAST_STEP, Study


@contextmanager
def reporting(sweep: Path, number: int) -> Iterator[Callable[[Progress], None]]:
    """Wraps the run of a trial; returns what is to be called after each evaluation.

    Runs whose schedules differ make different numbers of updates. So evaluations are compared that come after the
    same share of them: the first one in each twentieth.

    Args:
        sweep: the directory of the sweep.
        number: of the trial.
    """
    study = Study.open(sweep)
    reported = study.last_step(number)

    def report(progress: Progress) -> None:
        """Reports an evaluation.

        Raises:
            Pruned: it is worse than those of other trials by then.
        """
        nonlocal reported
        step = LAST_STEP * progress.position // max(1, progress.planned_updates)
        value = progress.evaluation.get(study.plan.metric)
        if value is None or not math.isfinite(value) or not reported < step < LAST_STEP:
            return
        reported = step
        if study.report(number, value, step):
            raise Pruned(
                f"pruned: {study.plan.metric} {value:.4g} on the validation data after {step / LAST_STEP:.0%} of the "
                f"updates is worse than that of other trials (sweep.pruner={study.plan.pruner})"
            )

    try:
        yield report
    finally:
        study.close()
