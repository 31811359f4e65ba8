"""Has the network learned anything at all? Its test loss against that of the task's trivial predictors.

    ratio    mean loss of the network ÷ mean loss of a baseline, over the valid targets of the same test sequences

with a percentile bootstrap over what a forecast's verdict draws (``seqrnn.forecasting.groups``: sequences, the dates
that many of them share as well, or of few sequences, blocks of time), which keeps the losses of network and baseline
on the same targets together. A ratio below 1 with its whole interval means that it has learned something
that the baseline does not know. It is measured on the first test sequences, of at most 60,000 timesteps together.

A baseline whose name begins with ``floor`` is the best that any predictor can do: ``best`` is never one of those.

Caveat: the best baseline is chosen by its loss on the same sequences, so a network that is no better than it looks
slightly worse than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from seqrnn.diagnosis.instrument import Evidence, Examination, Finding, Picture
from seqrnn.diagnosis.intervals import Interval, Numbers, number, spread
from seqrnn.diagnosis.panel import MOST_ROWS, Panel, Row, band
from seqrnn.diagnosis.record import Items, Name, Number, Record
from seqrnn.forecasting.groups import Groups, group
from seqrnn.plots.style import BLUE, GREY
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.trained_run import TrainedRun
    from seqrnn.evaluation import Predictions
    from seqrnn.losses import Loss
    from seqrnn.tasks.protocol import Batch, Task

AT_FLOOR = 1.05  # of the least loss that is possible
NOTHING = 0.9  # of the best trivial predictor's loss: a network with no less has learned nothing

MOST = 60_000  # timesteps, over all sequences
SHOWN = {"regression": "mae", "classification": "accuracy"}


class Baseline(Record):
    """A trivial predictor: its mean loss, its metric, and the network's loss ÷ its own.

    Args:
        is_conditional: of a floor: whether another setting of the task or the schedule allows a lower loss.
        is_constant: whether its outputs are the same at all timesteps.
    """

    name: Name
    loss: Interval
    metric: Number
    ratio: Interval
    is_conditional: bool = False
    is_constant: bool = False


class Baselines(Record):
    """
    Args:
        sequences: how many test sequences were judged.
        all_sequences: how many there are, those without a target included.
        independent: what the intervals are over.
        loss: of the network.
        metric, metric_name: the network's score that the task is usually judged by.
        baselines: all of the task's.
        best: the name of the one with the least loss, floors aside; None if the task has none.
        ratio: the network's loss ÷ that of the best.
        metric_gain: of classifications, the network's accuracy above the highest one of the trivial predictors.
    """

    sequences: int
    all_sequences: int
    independent: str
    loss: Interval
    metric: Number
    metric_name: str
    baselines: Items[Baseline]
    best: Name | None
    ratio: Interval | None
    metric_gain: Interval | None = None


@register("instrument", "baselines")
class BaselinesInstrument:
    description = "comparing with trivial predictors"
    order = 10
    result_type = Baselines

    def measure(self, run: TrainedRun) -> Baselines:
        """Runs the network, as it was trained (its precision, its kernel), over test sequences."""
        from seqrnn.evaluation import judged, predict, predict_baselines

        components = run.components
        task, network = components.task, components.network
        batches = task.test()
        longest = max(batch.timesteps for batch in batches)
        chosen = first_sequences(batches, longest * _affordable_sequences(run, longest, batches[0].streams))
        made = predict(network, chosen, components.context)
        others = dict(predict_baselines(made, task))
        names, predictions = ["", *others], [made, *others.values()]
        losses = np.stack([losses_of(one, components.loss) for one in predictions], axis=1)
        groups = groups_of([made], losses[:, 0], task)
        ratio = _ratios(np.column_stack([losses, np.ones(len(losses))]), groups)
        scores = [task.metrics(*judged(one, task)) for one in predictions]
        wanted = SHOWN[task.kind]
        metric = wanted if wanted in scores[0] else next(iter(scores[0]))
        found = [
            Baseline(
                name=name,
                loss=ratio(column, len(names)),
                metric=float(scores[column][metric]),
                ratio=ratio(0, column),
                is_conditional=name in getattr(task, "conditional_floors", ()),
                is_constant=_is_constant(predictions[column]),
            )
            for column, name in enumerate(names)
            if column
        ]
        trivial = [baseline for baseline in found if not baseline.name.startswith("floor")]
        best = min(trivial, key=lambda baseline: baseline.loss.value, default=None)
        return Baselines(
            sequences=int(made.valid.any(axis=0).sum()),
            all_sequences=sum(batch.streams for batch in batches),
            independent=groups.description,
            loss=ratio(0, len(names)),
            metric=float(scores[0][metric]),
            metric_name=metric,
            baselines=found,
            best=best.name if best else None,
            ratio=best.ratio if best else None,
            metric_gain=_gain(groups, made, [others[one.name] for one in trivial]) if wanted == "accuracy" else None,
        )

    def symptoms(self, result: Baselines) -> Iterator[Finding]:
        yield from nothing_learned(result)
        yield from without_state(result)

    def pictures(self) -> list[Picture]:
        return [Picture("Has it learned anything?", draw, frozenset({"nothing_learned"}))]


def beats_a_constant(result: Baselines) -> bool:
    """Returns whether the network is certainly better than a constant, and so has learned something."""
    return any(
        one.is_constant and one.ratio.high < NOTHING for one in result.baselines if not one.name.startswith("floor")
    )


def what_is_learned(ratio: Interval, beats_a_constant: bool) -> str:
    """Returns how much a network with nearly the loss of the best trivial predictor, or a higher one, has learned."""
    if beats_a_constant:
        if ratio.low <= 1 <= ratio.high:
            return "about as much as a trivial predictor knows, or less"
        return f"{'less' if ratio.low > 1 else 'hardly more'} than a trivial predictor knows"
    return "next to nothing" if ratio.high < 1 else "nothing"


def nothing_learned(result: Baselines) -> Iterator[Finding]:
    gain = result.metric_gain
    if result.ratio is None or result.ratio.low < NOTHING or (gain is not None and gain.low > 0):
        return
    evidence = [Evidence(quantity=f"loss by that of {result.best}", interval=result.ratio)]
    if gain is not None:
        evidence.append(Evidence(quantity="accuracy above that of trivial predictors", interval=gain))
    yield Finding(
        name="nothing_learned",
        title=f"It has learned {what_is_learned(result.ratio, beats_a_constant(result))}",
        description=f"Its loss is {number(result.ratio.value)} times that of {result.best}, a trivial predictor.",
        evidence=evidence,
        remedies=[],
    )


def without_state(result: Baselines) -> Iterator[Finding]:
    for one in result.baselines:
        if one.is_conditional and one.ratio.high <= AT_FLOOR:
            yield Finding(
                name="carry",
                title="Sequences begin without the state",
                description=f"Its loss is {number(one.ratio.value)} of {one.name}, the least that is possible "
                "without the state of the sequence before; with it, less is.",
                evidence=[Evidence(quantity=f"loss by that of {one.name}", interval=one.ratio)],
                remedies=["carried state"],
            )


def _gain(groups: Groups, made: Predictions, others: Sequence[Predictions]) -> Interval | None:
    """Returns the share of right classes above the highest one of other predictors."""
    if not others:
        return None
    right = [one.judged()[0].argmax(axis=-1) == one.judged()[1] for one in (made, *others)]
    highest = right[1 + max(range(len(others)), key=lambda place: float(right[1 + place].mean()))]
    gains = right[0].astype(np.float64) - highest
    return _ratios(np.stack([gains, np.ones(len(gains))], axis=1), groups)(0, 1)


def _ratios(values: Numbers, groups: Groups) -> Callable[[int, int], Interval]:
    """Returns what returns the sum of one column of values (N', K) by that of another one, with its interval."""
    total, drawn = values.sum(axis=0), groups.all_drawn_sums(values)

    def ratio(above: int, below: int) -> Interval:
        with np.errstate(divide="ignore", invalid="ignore"):
            return spread(_ratio(total[above], total[below]), drawn[:, above] / drawn[:, below], len(drawn))

    return ratio


def _affordable_sequences(run: TrainedRun, timesteps: int, streams: int) -> int:
    """Returns how many sequences there is time for.

    Raises:
        TooSlow: there is not even time for one.
    """
    network, wanted = run.components.network, max(1, MOST // timesteps)
    streams = min(streams, wanted)
    fitting = run.affordable(timesteps, streams, network=network, least=(timesteps, 1))[1]
    if fitting < streams:
        return fitting
    return run.budget.affordable(wanted, timesteps * run.step_seconds(streams, network=network) / streams, 1)


def _is_constant(predictions: Predictions) -> bool:
    outputs = predictions.judged()[0]
    return bool((outputs == outputs[:1]).all())


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below else (1.0 if not above else float("inf"))


def first_sequences(batches: Sequence[Batch], most: int) -> list[Batch]:
    """Returns sequences of at most so many timesteps together, but at least one."""
    chosen: list[Batch] = []
    left = min(most, MOST)
    for batch in batches:
        streams = min(batch.streams, left // batch.timesteps)
        if streams < batch.streams:
            if streams or not chosen:
                chosen.append(_first_streams(batch, max(1, streams)))
            break
        chosen.append(batch)
        left -= streams * batch.timesteps
    return chosen


def _first_streams(batch: Batch, count: int) -> Batch:
    from seqrnn.tasks.protocol import Chunk, Stored

    if count == batch.streams:
        return batch
    if hasattr(batch, "first"):
        first: Batch = batch.first(count)
        return first
    whole = batch.read(0, batch.timesteps)
    fields = (whole.inputs, whole.targets, whole.valid, whole.starts)
    return Stored(Chunk(*(values[:, :count] for values in fields)))


def groups_of(made: Sequence[Predictions], losses: Numbers, task: Task) -> Groups:
    """Groups the valid targets of sequences as a forecast's verdict does.

    Args:
        losses: (N',) of each.
    """
    from seqrnn.evaluation import horizon_of, judged, times_of

    found = [times_of(one) for one in made]
    first = np.cumsum([0, *(one.valid.shape[1] for one in made)])  # sequence of each
    sequences = [begin + np.nonzero(one.valid)[1] for begin, one in zip(first, made, strict=False)]
    return group(
        np.concatenate([times for times, _ in found]),
        np.concatenate(sequences),
        losses,
        horizon_of(judged(made[0], task)[0], task),
        share_time=all(share_time for _, share_time in found),
    )


def losses_of(predictions: Predictions, loss: Loss) -> Numbers:
    """Returns the loss of each valid target."""
    import torch

    outputs, targets = predictions.judged()
    found: Numbers = loss(torch.from_numpy(outputs), torch.from_numpy(targets)).double().numpy()
    return found


def draw(panel: Panel, result: Baselines, found: Examination) -> None:
    """Draws the loss of the network and those of the trivial predictors."""
    answer = "The task has no trivial predictor to compare with"
    if result.ratio is not None and result.best is not None:
        answer = f"Loss × {result.ratio} of that of {result.best}, the best trivial predictor"
    panel.write_heading(answer)
    rows = [Row("the network", result.loss, number(result.loss.value), BLUE, bold=True)]
    rows += [
        Row(one.name, one.loss, number(one.loss.value), GREY)
        for one in sorted(result.baselines, key=lambda one: one.loss.value)
    ]
    values = np.array([row.interval.value for row in rows])
    is_log = bool((values > 0).all()) and values.max() > 4 * values.min()
    panel.dots(rows[:MOST_ROWS], "loss on test sequences", is_log, bounds=None if is_log else _from_zero(rows))


def _from_zero(rows: list[Row]) -> tuple[float, float]:
    ends = np.append(band([row.interval for row in rows]).ravel(), 0.0)
    low, high = np.nanmin(ends), np.nanmax(ends)
    return (float(low * 1.1), float(high * 1.1) or 1.0)
