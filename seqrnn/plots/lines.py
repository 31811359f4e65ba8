"""Animated lines: targets that stay, and outputs that move from frame to frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from seqrnn.plots import style
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import Array

MOST_PANELS = 3
FEW = 60  # points that are marked


@dataclass(frozen=True)
class LineLayout:
    """What is shown of K points.

    Args:
        x: (K,).
        label: of the x-axis.
        select: picks the points from targets or outputs (T, n, O), in the order of x: (K, O).
        whole: whether x counts something, so that its ticks are whole numbers.
        colours: of the target and of the output.
    """

    x: Array
    label: str
    select: Callable[[Array], Array]
    whole: bool
    colours: tuple[str, str]


def animate(
    layout: LineLayout, arrays: Mapping[str, NDArray[Any]], outputs: Array, facts: Facts
) -> tuple[Figure, SubFigure, Callable[[Array], str]]:
    """Draws the first frame, with axes on which all frames fit (``seqrnn.plots.picture``)."""
    target = layout.select(style.real(arrays["targets"]))  # (K, O)
    frames = [layout.select(frame) for frame in outputs]  # F times (K, O)
    count = min(target.shape[1], MOST_PANELS)
    figure, body = style.page(3.4 if count == 1 else 1.7 * count + 0.4, facts, "", facts.name, of_images=True)
    panels = body.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    target_colour, output_colour = layout.colours
    marker = "o" if len(layout.x) < FEW else ""
    moving = []
    for number, ax in enumerate(panels):
        ax.plot(
            layout.x, target[:, number], color=target_colour, linewidth=3, marker=marker, markersize=4, label="target"
        )
        moving += ax.plot(
            layout.x,
            frames[0][:, number],
            color=output_colour,
            linewidth=1.4,
            marker=marker,
            markersize=3,
            label="output",
        )
        style.axes(ax, y="" if count == 1 else f"output {number + 1}")
        clipped = [np.clip(frame[:, number], *style.limits([target[:, number]], 0.5)) for frame in frames]
        ax.set_ylim(*style.limits([target[:, number], *clipped], 0.05))
        ax.margins(x=0.01)
    style.axes(panels[-1], x=style.plain(layout.label), y="" if count == 1 else f"output {count}")
    if layout.whole:
        style.whole_numbers(panels[-1], 10)
    style.legend(panels[0])

    def show(frame: Array) -> str:
        shown = layout.select(frame)
        for number, line in enumerate(moving):
            line.set_ydata(shown[:, number])
        error = np.abs(shown - target)
        finite = np.isfinite(error)
        return f"mean |error| here {error[finite].mean():.3f}" if finite.any() else "outputs are not finite"

    return figure, body, show
