"""predictions.png of consecutive pieces of one sequence, with the state carried from piece to piece or reset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from seqrnn.plots import lines, style
from seqrnn.plots.facts import Facts
from seqrnn.plots.pictures import sequences
from seqrnn.plots.style import BAND, BLUE, GREY, PALE, VERMILLION, Array

BEFORE = AFTER = 5  # pieces on either side of where the test begins
MOST_ANIMATED = 10  # pieces
SMALLEST = 1e-6  # error that differs visibly from none


def draw(arrays: Mapping[str, NDArray[Any]], facts: Facts) -> Figure:
    """Draws, above, the last training pieces and the first test pieces: target in red, prediction in blue, and lines
    where the state is reset; below, the absolute error over all pieces, with that at their first timesteps marked.
    Data that does not consist of whole pieces is drawn as ``sequences``.
    """
    found = {name: in_order(values, facts) for name, values in arrays.items()}
    if any(values is None for values in found.values()):
        return sequences.draw(arrays, facts)
    pieces = {name: style.real(values) for name, values in found.items() if values is not None}
    judged = np.flatnonzero(pieces["valid"].any(axis=1))
    resets = np.flatnonzero(pieces["starts"].any(axis=1))
    count, points = pieces["targets"].shape
    x = places(count, points)
    caption = (
        "The state is carried from each piece to the next."
        if len(resets) == 1
        else "The state is reset at every piece."
        if len(resets) == count
        else f"The state is reset at {len(resets):,} of {count:,} pieces."
    )
    axis = style.plain(facts.picture.axis)
    figure, body = style.page(5.4, facts, caption)
    top, below = body.subplots(2, 1, height_ratios=(3, 2))

    first = max(0, (judged[0] if len(judged) else 0) - BEFORE)
    shown = slice(first, first + BEFORE + AFTER)
    _shade(top, judged, shown)
    _mark(top, resets[(resets >= shown.start) & (resets < shown.stop)])
    flat = _joined if len(resets) == 1 else _separate
    names = style.plain(f"input {facts.picture.input}"), style.plain(f"target {facts.picture.target}")
    top.plot(flat(x[shown]), flat(pieces["inputs"][shown]), color=PALE, linewidth=1.5, label=names[0])
    top.plot(flat(x[shown]), flat(pieces["targets"][shown]), color=VERMILLION, linewidth=3.5, label=names[1])
    top.plot(
        flat(x[shown]),
        flat(pieces["outputs"][shown]),
        color=BLUE,
        linewidth=1.3,
        marker="o",
        markersize=3,
        label="prediction",
    )
    style.axes(top, x=axis, title="around the first judged piece")
    top.grid(False)
    style.whole_numbers(top, 12)
    top.set_xlim(shown.start - 0.1, min(shown.stop, count) + 0.1)
    style.legend(top)

    error = np.maximum(np.abs(pieces["outputs"] - pieces["targets"]), SMALLEST)
    _shade(below, judged, slice(0, count))
    others = error.copy()
    others[:, 0] = np.nan
    below.plot(x[:, 0], error[:, 0], "o", color=VERMILLION, markersize=4, label="first timestep of a piece")
    below.plot(_joined(x), _joined(others), ".", color=BLUE, markersize=3, alpha=0.5, label="its other timesteps")
    style.axes(below, x=axis, y="|error|", title="all pieces")
    below.set_yscale("log")
    finite = error[np.isfinite(error)]
    low, high = (finite.min(), finite.max()) if len(finite) else (SMALLEST, 1.0)
    below.set_ylim(max(low, high * SMALLEST) / 2, high * 2)
    style.whole_numbers(below, 12)
    below.set_xlim(-0.01 * count, 1.01 * count)
    style.legend(below)
    return figure


def animate(
    arrays: Mapping[str, NDArray[Any]], outputs: Array, facts: Facts
) -> tuple[Figure, SubFigure, Callable[[Array], str]]:
    """Draws targets and outputs of the last pieces as lines."""
    pieces = in_order(arrays["targets"], facts)
    if pieces is None:
        return sequences.animate(arrays, outputs, facts)
    x = places(*pieces.shape)[-MOST_ANIMATED:].ravel()
    layout = lines.LineLayout(
        x,
        facts.picture.axis,
        lambda values: values.swapaxes(0, 1).reshape(-1, 1)[-len(x) :],
        True,
        (VERMILLION, BLUE),
    )
    return lines.animate(layout, arrays, outputs, facts)


def in_order(values: NDArray[Any], facts: Facts) -> NDArray[Any] | None:
    """Returns (T, N, 1) or (T, N) in the order of time: (pieces, points); None if it has more than one feature, or
    does not consist of whole pieces."""
    points = facts.picture.length
    if values.size != np.prod(values.shape[:2]) or values.size % points:
        return None
    return values.reshape(values.shape[:2]).T.reshape(-1, points)


def places(count: int, points: int) -> Array:
    """Returns the x of each point of each piece, in pieces: (count, points)."""
    return np.arange(count)[:, None] + np.linspace(0, 1, points)


def _joined(values: Array) -> Array:
    return values.ravel()


def _separate(values: Array) -> Array:
    """Returns the values with a gap between pieces, at which a line is interrupted."""
    return np.concatenate([values, np.full((len(values), 1), np.nan)], axis=1).ravel()


def _shade(ax: Axes, judged: NDArray[np.intp], shown: slice) -> None:
    inside = judged[(judged >= shown.start) & (judged < shown.stop)]
    if len(inside):
        ax.axvspan(inside[0], inside[-1] + 1, color=BAND, zorder=0, label="judged: test")


def _mark(ax: Axes, resets: NDArray[np.intp]) -> None:
    for number, place in enumerate(resets):
        ax.axvline(
            place,
            color=GREY,
            linewidth=0.9,
            linestyle=(0, (2, 2)),
            zorder=1,
            label="" if number else "the state is reset",
        )
