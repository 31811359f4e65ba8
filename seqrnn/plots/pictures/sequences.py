"""predictions.png of a regression task that asks for no other picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from seqrnn.plots import lines, style
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import BAND, BLUE, GREEN, GREY, INK, INPUTS, ORANGE, PALE, SMALL, VERMILLION, Array

FEW = 8  # judged timesteps of a sequence that do not make a line
MOST_PANELS = 4  # outputs or inputs
MOST_TIMESTEPS = 3000  # of the first sequence
MOST_SEQUENCES = 60  # whose points are drawn side by side
MOST_DOTS = 5000
ZOOMED = 150  # timesteps
MOST_ANIMATED = 400  # timesteps


def draw(arrays: Mapping[str, NDArray[Any]], facts: Facts) -> Figure:
    """Draws the first test sequence: inputs (blue), targets (orange), outputs (green) and the absolute error, the
    stretch where it is largest, and the distribution of the errors over all test sequences. Where a sequence has only
    few judged timesteps, draws the judged targets and outputs of the first sequences side by side.
    """
    inputs, outputs = style.real(arrays["inputs"]), style.real(arrays["outputs"])
    valid = arrays["valid"].astype(bool)
    targets = style.real(arrays["targets"])
    targets[~valid] = np.nan
    if valid.sum(axis=0).max(initial=0) < FEW and valid.shape[1] > 1:
        return _points(targets, outputs, valid, facts)
    return _lines(inputs[:, 0], targets, outputs, arrays["starts"][:, 0], facts)


def animate(
    arrays: Mapping[str, NDArray[Any]], outputs: Array, facts: Facts
) -> tuple[Figure, SubFigure, Callable[[Array], str]]:
    """Draws the beginning of the first test sequence; where sequences have at most two timesteps, one sequence after
    another."""
    steps, count, features = arrays["targets"].shape
    if steps > 2 or count == 1:
        shown, axis = min(steps, MOST_ANIMATED), "timestep"

        def select(values: Array) -> Array:
            return values[:shown, 0]
    else:
        shown, axis = min(steps * count, MOST_ANIMATED), "timestep, of one test sequence after another"

        def select(values: Array) -> Array:
            return values.swapaxes(0, 1).reshape(-1, features)[:shown]

    layout = lines.LineLayout(np.arange(shown, dtype=float), axis, select, True, (ORANGE, GREEN))
    return lines.animate(layout, arrays, outputs, facts)


def _lines(inputs: Array, targets: Array, outputs: Array, starts: NDArray[Any], facts: Facts) -> Figure:
    """Draws inputs (T, I) and starts (T,) of the first sequence, and targets and outputs (T, N, O)."""
    shown = slice(0, MOST_TIMESTEPS)
    target, output, inputs = targets[shown, 0], outputs[shown, 0], inputs[shown]
    steps, count = output.shape
    panels = min(count, MOST_PANELS)
    error = np.abs(output - target)
    worst = int(np.argmax(np.nan_to_num(np.nan_to_num(error).mean(axis=0))))
    zoom = _largest(error[:, worst]) if steps > 1.5 * ZOOMED else None
    together = inputs.shape[1] == 1 and count == 1 and _same_scale(inputs, target)

    heights = [*([] if together else [1.1]), *([2.2] if panels == 1 else [1.25] * panels), 0.9]
    bottom = 2.2
    which = f"The first of {outputs.shape[1]:,} test sequences" if outputs.shape[1] > 1 else "The test sequence"
    caption = f"{which}, of {len(outputs):,} timesteps"
    for noun, drawn, whole in (
        ("timesteps", steps, len(outputs)),
        ("inputs", min(inputs.shape[1], MOST_PANELS), inputs.shape[1]),
        ("outputs", panels, count),
    ):
        caption += f"; {drawn:,} of {whole:,} {noun} are shown" if drawn < whole else ""
    caption += f".{_missing(targets, outputs)}"
    figure, body = style.page(sum(heights) + bottom + 0.6, facts, caption)
    above, below = style.parts(body, heights=(sum(heights), bottom))
    axes = list(above.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])
    x = np.arange(steps)

    for ax in axes:
        style.axes(ax)
        for start in np.flatnonzero(starts[shown])[1:50]:
            ax.axvline(start, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
        if zoom:
            ax.axvspan(zoom.start, zoom.stop, color=BAND, zorder=0)
    if not together:
        for number in range(min(inputs.shape[1], MOST_PANELS)):
            _line(axes[0], x, inputs[:, number], INPUTS[number], f"input {number + 1}", 0.9)
        style.legend(axes[0])
        axes[0].set_ylabel("input" if inputs.shape[1] == 1 else "inputs", fontsize=style.TEXT)
    for number, ax in enumerate(axes[-1 - panels : -1]):
        if together:
            _line(ax, x, inputs[:, 0], BLUE, "input", 0.7)
        _fit(ax, x, target[:, number], output[:, number])
        if count > 1:
            ax.set_ylabel(f"output {number + 1}", fontsize=style.TEXT)
        if number == 0:
            style.legend(ax)
    axes[-1].fill_between(x, 0, np.nan_to_num(error[:, worst]), color=VERMILLION, linewidth=0.4, alpha=0.9)
    axes[-1].set_ylim(0, style.limits([error[:, worst], np.zeros(1)])[1])
    style.axes(axes[-1], x="timestep", y="|error|" if count == 1 else f"|error {worst + 1}|")
    style.whole_numbers(axes[-1])
    axes[-1].set_xlim(-0.01 * steps, 1.01 * steps)

    if zoom is None:
        _distribution(below.subplots(1, 1), targets, outputs)
        return figure
    left, right = below.subplots(1, 2, width_ratios=(1.6, 1))
    if together:
        _line(left, x[zoom], inputs[zoom, 0], BLUE, "input", 0.9)
    _fit(left, x[zoom], target[zoom, worst], output[zoom, worst], 1.5)
    title = "where its error is largest"
    style.axes(left, x="timestep", title=title if count == 1 else f"output {worst + 1}, {title}")
    style.whole_numbers(left, 6)
    _distribution(right, targets, outputs)
    return figure


def _points(targets: Array, outputs: Array, valid: NDArray[np.bool_], facts: Facts) -> Figure:
    """Draws judged targets and outputs (T, N, O) of the first sequences side by side, and all against each other."""
    sequences = np.nonzero(valid.T)[0]  # of each judged target, in order
    count = min(outputs.shape[2], MOST_PANELS)
    judged_targets, judged_outputs = (values.swapaxes(0, 1)[valid.T] for values in (targets, outputs))
    shown = slice(0, int(np.searchsorted(sequences, MOST_SEQUENCES)))
    many = f"the first {MOST_SEQUENCES} of {valid.shape[1]:,}" if valid.shape[1] > MOST_SEQUENCES else "all"
    caption = f"The judged timesteps of {many} test sequences, side by side." + _missing(targets, outputs)
    figure, body = style.page(1.2 + 1.6 * count + 2.6, facts, caption)
    above, below = style.parts(body, heights=(1.0 + 1.6 * count, 2.6))
    axes = above.subplots(
        count + 1, 1, sharex=True, height_ratios=[*[2.0 if count == 1 else 1.4] * count, 0.9], squeeze=False
    )[:, 0]
    x = np.arange(len(sequences[shown]))
    for number in range(count):
        ax, target, output = axes[number], judged_targets[shown, number], judged_outputs[shown, number]
        ax.vlines(x, target, output, color=GREY, linewidth=0.7)
        ax.plot(x, target, "o", color=ORANGE, markersize=6, fillstyle="none", markeredgewidth=1.5, label="target")
        ax.plot(x, output, "x", color=GREEN, markersize=5, markeredgewidth=1.5, label="output")
        style.axes(ax, y="" if count == 1 else f"output {number + 1}")
        if number == 0:
            style.legend(ax)
    error = np.abs(judged_outputs - judged_targets)
    axes[-1].vlines(x, 0, np.nan_to_num(error[shown]).max(axis=1), color=VERMILLION, linewidth=1.6)
    axes[-1].set_ylim(0, style.limits([error[shown], np.zeros(1)])[1])
    style.axes(axes[-1], x="judged timestep, in order", y="|error|" if count == 1 else "largest |error|")
    style.whole_numbers(axes[-1])

    left, right = below.subplots(1, 2)
    dots = slice(0, MOST_DOTS)
    both = style.limits([judged_targets, judged_outputs])
    left.plot(both, both, color=PALE, linewidth=1.5)
    for number, colour in zip(range(count), (GREEN, BLUE, style.PURPLE, GREY), strict=False):
        left.plot(
            judged_targets[dots, number],
            judged_outputs[dots, number],
            ".",
            color=colour,
            markersize=4,
            alpha=0.6,
            label="" if count == 1 else f"output {number + 1}",
        )
    style.axes(left, x="target", y="output", title="all sequences")
    style.legend(left)
    _distribution(right, targets, outputs)
    return figure


def _fit(ax: Axes, x: NDArray[Any], target: Array, output: Array, width: float = 1.1) -> None:
    _line(ax, x, target, ORANGE, "target", width * 1.5)
    _line(ax, x, output, GREEN, "output", width)


def _line(ax: Axes, x: NDArray[Any], y: Array, colour: str, label: str, width: float) -> None:
    """Draws a line; values without neighbours are dots."""
    shown = np.isfinite(y)
    beside = np.zeros(len(y), bool)
    beside[1:] |= shown[:-1]
    beside[:-1] |= shown[1:]
    ax.plot(x, y, color=colour, linewidth=width, label=label)
    lonely = shown & ~beside
    if lonely.any():
        ax.plot(x[lonely], y[lonely], ".", color=colour, markersize=5)


def _distribution(ax: Axes, targets: Array, outputs: Array) -> None:
    """Draws a histogram of the absolute errors of all test sequences, with logarithmic bins."""
    error = np.abs(outputs - targets)
    error = error[np.isfinite(error)]
    style.axes(ax, x="|error|", y="share of test targets", title="errors of all test sequences")
    largest = float(error.max(initial=0.0))
    if largest == 0:
        ax.text(0.5, 0.5, "all are 0" if len(error) else "none is finite", ha="center", transform=ax.transAxes)
        return
    smallest = max(float(np.quantile(error, 0.005)), largest * 1e-6) * 0.999
    bins = np.geomspace(smallest, largest * 1.001, 36)
    ax.hist(
        np.maximum(error, smallest * 1.0001),
        bins=list(bins),
        weights=np.full(len(error), 1 / len(error)),
        color=VERMILLION,
        alpha=0.85,
    )
    ax.set_xscale("log")
    if largest / smallest < 20:
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    middle, high = (float(np.quantile(error, share)) for share in (0.5, 0.95))
    are_close = middle > 0 and np.log(high / middle) < 0.2 * np.log(largest / smallest)
    ax.set_ylim(0, ax.get_ylim()[1] * (1.44 if are_close else 1.22))
    for share, name in ((0.5, "median"), (0.95, "95 %")):
        place = float(np.quantile(error, share))
        if place >= smallest:
            is_right = np.log(place / smallest) > 0.3 * np.log(largest / smallest)
            ax.axvline(place, color=INK, linewidth=1, linestyle=(0, (4, 2)))
            ax.annotate(
                f"{name}\n{place:.2g}",
                (place, 0.82 if are_close and share == 0.5 else 0.98),
                xycoords=ax.get_xaxis_transform(),
                xytext=(-3 if is_right else 3, 0),
                textcoords="offset points",
                fontsize=SMALL,
                va="top",
                ha="right" if is_right else "left",
            )


def _largest(error: Array) -> slice:
    """Returns the ``ZOOMED`` consecutive timesteps with the largest sum of errors."""
    sums = np.convolve(np.nan_to_num(error), np.ones(ZOOMED), "valid")
    first = int(np.argmax(sums))
    return slice(first, first + ZOOMED)


def _same_scale(inputs: Array, targets: Array) -> bool:
    """Returns whether inputs and targets can share an axis."""
    (low, high), (low0, high0) = style.limits([inputs], 0), style.limits([targets], 0)
    whole = max(high, high0) - min(low, low0)
    return min(high - low, high0 - low0) > whole / 4


def _missing(targets: Array, outputs: Array) -> str:
    """Returns a sentence about outputs that cannot be drawn, if there are any."""
    lost = int((~np.isfinite(outputs) & np.isfinite(targets)).sum())
    return f" {lost:,} outputs are not finite." if lost else ""
