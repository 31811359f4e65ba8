"""predictions.png of task=sine: the wave's points, and what the network makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seqrnn.plots import sequence, style
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import BLUE, GREY, PALE, VERMILLION, Array

MOST_POINTS = 2000  # that are told apart
LARGEST = 1e15  # t, where neighbouring numbers are still points of a wave


def draw(arrays: Mapping[str, NDArray[Any]], facts: Facts) -> Figure:
    """Actual points (circles) and predicted ones (crosses) against t; below, the error of each."""
    targets, outputs = style.real(arrays["targets"]), style.real(arrays["outputs"])
    t = times(facts, len(targets))
    if t is None or targets[0].size != 1:
        return sequence.draw(arrays, facts)
    target, output = targets[:, 0, 0], outputs[:, 0, 0]
    says = "Each point is predicted from the one before it and the state, which starts afresh at the left."
    figure, body = style.page(4.6, facts, says)
    top, below = body.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))

    curve = np.linspace(t.min(), t.max(), 400)
    top.plot(curve, np.sin(curve), color=PALE, linewidth=1.5, label="sin t")
    top.vlines(t, target, output, color=GREY, linewidth=0.8)
    top.plot(t, target, "o", color=VERMILLION, markersize=8, fillstyle="none", markeredgewidth=1.6, label="actual")
    top.plot(t, output, "x", color=BLUE, markersize=7, markeredgewidth=1.8, label="predicted")
    style.axes(top, y="sin t")
    style.legend(top)

    error = output - target
    below.axhline(0, color=GREY, linewidth=1)
    below.vlines(t, 0, error, color=BLUE, linewidth=1.4)
    below.plot(t, error, "o", color=BLUE, markersize=4)
    style.axes(below, x="t", y="error")
    below.set_ylim(*style.limits([error, np.zeros(1)], 0.15))
    return figure


def times(facts: Facts, timesteps: int) -> Array | None:
    """t of each target, from the task's settings; None if they do not fit."""
    start, stop = facts.settings.get("start"), facts.settings.get("stop")
    if facts.settings.get("points") != timesteps + 1 or timesteps > MOST_POINTS:
        return None
    if not all(isinstance(end, int | float) and abs(end) < LARGEST for end in (start, stop)):
        return None
    return np.linspace(start or 0.0, stop or 0.0, timesteps + 1)[1:]
