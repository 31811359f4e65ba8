"""predictions.png of one short sequence: its points, and what the network predicts of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from seqrnn.plots import lines, style
from seqrnn.plots.facts import Facts
from seqrnn.plots.pictures import sequences
from seqrnn.plots.style import BLUE, GREY, PALE, VERMILLION, Array

MOST_POINTS = 2000  # that can be distinguished


def draw(arrays: Mapping[str, NDArray[Any]], facts: Facts) -> Figure:
    """Draws actual points (circles) and predicted ones (crosses); below, the error of each. Other data than one
    sequence of one target is drawn as ``sequences``."""
    targets, outputs = style.real(arrays["targets"]), style.real(arrays["outputs"])
    x = places(facts, targets)
    if x is None:
        return sequences.draw(arrays, facts)
    target, output = targets[:, 0, 0], outputs[:, 0, 0]
    caption = "Each point is predicted from the one before it and the state, which is reset at the left."
    figure, body = style.page(4.6, facts, caption)
    top, below = body.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))

    top.plot(x, target, color=PALE, linewidth=1.5)
    top.vlines(x, target, output, color=GREY, linewidth=0.8)
    top.plot(x, target, "o", color=VERMILLION, markersize=8, fillstyle="none", markeredgewidth=1.6, label="actual")
    top.plot(x, output, "x", color=BLUE, markersize=7, markeredgewidth=1.8, label="predicted")
    style.axes(top, y=style.plain(facts.picture.target))
    style.legend(top)

    error = output - target
    below.axhline(0, color=GREY, linewidth=1)
    below.vlines(x, 0, error, color=BLUE, linewidth=1.4)
    below.plot(x, error, "o", color=BLUE, markersize=4)
    style.axes(below, x=style.plain(facts.picture.axis), y="error")
    below.set_ylim(*style.limits([error, np.zeros(1)], 0.15))
    return figure


def animate(
    arrays: Mapping[str, NDArray[Any]], outputs: Array, facts: Facts
) -> tuple[Figure, SubFigure, Callable[[Array], str]]:
    """Draws targets and outputs as lines through the points."""
    x = places(facts, arrays["targets"])
    if x is None:
        return sequences.animate(arrays, outputs, facts)
    layout = lines.LineLayout(x, facts.picture.axis, lambda values: values[:, 0], False, (VERMILLION, BLUE))
    return lines.animate(layout, arrays, outputs, facts)


def places(facts: Facts, targets: NDArray[Any]) -> Array | None:
    """Returns the x of each target (T, N, O); None if they are not one short sequence of one target."""
    if targets[0].size != 1 or len(targets) > MOST_POINTS:
        return None
    return facts.picture.start + facts.picture.step * np.arange(len(targets), dtype=np.float64)
