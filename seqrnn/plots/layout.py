"""Lays out the axes of a page of lines and labels.

matplotlib's constrained layout measures all labels twice, which is half of the time that a picture takes, and a sweep
draws thousands. Here they are measured once, in axes of about their final size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import LayoutEngine
from matplotlib.spines import Spine

PAD = 0.08, 0.05  # inches around axes with their labels, horizontally and vertically
USUAL = (0.7, 0.35), (0.45, 0.25)  # inches of labels left and right, below and above: those of the first placement
Margins = list[tuple[float, float]]  # of each column (left, right) or row (below, above), in pixels


class GridLayout(LayoutEngine):
    """Gives the axes of each part of a page the room that their labels leave. The axes of a part are in one grid,
    none spans several cells, and none has a fixed aspect. Titles of parts, and ticks at the right or above, are not
    supported."""

    _adjust_compatible = False
    _colorbar_gridspec = True

    def execute(self, fig: Figure) -> None:
        """Places all axes."""
        renderer = fig.canvas.get_renderer()  # type: ignore[attr-defined]
        for part in _parts(fig):
            axes = part.get_axes()
            if not axes:
                continue
            usual = [[tuple(fig.dpi * inches for inches in side) for side in USUAL]] * len(axes)
            _place(part, axes, usual)
            _place(part, axes, [_around(ax, renderer) for ax in axes])


def _parts(figure: Figure | SubFigure) -> Iterator[SubFigure]:
    """Yields the parts that are not cut further."""
    for part in figure.subfigs:
        if part.subfigs:
            yield from _parts(part)
        else:
            yield part


def _around(ax: Axes, renderer: Any) -> list[tuple[float, ...]]:
    """Returns how far the ticks and labels of axes reach: left and right, below and above."""
    # Each spine would look for the ticks of its axis once more.
    others = [artist for artist in ax.get_default_bbox_extra_artists() if not isinstance(artist, Spine)]
    inner = ax.bbox
    outer = ax.get_tightbbox(renderer, bbox_extra_artists=others) or inner
    across, up = (axis.get_tick_padding() * ax.figure.dpi / 72 for axis in (ax.yaxis, ax.xaxis))
    return [
        (max(across, inner.x0 - outer.x0), max(0.0, outer.x1 - inner.x1)),
        (max(up, inner.y0 - outer.y0), max(0.0, outer.y1 - inner.y1)),
    ]


def _place(part: SubFigure, axes: Sequence[Axes], margins: Sequence[Sequence[tuple[float, ...]]]) -> None:
    """Places the axes of a part, with margins for each."""
    spots: list[Any] = [ax.get_subplotspec() for ax in axes]
    grid = spots[0].get_gridspec()
    columns, rows = [spot.colspan.start for spot in spots], [grid.nrows - 1 - spot.rowspan.start for spot in spots]
    wide = _spans(part.bbox.width, columns, [one[0] for one in margins], grid.get_width_ratios(), PAD[0] * part.dpi)
    high = _spans(
        part.bbox.height, rows, [one[1] for one in margins], grid.get_height_ratios()[::-1], PAD[1] * part.dpi
    )
    for ax, column, row in zip(axes, columns, rows, strict=True):
        (x, width), (y, height) = wide[column], high[row]
        ax.set_position((x, y, width, height))


def _spans(
    whole: float, places: Sequence[int], margins: Sequence[tuple[float, ...]], ratios: Sequence[float], pad: float
) -> Margins:
    """Returns where each column or row begins and how long it is, as shares of ``whole`` pixels.

    Args:
        places: the column or row of each axes.
        margins: before and after each axes.
    """
    count = len(ratios)
    before, after = [0.0] * count, [0.0] * count
    for place, (first, second) in zip(places, margins, strict=True):
        before[place], after[place] = max(before[place], first), max(after[place], second)
    room = max(whole - sum(before) - sum(after) - 2 * pad * count, 0.2 * whole)
    spans, reached = [], 0.0
    for one, ratio in enumerate(ratios):
        length = room * ratio / sum(ratios)
        begin = reached + pad + before[one]
        spans.append((begin / whole, length / whole))
        reached = begin + length + after[one] + pad
    return spans
