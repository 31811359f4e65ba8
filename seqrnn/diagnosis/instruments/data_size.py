"""Amount of data: is there too little training data? The loss with half of it.

Where the loss on validation data is far above that on the training data, which is learned by heart, trainings are
made on half of the training sequences, with as many updates, and on the same seeds:

    gap      loss on validation data ÷ loss on training data
    halved   loss on validation data with half of the training data ÷ that with all of it

If half of the data makes the loss ``halved`` times as large, then twice as much data brings it to about 1 / halved,
as losses fall as a power of the amount of data (Hestness et al. 2017, arXiv:1712.00409). Both are the losses of the
best evaluations, so that what stopping earlier mends is not put down to the data.

Caveats: the extrapolation is from two amounts; and the trials are as long as the run, or half as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from seqrnn.diagnosis.instrument import Evidence, Finding, Picture
from seqrnn.diagnosis.intervals import UNKNOWN, Interval, Numbers, number
from seqrnn.diagnosis.record import Number, Record
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.trained_run import TrainedRun
    from seqrnn.tasks.protocol import Batch

GAP = 1.25
LIMITS = 1.2  # halved
LEAST_PART = 0.5  # of the run's length: what is learned by heart later does not show in shorter trials
MOST = 20_000  # timesteps


class DataSize(Record):
    """
    Args:
        sequences, timesteps: of the training data: how many sequences an epoch has, and timesteps each.
        gap, halved: see above; ``halved`` is None where the gap is small, or there was no time for trials.
        part: of the run's length, of the trials.
    """

    sequences: int
    timesteps: int
    gap: Interval
    halved: Interval | None = None
    part: Number = 0.0


@register("instrument", "data_size")
class DataSizeInstrument:
    description = "asking whether there is too little data"
    order = 16
    result_type = DataSize

    def measure(self, run: TrainedRun) -> DataSize:
        from seqrnn.diagnosis.altered_data import LessData, compare
        from seqrnn.diagnosis.budget import TooSlow
        from seqrnn.errors import DataError
        from seqrnn.schedule import distinct

        run.budget.check()
        task, streams = run.components.task, run.components.schedule.streams
        batches = task.train(0, streams)
        result = DataSize(
            sequences=sum(batch.streams * count for batch, count in distinct(batches)),
            timesteps=batches[0].timesteps,
            gap=_gap(run),
        )
        if not result.gap.low > GAP or "lr" not in run.values["optimizer"]:
            return result
        try:
            found = compare(
                run,
                {"half": (lambda one: LessData(one, 0.5, streams), {})},
                least=LEAST_PART,
                shared={"schedule.keep": "best"},
            )["half"]
        except (TooSlow, DataError):
            return result
        effect = found.effect
        return result.model_copy(update={"halved": effect, "part": found.part})

    def symptoms(self, result: DataSize) -> Iterator[Finding]:
        halved = result.halved
        if halved is None or not (halved.low > 1 and halved.value >= LIMITS):
            return
        doubled = Interval(1 / halved.value, 1 / halved.high, 1 / halved.low)
        yield Finding(
            name="little_data",
            title="There is too little training data",
            description=f"Its validation loss is {number(result.gap.value)} times that on its training data "
            f"({result.sequences:,} sequences of {result.timesteps:,} timesteps), and half of that data makes it "
            f"{number(halved.value)} times as large. Twice as much data would bring it to about "
            f"{number(doubled.value)} of what it is. What helps without more data: fewer units, weight decay, "
            "dropout, the weights of the best evaluation.",
            evidence=[
                Evidence(quantity="validation loss by that on training data", interval=result.gap),
                Evidence(quantity="validation loss with half of the training data, by that with all of it",
                         interval=halved),
            ],
            remedies=[],
            effect=doubled,
        )  # fmt: skip

    def pictures(self) -> list[Picture]:
        return []


def _gap(run: TrainedRun) -> Interval:
    """Returns the loss on validation data by that on the training data of the first epoch."""
    import numpy as np

    from seqrnn.diagnosis.intervals import spread

    task, streams = run.components.task, run.components.schedule.streams
    training = _drawn_sums(run, task.train(0, streams))
    validation = _drawn_sums(run, task.validation())
    if training is None or validation is None:
        return UNKNOWN
    with np.errstate(divide="ignore", invalid="ignore"):
        losses = [sums[:, 0] / sums[:, 1] for sums in (training, validation)]
    others = np.random.default_rng(0).permutation(losses[0][1:])  # the draws of the two have nothing in common
    count = min(len(others), len(losses[1]) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return spread(float(losses[1][0] / losses[0][0]), losses[1][1 : count + 1] / others[:count], count)


def _drawn_sums(run: TrainedRun, batches: Sequence[Batch]) -> Numbers | None:
    """Returns the losses of the first sequences, and how many targets they are of, summed over all and then over each
    draw: (1 + R, 2); None where nothing can be judged."""
    import numpy as np

    from seqrnn.diagnosis.instruments.baselines import first_sequences, groups_of, losses_of
    from seqrnn.evaluation import judged_as, predict

    components = run.components
    chosen = first_sequences(batches, MOST)
    if any(judged_as(batch) is not batch for batch in chosen):
        return None
    made = [predict(components.network, [batch], components.context) for batch in chosen]
    made = [one for one in made if one.valid.any()]
    if not made:
        return None
    losses = np.concatenate([losses_of(one, components.loss) for one in made])
    values = np.stack([losses, np.ones(len(losses))], axis=1)
    drawn = groups_of(made, losses, components.task).all_drawn_sums(values)
    return np.concatenate([values.sum(axis=0)[None], drawn])
