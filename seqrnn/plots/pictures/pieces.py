"""predictions.png of task=sincos: half waves in order, with and without a memory of the one before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seqrnn.plots import sequence, style
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import BAND, BLUE, GREY, PALE, VERMILLION, Array

BEFORE = AFTER = 5  # pieces on either side of where the test begins
SMALLEST = 1e-6  # error that is told apart from none


def draw(arrays: Mapping[str, NDArray[Any]], facts: Facts) -> Figure:
    """Above, the last training pieces and the first test pieces: target in red, prediction in blue, and lines where
    the state starts afresh. Below, the absolute error over all pieces, that at their first timesteps marked.
    """
    found = {name: in_order(values, facts) for name, values in arrays.items()}
    if any(values is None for values in found.values()):
        return sequence.draw(arrays, facts)
    pieces = {name: style.real(values) for name, values in found.items() if values is not None}
    judged = np.flatnonzero(pieces["valid"].any(axis=1))
    fresh = np.flatnonzero(pieces["starts"].any(axis=1))
    count, points = pieces["targets"].shape
    x = half_waves(count, points)
    says = (
        "The state is carried from each half wave to the next."
        if len(fresh) == 1
        else "The state starts afresh at every half wave: from sin = 0 alone, cos may be +1 or −1."
        if len(fresh) == count
        else f"The state starts afresh at {len(fresh):,} of {count:,} half waves."
    )
    figure, body = style.page(5.4, facts, says)
    top, below = body.subplots(2, 1, height_ratios=(3, 2))

    first = max(0, (judged[0] if len(judged) else 0) - BEFORE)
    shown = slice(first, first + BEFORE + AFTER)
    _shade(top, judged, shown)
    _mark(top, fresh[(fresh >= shown.start) & (fresh < shown.stop)])
    flat = _joined if len(fresh) == 1 else _apart
    top.plot(flat(x[shown]), flat(pieces["inputs"][shown]), color=PALE, linewidth=1.5, label="input sin t")
    top.plot(flat(x[shown]), flat(pieces["targets"][shown]), color=VERMILLION, linewidth=3.5, label="target cos t")
    top.plot(
        flat(x[shown]),
        flat(pieces["outputs"][shown]),
        color=BLUE,
        linewidth=1.3,
        marker="o",
        markersize=3,
        label="prediction",
    )
    style.axes(top, x="t / π (half waves)", title="around the first judged piece")
    top.grid(False)
    style.whole_numbers(top, 12)
    top.set_xlim(shown.start - 0.1, min(shown.stop, count) + 0.1)
    style.legend(top)

    error = np.maximum(np.abs(pieces["outputs"] - pieces["targets"]), SMALLEST)
    _shade(below, judged, slice(0, count))
    rest = error.copy()
    rest[:, 0] = np.nan
    below.plot(x[:, 0], error[:, 0], "o", color=VERMILLION, markersize=4, label="first timestep of a half wave")
    below.plot(_joined(x), _joined(rest), ".", color=BLUE, markersize=3, alpha=0.5, label="its other timesteps")
    style.axes(below, x="t / π (half waves)", y="|error|", title="all pieces")
    below.set_yscale("log")
    finite = error[np.isfinite(error)]
    low, high = (finite.min(), finite.max()) if len(finite) else (SMALLEST, 1.0)
    below.set_ylim(max(low, high * SMALLEST) / 2, high * 2)
    style.whole_numbers(below, 12)
    below.set_xlim(-0.01 * count, 1.01 * count)
    style.legend(below)
    return figure


def in_order(values: NDArray[Any], facts: Facts) -> NDArray[Any] | None:
    """(T, N, 1) or (T, N) in order of time: (pieces, points); None if it does not consist of whole pieces."""
    points = facts.settings.get("points")
    if not isinstance(points, int) or points < 1 or values.size != np.prod(values.shape[:2]) or values.size % points:
        return None
    return values.reshape(values.shape[:2]).T.reshape(-1, points)


def half_waves(count: int, points: int) -> Array:
    """t / π of each point of each piece, (count, points)."""
    return np.arange(count)[:, None] + np.linspace(0, 1, points)


def _joined(values: Array) -> Array:
    return values.ravel()


def _apart(values: Array) -> Array:
    """With a gap in the line between pieces."""
    return np.concatenate([values, np.full((len(values), 1), np.nan)], axis=1).ravel()


def _shade(ax: Axes, judged: NDArray[np.intp], shown: slice) -> None:
    inside = judged[(judged >= shown.start) & (judged < shown.stop)]
    if len(inside):
        ax.axvspan(inside[0], inside[-1] + 1, color=BAND, zorder=0, label="judged: test")


def _mark(ax: Axes, fresh: NDArray[np.intp]) -> None:
    for number, place in enumerate(fresh):
        ax.axvline(
            place,
            color=GREY,
            linewidth=0.9,
            linestyle=(0, (2, 2)),
            zorder=1,
            label="" if number else "state starts afresh",
        )
