"""Pictures of forecasts in the units of the data, with dates: predictions.png, residuals.png and horizon.png."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from seqrnn.plots import style
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, SKY, SMALL, VERMILLION, Array
from seqrnn.rundir.formats import Forecast, Residuals, StepErrors

MOST_TARGETS = 3
ZOOMED = 120  # timesteps of the stretch that shows intervals
MOST_FANS = 5  # forecasts of several steps in it
BASELINES = (VERMILLION, ORANGE, PURPLE, SKY, GREY)
BINS = 40
LONG_GAP = 10  # steps between two timesteps, which no line connects
NANOSECONDS_PER_DAY = 86_400e9


def draw_forecasts(arrays: Mapping[str, NDArray[Any]], forecast: Forecast, facts: Facts) -> Figure:
    """Draws, for each target of the first series, the whole test data with the forecasts that reach farthest, and its
    end with intervals of 90 %: from several origins where a forecast has several steps.

    Args:
        arrays: those of forecast.npz, checked (``seqrnn.plots.arrays``): times (T, N), actual and forecast (T, N, H,
            K), lower and upper (T, N, H, K).
    """
    steps, targets = arrays["actual"].shape[2:]
    shown = min(targets, MOST_TARGETS, len(forecast.targets))
    times = _times(arrays["times"][:, 0], forecast)
    caption = _caption(arrays, forecast, shown)
    figure, body = style.page(3.5 * shown + 0.5, facts, caption)
    rows = body.subplots(2 * shown, 1, squeeze=False, height_ratios=[1.2, 1.5] * shown)[:, 0]
    for number in range(shown):
        above, below = rows[2 * number], rows[2 * number + 1]
        actual, made = (style.real(arrays[name][:, 0, :, number]) for name in ("actual", "forecast"))
        lower, upper = (made + style.real(arrays[name][:, 0, :, number]) for name in ("lower", "upper"))
        x, values = _series(times, actual)
        name = style.plain(forecast.targets[number])
        label = f"forecast, {_ahead(steps)}" if forecast.lead else "output"
        _line(above, x, values, ORANGE, "actual", 1.6)
        _line(above, x[steps - 1 :], made[:, -1], GREEN, label, 1.0)
        style.axes(above, y=name, title="the test data")
        style.legend(above)
        _zoomed(below, x, values, made, lower, upper, "forecast" if forecast.lead else "output")
        style.axes(below, y=name, title=_zoom_title(steps, len(made)))
        style.legend(below)
        for ax in (above, below):
            _time_axis(ax, forecast)
    return figure


def draw_residuals(arrays: Mapping[str, NDArray[Any]], forecast: Forecast, facts: Facts) -> Figure:
    """Draws, for each target of the first series, the residuals one step ahead over time with the interval of 90 %,
    their autocorrelation, and their distribution."""
    targets = arrays["actual"].shape[-1]
    shown = min(targets, MOST_TARGETS, len(forecast.targets), len(forecast.residuals))
    times = _times(arrays["times"][:, 0], forecast)
    what = "one step ahead" if forecast.lead else "at each timestep"
    caption = f"Residuals {what}: actual value − {'forecast' if forecast.lead else 'output'}. "
    caption += "What is left of a pattern here, a better model could predict."
    figure, body = style.page(2.7 * max(shown, 1), facts, caption)
    grid = body.subplots(max(shown, 1), 3, squeeze=False, width_ratios=(2.2, 1.3, 1))
    for number in range(shown):
        residuals = style.real(arrays["actual"][:, 0, 0, number]) - style.real(arrays["forecast"][:, 0, 0, number])
        ends = [style.real(arrays[name][:, 0, 0, number]) for name in ("lower", "upper")]
        left, middle, right = grid[number]
        _residuals_in_time(left, times, residuals, ends, style.plain(forecast.targets[number]), forecast)
        _autocorrelation(middle, forecast.residuals[number])
        _histogram(right, residuals)
    return figure


def draw_horizon(forecast: Forecast, facts: Facts) -> Figure:
    """Draws the errors of the network and of the baselines by step of the horizon, and what intervals cover."""
    figure, body = style.page(3.4, facts, "Errors by step of the horizon, and the share of values within intervals.")
    left, right = body.subplots(1, 2, width_ratios=(1.6, 1))
    network = next(iter(forecast.by_step))
    for number, (name, errors) in enumerate(forecast.by_step.items()):
        colour = GREEN if name == network else BASELINES[(number - 1) % len(BASELINES)]
        steps = 1 + np.arange(len(errors.rmse))
        is_short = len(steps) <= 50
        left.plot(
            steps, _numbers(errors.rmse), color=colour, linewidth=3.5 if name == network else 1.3,
            marker="o" if is_short else "", markersize=4.5 if name == network else 2, label=style.plain(name),
        )  # fmt: skip
    style.axes(left, x="steps ahead", y="RMSE" if len(forecast.targets) == 1 else "RMSE, standard deviations")
    style.whole_numbers(left)
    left.set_ylim(bottom=0)
    style.legend(left, 3)
    _coverage(right, forecast.by_step[network])
    return figure


def _coverage(ax: Axes, errors: StepErrors) -> None:
    covered = 100 * _numbers(errors.coverage_90)
    steps = 1 + np.arange(len(covered))
    ax.axhline(90, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    ax.plot(steps, covered, color=GREEN, linewidth=2, marker="o" if len(steps) <= 50 else "", markersize=3.5)
    style.axes(ax, x="steps ahead", title="coverage of 90 % intervals")
    style.whole_numbers(ax, 6)
    low = np.nanmin(covered) if np.isfinite(covered).any() else 90.0
    ax.set_ylim(min(low - 3, 78), 101)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))


def _caption(arrays: Mapping[str, NDArray[Any]], forecast: Forecast, shown: int) -> str:
    series, targets = arrays["actual"].shape[1], len(forecast.targets)
    parts = []
    if len(forecast.series) > 1 or series > 1:
        name = f" ({forecast.series[0]})" if forecast.series else ""
        parts.append(f"The first of {max(series, len(forecast.series)):,} series{name}.")
    if shown < targets:
        parts.append(f"{shown} of {targets} targets are shown.")
    shown_interval = next((one for one in forecast.intervals if abs(one.confidence - 0.9) < 1e-9), None)
    if shown_interval is not None and shown_interval.coverage is not None:
        parts.append(f"Intervals of 90 % cover {100 * shown_interval.coverage:.1f} % of the test data.")
    else:
        parts.append("There was too little validation data for intervals of 90 %.")
    return " ".join(parts)


def _zoomed(ax: Axes, x: Array, values: Array, made: Array, lower: Array, upper: Array, made_by: str) -> None:
    """Draws the end of a series: values (X,) at x (X,), and forecasts with their intervals (T, H).

    Args:
        made_by: what the line of the network is called.
    """
    steps = made.shape[1]
    judged = np.flatnonzero(np.isfinite(made).all(axis=1) & (np.arange(len(made)) + steps <= len(values)))
    first = max(0, len(made) - ZOOMED)
    if steps == 1:
        place = slice(first, len(made))
        ax.fill_between(
            x[place], lower[place, 0], upper[place, 0], color=GREEN, alpha=0.18, linewidth=0, label="90 % interval"
        )
        _line(ax, x[place], values[place], ORANGE, "actual", 1.8)
        _line(ax, x[place], made[place, 0], GREEN, made_by, 1.3)
        ax.margins(x=0.01)
        return
    if not len(judged):
        return
    latest = int(judged[-1])
    origins = [origin for origin in range(latest, -1, -steps) if origin in judged][:MOST_FANS]
    first, end = max(0, min(origins) - max(steps, 12)), latest + steps
    _line(ax, x[first:end], values[first:end], ORANGE, "actual", 1.8)
    for number, origin in enumerate(origins):
        ahead = x[origin : origin + steps]
        band, line = ("90 % interval", made_by) if number == 0 else ("", "")
        ax.fill_between(ahead, lower[origin], upper[origin], color=GREEN, alpha=0.18, linewidth=0, label=band)
        ax.plot(ahead, made[origin], color=GREEN, linewidth=1.5, label=line)
        ax.axvline(ahead[0], color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    ax.margins(x=0.01)


def _zoom_title(steps: int, timesteps: int) -> str:
    if steps == 1:
        return f"its last {min(timesteps, ZOOMED):,} timesteps, with intervals of 90 %"
    return f"the latest forecasts of {steps:,} steps, with intervals of 90 %"


def _residuals_in_time(
    ax: Axes, times: Array, residuals: Array, ends: list[Array], name: str, forecast: Forecast
) -> None:
    each = -(-len(residuals) // style.MOST_POINTS)
    size = 3.0 if len(residuals) < 1000 else 1.5
    known = residuals[np.isfinite(residuals)]
    usual = np.quantile(known, [0.001, 0.999]) if len(known) else np.zeros(2)
    low, high = style.limits([usual, *ends])
    ax.plot(times[::each], residuals[::each], ".", color=BLUE, markersize=size, alpha=0.7)
    for sign, marker, edge in ((-1, "v", low), (1, "^", high)):
        beyond = sign * residuals > sign * edge
        if beyond.any():
            edges = np.full(int(beyond.sum()), edge)
            ax.plot(times[beyond], edges, marker, color=VERMILLION, markersize=4, clip_on=False)
    for number, end in enumerate(ends):
        ax.plot(times[::each], end[::each], color=GREEN, linewidth=1.1, label="" if number else "90 % interval")
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set_ylim(low, high)
    style.axes(ax, y=name, title="residuals")
    style.legend(ax)
    _time_axis(ax, forecast, 5)


def _autocorrelation(ax: Axes, found: Residuals) -> None:
    values = _numbers(found.autocorrelation)
    lags = np.arange(len(values))
    band = found.band or 0.0
    ax.axhspan(-band, band, color=PALE, linewidth=0, zorder=0)
    ax.vlines(lags[1:], 0, values[1:], color=BLUE, linewidth=1.6)
    ax.plot(lags[1:], values[1:], "o", color=BLUE, markersize=2.5)
    ax.axhline(0, color=INK, linewidth=0.8)
    style.axes(ax, x="lag", title="autocorrelation")
    low, high = style.limits([values[1:], np.array([-2 * band, 2 * band, -0.1, 0.1])])
    ax.set_ylim(low, high + 0.15 * (high - low))  # room for the text
    style.whole_numbers(ax, 5)
    ax.grid(False)
    probability = found.ljung_box_p
    if probability is not None:
        text = f"Ljung–Box p {'< 0.001' if probability < 0.001 else f'= {probability:.3f}'}"
        ax.text(0.97, 0.96, text, fontsize=SMALL, color=INK, ha="right", va="top", transform=ax.transAxes)


def _histogram(ax: Axes, residuals: Array) -> None:
    known = residuals[np.isfinite(residuals)]
    style.axes(ax, title="distribution")
    if not len(known):
        return
    low, high = np.quantile(known, [0.001, 0.999])
    bins = list(np.linspace(low, high, BINS + 1)) if high > low else BINS
    weights = np.full(len(known), 1 / len(known))
    ax.hist(known, bins=bins, weights=weights, color=BLUE, alpha=0.8)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4))


def _times(times: NDArray[Any], forecast: Forecast) -> Array:
    """Returns the time to which the first step of each forecast belongs: as matplotlib counts dates, in days, or the
    numbers that they are."""
    found = style.real(times) / (NANOSECONDS_PER_DAY if forecast.is_dated else 1)
    return found + forecast.lead * _step(found)


def _step(times: Array) -> float:
    return float(np.median(np.diff(times))) if len(times) > 1 else 1.0


def _series(times: Array, actual: Array) -> tuple[Array, Array]:
    """Returns the actual values of a series, from actual (T, H), and their times: (T + H − 1,) each."""
    steps = actual.shape[1]
    later = times[-1] + _step(times) * np.arange(1, steps)
    return np.concatenate([times, later]), np.concatenate([actual[:, 0], actual[-1, 1:]])


def _line(ax: Axes, x: Array, y: Array, colour: str, label: str, width: float) -> None:
    """Draws a line, broken where a long time is missing; of very many points, the mean of neighbours."""
    count = min(len(x), len(y))
    x, y = x[:count], y[:count]
    each = -(-count // style.MOST_POINTS)
    if each > 1:
        whole = count // each * each
        with np.errstate(invalid="ignore"):
            known = np.isfinite(y[:whole]).reshape(-1, each)
            sums = np.where(known, y[:whole].reshape(-1, each), 0.0).sum(axis=1)
            y = sums / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
        x = x[:whole:each]
    breaks = np.flatnonzero(np.diff(x) > LONG_GAP * _step(x)) + 1
    ax.plot(np.insert(x, breaks, np.nan), np.insert(y, breaks, np.nan), color=colour, linewidth=width, label=label)


def _time_axis(ax: Axes, forecast: Forecast, ticks: int = 9) -> None:
    if not forecast.is_dated:
        style.whole_numbers(ax, ticks)
        return
    locator = AutoDateLocator(minticks=3 if ticks > 5 else 2, maxticks=ticks)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    ax.xaxis.get_offset_text().set_fontsize(SMALL)


def _ahead(steps: int) -> str:
    return "one step ahead" if steps == 1 else f"{steps:,} steps ahead"


def _numbers(values: list[float | None]) -> Array:
    return np.array(values, np.float64)
