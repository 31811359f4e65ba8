"""A panel of diagnosis.png: a question, its answer in a line or two, and axes below. All sizes are in inches.

Values that are NaN, infinite, or too large for matplotlib are drawn at the edge of the axes or left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from seqrnn.diagnosis.intervals import Interval
from seqrnn.errors import printable
from seqrnn.plots import style
from seqrnn.plots.style import GREY, INK, LINE, SMALL, TEXT, VERMILLION, Array

QUESTION = 10.5  # points
ANSWER_LINES = 2
MOST_ROWS = 10
LABEL = 0.42  # of a panel's width, at most
DECADES = 40  # of a logarithmic axis, at most
LARGEST = 1e100  # value that can be drawn
Rectangle = tuple[float, float, float, float]  # left, bottom, width and height in the page


def reals(values: Sequence[float]) -> Array:
    """Returns values (N,), NaN for those that cannot be drawn."""
    array = np.array(values, np.float64)
    return np.where(np.abs(array) < LARGEST, array, np.nan)


def band(intervals: Sequence[Interval]) -> Array:
    """Returns estimates, lower and upper bounds (N, 3), NaN for those that cannot be drawn."""
    parts = [part for one in intervals for part in (one.value, one.low, one.high)]
    return reals(parts).reshape(-1, 3)


@dataclass(frozen=True)
class Row:
    """A labelled interval.

    Args:
        label: one line, or two.
        text: the value, as it is written at the right.
    """

    label: str | tuple[str, str]
    interval: Interval
    text: str
    colour: str = style.BLUE
    bold: bool = False


class Panel:
    """
    Args:
        place: in the page, in inches.
        question: the title of the panel.
        tag: written beside the question.
    """

    def __init__(self, figure: Figure, place: Rectangle, question: str, tag: str = "") -> None:
        self.figure, self.question, self.tag = figure, question, tag
        self.left, self.bottom, self.width, self.height = place
        self.top = self.bottom + self.height  # of the room that is left

    def write_heading(self, answer: str = "") -> None:
        """Writes the question and the answer."""
        if self.tag:
            self.write(self.tag, QUESTION, VERMILLION, "bold", left=width_of(self.question, QUESTION, "bold") + 0.12)
            self.top += QUESTION * LINE
        self.write(self.question, QUESTION, INK, "bold")
        lines = wrapped(answer, self.width, SMALL)
        if len(lines) > ANSWER_LINES:
            lines[ANSWER_LINES - 1 :] = [fitted(" ".join(lines[ANSWER_LINES - 1 :]), self.width, SMALL)]
        for line in lines:
            self.write(line, SMALL, GREY)
        self.top -= 0.05

    def write_reason(self, reason: str) -> None:
        """Writes in grey why nothing is drawn."""
        self.top -= 0.1
        for line in wrapped(reason, self.width, TEXT)[:8]:
            self.write(line, TEXT, GREY, slant="italic")

    def write(
        self, text: str, size: float, colour: str, weight: str = "normal", slant: str = "normal", left: float = 0.0
    ) -> None:
        """Writes a line at the top of the room that is left, ``left`` inches from the edge."""
        width, height = self.figure.get_size_inches()
        x, y = (self.left + left) / width, self.top / height
        self.figure.text(
            x, y, style.plain(text), fontsize=size, color=colour, fontweight=weight, style=slant, va="top"
        )
        self.top -= size * LINE

    def axes(
        self, x: str = "", y: str = "", left: float = 0.62, right: float = 0.1, below: float = 0.42, above: int = 0
    ) -> Axes:
        """Adds axes, in the look of all pictures, in the room that is left.

        Args:
            x, y: labels.
            left, right, below: inches to keep free.
            above: lines of text to keep free above the axes.
        """
        width, height = self.figure.get_size_inches()
        room = self.top - self.bottom - below - above * 0.17 - 0.06
        place = (self.left + left, self.bottom + below, self.width - left - right, room)
        ax = self.figure.add_axes(
            (place[0] / width, place[1] / height, place[2] / width, max(0.2, place[3]) / height)
        )
        style.axes(ax, x, y)
        return ax

    def dots(
        self,
        rows: Sequence[Row],
        x: str,
        is_log: bool = True,
        marks: Sequence[tuple[float, str]] = (),
        bounds: tuple[float, float] | None = None,
        above: int = 0,
    ) -> Axes:
        """Draws intervals below each other, with labels at the left and values at the right.

        Args:
            marks: values to compare with, and their names.
            bounds: of the axis; None: around the values and the marks.
            above: lines of text to keep free above the axes.
        """
        names = [[fitted(line, LABEL * self.width, SMALL, _weight(row)) for line in _lines(row)] for row in rows]
        texts = [fitted(row.text, 0.25 * self.width, SMALL, _weight(row)) for row in rows]
        weights = [_weight(row) for row in rows]
        widths = [width_of(line, SMALL, weight) for one, weight in zip(names, weights, strict=True) for line in one]
        labels = max(widths, default=0.0)
        values = max(
            (width_of(text, SMALL, weight) for text, weight in zip(texts, weights, strict=True)), default=0.0
        )
        ax = self.axes(x, left=labels + 0.16, right=values + 0.16, above=above or bool(marks))
        low, high = bounds or _around([*(row.interval for row in rows)], [mark for mark, _ in marks], is_log)
        if is_log:
            ax.set_xscale("log")
        ax.set_xlim(low, high)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_yticks(range(len(rows)), ["\n".join(style.plain(line) for line in one) for one in names])
        ax.tick_params(axis="y", length=0)
        ax.grid(False, axis="y")
        for place, (row, label, text) in enumerate(zip(rows, ax.get_yticklabels(), texts, strict=True)):
            whisker(ax, row.interval, place, row.colour)
            label.set_fontweight(_weight(row))
            ax.text(
                1.0 + 0.08 / (self.width - labels - values - 0.32), place, style.plain(text), fontsize=SMALL,
                color=INK, fontweight=_weight(row), va="center", transform=ax.get_yaxis_transform(),
            )  # fmt: skip
        ticks_of(ax.xaxis, is_log, low, high, most=4)
        mark(ax, [(value, name, INK) for value, name in marks])
        return ax


def _lines(row: Row) -> tuple[str, ...]:
    return (row.label,) if isinstance(row.label, str) else row.label


def _weight(row: Row) -> str:
    return "bold" if row.bold else "normal"


def whisker(ax: Axes, interval: Interval, place: float, colour: str, marker: str = "o") -> None:
    """Draws a horizontal interval with its estimate. A bound beyond the axis, or unknown, is drawn as an arrow."""
    left, right = ax.get_xlim()
    value, low, high = band([interval])[0]
    ends = [
        left if not low >= left else min(low, right),
        right if not high <= right else max(high, left),
    ]
    ax.plot(ends, [place, place], color=colour, linewidth=2.6, alpha=0.45, solid_capstyle="butt", zorder=2)
    for end, arrow, beyond in ((left, "<", not low >= left), (right, ">", not high <= right)):
        if beyond:
            ax.plot([end], [place], arrow, color=colour, markersize=4.5, clip_on=False, zorder=3, alpha=0.6)
    if left <= value <= right:
        ax.plot(
            [value], [place], marker, color=colour, markersize=6, markeredgecolor="white",
            markeredgewidth=0.7, zorder=4, clip_on=False,
        )  # fmt: skip


def _around(intervals: Sequence[Interval], marks: Sequence[float], is_log: bool) -> tuple[float, float]:
    """Returns the limits of an axis that shows the intervals and the marks."""
    drawn = band(intervals)
    ends = drawn.ravel()
    if not is_log:
        return style.limits([ends, np.array(marks)])
    known = [part for part in [*drawn[:, 0], *marks] if part > 0]
    known = known or [part for part in ends if part > 0] or [1.0]
    least, most = min(known), max(known)  # bounds of intervals widen the axis by a factor of 30 at most
    near = [part for part in ends if least / 30 <= part <= most * 30]
    least, most = max(min([least, *near]), most * 10.0**-DECADES), max([most, *near])
    room = max(1.25 if most > 1.5 * least else 4.0, (most / least) ** 0.08)
    return least / room, most * room


def mark(ax: Axes, marks: Sequence[tuple[float, str, str]]) -> None:
    """Draws vertical lines, with their names side by side above the axes. A line beyond the right edge is named at
    the edge.

    Args:
        marks: value, name and colour of each.
    """
    low, high = ax.get_xlim()
    inside = sorted(
        (
            (min(place, high), f"{name} →" if place > high else name, colour)
            for place, name, colour in marks
            if place >= low
        ),
        key=lambda one: one[0],
    )
    if not inside:
        return
    box = ax.get_position()
    inches = box.width * ax.figure.get_figure(root=True).get_figwidth()
    names = [fitted(name, inches / len(inside) - 0.08, SMALL) for _, name, _ in inside]
    wide = [(width_of(name, SMALL) + 0.08) / inches for name in names]
    own = ax.transData.transform([(place, 0.0) for place, _, _ in inside])
    places = ax.transAxes.inverted().transform(own)[:, 0]
    for (place, _, colour), name, middle, anchor in zip(
        inside, names, _spread(list(places), wide), places, strict=True
    ):
        if place < high:
            ax.axvline(place, color=colour, linewidth=1.1, linestyle=(0, (4, 2)), zorder=1.5)
        ax.annotate(
            style.plain(name), (anchor, 1.0), (middle, 1.0 + 0.07 / (box.height * _height(ax))),
            xycoords="axes fraction", textcoords="axes fraction", fontsize=SMALL, color=colour, ha="center",
            va="bottom", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def _height(ax: Axes) -> float:
    return float(ax.figure.get_figure(root=True).get_figheight())


def _spread(places: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Returns the centres of labels of these widths, near the sorted places, without overlap, within 0 to 1 if they
    fit."""
    left, middles = -0.08, []
    for place, width in zip(places, widths, strict=True):
        middles.append(max(place, left + width / 2))
        left = middles[-1] + width / 2
    right = 1.03
    for index in reversed(range(len(middles))):
        middles[index] = min(middles[index], right - widths[index] / 2)
        right = middles[index] - widths[index] / 2
    return middles


