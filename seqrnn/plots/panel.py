"""A panel of a page of many: a question, its answer in a line or two, and axes below, at places given in inches."""

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

from seqrnn.errors import printable
from seqrnn.plots import style
from seqrnn.plots.measured import Interval
from seqrnn.plots.style import GREY, INK, LINE, SMALL, TEXT, VERMILLION, Array

QUESTION = 10.5  # points
ANSWER_LINES = 2
MOST_ROWS = 10
LABEL = 0.42  # of a panel's width, at most
DECADES = 40  # of a logarithmic axis, at most
Where = tuple[float, float, float, float]


@dataclass(frozen=True)
class Row:
    """A labelled interval.

    Args:
        label: one line, or two.
        says: the value, as it is written at the right.
    """

    label: str | tuple[str, str]
    measured: Interval
    says: str
    colour: str = style.BLUE
    bold: bool = False


class Panel:
    """
    Args:
        place: left, bottom, width and height in the page, in inches.
        tag: stands beside the question.
    """

    def __init__(self, figure: Figure, place: Where, tag: str = "") -> None:
        self.figure, self.tag = figure, tag
        self.left, self.bottom, self.width, self.height = place
        self.top = self.bottom + self.height  # below what has been written

    def asks(self, question: str, answer: str = "") -> None:
        """Writes the question and what was found."""
        if self.tag:
            self.write(self.tag, QUESTION, VERMILLION, "bold", left=width_of(question, QUESTION, "bold") + 0.12)
            self.top += QUESTION * LINE
        self.write(question, QUESTION, INK, "bold")
        for line in wrapped(answer, self.width, SMALL)[:ANSWER_LINES]:
            self.write(line, SMALL, GREY)
        self.top -= 0.05

    def nothing(self, reason: str) -> None:
        """Says in grey why nothing is drawn."""
        self.top -= 0.1
        for line in wrapped(reason, self.width, TEXT)[:8]:
            self.write(line, TEXT, GREY, slant="italic")

    def write(
        self, text: str, size: float, colour: str, weight: str = "normal", slant: str = "normal", left: float = 0.0
    ) -> None:
        """Writes a line below what has been written, ``left`` inches from the edge."""
        width, height = self.figure.get_size_inches()
        x, y = (self.left + left) / width, self.top / height
        self.figure.text(
            x, y, style.plain(text), fontsize=size, color=colour, fontweight=weight, style=slant, va="top"
        )
        self.top -= size * LINE

    def axes(
        self, x: str = "", y: str = "", left: float = 0.62, right: float = 0.1, below: float = 0.42, above: int = 0
    ) -> Axes:
        """Axes in the common look below what has been written.

        Args:
            x, y: labels.
            left, right, below: room in inches.
            above: lines of text that are to fit above the axes.
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
        """Intervals below each other, with names at the left and values at the right.

        Args:
            marks: values that others are compared with, and their names.
            bounds: of the axis; otherwise around the values and the marks.
            above: lines of text that are to fit above the axes.
        """
        names = [[fitted(line, LABEL * self.width, SMALL, _weight(row)) for line in _lines(row)] for row in rows]
        says = [fitted(row.says, 0.25 * self.width, SMALL, _weight(row)) for row in rows]
        weights = [_weight(row) for row in rows]
        widths = [width_of(line, SMALL, weight) for one, weight in zip(names, weights, strict=True) for line in one]
        labels = max(widths, default=0.0)
        values = max((width_of(text, SMALL, weight) for text, weight in zip(says, weights, strict=True)), default=0.0)
        ax = self.axes(x, left=labels + 0.16, right=values + 0.16, above=above or bool(marks))
        low, high = bounds or _around([*(row.measured for row in rows)], [mark for mark, _ in marks], is_log)
        if is_log:
            ax.set_xscale("log")
        ax.set_xlim(low, high)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_yticks(range(len(rows)), ["\n".join(style.plain(line) for line in one) for one in names])
        ax.tick_params(axis="y", length=0)
        ax.grid(False, axis="y")
        for place, (row, label, text) in enumerate(zip(rows, ax.get_yticklabels(), says, strict=True)):
            whisker(ax, row.measured, place, row.colour)
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


def whisker(ax: Axes, measured: Interval, place: float, colour: str, marker: str = "o") -> None:
    """A horizontal interval with its estimate. What lies beyond the axis, or is not known, ends in an arrow there."""
    low, high = ax.get_xlim()
    ends = [
        low if not measured.low >= low else min(measured.low, high),
        high if not measured.high <= high else max(measured.high, low),
    ]
    ax.plot(ends, [place, place], color=colour, linewidth=2.6, alpha=0.45, solid_capstyle="butt", zorder=2)
    arrows = ((low, "<", not measured.low >= low), (high, ">", not measured.high <= high))
    for end, arrow, beyond in arrows:
        if beyond:
            ax.plot([end], [place], arrow, color=colour, markersize=4.5, clip_on=False, zorder=3, alpha=0.6)
    if low <= measured.value <= high:
        ax.plot(
            [measured.value], [place], marker, color=colour, markersize=6, markeredgecolor="white",
            markeredgewidth=0.7, zorder=4, clip_on=False,
        )  # fmt: skip


def _around(rows: Sequence[Interval], marks: Sequence[float], is_log: bool) -> tuple[float, float]:
    estimates = np.array([row.value for row in rows])
    ends = np.array([part for row in rows for part in row])
    if not is_log:
        return style.limits([ends, np.array(marks)])
    known = [part for part in [*estimates, *marks] if part > 0]
    known = known or [part for part in ends if part > 0] or [1.0]
    least, most = min(known), max(known)  # intervals may widen the axis by so much, and no more
    near = [part for part in ends if least / 30 <= part <= most * 30]
    least, most = max(min([least, *near]), most * 10.0**-DECADES), max([most, *near])
    room = max(1.25 if most > 1.5 * least else 4.0, (most / least) ** 0.08)
    return least / room, most * room


def mark(ax: Axes, marks: Sequence[tuple[float, str, str]]) -> None:
    """Vertical lines, with their names in a row above the axes, next to each other. What lies to the right of the
    axes is named at their edge.

    Args:
        marks: place, name and colour of each.
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
    for (place, _, colour), name, middle, at in zip(inside, names, _spread(list(places), wide), places, strict=True):
        if place < high:
            ax.axvline(place, color=colour, linewidth=1.1, linestyle=(0, (4, 2)), zorder=1.5)
        ax.annotate(
            style.plain(name), (at, 1.0), (middle, 1.0 + 0.07 / (box.height * _height(ax))),
            xycoords="axes fraction", textcoords="axes fraction", fontsize=SMALL, color=colour, ha="center",
            va="bottom", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def _height(ax: Axes) -> float:
    return float(ax.figure.get_figure(root=True).get_figheight())


def _spread(places: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Middles of things of these widths, near the sorted places, that do not overlap, within 0 to 1 if they fit."""
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
    """Few ticks with plain numbers."""
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
    """A number on an axis."""
    size = abs(value)
    if size and not 1e-4 < size < 1e6:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{value:,.0f}" if size >= 1000 else f"{value:.6g}"


def scale_y(ax: Axes, values: Array, is_log: bool | None = None, bottom: float | None = None) -> None:
    """Limits and ticks of the y-axis around values; logarithmic where they are positive and span a decade."""
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
    """A line with a band; y has values, lower and upper ends (N, 3). Ends that are not known are the axis'."""
    low, high = ax.get_ylim()
    shown = np.isfinite(x) & np.isfinite(y[:, 0])
    x, y = x[shown], y[shown]
    ends = np.where(np.isnan(y[:, 1:]), [low, high], y[:, 1:]).clip(low, high)
    if len(x) > 1:
        ax.fill_between(x, ends[:, 0], ends[:, 1], color=colour, alpha=0.2, linewidth=0)
    elif len(x):
        ax.plot([x[0], x[0]], ends[0], color=colour, linewidth=2.6, alpha=0.45)
    ax.plot(x, y[:, 0].clip(low, high), color=colour, linewidth=1.6, marker=marker, markersize=4, label=label)


def legend(ax: Axes, columns: int = 4) -> None:
    """A legend in the line above the axes."""
    style.legend(ax, columns)


@lru_cache(4096)
def width_of(text: str, size: float, weight: str = "normal", family: str = "sans-serif") -> float:
    """Of a line, in inches."""
    font = FontProperties(size=size, weight=weight, family=family)
    return float(text_to_path.get_text_width_height_descent(printable(text), font, ismath=False)[0]) / 72


def fitted(text: str, inches: float, size: float, weight: str = "normal", keep_end: bool = False) -> str:
    """Text that is no wider, with … for what is left out: its end, or its beginning."""
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
    """Lines that are no wider; of what is longer than a page, the beginning."""
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
