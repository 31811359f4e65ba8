"""The look that all pictures share: page, colours, axes, and how they are saved."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from seqrnn.errors import printable
from seqrnn.plots.facts import Facts
from seqrnn.plots.layout import PAD, GridLayout
from seqrnn.rundir.atomic import replacing

# Okabe & Ito (2008), Color Universal Design: colour-blind people can tell them apart.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE = "#56B4E9", "#CC79A7"
INK, GREY, PALE, BAND = "#222222", "#6B6B6B", "#E3E3E3", "#F1F1F1"
NAMED = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, INK, GREY, PALE, BAND)
TINTS = (1.0, 0.8, 0.6, 0.4, 0.2)  # of a colour on white, at the edges of what is drawn in it
INPUTS = (BLUE, SKY, PURPLE, GREY)

WIDTH = 9.0  # inches
DPI = 130
TITLE, TEXT, SMALL = 12.5, 9.5, 8.5  # points
LINE = 1.5 / 72  # inches of a line per point of its letters
MOST_POINTS = 4000  # in a line
COMPRESSION = 3  # of 9: a tenth larger than with zlib's usual 6, in three quarters of the time
Array = NDArray[np.float64]


@contextmanager
def defaults() -> Iterator[None]:
    """Draws with matplotlib's own parameters: a matplotlibrc, of the user or in the current directory, could ask for
    LaTeX, which may be missing and runs programs. Letters are not fitted to pixels, so they keep their shapes, and
    take half the time."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.hinting"] = "no_hinting"
        yield


def page(
    height: float, facts: Facts, caption: str, title: str | None = None, *, of_images: bool = False
) -> tuple[Figure, SubFigure]:
    """Makes a page with the run's title, a caption, and the run's notes.

    Args:
        height: of the body, in inches.
        caption: what the picture shows.
        title: instead of the title of the run, which has its test score.
        of_images: whether the body has axes of a fixed aspect, or titles of its own.

    Returns:
        The figure, and its body to draw in.
    """
    lines = [
        *((line, TITLE, "bold", INK) for line in textwrap.wrap(title or facts.title, 88)),
        *((line, TEXT, "normal", GREY) for text in (facts.description, caption) for line in textwrap.wrap(text, 125)),
        *((line, TEXT, "bold", VERMILLION) for line in textwrap.wrap("  ·  ".join(facts.notes), 110)),
    ]
    top = 0.1 + sum(size * LINE for _, size, _, _ in lines)
    figure = Figure(figsize=(WIDTH, top + height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=PAD[0], h_pad=PAD[1]) if of_images else GridLayout())
    head, body = parts(figure, heights=(top, height))
    y = top - 0.1
    for line, size, weight, colour in lines:
        head.text(
            0.1 / WIDTH, y / top, plain(line), fontsize=size, fontweight=weight, color=colour, va="top", ha="left"
        )
        y -= size * LINE
    return figure, body


def parts(
    figure: Figure | SubFigure, heights: Sequence[float] = (1,), widths: Sequence[float] = (1,)
) -> list[SubFigure]:
    """Cuts a figure into rows or columns."""
    grid = figure.subfigures(len(heights), len(widths), height_ratios=heights, width_ratios=widths, squeeze=False)
    return list(grid.ravel())


def save(figure: Figure, path: Path, colours: int | None = None) -> Path:
    """Writes a PNG, whole or not at all.

    Args:
        colours: how many colours the file has, at most 256; the others are replaced. A page of lines and letters has
            only a few colours and their shades, and takes half the space so.
    """
    figure.canvas.draw()  # once; savefig would draw it twice
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]
    if colours is not None:
        image = _reduced(image, colours)
    with replacing(path) as temporary:
        image.save(temporary, dpi=(DPI, DPI), optimize=colours is not None, compress_level=COMPRESSION)
    return path


def _reduced(image: Image.Image, colours: int) -> Image.Image:
    """Returns the image with a palette of our colours and its most frequent ones, and the nearest of them for every
    other colour."""
    packed = np.asarray(image).astype(np.uint32) @ np.array([2**16, 2**8, 1], np.uint32)
    found, counts = np.unique(packed, return_counts=True)
    channels = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(np.float32)
    own = np.array([[int(name[place : place + 2], 16) for place in (1, 3, 5)] for name in NAMED], np.float32)
    tints = np.concatenate([255 - share * (255 - own) for share in TINTS])  # however little is drawn in them
    frequent = channels[np.argsort(-counts, kind="stable")[: colours - len(tints)]]
    palette = np.concatenate([tints, frequent])
    distances = (palette**2).sum(axis=1) - 2 * channels @ palette.T  # without a term that is the same for all
    nearest = np.zeros(2**24, np.uint8)
    nearest[found] = distances.argmin(axis=1)
    reduced = Image.fromarray(nearest[packed], "P")
    reduced.putpalette(palette.astype(np.uint8).tobytes())
    return reduced


def axes(ax: Axes, x: str = "", y: str = "", title: str = "") -> None:
    """Gives axes the common look."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(labelsize=SMALL, colors=GREY, labelcolor=INK)
    ax.tick_params(which="minor", color=PALE)
    ax.yaxis.get_offset_text().set_fontsize(SMALL)
    ax.grid(True, color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel(x, fontsize=TEXT, color=INK)
    ax.set_ylabel(y, fontsize=TEXT, color=INK)
    if title:
        ax.set_title(plain(title), fontsize=TEXT, color=INK, loc="left", fontweight="bold")


def whole_numbers(ax: Axes, nbins: int = 7) -> None:
    """Puts the ticks of the x-axis at whole numbers, with separators of thousands."""
    ax.xaxis.set_major_locator(MaxNLocator(nbins=nbins, integer=True, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def legend(ax: Axes, columns: int = 6) -> None:
    """Draws a legend above the axes, where no data is."""
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(
            handles,
            labels,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=columns,
            frameon=False,
            fontsize=SMALL,
            borderaxespad=0.2,
            handlelength=1.6,
            columnspacing=1.4,
        )


def plain(text: str) -> str:
    """Returns text that matplotlib draws in one line, as it is and not as a formula."""
    return printable(text).replace("$", r"\$")


def real(values: NDArray[Any]) -> Array:
    """Returns values as float64, with NaN where a number is infinite or too large to draw."""
    result = values.astype(np.float64)
    result[~(np.abs(result) < 1e200)] = np.nan
    return result


def thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """Returns points without NaN, and with the means of neighbours if there are more points than can be seen."""
    shown = np.isfinite(y)
    x, y = x[shown], y[shown]
    each = -(-len(x) // MOST_POINTS)
    if each > 1:
        begins = np.arange(0, len(x), each)
        counts = np.diff(np.append(begins, len(x)))
        x, y = np.add.reduceat(x, begins) / counts, np.add.reduceat(y, begins) / counts
    return x, y


def limits(values: Sequence[Array], margin: float = 0.08) -> tuple[float, float]:
    """Returns axis limits around all finite values, with a margin; (−1, 1) if there are none."""
    joined = np.concatenate([np.ravel(part) for part in values])
    finite = joined[np.isfinite(joined)]
    if not len(finite):
        return -1.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    room = (high - low) * margin or max(abs(high), 1.0) * margin
    return low - room, high + room
