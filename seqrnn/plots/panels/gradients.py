"""How far back is an error felt, and is the schedule's gradient the right one?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqrnn.plots import measured, style
from seqrnn.plots.measured import interval, number
from seqrnn.plots.panel import Panel, curve, legend, mark, scale_y, ticks_of
from seqrnn.plots.style import BLUE, GREEN, GREY, INK, ORANGE, VERMILLION

Values = Mapping[str, Any]
LEAST = 1e-4  # of an error that is drawn


def reach(panel: Panel, found: Values) -> None:
    """The strength of an error against the lag, as share of what it has where it arises."""
    half, last = interval(found["half_life"]), len(found["curve"]) - 1
    says = f"It falls to a half within {half} timesteps"
    if half.value >= last:
        says = f"It does not fall to a half within {last:,} timesteps"
    if math.isnan(half.value):
        says = "Its half-life is not known"
    panel.asks("How far back is an error felt?", says)
    ax = panel.axes("timesteps back", "strength of the error", above=1, left=0.66)
    strength = measured.reals(found["curve"])[1:]
    lags, ends = np.array(found["lags"], np.float64), measured.band(found["at_lags"])
    scale_y(ax, np.concatenate([[1.0, 0.5], strength[strength > LEAST], ends[ends > LEAST]]), is_log=True)
    low, high = ax.get_ylim()
    ax.set_xscale("log")
    ax.set_xlim(0.93, max(last, 1) * 1.12)
    ticks_of(ax.xaxis, True, 1, max(last, 2))
    band = np.where(np.isnan(ends[:, 1:]), [low, high], ends[:, 1:]).clip(low, high)
    ax.fill_between(lags, band[:, 0], band[:, 1], color=BLUE, alpha=0.2, linewidth=0)
    x, y = style.thinned(np.arange(1.0, last + 1), strength)
    ax.plot(x, y.clip(low, high), color=BLUE, linewidth=1.6, marker="." if last < 15 else "")
    ax.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    marks = [(half.value, f"half-life {number(half.value)}", BLUE)] if half.value < last else []
    marks += [(found["window"], f"window {found['window']:,}", VERMILLION)] if found["window"] else []
    marks += [(found["needed"], f"task needs {found['needed']:,}", GREEN)] if found["needed"] else []
    mark(ax, marks)


def truncation(panel: Panel, found: Values) -> None:
    """Direction and size of gradients of shorter windows, beside the full one's."""
    own, faithful = found["schedule"], found["faithful"]
    cosine, ratio = interval(found["cosine"]), interval(found["ratio"])
    says = (
        f"Whole sequences: direction {number(cosine.value)}, size {number(ratio.value)} of the full one's (1 = right)"
    )
    if own:
        says = f"Its window {own:,}: direction {cosine}, size {ratio}; right would be 1, and {faithful:,} is enough"
    panel.asks("Is the schedule's gradient the right one?", says)
    ax = panel.axes("window, in timesteps", "1 = as the full gradient", above=2 if own else 1, left=0.56)
    windows = np.array(found["windows"], np.float64)
    cosines, ratios = measured.band(found["cosines"]), measured.band(found["ratios"])
    drawn = np.concatenate([cosines.ravel(), ratios[:, 0], [*cosine, ratio.value]])
    low, high = style.limits([np.array([0.0, 1.0]), drawn[np.abs(drawn) < 3]], 0.05)
    ax.set_ylim(low, high)
    ax.set_xscale("log")
    most = max(windows.max(initial=1.0), own or 1)
    ax.set_xlim(min(0.85, windows.min(initial=1.0) or 0.85), most * 1.2)
    ticks_of(ax.xaxis, True, 1, max(most, 2))
    ax.axhline(1.0, color=INK, linewidth=0.8)
    curve(ax, windows, cosines, BLUE, "direction (cosine)", "o")
    curve(ax, windows, ratios, ORANGE, "size (ratio of norms)", "s")
    if own:
        mark(ax, [(own, f"its window {own:,}", VERMILLION)])
        for one, colour in ((cosine, BLUE), (ratio, ORANGE)):
            ax.plot([own], [min(max(one.value, low), high)], "*", color=colour, markersize=13,
                    markeredgecolor="white", zorder=5, clip_on=False)  # fmt: skip
    legend(ax)
    if own and (box := ax.get_legend()):
        inches = ax.get_position().height * ax.figure.get_figure(root=True).get_figheight()
        box.set_bbox_to_anchor((1.0, 1.0 + 0.19 / inches), transform=ax.transAxes)
