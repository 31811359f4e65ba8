"""Has it learned anything, does it forget, and what would help?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from seqrnn.plots import measured
from seqrnn.plots.measured import Interval, interval, number
from seqrnn.plots.panel import MOST_ROWS, Panel, Row, fitted, scale_y, width_of
from seqrnn.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SMALL, VERMILLION

Values = Mapping[str, Any]
DIVERGED = 1e6  # effect of a remedy
AVERAGING = "Would averaging, or training on, help?"
USUAL = 1e-3  # ‖Δw‖ / ‖w‖ of one update


def baselines(panel: Panel, found: Values) -> None:
    """The loss of the network beside those of trivial predictors."""
    others = [(one["name"], interval(one["loss"])) for one in found["baselines"]]
    others.sort(key=lambda one: one[1].value)
    says = "The task has no trivial predictor to compare with"
    if found["ratio"] is not None and found["best"] is not None:
        says = f"Loss × {interval(found['ratio'])} of that of {found['best']}, the best trivial predictor"
    panel.asks("Has it learned anything?", says)
    loss = interval(found["loss"])
    rows = [Row("the network", loss, number(loss.value), BLUE, bold=True)]
    rows += [Row(name, one, number(one.value), GREY) for name, one in others]
    values = np.array([row.measured.value for row in rows])
    is_log = bool((values > 0).all()) and values.max() > 4 * values.min()
    panel.dots(rows[:MOST_ROWS], "loss on test sequences", is_log, bounds=None if is_log else _from_zero(rows))


def _from_zero(rows: list[Row]) -> tuple[float, float]:
    ends = np.array([[0.0, *row.measured] for row in rows])
    low, high = np.nanmin(ends), np.nanmax(ends)
    return (float(low * 1.1), float(high * 1.1) or 1.0)


def trials(panel: Panel, verdict: Values) -> None:
    """What trainings with remedies came to."""
    tried = [one for cause in verdict["causes"] for one in cause["tried"]] + list(verdict["others"])
    advice = verdict["advice"]
    effects = {one["remedy"]: interval(one["effect"]) for one in [*tried, *([advice] if advice else [])]}
    if not effects:
        panel.asks("What helps?")
        panel.nothing(verdict["trials"])
        return
    helpful = sum(effect.high < 1 for effect in effects.values())
    says = f"{helpful or 'None'} of {len(effects)} remedies {'lowers' if helpful == 1 else 'lower'} the loss for sure"
    panel.asks("What helps?", f"{says}{' (green)' if helpful else ''}; 1 = as it is")
    ordered = sorted(effects, key=lambda name: (np.nan_to_num(effects[name].value, nan=np.inf), name))
    chosen = advice["remedy"] if advice else None
    shown = [name for place, name in enumerate(ordered) if place < MOST_ROWS or name == chosen]
    rows = [_tried(name, effects[name], name == chosen, 0.42 * panel.width) for name in shown]
    panel.dots(rows, "loss with the remedy ÷ without it", marks=[(1.0, "")])


def _tried(name: str, effect: Interval, is_advice: bool, room: float) -> Row:
    label = f"► {name}" if is_advice else name
    if is_advice and width_of(label, SMALL, "bold") > room:
        label = "► the advice above"
    if not effect.value <= DIVERGED:
        return Row(label, Interval(np.nan, DIVERGED, np.nan), "diverges", VERMILLION, is_advice)
    colour = GREEN if effect.high < 1 else VERMILLION if effect.low > 1 else GREY
    return Row(label, effect, f"× {number(effect.value)}", colour, is_advice)


def forgetting(panel: Panel, found: Values) -> None:
    """The loss on what was trained on some time ago, and on what was not."""
    gap = interval(found["gap"])
    side = "lower" if gap.value >= 0 else "higher"
    sign = 1 if gap.value >= 0 else -1
    signed = Interval(sign * gap.value, *sorted((sign * gap.low, sign * gap.high)))
    much = f"{measured.percent(signed)} {side}"
    says = f"Loss on what it saw 50 timesteps ago is {much} than on what is still ahead"
    if not (gap.low > 0 or gap.high < 0):
        says = f"Not for sure: loss on what it saw 50 timesteps ago is {much} than on what is ahead"
    if gap.low == gap.high == 0:
        says = "No: loss on what it saw 50 timesteps ago is that on what is still ahead"
    panel.asks("Does it forget?", says)
    ages = list(zip(found["ages"], found["losses"], strict=True))[:6]
    names = [f"{age:,}" for age, _ in ages] + ["still\nahead", "unseen\ntests"]
    points = measured.band([*(loss for _, loss in ages), found["ahead"], found["unseen"]])
    ax = panel.axes("training passed it so many timesteps ago", "loss", below=0.6)
    scale_y(ax, points, bottom=0.0)
    low, high = ax.get_ylim()
    for place, (value, least, most) in enumerate(points):
        colour = BLUE if place < len(ages) else ORANGE
        ends = [low if not least >= low else least, high if not most <= high else most]
        ax.plot([place, place], ends, color=colour, linewidth=2.6, alpha=0.45, solid_capstyle="butt")
        ax.plot(
            [place], [value], "o" if place < len(ages) else "D", color=colour, markersize=6, markeredgecolor="white"
        )
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set_xticks(range(len(names)), names)
    ax.xaxis.label.set_horizontalalignment("center")
    ax.axvline(len(ages) - 0.5, color=GREY, linewidth=0.8, linestyle=":")


def averaging(panel: Panel, noise: Values | None, forgetting: Values | None) -> None:
    """What is chance in an update, and what averaging would make of it."""
    rows, says = [], ""
    if noise is not None:
        scale = interval(noise["scale"])
        says = f"Noise is as large as signal once {scale} updates are averaged"
        rows.append(Row(("updates until", "signal = noise"), scale, _short(scale), BLUE))
        if noise["in_a_row"] > 1:
            count = noise["in_a_row"]
            worth = interval(noise["worth"]).times(count)
            rows.append(Row((f"{count:,} accumulated", "are worth"), worth, number(worth.value), ORANGE))
    if forgetting is not None:
        averaged = interval(forgetting["averaged"])
        rows.append(Row(("loss, weights", "averaged ÷ not"), averaged, f"× {number(averaged.value)}", GREEN))
        change = interval(forgetting["change"])
        rows.append(Row(("loss, trained", "on ÷ before"), change, f"× {number(change.value)}", PURPLE))
    panel.asks(AVERAGING, says)
    panel.dots(rows, "1 = one update, or the loss as it is", marks=[(1.0, "")])


def _short(one: Interval) -> str:
    return number(one.value) if one.value == one.value else f"≥ {number(one.low)}" if one.low > 0 else "?"


def steps(panel: Panel, found: Values) -> None:
    """The size of an update beside that of the weights, for each parameter."""
    ratios = {name: interval(ratio) for name, ratio in found["update_ratio"].items()}
    known = [ratio.value for ratio in ratios.values() if ratio.value == ratio.value]
    says = "Nothing is known of its steps"
    if known:
        says = f"An update changes weights by {number(min(known))} to {number(max(known))} of their size"
    if known and max(known) == 0:
        says = "Updates no longer change the weights: the learning rate has come to nothing"
    panel.asks("How large are the steps?", says)
    names = list(ratios)
    if len(names) > MOST_ROWS:  # the smallest and the largest
        ordered = sorted(names, key=lambda name: np.nan_to_num(ratios[name].value))
        kept = {*ordered[: MOST_ROWS // 2], *ordered[-(MOST_ROWS // 2) :]}
        names = [name for name in names if name in kept]
    left = 0.42 * panel.width
    rows = [Row(fitted(plain_name(name), left, SMALL, keep_end=True), ratios[name], number(ratios[name].value))
            for name in names]  # fmt: skip
    more = f" ({len(rows)} of {len(ratios):,} parameters)" if len(rows) < len(ratios) else ""
    panel.dots(rows, f"‖update‖ ÷ ‖weights‖{more}", marks=[(USUAL, "usual")])


def plain_name(name: str) -> str:
    """A parameter's, without what all names of a stack begin with."""
    return name.removeprefix("cell.").removeprefix("stack.")
