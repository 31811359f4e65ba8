"""Gradient reach: how much of an error arrives at the states that led to it.

For a loss L_t at one timestep, the output o_t of the cell there, and the states s of the trained network along real
sequences,

    reach(k) = E ‖∂L_t/∂s_{t−k}‖ / E ‖∂L_t/∂o_t‖,        k = 1, 2, …,        reach(0) = 1

over segments that end at timestep t; s is the whole state: all its parts, of all layers. What falls geometrically
with k vanishes, what grows explodes (Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013,
eq. 5). It is a property of the weights as they are: no window is applied here, so what lies beyond the schedule's
window is what that schedule cuts off.

Caveats: the mean is dominated by the segments whose gradient survives, so where a target depends on the past only now
and then, it is larger than the median; intervals are a bootstrap over segments, which share their sequences if there
are only a few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import model_validator

from seqrnn.diagnosis import panel as drawing
from seqrnn.diagnosis.instrument import Evidence, Examination, Finding, Picture
from seqrnn.diagnosis.intervals import Interval, bootstrapped, number
from seqrnn.diagnosis.panel import Panel
from seqrnn.diagnosis.record import Items, Number, Record, require_equal_lengths
from seqrnn.errors import DataError
from seqrnn.plots import style
from seqrnn.plots.style import BLUE, GREEN, GREY, VERMILLION
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.trained_run import TrainedRun

VANISHED, EXPLODED = 1e-3, 10.0  # reach
LAGS = 30  # with an interval
FEWEST_TIMESTEPS, FEWEST_SEGMENTS = 8, 8
LEAST_DRAWN = 1e-4


class Reach(Record):
    """
    Args:
        curve: reach(k) for k = 0, 1, …, as far as there is data.
        lags, reach_at_lags: some of them, with intervals.
        half_life: the first lag at which it has fallen to one half; the last lag, if it does not.
        rate: the factor per timestep, fitted to the logarithms over the lags above rounding.
        window: the schedule's; None: whole sequences.
        reach_at_window: reach at that lag, the first that the schedule cuts off, if the curve is that long.
        needed_lag: the lag of the first input that the task's targets depend on, if the task has a ``reach``.
        reach_at_needed_lag: reach at that lag.
        segments, sequences: how many were looked at.
        receptive_field: how many of the latest inputs an output of the cell depends on; None: on all.
    """

    curve: Items[Number]
    lags: Items[int]
    reach_at_lags: Items[Interval]
    half_life: Interval
    rate: Interval
    window: int | None
    reach_at_window: Interval | None
    needed_lag: int | None
    reach_at_needed_lag: Interval | None
    segments: int
    sequences: int
    receptive_field: int | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Reach:
        require_equal_lengths(lags=self.lags, reach_at_lags=self.reach_at_lags)
        return self


@register("instrument", "reach")
class ReachInstrument:
    description = "following gradients back"
    order = 40
    result_type = Reach

    def measure(self, run: TrainedRun) -> Reach:
        """
        Raises:
            DataError: the cell has no parameters that a gradient could train.
        """
        from seqrnn.diagnosis.gradients import decay_rate, gradient_norms, half_life, reach_curve

        if not any(True for _ in run.network.cell.parameters()):
            raise DataError("the cell has no parameters, so it learns nothing by gradients that flow back")
        segments = run.segments()
        timesteps, count = run.affordable(
            *segments.inputs.shape[:2], gradients=True, least=(FEWEST_TIMESTEPS, FEWEST_SEGMENTS)
        )
        if (timesteps, count) != segments.inputs.shape[:2]:
            segments = run.segments(timesteps, count)
        norms = gradient_norms(
            run.network, run.components.loss, segments.inputs, segments.targets, segments.state, run.budget.check
        )
        last, count = len(norms) - 1, norms.shape[1]
        window, inputs = run.components.schedule.reach, getattr(run.components.task, "reach", None)
        needed = None if inputs is None else inputs - 1  # the state so far back holds the first of these inputs

        def reach_at(lag: int) -> Interval:
            return bootstrapped(count, lambda chosen: float(reach_curve(norms[[0, lag]][:, chosen])[1]))

        lags = sorted({round(lag) for lag in np.geomspace(1, last, LAGS)})
        return Reach(
            curve=reach_curve(norms).tolist(),
            lags=lags,
            reach_at_lags=[reach_at(lag) for lag in lags],
            half_life=bootstrapped(count, lambda chosen: half_life(reach_curve(norms[:, chosen]))),
            rate=bootstrapped(count, lambda chosen: decay_rate(reach_curve(norms[:, chosen]))),
            window=window,
            reach_at_window=reach_at(window) if window is not None and window <= last else None,
            needed_lag=needed,
            reach_at_needed_lag=reach_at(needed) if needed is not None and needed <= last else None,
            segments=count,
            sequences=segments.sequences,
            receptive_field=getattr(run.network.cell, "receptive_field", None),
        )

    def symptoms(self, result: Reach) -> Iterator[Finding]:
        yield from vanishing(result)
        yield from exploding(result)

    def pictures(self) -> list[Picture]:
        return [Picture("How far back does an error reach?", draw, frozenset({"window", "vanishing", "exploding"}))]


def vanishing(result: Reach) -> Iterator[Finding]:
    lag, reach = len(result.curve) - 1, result.reach_at_lags[-1]
    if result.reach_at_needed_lag is not None and result.needed_lag is not None:
        lag, reach = result.needed_lag, result.reach_at_needed_lag
    elif result.reach_at_window is not None and result.window is not None:
        lag, reach = result.window, result.reach_at_window
    if result.receptive_field is not None and lag >= result.receptive_field:
        return  # it ends there by design: a finding that is read from the config
    if reach.high < VANISHED:
        lost = "what happened there cannot be learned from"
        if result.needed_lag is None:
            lost += ", if targets depend on it"
        yield Finding(
            name="vanishing",
            title="Gradients vanish",
            description=f"An error reaches the state {lag} timesteps back with {number(reach.value)} of its "
            f"strength, a factor of {number(result.rate.value)} per timestep: {lost}.",
            evidence=[
                Evidence(quantity=f"reach at lag {lag}", interval=reach),
                Evidence(quantity="factor per timestep", interval=result.rate),
            ],
            remedies=["usual start", "orthogonal start", "gated cell"],
        )


def exploding(result: Reach) -> Iterator[Finding]:
    within = [place for place, lag in enumerate(result.lags) if result.window is None or lag < max(result.window, 2)]
    worst = max(within, key=lambda place: result.reach_at_lags[place].low)
    lag, reach = result.lags[worst], result.reach_at_lags[worst]
    if reach.low > EXPLODED:
        yield Finding(
            name="exploding",
            title="Gradients explode",
            description=f"The gradient with respect to the state {lag} timesteps back is {number(reach.value)} times "
            "as large as that where the error arises: single sequences dominate the updates.",
            evidence=[Evidence(quantity=f"reach at lag {lag}", interval=reach)],
            remedies=["clipped gradients", "usual start", "orthogonal start", "smaller learning rate", "gated cell"],
        )


def draw(panel: Panel, result: Reach, found: Examination) -> None:
    """Draws the reach against the lag."""
    half, last = result.half_life, len(result.curve) - 1
    answer = f"It falls to a half within {half} timesteps"
    if half.value >= last:
        answer = f"It does not fall to a half within {last:,} timesteps"
    if math.isnan(half.value):
        answer = "Its half-life could not be measured"
    panel.write_heading(answer)
    ax = panel.axes("timesteps back", "strength of the error", above=1, left=0.66)
    strength = drawing.reals(result.curve)[1:]
    lags, ends = np.array(result.lags, np.float64), drawing.band(result.reach_at_lags)
    shown = np.concatenate([[1.0, 0.5], strength[strength > LEAST_DRAWN], ends[ends > LEAST_DRAWN]])
    drawing.scale_y(ax, shown, is_log=True)
    low, high = ax.get_ylim()
    ax.set_xscale("log")
    ax.set_xlim(0.93, max(last, 1) * 1.12)
    drawing.ticks_of(ax.xaxis, True, 1, max(last, 2))
    bounds = np.where(np.isnan(ends[:, 1:]), [low, high], ends[:, 1:]).clip(low, high)
    ax.fill_between(lags, bounds[:, 0], bounds[:, 1], color=BLUE, alpha=0.2, linewidth=0)
    x, y = style.thinned(np.arange(1.0, last + 1), strength)
    ax.plot(x, y.clip(low, high), color=BLUE, linewidth=1.6, marker="." if last < 15 else "")
    ax.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    marks: list[Any] = [(half.value, f"half-life {number(half.value)}", BLUE)] if half.value < last else []
    marks += [(result.window, f"window {result.window:,}", VERMILLION)] if result.window else []
    marks += [(result.needed_lag, f"task needs {result.needed_lag:,}", GREEN)] if result.needed_lag else []
    drawing.mark(ax, marks)
