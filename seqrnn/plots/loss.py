"""loss.png: the course of a training."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from seqrnn.plots import style
from seqrnn.plots.facts import METRIC_NAMES, Facts, number
from seqrnn.plots.style import BLUE, GREEN, GREY, INK, PALE, SKY, SMALL, VERMILLION, Array

DECADE = 10.0
SMOOTHED_FROM = 40  # rows
LONGEST_NAME = 40  # characters of a level's name


@dataclass(frozen=True)
class Level:
    """A number that is marked at the right edge of the axes."""

    name: str
    value: float
    colour: str
    weight: str = "normal"


def draw(metrics: Mapping[str, Array], facts: Facts) -> Figure:
    """Draws training and validation loss against timesteps (of all streams), logarithmic where they span more than a
    decade, with the validation losses of the trivial baselines and the test loss of the network; below, the accuracy
    or the mean absolute error on the validation data (the largest error, where the loss is the mean absolute error),
    and the learning rate if it changes.
    """
    columns = {name: style.real(values) for name, values in metrics.items()}
    x = columns["timesteps"]
    metric = _metric(columns)
    rates = columns.get("lr", np.array([]))
    rates = rates[np.isfinite(rates)]
    heights = [3.3, *([1.6] if metric else []), *([0.75] if len(set(rates)) > 1 else [])]
    figure, body = style.page(sum(heights) + 0.6, facts, facts.training_line)
    panels = list(body.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])

    _loss(panels[0], x, columns, facts)
    if metric:
        _evaluations(panels[1], x, columns[f"eval_{metric}"], metric, facts)
    if len(set(rates)) > 1:
        style.axes(panels[-1], y="learning\nrate")
        panels[-1].plot(*style.thinned(x, columns["lr"]), color=GREY, linewidth=1.0)
        panels[-1].set_ylim(0, 1.1 * rates.max())
        panels[-1].set_yticks([0, rates.max()], ["0", f"{rates.max():.2g}"])
    if facts.summary.get("status") == "diverged":
        for ax in panels:
            ax.axvline(x[-1], color=VERMILLION, linewidth=1.2, linestyle=(0, (4, 2)))
        panels[0].annotate(
            f"diverged after update {facts.summary.get('updates') or 0:,} ",
            (x[-1], 0.05),
            xycoords=panels[0].get_xaxis_transform(),
            ha="right" if x[-1] > x[0] else "left",
            va="bottom",
            fontsize=style.TEXT,
            color=VERMILLION,
            fontweight="bold",
        )
    panels[-1].set_xlabel("timestep (all streams)", fontsize=style.TEXT)
    style.whole_numbers(panels[-1])
    if x[-1] > x[0]:
        panels[-1].set_xlim(x[0] - 0.015 * (x[-1] - x[0]), x[-1] + 0.015 * (x[-1] - x[0]))
    else:
        panels[-1].set_xticks([x[0]], [f"{x[0]:,.0f}"])
    return figure


def _loss(ax: Axes, x: Array, columns: Mapping[str, Array], facts: Facts) -> None:
    nothing = np.full(len(x), np.nan)
    train_x, train = style.thinned(x, columns.get("train_loss", nothing))
    eval_x, evaluated = style.thinned(x, columns.get("eval_loss", nothing))
    is_log = _spans_a_decade(np.concatenate([train, evaluated]))
    many = len(train) >= SMOOTHED_FROM and _is_noisy(train)
    if len(train):
        ax.plot(
            train_x,
            train,
            color=SKY,
            linewidth=0.8 if many else 1.3,
            alpha=0.65 if many else 1.0,
            marker="" if len(train) >= SMOOTHED_FROM else ".",
            label="training",
        )
    if many:
        ax.plot(train_x, _smoothed(train, is_log), color=BLUE, linewidth=1.8, label="training, smoothed")
    if len(evaluated):
        ax.plot(
            eval_x,
            evaluated,
            color=VERMILLION,
            linewidth=0.9,
            marker="o",
            markersize=4.5 if len(evaluated) <= 60 else 2.5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            label="validation",
        )
    style.axes(ax, y=style.plain(facts.loss))
    _scale(ax, np.concatenate([train, evaluated]), _levels(facts, "loss"), is_log)
    style.legend(ax)


def _evaluations(ax: Axes, x: Array, values: Array, metric: str, facts: Facts) -> None:
    eval_x, values = style.thinned(x, values)
    is_share = metric == "accuracy"
    ax.plot(
        eval_x,
        values,
        color=VERMILLION,
        linewidth=0.9,
        marker="o",
        markersize=3.5 if len(values) <= 60 else 2,
        markeredgecolor="white",
        markeredgewidth=0.4,
    )
    style.axes(ax, y=METRIC_NAMES[metric])
    _scale(ax, values, _levels(facts, metric), not is_share and _spans_a_decade(values), metric)
    if is_share:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def _metric(columns: Mapping[str, Array]) -> str | None:
    """Returns the metric of the evaluations that says most beside the loss."""

    def adds_something(metric: str) -> bool:
        values = columns.get(f"eval_{metric}", np.array([]))
        loss = columns.get("eval_loss", np.array([]))
        return bool(np.isfinite(values).any()) and not np.allclose(values, loss, rtol=1e-3, equal_nan=True)

    return next((metric for metric in ("accuracy", "mae", "max_error") if adds_something(metric)), None)


def _levels(facts: Facts, metric: str) -> list[Level]:
    levels = [
        Level(f"{_short(name)} {number(value, metric)}", value, GREY)
        for name, value in facts.baselines(metric, "validation").items()
    ]
    test = facts.test(metric)
    if math.isfinite(test):
        levels.append(Level(f"{_short(facts.model)}, test {number(test, metric)}", test, GREEN, "bold"))
    return levels


def _short(name: str) -> str:
    return textwrap.shorten(name, LONGEST_NAME, placeholder="…")


def _scale(ax: Axes, values: Array, levels: list[Level], is_log: bool, metric: str = "") -> None:
    """Sets the y-axis for the values and the levels near them, and marks the levels by dashed lines with a name at
    the right edge. The name of a level outside of the axis stands at its end, with an arrow."""
    values = np.log10(values) if is_log else values
    places = [_place(level.value, is_log) for level in levels]
    low, high = style.limits([values], 0)
    reach = 1.0 if is_log else max(1.5 * (high - low), abs(high))
    near = [place for place in places if low - reach <= place <= high + reach]
    low, high = style.limits([values, np.array(near)], 0.06)
    if metric == "accuracy":
        low, high = max(low, -0.02), min(high, 1.02)
    if is_log:
        ax.set_yscale("log")
        ax.set_ylim(10**low, 10**high)
        if high - low < 2.2:  # hardly a power of ten within: name some of the numbers between
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        if low > -5 and high < 5:
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_ylim(low, high)
    fractions = [(place - low) / (high - low) for place in places]
    name = "baselines on validation data"
    for level, fraction in zip(levels, fractions, strict=True):
        if 0 <= fraction <= 1 and level.weight == "normal":
            ax.axhline(level.value, color=level.colour, linewidth=1.0, linestyle=(0, (5, 3)), zorder=1.5, label=name)
            name = ""  # one entry in the legend stands for all
    _name(ax, levels, fractions)


def _place(value: float, is_log: bool) -> float:
    if not is_log:
        return value
    return math.log10(value) if value > 0 else -math.inf


def _name(ax: Axes, levels: list[Level], fractions: list[float]) -> None:
    """Writes the names of the levels to the right of the axes, with enough distance between them to be read."""
    size = ax.get_position().height  # of the body: nearly that of the page
    figure_height = ax.figure.get_figure(root=True).get_figheight()
    gap = SMALL * 1.25 / 72 / max(size * figure_height, 0.5)
    order = sorted(range(len(levels)), key=lambda index: fractions[index])
    clipped = [min(max(fractions[index], 0.0), 1.0) for index in order]
    ys = _apart(clipped, gap)
    for index, y in zip(order, ys, strict=True):
        level, fraction = levels[index], fractions[index]
        arrow = " ↓" if fraction < 0 else " ↑" if fraction > 1 else ""
        is_bold = level.weight == "bold"
        ax.text(
            1.03,
            y,
            style.plain(level.name + arrow),
            transform=ax.transAxes,
            fontsize=SMALL,
            fontweight=level.weight,
            color=level.colour if is_bold else INK,
            va="center",
            ha="left",
        )
        ax.add_artist(
            Line2D(
                (1.003, 1.022),
                (min(max(fraction, 0.0), 1.0), y),
                transform=ax.transAxes,
                clip_on=False,
                color=level.colour if is_bold else PALE,
                linewidth=0.8,
            )
        )


def _apart(places: list[float], gap: float) -> list[float]:
    """Returns sorted places, moved as little as possible so that they lie at least ``gap`` apart."""
    groups: list[list[float]] = []  # of neighbours that touch: the sum of their wanted first places, and their count
    for place in places:
        groups.append([place, 1])
        while len(groups) > 1:
            (sum0, count0), (sum1, count1) = groups[-2:]
            if sum1 / count1 - sum0 / count0 >= gap * count0:
                break
            groups[-2:] = [[sum0 + sum1 - count1 * count0 * gap, count0 + count1]]
    return [total / count + gap * n for total, count in groups for n in range(int(count))]


def _spans_a_decade(values: Array) -> bool:
    finite = values[np.isfinite(values)]
    return bool(len(finite)) and finite.min() > 0 and finite.max() / finite.min() > DECADE


def _is_noisy(values: Array) -> bool:
    """Returns whether the line changes its direction so often that its trend is hard to see."""
    turns = np.diff(np.sign(np.diff(values))) != 0
    return bool(turns.mean() > 0.3)


def _smoothed(values: Array, is_log: bool) -> Array:
    """Returns means over neighbours, geometric means on a logarithmic axis."""
    width = max(5, len(values) // 25)
    weights = np.hanning(width + 2)[1:-1]
    values = np.log(values) if is_log else values
    total = np.convolve(values, weights, "same")[: len(values)]
    means: Array = total / np.convolve(np.ones(len(values)), weights, "same")[: len(values)]
    return np.exp(means) if is_log else means
