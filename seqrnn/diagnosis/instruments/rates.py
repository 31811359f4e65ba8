"""The range of learning rates: which one brings the loss down in a short stretch of training.

From the same initial weights, of several seeds, and from the weights of the run, training is made for a short stretch
at rates of five decades and at the run's own, without decay and warm-up, and the validation loss after it is compared
(the learning-rate range test of Smith 2017, arXiv:1506.01186, with a training for each rate, so that no rate profits
from those before it).

    ratio    loss after the stretch at the run's own rate ÷ that at the best of the rates, both from initial weights
             (geometric mean over seeds, Student's t on logarithms)

Caveats: a short stretch favours large rates, so only a rate that is several times as large or as small is a finding,
and it is tried at greater length before it is recommended. The best rate is chosen on the seeds on which the ratio is
measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import model_validator

from seqrnn.diagnosis import panel as drawing
from seqrnn.diagnosis.instrument import Evidence, Examination, Finding, Picture
from seqrnn.diagnosis.intervals import Interval, number, of_mean, of_ratio
from seqrnn.diagnosis.panel import Panel, scale_y
from seqrnn.diagnosis.record import Items, Number, Record, require_equal_lengths
from seqrnn.errors import DataError
from seqrnn.plots.style import BLUE, GREEN, GREY, VERMILLION
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.trained_run import TrainedRun

FAR = 5.0  # times the best rate, or a part of it, beyond which a rate is a finding
WORSE = 1.25  # ratio
SECONDS = 4.0
SEEDS = 3
LONGEST = 0.25  # of the run's timesteps
RATES, DECADES = 11, 6  # rates of five decades: two in each, both ends included, or one if there is little time
SHARE = 0.6  # of the time of the instrument that its trainings may be expected to take
LARGEST = {"sgd": 10.0}  # rate that is tried; of the other optimizers 1, whatever the size of gradients
ADAPTIVE = 1.0
FAILED = 1e12  # a loss that cannot be drawn


class Rates(Record):
    """
    Args:
        rates: that were tried, in increasing order; the run's own is among them.
        losses: after the stretch, from initial weights.
        resumed_losses: after the stretch, from the weights of the run.
        own, best: rates.
        ratio: see above.
        updates: of the stretch.
        seeds: of the initial weights.
    """

    rates: Items[Number]
    losses: Items[Interval]
    resumed_losses: Items[Number]
    own: Number
    best: Number
    ratio: Interval
    updates: int
    seeds: int

    @model_validator(mode="after")
    def _fits_together(self) -> Rates:
        require_equal_lengths(rates=self.rates, losses=self.losses, resumed_losses=self.resumed_losses)
        return self


@register("instrument", "rates")
class RatesInstrument:
    description = "trying learning rates"
    order = 15
    result_type = Rates

    def measure(self, run: TrainedRun) -> Rates:
        from seqrnn.diagnosis.trials import FIRST_SEED, Training, Trials

        if "lr" not in run.values["optimizer"]:
            raise DataError("the optimizer has no learning rate")
        run.budget.check()
        own = float(run.values["optimizer"]["lr"])
        trials = Trials(run, run.budget.remaining)
        seconds = min(SECONDS, SHARE * run.budget.remaining)
        largest = LARGEST.get(run.values["optimizer"]["name"], ADAPTIVE)
        rates = rates_around(own, largest, RATES)
        if trials.seconds_of({}, trials.shortest, len(rates)) > seconds / 2:
            rates = rates_around(own, largest, DECADES)
        count = (SEEDS + 1) * len(rates)
        fixed = trials.seconds_of({}, 0.0, count)
        whole = trials.seconds_of({}, 1.0, count) - fixed
        length = min(LONGEST, max(trials.shortest, (seconds - fixed) / max(whole, 1e-9)))

        def round_of(seed: int, resumed: bool) -> list[float]:
            """Returns the losses of a training at each rate; empty if there was no time for all of them."""
            constant = {"schedule.lr_decay": "constant", "schedule.warmup": 0}
            asked = [
                Training({"optimizer.lr": rate, **constant}, length, seed, resumed, evaluations=1) for rate in rates
            ]
            found = [loss for loss in trials.finished_losses(asked) if loss is not None]
            return found if len(found) == len(rates) else []

        rounds = [round_of(FIRST_SEED, False), round_of(FIRST_SEED, True)]
        rounds += [round_of(FIRST_SEED + number, False) for number in range(1, SEEDS)]
        if not rounds[0]:
            raise run.budget.too_slow()
        initial = np.array([one for one in [rounds[0], *rounds[2:]] if one])  # (seeds, rates)
        place, own_place = int(np.log(initial).mean(axis=0).argmin()), rates.index(own)
        return Rates(
            rates=rates,
            losses=[of_mean(losses) for losses in initial.T],
            resumed_losses=rounds[1] or [math.nan] * len(rates),
            own=own,
            best=rates[place],
            ratio=of_ratio(initial[:, own_place], initial[:, place]),
            updates=max(1, round(length * trials.updates)),
            seeds=len(initial),
        )

    def symptoms(self, result: Rates) -> Iterator[Finding]:
        factor = result.best / result.own
        if not result.ratio.value >= WORSE or 1 / FAR < factor < FAR:
            return
        small = factor > 1
        times = f"{number(factor if small else 1 / factor)} times as {'large' if small else 'small'}"
        yield Finding(
            name="small_steps" if small else "large_steps",
            title=f"The learning rate is too {'small' if small else 'large'}",
            description=f"From the same initial weights, {result.updates:,} updates at optimizer.lr={result.best:g}, "
            f"{times}, come to {number(1 / result.ratio.value)} of the loss that they come to at its own rate of "
            f"{result.own:g}.",
            evidence=(
                [Evidence(quantity="loss at its own rate, by that at the best rate", interval=result.ratio)]
                if result.ratio.low > 1
                else []  # it is tried, and left out of the report unless the trial helps
            ),
            remedies=["larger learning rate" if small else "smaller learning rate"],
        )

    def pictures(self) -> list[Picture]:
        return [Picture("Is the learning rate right?", draw, frozenset({"small_steps", "large_steps"}))]


def rates_around(own: float, largest: float, count: int) -> list[float]:
    """Returns so many rates of five decades up to the largest one, and the run's own."""
    grid = [float(f"{rate:.2g}") for rate in np.geomspace(largest / 1e5, largest, count)]
    return sorted({own, *(rate for rate in grid if abs(np.log(rate / own)) > np.log(1.5))})


