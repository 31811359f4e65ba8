"""Forgetting: whether the network is better on the data of its latest updates than on other data.

While training is continued (see ``seqrnn.diagnosis.continued_training``), at many moments, with the weights of that
moment:

    loss(k)             on excerpts of 50 timesteps per stream that training read k timesteps ago: 50, 500, 5,000,
                        50,000
    upcoming loss       on such excerpts that training will read later: data not read yet, or, where the data is
                        finite, not since the last epoch
    validation loss     on the validation sequences

    recency gap = 1 − loss(50) / upcoming loss

A network that follows the latest data has a gap above 0 (French 1999, "Catastrophic forgetting in connectionist
networks"); one that has memorised its finite data has none, but has an upcoming loss below the validation loss. Short
sequences are taken whole. The network starts each excerpt with the state that it reaches in the 500 timesteps before.

Caveats: intervals are a bootstrap over blocks of neighbouring moments, which depend on each other. Where the learning
rate has decayed to nothing, nothing is being forgotten, whatever happened before.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from seqrnn.diagnosis import panel as drawing
from seqrnn.diagnosis.instrument import Evidence, Examination, Finding, Picture
from seqrnn.diagnosis.intervals import UNKNOWN, Interval, bootstrapped, in_blocks, number, of_mean, of_ratio, percent
from seqrnn.diagnosis.panel import MOST_ROWS, Panel, Row, fitted, scale_y
from seqrnn.diagnosis.record import Items, Name, Number, Record, require_equal_lengths
from seqrnn.plots.style import BLUE, GREY, ORANGE, SMALL
from seqrnn.registry import register

if TYPE_CHECKING:
    import torch

    from seqrnn.diagnosis.continued_training import ContinuedTraining
    from seqrnn.diagnosis.excerpts import Excerpt
    from seqrnn.diagnosis.trained_run import TrainedRun
    from seqrnn.losses import Loss
    from seqrnn.models.network import Network

NOT_IMPROVED = 0.95  # averaged weights bring an improvement where they have less of the loss
STILL_MOVING = 0.05  # factor on the learning rate above which the weights still move
FORGETS = 0.1  # recency gap
STILL_LEARNING = 0.8  # loss after longer training, by that before
MEMORISED = 1.5  # validation loss by the upcoming loss

AGES = (50, 500, 5_000, 50_000)  # timesteps
UPCOMING = (700, 3_000, 12_000, 40_000)
LENGTH = 50  # timesteps of an excerpt
MOMENTS, BLOCKS, FEWEST_MOMENTS = 160, 20, 8
TOGETHER = 8  # moments whose weights are averaged, at least
STREAMS = 16  # of an excerpt
APART = 250  # timesteps per stream between two moments
PAIRS = 2**14  # (timestep, stream) pairs of validation sequences
SECONDS = 6.0  # that training may take
TINY = 1e-30  # a loss of which there are logarithms
USUAL = 1e-3  # ‖Δw‖ / ‖w‖ of an update
Array = NDArray[np.float64]


class Forgetting(Record):
    """
    Args:
        ages: timesteps per stream since training read the data; those that the run is long enough for.
        losses: at those ages.
        upcoming_loss, validation_loss: see above.
        recency_gap: see above.
        validation_ratio: validation loss / upcoming loss.
        lr_factor: on the optimizer's learning rate, of the last update.
        averaged_ratio: the validation loss of weights averaged over the moments of a block, by that of the weights
            from its middle on: below 1 where steps are so large that the weights jump around a better place (Polyak &
            Juditsky 1992).
        continued_ratio: the validation loss in the last quarter of the moments, by that of the run's own network:
            what longer training brings.
        continued_timesteps: per stream, from the end of the run to the last moment.
        moments: how many.
        update_ratios: ‖Δw‖ / ‖w‖ of one update, by parameter.
    """

    ages: Items[int]
    losses: Items[Interval]
    upcoming_loss: Interval
    validation_loss: Interval
    recency_gap: Interval
    validation_ratio: Interval
    lr_factor: Number
    averaged_ratio: Interval
    continued_ratio: Interval
    continued_timesteps: int
    moments: int
    update_ratios: dict[Name, Interval]

    @model_validator(mode="after")
    def _fits_together(self) -> Forgetting:
        require_equal_lengths(ages=self.ages, losses=self.losses)
        return self


@register("instrument", "forgetting")
class ForgettingInstrument:
    description = "continuing the training, to see what is forgotten"
    order = 20
    result_type = Forgetting

    def measure(self, run: TrainedRun) -> Forgetting:
        """
        Raises:
            Diverged: the continued training diverged.
            TooSlow: there is time for fewer than ``FEWEST_MOMENTS`` moments.
        """
        from seqrnn.diagnosis.continued_training import ContinuedTraining

        run.affordable(LENGTH, 1, gradients=True, least=(LENGTH, 1))  # otherwise the first update takes too long
        training = ContinuedTraining(run, SECONDS / 3)
        try:
            return _measure(run, training)
        finally:
            training.close()

    def symptoms(self, result: Forgetting) -> Iterator[Finding]:
        yield from large_steps(result)
        yield from forgets(result)
        yield from underfit(result)
        yield from memorised(result)

    def pictures(self) -> list[Picture]:
        return [
            Picture("Does it forget?", draw_losses, frozenset({"forgetting", "memorised"})),
            Picture("How large are the steps?", draw_steps, frozenset({"large_steps"})),
        ]


def _measure(run: TrainedRun, training: ContinuedTraining) -> Forgetting:
    from seqrnn.diagnosis.excerpts import Excerpt

    components, budget = training.components, run.budget
    updates = max(1, APART // run.update_timesteps)
    moments = int(min(MOMENTS, max(BLOCKS, SECONDS / (training.update_seconds * updates))))
    if training.update_seconds * updates * moments > budget.remaining / 2:
        updates = max(1, int(budget.remaining / 2 / (training.update_seconds * moments)))
    ages = [age for age in AGES if age <= run.position]
    chunk = components.context(run.validation_sequences(max(STREAMS, PAIRS // len(run.validation.inputs))))
    timesteps, streams = run.affordable(
        *chunk.valid.shape, passes=FEWEST_MOMENTS, network=run.components.network, least=(1, 1)
    )
    chunk = run.first_of(chunk, timesteps, streams)
    validation = Excerpt(chunk, components.network.initial_state(chunk.inputs.shape[1]))
    finished = mean_loss(run.components.network, components.loss, validation)
    rows, weights, ratios = [], [], []
    for _ in budget.limited(range(moments), FEWEST_MOMENTS):
        training.train(updates)
        training.network.eval()
        places = [training.position - age for age in ages] + [training.position + lead for lead in UPCOMING]
        excerpts = [
            run.excerpt(max(0, place), LENGTH, streams=STREAMS, network=training.network, context=components.context)
            for place in places
        ]
        rows.append([mean_loss(training.network, components.loss, excerpt) for excerpt in (*excerpts, validation)])
        before = training.weights()
        weights.append(before)
        training.network.train()
        training.train(1)
        ratios.append(_update_ratios(training.network, before, training.weights()))
    found = np.array(rows)
    upcoming = np.nanmean(found[:, len(ages) : -1], axis=1)
    table = in_blocks(np.column_stack([found[:, : len(ages)], upcoming, found[:, -1]]), BLOCKS)
    column = {name: table[:, place] for place, name in enumerate([*ages, "upcoming", "validation"])}
    quarter = max(1, len(table) // 4)
    names = [name for name, _ in training.network.named_parameters()]

    def mean(name: object) -> Interval:
        return bootstrapped(len(table), lambda chosen: float(column[name][chosen].mean()))

    def ratio(name: object, other: object) -> Interval:
        return bootstrapped(
            len(table), lambda chosen: float(column[name][chosen].mean() / max(column[other][chosen].mean(), TINY))
        )

    recent = ratio(ages[0], "upcoming") if ages else UNKNOWN
    return Forgetting(
        ages=ages,
        losses=[mean(age) for age in ages],
        upcoming_loss=mean("upcoming"),
        validation_loss=mean("validation"),
        recency_gap=Interval(1 - recent.value, 1 - recent.high, 1 - recent.low),
        validation_ratio=ratio("validation", "upcoming"),
        lr_factor=training.lr_factor,
        averaged_ratio=_averaged(training, validation, weights, found[:, -1]),
        continued_ratio=of_ratio(
            np.maximum(column["validation"][-quarter:], TINY), np.full(quarter, max(finished, TINY))
        ),
        continued_timesteps=training.position - run.position,
        moments=len(rows),
        update_ratios={
            name: of_mean(values) for name, values in zip(names, in_blocks(np.array(ratios), BLOCKS).T, strict=True)
        },
    )


def mean_loss(network: Network, loss: Loss, excerpt: Excerpt) -> float:
    """Returns the loss per valid target of an excerpt; NaN if it has none."""
    import torch

    from seqrnn.models.unroll import unroll

    chunk = excerpt.chunk
    with torch.no_grad():
        hidden, _ = unroll(network.recur, network.initial_state, chunk.inputs, chunk.starts, excerpt.state)
        losses = loss(network.head(hidden[chunk.valid]), chunk.targets[chunk.valid])
    return float(losses.mean()) if len(losses) else np.nan


def _update_ratios(network: Network, before: torch.Tensor, after: torch.Tensor) -> list[float]:
    import torch

    sizes = [parameter.numel() for parameter in network.parameters()]
    pairs = zip(torch.split(before, sizes), torch.split(after, sizes), strict=True)
    return [float((new - old).norm() / old.norm().clamp_min(TINY)) for old, new in pairs]


def _averaged(
    training: ContinuedTraining, validation: Excerpt, weights: list[torch.Tensor], losses: Array
) -> Interval:
    """Returns the loss of weights averaged over blocks, by the mean loss of the weights at as many moments from the
    middle of a block on: where training makes progress, those before the middle are worse, and every average would
    look good beside them."""
    import torch

    twin = copy.deepcopy(training.network).eval()
    blocks = max(2, min(BLOCKS, len(weights) // TOGETHER))
    each = len(weights) // blocks
    own, averaged = [], []
    for block in range(blocks):
        middle = block * each + each // 2
        own.append(losses[middle : middle + each].mean())
        mean = torch.stack(weights[block * each : (block + 1) * each]).mean(dim=0)
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(mean.to(validation.chunk.inputs), list(twin.parameters()))
        averaged.append(mean_loss(twin, training.components.loss, validation))
    return of_ratio(np.maximum(averaged, TINY), np.maximum(own, TINY))


def large_steps(result: Forgetting) -> Iterator[Finding]:
    if result.lr_factor >= STILL_MOVING and result.averaged_ratio.high < NOT_IMPROVED:
        yield Finding(
            name="large_steps",
            title="Steps are too large for where it is",
            description=f"Weights averaged over some updates have {number(result.averaged_ratio.value)} of the loss "
            "of the weights themselves: the last steps jump around a better place without reaching it.",
            evidence=[
                Evidence(quantity="loss of averaged weights by that of the weights", interval=result.averaged_ratio)
            ],
            remedies=["decaying rate", "smaller learning rate"],
        )


def forgets(result: Forgetting) -> Iterator[Finding]:
    gap = result.recency_gap
    if result.ages and gap.low >= FORGETS:
        yield Finding(
            name="forgetting",
            title="It forgets",
            description=f"On the {result.ages[0]} timesteps that it was trained on last, its loss is "
            f"{number(100 * gap.value)} % lower than on data that it was trained on long ago, or never.",
            evidence=[
                Evidence(quantity="recency gap", interval=gap),
                Evidence(quantity=f"loss {result.ages[0]} timesteps after training on it", interval=result.losses[0]),
                Evidence(quantity="loss on data that training reads next", interval=result.upcoming_loss),
            ],
            remedies=["longer accumulation", "smaller learning rate"],
        )


def underfit(result: Forgetting) -> Iterator[Finding]:
    if result.continued_ratio.high < STILL_LEARNING:
        yield Finding(
            name="underfit",
            title="Training ended while it was learning",
            description=f"When training is continued for {number(result.continued_timesteps)} timesteps per stream, "
            f"the loss falls to {number(result.continued_ratio.value)} of what it was.",
            evidence=[
                Evidence(quantity="loss after continued training, by that before", interval=result.continued_ratio)
            ],
            remedies=["longer training"],
        )


def memorised(result: Forgetting) -> Iterator[Finding]:
    if result.validation_ratio.low > MEMORISED:
        yield Finding(
            name="memorised",
            title="It is worse on validation data than on training data",
            description=f"Its validation loss is {number(result.validation_ratio.value)} times the loss on training "
            "data: either it has memorised the training data, or the two differ in kind.",
            evidence=[
                Evidence(quantity="validation loss by that on training data", interval=result.validation_ratio)
            ],
            remedies=["best weights", "shorter training", "weight decay", "dropout", "fewer units"],
        )


def draw_losses(panel: Panel, result: Forgetting, found: Examination) -> None:
    """Draws the loss by how long ago training read the data, and on other data."""
    panel.write_heading(_answer(result))
    ages = list(zip(result.ages, result.losses, strict=True))[:6]
    names = [f"{age:,}" for age, _ in ages] + ["not\nyet", "vali-\ndation"]
    points = drawing.band([*(loss for _, loss in ages), result.upcoming_loss, result.validation_loss])
    ax = panel.axes("timesteps since training read the data", "loss", below=0.6)
    scale_y(ax, points, bottom=0.0)
    low, high = ax.get_ylim()
    for place, (value, least, most) in enumerate(points):
        colour = BLUE if place < len(ages) else ORANGE
        ends = [low if not least >= low else least, high if not most <= high else most]
        ax.plot([place, place], ends, color=colour, linewidth=2.6, alpha=0.45, solid_capstyle="butt")
        ax.plot(
            [place], [value], "o" if place < len(ages) else "D", color=colour, markersize=6, markeredgecolor="white"
        )
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set_xticks(range(len(names)), names)
    ax.xaxis.label.set_horizontalalignment("center")
    ax.axvline(len(ages) - 0.5, color=GREY, linewidth=0.8, linestyle=":")


def _answer(result: Forgetting) -> str:
    gap = result.recency_gap
    if not math.isfinite(gap.value):
        return "The recency gap could not be measured"
    if gap.low == gap.high == 0:
        return "No: the loss on the latest 50 timesteps is that on data not read yet"
    difference = gap if gap.value >= 0 else Interval(-gap.value, -gap.high, -gap.low)
    side = "lower" if gap.value >= 0 else "higher"
    answer = f"the loss on the latest 50 timesteps is {percent(difference)} {side} than on data not read yet"
    return f"T{answer[1:]}" if gap.low > 0 or gap.high < 0 else f"Not sure: {answer}"


def draw_steps(panel: Panel, result: Forgetting, found: Examination) -> None:
    """Draws the size of an update relative to the weights, for each parameter."""
    ratios = result.update_ratios
    known = [ratio.value for ratio in ratios.values() if math.isfinite(ratio.value)]
    answer = "The size of its steps could not be measured"
    if known:
        answer = f"An update changes weights by {number(min(known))} to {number(max(known))} of their size"
    if known and max(known) == 0:
        answer = "Updates no longer change the weights: the learning rate is practically zero"
    panel.write_heading(answer)
    names = list(ratios)
    if len(names) > MOST_ROWS:  # the smallest and the largest
        ordered = sorted(names, key=lambda name: np.nan_to_num(ratios[name].value))
        kept = {*ordered[: MOST_ROWS // 2], *ordered[-(MOST_ROWS // 2) :]}
        names = [name for name in names if name in kept]
    left = drawing.LABEL * panel.width
    rows = [Row(fitted(_short(name), left, SMALL, keep_end=True), ratios[name], number(ratios[name].value))
            for name in names]  # fmt: skip
    more = f" ({len(rows)} of {len(ratios):,} parameters)" if len(rows) < len(ratios) else ""
    panel.dots(rows, f"‖update‖ ÷ ‖weights‖{more}", marks=[(USUAL, "usual")])


def _short(name: str) -> str:
    """Returns the name of a parameter without the beginning that all names of a stack have."""
    return name.removeprefix("cell.").removeprefix("stack.")
