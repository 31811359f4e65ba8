"""Truncation bias: what is wrong with the gradient that a schedule uses, compared with that of full backpropagation.

On an excerpt of training data, with the same weights, g(w) is the gradient of the mean loss that windows of w
timesteps give, and g that of one window over the whole excerpt:

    cosine(w) = ⟨g(w), g⟩ / (‖g(w)‖ ‖g‖),        ratio(w) = ‖g(w)‖ / ‖g‖

over the parameters of the cell (a head reads the same state whatever the window, so its gradient is without bias as
long as the state is carried); the mean cosine and the geometric mean ratio over excerpts, by Student's t. Williams &
Peng (1990) give the algorithm; Tallec & Ollivier (2017, arXiv:1705.08209) why its bias matters; Aicher, Foti & Fox
(2019, arXiv:1905.07473) measure it.

Caveats: "full" ends at the horizon, the length of the excerpts. It is the bias at these weights: a network that has
never been given long gradients may have nothing to send along them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import model_validator

from seqrnn.diagnosis import panel as drawing
from seqrnn.diagnosis.instrument import Examination, Finding, Picture
from seqrnn.diagnosis.intervals import Interval, number, of_mean, of_ratio
from seqrnn.diagnosis.panel import Panel
from seqrnn.diagnosis.record import Items, Record, require_equal_lengths
from seqrnn.errors import DataError
from seqrnn.plots import style
from seqrnn.plots.style import BLUE, INK, ORANGE, VERMILLION
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.trained_run import TrainedRun
    from seqrnn.models.protocol import State
    from seqrnn.tasks.protocol import Chunk

EXCERPTS, FEWEST_EXCERPTS = 16, 4
STREAMS = 8  # of an excerpt
HORIZON, LONGEST, SHORTEST = 256, 1000, 16  # timesteps of a horizon, if sequences are that long
WINDOWS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
SUFFICIENT = 0.9  # cosine
FORWARD = 100, 2  # timesteps and streams of a gradient that is computed forwards in time, which takes long
LEAST = 1e-12  # ratio that is distinguished from 0


class Truncation(Record):
    """
    Args:
        horizon: timesteps of an excerpt.
        windows, cosines, ratios: a curve; the last window is the horizon itself.
        schedule_window: the schedule's own; None: whole sequences.
        gradient: how the schedule computes gradients. Those that it computes forwards in time (``rtrl``, ``snap1``)
            are compared on a small part of each excerpt, of ``FORWARD`` timesteps and streams at most.
        cosine, ratio: of the schedule as it is: its gradient, window, stride and carry.
        sufficient_window: the shortest of the windows from which on the cosine is at least ``SUFFICIENT``.
        excerpts: how many were looked at.
        carry: whether the schedule carries the state into its windows, as those of the curve do.
    """

    horizon: int
    windows: Items[int]
    cosines: Items[Interval]
    ratios: Items[Interval]
    schedule_window: int | None
    cosine: Interval
    ratio: Interval
    sufficient_window: int
    excerpts: int
    carry: bool = True
    gradient: str = "bptt"

    @model_validator(mode="after")
    def _fits_together(self) -> Truncation:
        require_equal_lengths(windows=self.windows, cosines=self.cosines, ratios=self.ratios)
        return self


@register("instrument", "truncation")
class TruncationInstrument:
    description = "comparing gradients with full ones"
    order = 50
    result_type = Truncation

    def measure(self, run: TrainedRun) -> Truncation:
        from seqrnn.diagnosis.gradients import compare, forward_gradient, states_along, windowed_gradient

        components, schedule = run.components, run.components.schedule
        network, loss, check = components.network, components.loss, run.budget.check
        if not any(True for _ in network.cell.parameters()):
            raise DataError("the cell has no parameters, so there is no gradient that could be cut")
        horizon = min(run.data.first_batch_timesteps, max(HORIZON, 4 * (schedule.reach or 0)), LONGEST)
        streams = min(STREAMS, schedule.streams)
        horizon, _ = run.affordable(
            horizon, streams, passes=FEWEST_EXCERPTS * 4, gradients=True, network=network,
            least=(SHORTEST, streams),
        )  # fmt: skip
        count = EXCERPTS if schedule.streams >= STREAMS else 2 * EXCERPTS
        cosines, ratios = [], []  # of each excerpt: of each window, then of the schedule
        excerpts = run.upcoming(count, horizon, streams=STREAMS, network=network, context=components.context)
        for excerpt in run.budget.limited(excerpts, FEWEST_EXCERPTS):
            horizon = len(excerpt.chunk.inputs)
            windows = [window for window in WINDOWS if window < horizon] + [horizon]
            states = states_along(network, excerpt, check)
            arguments = network, loss, excerpt.chunk, states
            full = windowed_gradient(*arguments, horizon, horizon, carry=True, check=check)
            pairs = [
                compare(windowed_gradient(*arguments, window, window, carry=True, check=check), full)
                for window in windows[:-1]
            ]
            pairs.append((1.0, 1.0))
            if schedule.is_forward:
                piece, before = beginning_of(excerpt.chunk, states)
                whole = windowed_gradient(network, loss, piece, before, None, None, carry=True, check=check)
                start = tuple(part[0] for part in before)
                pairs.append(compare(forward_gradient(components, network, piece, start, check), whole))
            elif schedule.window is None or (schedule.window >= horizon and schedule.carry):
                pairs.append((1.0, 1.0))
            else:
                own = windowed_gradient(*arguments, schedule.window, schedule.stride, schedule.carry, check=check)
                pairs.append(compare(own, full))
            cosines.append([cosine for cosine, _ in pairs])
            ratios.append([ratio for _, ratio in pairs])
        mean_cosines = [_within_one(of_mean(row)) for row in np.transpose(cosines)]
        mean_ratios = [of_ratio(np.maximum(row, LEAST), np.ones(len(row))) for row in np.transpose(ratios)]
        short = max((row for row in range(len(windows) - 1) if mean_cosines[row].value < SUFFICIENT), default=-1)
        return Truncation(
            horizon=horizon,
            windows=windows,
            cosines=mean_cosines[:-1],
            ratios=mean_ratios[:-1],
            schedule_window=schedule.reach,
            cosine=mean_cosines[-1],
            ratio=mean_ratios[-1],
            sufficient_window=windows[short + 1],
            excerpts=len(cosines),
            carry=schedule.carry or schedule.is_forward,
            gradient=schedule.gradient,
        )

    def symptoms(self, result: Truncation) -> Iterator[Finding]:
        """Yields nothing: whether the bias does harm depends on the gradient reach too (see
        ``seqrnn.diagnosis.findings``)."""
        yield from ()

    def pictures(self) -> list[Picture]:
        return [Picture("Is the schedule's gradient the right one?", draw, frozenset({"window"}))]


def beginning_of(chunk: Chunk, states: State) -> tuple[Chunk, State]:
    """Returns the first timesteps of some streams that have targets, ``FORWARD`` of each at most, and the states
    before each of them."""
    timesteps, streams = FORWARD
    which = chunk.valid[:timesteps].any(dim=0).nonzero().flatten()[:streams]
    values = (chunk.inputs, chunk.targets, chunk.valid, chunk.starts)
    return (
        type(chunk)(*(each[:timesteps][:, which.to(each.device)] for each in values)),
        tuple(part[:timesteps][:, :, which.to(part.device)] for part in states),
    )


def _within_one(cosine: Interval) -> Interval:
    return Interval(cosine.value, max(-1.0, cosine.low), min(1.0, cosine.high))


def draw(panel: Panel, result: Truncation, found: Examination) -> None:
    """Draws direction and size of the gradients of shorter windows, compared with the full gradient."""
    own, sufficient = result.schedule_window, result.sufficient_window
    cosine, ratio = result.cosine, result.ratio
    name = "Whole sequences" if result.gradient == "bptt" else result.gradient
    answer = f"{name}: direction {number(cosine.value)}, size {number(ratio.value)} of the full one's (1 = equal)"
    if own:
        answer = f"Its window {own:,}: direction {cosine}, size {ratio}; 1 = equal; {sufficient:,} is enough"
    panel.write_heading(answer)
    ax = panel.axes("window, in timesteps", "1 = as the full gradient", above=2 if own else 1, left=0.56)
    windows = np.array(result.windows, np.float64)
    cosines, ratios = drawing.band(result.cosines), drawing.band(result.ratios)
    stars = drawing.band([cosine, ratio])
    drawn = np.concatenate([cosines.ravel(), ratios[:, 0], stars[0], stars[1, :1]])
    low, high = style.limits([np.array([0.0, 1.0]), drawn[np.abs(drawn) < 3]], 0.05)
    ax.set_ylim(low, high)
    ax.set_xscale("log")
    most = max(windows.max(initial=1.0), own or 1)
    ax.set_xlim(min(0.85, windows.min(initial=1.0) or 0.85), most * 1.2)
    drawing.ticks_of(ax.xaxis, True, 1, max(most, 2))
    ax.axhline(1.0, color=INK, linewidth=0.8)
    drawing.curve(ax, windows, cosines, BLUE, "direction (cosine)", "o")
    drawing.curve(ax, windows, ratios, ORANGE, "size (ratio of norms)", "s")
    if own:
        drawing.mark(ax, [(own, f"its window {own:,}", VERMILLION)])
        for value, colour in ((stars[0, 0], BLUE), (stars[1, 0], ORANGE)):
            ax.plot([own], [min(max(value, low), high)], "*", color=colour, markersize=13,
                    markeredgecolor="white", zorder=5, clip_on=False)  # fmt: skip
    drawing.legend(ax, above_marks=own is not None)