def ticks_of(axis: object, is_log: bool, low: float, high: float, most: int = 5) -> None:
    """Sets at most so many ticks, with plain numbers."""
    if not is_log:
        axis.set_major_locator(MaxNLocator(nbins=most))  # type: ignore[attr-defined]
    elif high / max(low, 1e-300) < 4:
        axis.set_major_locator(MaxNLocator(nbins=most - 1))  # type: ignore[attr-defined]
    elif high / max(low, 1e-300) < 30:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=most + 2))  # type: ignore[attr-defined]
    else:
        axis.set_major_locator(LogLocator(numticks=most + 1))  # type: ignore[attr-defined]
    axis.set_major_formatter(FuncFormatter(tick))  # type: ignore[attr-defined]
    axis.set_minor_formatter(NullFormatter())  # type: ignore[attr-defined]
    axis.set_minor_locator(NullLocator())  # type: ignore[attr-defined]


def tick(value: float, _: object = None) -> str:
    """Returns the label of a tick."""
    size = abs(value)
    if size and not 1e-4 < size < 1e6:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{value:,.0f}" if size >= 1000 else f"{value:.6g}"


def scale_y(ax: Axes, values: Array, is_log: bool | None = None, bottom: float | None = None) -> None:
    """Sets limits and ticks of the y-axis around values; logarithmic where they are positive and span a decade."""
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    if is_log is None:
        is_log = bool(len(positive)) and len(positive) == len(finite) and positive.max() > 10 * positive.min()
    if is_log and len(positive):
        least, most = max(positive.min(), positive.max() * 10.0**-DECADES), positive.max()
        room = max(1.15, (most / least) ** 0.08)
        ax.set_yscale("log")
        ax.set_ylim(least / room, most * room)
    else:
        is_log = False
        low, high = style.limits([finite, np.array([] if bottom is None else [bottom])])
        is_above = bottom is not None and not (finite < bottom).any()
        ax.set_ylim(bottom if is_above else low, high)
    ticks_of(ax.yaxis, is_log, *ax.get_ylim())


