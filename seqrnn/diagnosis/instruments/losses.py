"""Loss: do a few outliers rule what is trained? A trial with absolute instead of squared errors.

A squared error is ruled by the largest ones: an outlier ten deviations off counts as much as a hundred targets one
off. Where outliers make up much of it, trainings are made on the same seeds with task.loss=l1, whose best
answer is the median, and are judged by what a reader looks at, and not by the loss that they minimise:

    share     of the squared error that is made on targets more than four standard deviations (the usual ones: by the
              middle half of the targets) from their median
    effect    mean absolute error on validation data with task.loss=l1 ÷ that with the loss as it is

Caveat: where the outliers are what matters, the squared error is the right loss, whatever this says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seqrnn.diagnosis.instrument import Evidence, Finding, Picture
from seqrnn.diagnosis.intervals import Interval, Numbers, number, percent
from seqrnn.diagnosis.record import Name, Number, Record
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.trained_run import TrainedRun
    from seqrnn.diagnosis.trials import Trial

SQUARED = ("mse", "half_mse")
OTHER = "l1"
METRIC = "mae"
OUTLIER = 4.0  # standard deviations from the median
RULED = 0.3  # share of the squared error
HELPS = 0.75  # effect


class Losses(Record):
    """
    Args:
        loss: of the run.
        share, effect: see above; ``effect`` is None where no trial was needed, or there was no time for it.
        part: of the run's length, of the trials.
        seeds: of the trials.
        error: mean absolute error of the trials with the other loss.
    """

    loss: Name
    share: Interval
    effect: Interval | None = None
    part: Number = 0.0
    seeds: int = 0
    error: Number = 0.0


@register("instrument", "losses")
class LossesInstrument:
    description = "asking whether outliers rule the loss"
    order = 13
    result_type = Losses

    def measure(self, run: TrainedRun) -> Losses:
        """
        Raises:
            DataError: the task is not trained by squared errors, or has no other loss.
            TooSlow: there is no time for it.
        """
        from seqrnn.components import problems_of
        from seqrnn.diagnosis.altered_data import compare
        from seqrnn.diagnosis.budget import TooSlow
        from seqrnn.diagnosis.seen_data import seen
        from seqrnn.diagnosis.trials import changed
        from seqrnn.errors import DataError

        run.budget.check()
        task, change = run.components.task, {"task.loss": OTHER}
        if task.loss not in SQUARED or METRIC not in (run.summary.get("test") or {}):
            raise DataError(f"the loss is {task.loss}: only squared errors of a task with a mean absolute error are")
        if "loss" not in run.values["task"] or problems_of(changed(run.values, change)):
            raise DataError("the task has no other loss")
        found = seen(run)
        share = share_of_outliers(
            found.outputs[found.chunk.valid].cpu().numpy(), found.wanted[found.valid], found.groups[found.valid]
        )
        result = Losses(loss=task.loss, share=share)
        if not share.value >= RULED:
            return result
        try:
            trial = compare(run, {OTHER: (lambda one: one, change)}, metric=METRIC)[OTHER]
        except TooSlow:
            return result
        return result.model_copy(
            update={"effect": trial.effect, "part": trial.part, "seeds": trial.seeds, "error": trial.loss}
        )

    def symptoms(self, result: Losses) -> Iterator[Finding]:
        effect = result.effect
        if effect is None or not (effect.high < 1 and effect.value <= HELPS):
            return
        yield Finding(
            name="loss",
            title="Outliers rule the loss",
            description=f"{percent(result.share)} of its squared error is made on targets that lie more than "
            f"{OUTLIER:g} standard deviations from the others. With task.loss={OTHER}, trials come to "
            f"{number(effect.value)} of the mean absolute error. If the outliers are what matters, keep the loss.",
            evidence=[
                Evidence(quantity="share of the squared error that outliers make", interval=result.share),
                Evidence(quantity=f"mean absolute error with task.loss={OTHER}, by that without", interval=effect),
            ],
            remedies=[],
            effect=effect,
        )

    def pictures(self) -> list[Picture]:
        return []


def share_of_outliers(outputs: Numbers, targets: Numbers, groups: NDArray[np.int64]) -> Interval:
    """Returns the share of the squared error of outputs (N, O) that is made on targets far from all others."""
    from seqrnn.diagnosis.intervals import resampled, spread

    deviation = np.subtract(*np.quantile(targets, [0.75, 0.25], axis=0)) / 1.349
    deviation = np.where(deviation > 0, deviation, targets.std(axis=0))
    is_far = np.abs(targets - np.median(targets, axis=0)) > OUTLIER * deviation
    squares = (targets - outputs) ** 2
    known = np.unique(groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(known, one.sum(axis=1)) for one in (squares * is_far, squares)], axis=1).astype(
        np.float64
    )
    drawn, total = resampled(sums), sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return spread(float(total[0] / total[1]), drawn[:, 0] / drawn[:, 1], len(sums))


def as_trial(result: Losses) -> Trial:
    """Returns the trial of the other loss, judged by the mean absolute error, as a remedy."""
    from seqrnn.diagnosis.trials import Trial

    assert result.effect is not None
    change = {"task.loss": OTHER}
    return Trial("absolute errors", change, 1.0, result.part, result.effect, result.error, result.seeds, 1.0)
