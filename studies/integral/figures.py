"""The pictures of docs/integral.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from seqrnn.diagnosis.intervals import Interval
from seqrnn.plots import style
from seqrnn.plots.facts import Facts

DARK = 0.045  # errors below are written in white
BEST, WORST = 0.01, 0.3  # errors at the ends of the colours, the same in all heat maps
COLOURS = LinearSegmentedColormap.from_list("error", ["#0B3C5D", style.BLUE, style.SKY, "#F7F7F2", style.ORANGE])
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Heat:
    """A heat map of errors (rows, columns).

    Args:
        marks: (row, column): name, of the author's schedules.
    """

    title: str
    errors: Numbers
    rows: Sequence[str]
    columns: Sequence[str]
    marks: dict[tuple[int, int], str]


def page(height: float, title: str, says: str) -> tuple[Figure, Any]:
    """Returns a page of the common style that belongs to no run."""
    return style.page(height, Facts({}, {}), says, title, of_images=True)


def heat_maps(maps: Sequence[Heat], axes: tuple[str, str], title: str, says: str, path: Path) -> Path:
    """Draws heat maps side by side, with a number in each cell and frames around the author's schedules."""
    figure, body = page(1.0 + 0.48 * len(maps[0].rows), title, says)
    panels = body.subplots(1, len(maps), squeeze=False)[0]
    for ax, heat in zip(panels, maps, strict=True):
        _heat(ax, heat)
        ax.set_xlabel(axes[1], fontsize=style.TEXT, color=style.INK)
    panels[0].set_ylabel(axes[0], fontsize=style.TEXT, color=style.INK)
    return style.save(figure, path)


def _heat(ax: Axes, heat: Heat) -> None:
    ax.imshow(heat.errors, cmap=COLOURS, norm=LogNorm(BEST, WORST), aspect="auto")
    shape = heat.errors.shape
    ax.set_xticks(range(shape[1]), heat.columns, fontsize=style.SMALL)
    ax.set_yticks(range(shape[0]), heat.rows, fontsize=style.SMALL)
    ax.tick_params(length=0, colors=style.INK)
    ax.spines[:].set_visible(False)
    ax.set_title(heat.title, fontsize=style.TEXT, color=style.INK, loc="left", fontweight="bold")
    for (row, column), error in np.ndenumerate(heat.errors):
        name = heat.marks.get((row, column))
        colour = "white" if error < DARK else style.INK
        above = 0.1 if name else 0.0  # room for the name
        ax.text(column, row - above, f"{error:.3f}", ha="center", va="center", fontsize=style.SMALL, color=colour)
        if name:
            ax.text(column, row + 0.22, name, ha="center", va="center", fontsize=6.5, color=colour)
            frame = Rectangle((column - 0.47, row - 0.44), 0.94, 0.88, fill=False, linewidth=2, edgecolor=style.INK)
            ax.add_patch(frame)


def effects(groups: Sequence[tuple[str, Sequence[tuple[str, Interval]]]], title: str, says: str, path: Path) -> Path:
    """Draws what each change does to the error: a dot and its interval, on a scale of factors."""
    count = sum(len(rows) + 1 for _, rows in groups)
    figure, body = page(0.7 + 0.24 * count, title, says)
    ax = body.subplots()
    labels, context = [], 0
    for number, (name, rows) in enumerate(groups):
        labels.append((context, name, "bold"))
        for text, change in rows:
            context += 1
            better = change.high < 1
            colour = style.GREEN if better else style.VERMILLION if change.low > 1 else style.GREY
            ax.plot([change.low, change.high], [context, context], color=colour, linewidth=2.2, solid_capstyle="butt")
            ax.plot(change.value, context, "o", color=colour, markersize=5.5)
            labels.append((context, text, "normal"))
        context += 1
        if number:
            ax.axhline(labels[-len(rows) - 1][0] - 0.5, color=style.PALE, linewidth=0.8)
    ax.axvline(1, color=style.INK, linewidth=1)
    ax.set_xscale("log")
    low = min(change.low for _, rows in groups for _, change in rows)
    high = max(change.high for _, rows in groups for _, change in rows)
    low, high = max(low, 0.02), min(high, 50)
    ax.set_xlim(low / 1.15, high * 1.15)
    ticks = [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if low / 1.15 <= tick <= high * 1.15]
    style.axes(ax, x="test error after the change ÷ before it (geometric mean over seeds, 95 % interval)")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    ax.set_yticks([at for at, _, _ in labels], [text for _, text, _ in labels])
    for tick, (_, _, weight) in zip(ax.get_yticklabels(), labels, strict=True):
        tick.set_fontweight(weight)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(context - 0.4, -0.7)
    return style.save(figure, path)


def against_updates(
    lines: Sequence[tuple[str, str, str, Sequence[tuple[float, Interval]]]], title: str, says: str, path: Path
) -> Path:
    """Draws errors against the number of updates: (label, colour, line style, points) for each line."""
    figure, body = page(3.4, title, says)
    ax = body.subplots()
    for label, colour, kind, points in lines:
        x = [at for at, _ in points]
        y = [error.value for _, error in points]
        spread = [[error.value - error.low for _, error in points], [error.high - error.value for _, error in points]]
        ax.errorbar(
            x, y, yerr=spread, color=colour, linestyle=kind, marker="o", markersize=4.5, linewidth=1.5,
            elinewidth=1, capsize=2, label=label,
        )  # fmt: skip
    ax.set(xscale="log", yscale="log")
    style.axes(ax, x="optimizer steps", y="test MAE")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ticks = (0.005, 0.01, 0.02, 0.05, 0.1)
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=style.SMALL)
    return style.save(figure, path)


def memory(
    lines: Sequence[tuple[str, str, Sequence[tuple[int, Interval]]]], title: str, says: str, path: Path
) -> Path:
    """Draws the error on what was trained on some timesteps ago, as a share of that on fresh data."""
    figure, body = page(3.0, title, says)
    ax = body.subplots()
    ages = [age for age, _ in lines[0][2]]
    for number, (label, colour, points) in enumerate(lines):
        x = np.arange(len(points)) + 0.12 * (number - (len(lines) - 1) / 2)
        y = [error.value for _, error in points]
        spread = [[error.value - error.low for _, error in points], [error.high - error.value for _, error in points]]
        ax.errorbar(x, y, yerr=spread, color=colour, marker="o", markersize=5, linewidth=1.2, capsize=2, label=label)
    ax.axhline(1, color=style.INK, linewidth=1)
    style.axes(ax, x="timesteps since it was trained on", y="error ÷ error on fresh data")
    ax.set_xticks(range(len(ages)), ["just now" if age == 0 else f"{age:,}" for age in ages])
    style.legend(ax)
    return style.save(figure, path)