def curve(ax: Axes, x: Array, y: Array, colour: str, label: str = "", marker: str = "") -> None:
    """Draws a line with a band; y has estimates, lower and upper bounds (N, 3). The band reaches the edge of the axes
    where a bound is unknown."""
    low, high = ax.get_ylim()
    shown = np.isfinite(x) & np.isfinite(y[:, 0])
    x, y = x[shown], y[shown]
    ends = np.where(np.isnan(y[:, 1:]), [low, high], y[:, 1:]).clip(low, high)
    if len(x) > 1:
        ax.fill_between(x, ends[:, 0], ends[:, 1], color=colour, alpha=0.2, linewidth=0)
    elif len(x):
        ax.plot([x[0], x[0]], ends[0], color=colour, linewidth=2.6, alpha=0.45)
    ax.plot(x, y[:, 0].clip(low, high), color=colour, linewidth=1.6, marker=marker, markersize=4, label=label)


def legend(ax: Axes, columns: int = 4, above_marks: bool = False) -> None:
    """Adds a legend in the line above the axes, or above the names of the marks there."""
    style.legend(ax, columns)
    if above_marks and (box := ax.get_legend()):
        inches = ax.get_position().height * _height(ax)
        box.set_bbox_to_anchor((1.0, 1.0 + 0.19 / inches), transform=ax.transAxes)


@lru_cache(4096)
def width_of(text: str, size: float, weight: str = "normal", family: str = "sans-serif") -> float:
    """Returns the width of a line of text in inches."""
    font = FontProperties(size=size, weight=weight, family=family)
    return float(text_to_path.get_text_width_height_descent(printable(text), font, ismath=False)[0]) / 72


def fitted(text: str, inches: float, size: float, weight: str = "normal", keep_end: bool = False) -> str:
    """Returns text that is no wider than ``inches``, with … for its end, or its beginning, which is cut off."""
    text = printable(text)
    if width_of(text, size, weight) <= inches:
        return text

    def short(count: int) -> str:
        return f"…{text[len(text) - count :]}" if keep_end else f"{text[:count].rstrip()}…"

    fewest, most = 0, len(text)
    while most - fewest > 1:
        middle = (fewest + most) // 2
        fits = width_of(short(middle), size, weight) <= inches
        fewest, most = (middle, most) if fits else (fewest, middle)
    return short(fewest)


def wrapped(text: str, inches: float, size: float, weight: str = "normal", family: str = "sans-serif") -> list[str]:
    """Returns the text in lines that are no wider than ``inches``; of a very long text, the beginning."""
    lines: list[str] = []
    line = ""
    for word in printable(text[:4000]).split():
        longer = f"{line} {word}".strip()
        if width_of(longer, size, weight, family) <= inches:
            line = longer
            continue
        lines += [line] if line else []
        while width_of(word, size, weight, family) > inches and len(word) > 1:
            count = max(1, math.floor(len(word) * inches / width_of(word, size, weight, family) * 0.95))
            lines.append(word[:count])
            word = word[count:]
        line = word
    return [*lines, line] if line else lines
