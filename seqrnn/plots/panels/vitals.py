"""How did it change while it was trained?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from seqrnn.plots import style
from seqrnn.plots.panel import Panel, Where, scale_y, ticks_of
from seqrnn.plots.style import BLUE, SMALL, Array

COLUMNS = {  # and whether they are shares
    "eval_half_life": ("half-life of an error, timesteps", False),
    "eval_truncation": ("direction of the gradient, 1 = right", True),
    "eval_saturated": ("share of units at their limits", True),
    "eval_rank": ("directions in which units vary", False),
}
GAP = 0.35  # inches


def present(metrics: Mapping[str, Array]) -> list[str]:
    """The columns of vital signs that have something to draw."""
    return [name for name in COLUMNS if name in metrics and np.isfinite(style.real(metrics[name])).any()]


def draw(figure: Figure, place: Where, metrics: Mapping[str, Array]) -> None:
    """A small picture of each, side by side, against the timesteps of all streams."""
    names = present(metrics)
    left, bottom, width, height = place
    Panel(figure, place).asks("How did it change while it was trained?")
    each = (width + GAP) / len(names)
    timesteps = style.real(metrics["timesteps"])
    for number, name in enumerate(names):
        says, is_share = COLUMNS[name]
        panel = Panel(figure, (left + number * each, bottom, each - GAP, height - 0.24))
        panel.write(says, SMALL, style.INK)
        ax = panel.axes("timestep", left=0.5)
        x, y = style.thinned(timesteps, style.real(metrics[name]))
        ax.plot(x, y, color=BLUE, linewidth=1.3, marker="o" if len(x) < 40 else "", markersize=3)
        if is_share:
            low, high = style.limits([np.array([0.0, 1.0]), y], 0.04)
            ax.set_ylim(low, high)
            ticks_of(ax.yaxis, False, low, high, 4)
        else:
            scale_y(ax, y)
        ticks_of(ax.xaxis, False, *ax.get_xlim(), 3)