def draw(panel: Panel, result: Rates, found: Examination) -> None:
    """Draws the loss after a short training by its learning rate."""
    rates = drawing.reals(result.rates)
    if not (rates > 0).all() or not len(rates):
        panel.write_heading()
        panel.write_reason("No learning rate was tried.")
        return
    panel.write_heading(
        f"Best in {result.updates:,} updates: {number(result.best)}; its own, {number(result.own)}, has "
        f"{number(result.ratio.value)} times that loss"
    )
    ax = panel.axes("learning rate, constant", "validation loss", above=2)
    losses = drawing.band(result.losses)
    losses[losses[:, 0] > FAILED] = np.nan
    resumed = np.where(drawing.reals(result.resumed_losses) < FAILED, drawing.reals(result.resumed_losses), np.nan)
    scale_y(ax, np.concatenate([losses[:, 0], resumed]))
    ax.set_xscale("log")
    ax.set_xlim(rates.min() / 1.5, rates.max() * 1.5)
    drawing.ticks_of(ax.xaxis, True, rates.min(), rates.max())
    drawing.curve(ax, rates, losses, BLUE, "from initial weights", "o")
    drawing.curve(ax, rates, np.stack([resumed] * 3, axis=1), GREY, "from its own weights", "s")
    drawing.mark(ax, [(result.own, "its own", VERMILLION), (result.best, "best", GREEN)])
    drawing.legend(ax, above_marks=True)
