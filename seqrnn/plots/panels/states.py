"""What do units and gates do, what does the state hold, does it drift, and how does it act on itself?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Circle, Patch

from seqrnn.plots import measured, style
from seqrnn.plots.measured import interval, number, percent
from seqrnn.plots.panel import MOST_ROWS, Panel, Row, curve, fitted, legend, mark, scale_y, ticks_of, whisker
from seqrnn.plots.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, SMALL, VERMILLION, Array

Values = Mapping[str, Any]
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)  # of layers
MARKERS = ("o", "s", "D", "^")
MOST_POINTS = 4000
SIGNED = "candidate"  # the one that goes from −1 to 1
FARTHEST = 3.0  # eigenvalue that is drawn


def units(panel: Panel, found: Values) -> None:
    """Shares of units that do nothing of use, per layer."""
    layers = found["layers"][: len(COLOURS)]
    if not layers:
        panel.asks("What do the units do?")
        panel.nothing("The cell has no layers that could be looked at.")
        return
    ranks = [(interval(layer["effective_rank"]), layer["units"]) for layer in layers]
    several = len(found["layers"]) > 1
    said = ", ".join(number(rank.value) for rank, _ in ranks)
    says = f"They vary in about {said} directions; there are {', '.join(f'{count:,}' for _, count in ranks)} units"
    if len(found["layers"]) > len(layers):
        says += f" (first {len(layers)} of {len(found['layers']):,} layers)"
    panel.asks("What do the units do?", says)
    kinds: dict[str, str] = {
        "time at their limits": "saturated",
        "always at their limits": "always_saturated",
        "dead": "dead",
        "doubles of another": "duplicate",
        "directions in use": "",
    }
    rows = {
        label: [
            interval(layer[key]).times(100) if key else rank.times(100 / max(count, 1))
            for layer, (rank, count) in zip(layers, ranks, strict=True)
            if not key or layer[key] is not None
        ]
        for label, key in kinds.items()
    }
    rows = {label: values for label, values in rows.items() if values}
    first = [
        Row(label, values[0], "" if several else percent(values[0].times(0.01)._replace(low=0.0, high=0.0)))
        for label, values in rows.items()
    ]
    ax = panel.dots(first, "% of the units", is_log=False, bounds=(-2.0, 102.0), above=several)
    ax.set_xticks([0, 25, 50, 75, 100])
    for line in ax.get_lines():
        line.remove()
    for place, values in enumerate(rows.values()):
        for number_, value in enumerate(values):
            shift = 0.18 * (number_ - (len(values) - 1) / 2)
            whisker(ax, value, place + shift, COLOURS[number_], MARKERS[number_])
    if several:
        room = min(0.8, panel.width / len(layers) - 0.5)
        for layer, colour, marker in zip(layers, COLOURS, MARKERS, strict=False):
            ax.plot([], [], marker, color=colour, label=style.plain(fitted(layer["name"], room, SMALL)))
        legend(ax, len(layers))


def gates(panel: Panel, found: Values) -> None:
    """How open gates are, and how often they are shut or open altogether."""
    if not found["gates"]:
        panel.asks("What do the gates do?")
        panel.nothing("This cell has no gates, or does not say what it computes.")
        return
    shown = found["gates"][:MOST_ROWS]
    several = len({gate["layer"] for gate in shown}) > 1
    more = f" (first {len(shown)} of {len(found['gates']):,})" if len(shown) < len(found["gates"]) else ""
    panel.asks("What do the gates do?", f"How much of the time units have them shut, between, or open{more}; "
               "the diamond is their mean")  # fmt: skip
    names = [f"{gate['name']} {gate['layer']:,}" if several else gate["name"] for gate in shown]
    labels = [f"{name} (±1)" if gate["name"] == SIGNED else name for name, gate in zip(names, shown, strict=True)]
    rows = [Row(label, interval(gate["mean"]), number(gate["mean"]["value"] or 0.0), INK)
            for label, gate in zip(labels, shown, strict=True)]  # fmt: skip
    ax = panel.dots(rows, "share of units and timesteps; mean", is_log=False, bounds=(0.0, 1.0), above=1)
    for line in ax.get_lines():
        line.remove()
    for place, gate in enumerate(shown):
        shut, wide = (float(np.clip(np.nan_to_num(interval(gate[key]).value), 0, 1)) for key in ("below", "above"))
        ax.barh(place, 1.0, color=PALE, height=0.62, zorder=1.2)
        ax.barh(place, shut, color=BLUE, height=0.62, zorder=1.3)
        ax.barh(place, wide, left=1 - wide, color=ORANGE, height=0.62, zorder=1.3)
        mean = interval(gate["mean"])
        is_signed = gate["name"] == SIGNED
        whisker(ax, measured.Interval(*((part + 1) / 2 for part in mean)) if is_signed else mean, place, INK, "D")
    ax.legend(
        [Patch(color=BLUE), Patch(color=PALE), Patch(color=ORANGE)],
        ["shut (< 0.05; ±1: < −0.95)", "between", "open (> 0.95)"],
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=SMALL - 1,
        borderaxespad=0.2, handlelength=0.9, columnspacing=0.8, handletextpad=0.4,
    )  # fmt: skip


def memory(panel: Panel, found: Values) -> None:
    """What can be told of the past from the state, by lag."""
    capacity, decoding, needed = found["capacity"], found["decoding"], found["needed"]
    parts = []
    if decoding:
        parts.append(f"{decoding['of'].capitalize()} can be told up to {interval(decoding['reach'])} timesteps back")
    if needed:
        parts.append(f"the task needs {needed:,}")
    if capacity:
        parts.append(f"of noise, it holds {interval(capacity['total'])} inputs")
    panel.asks("Does the state hold the past?", "; ".join(parts))
    if not decoding and not capacity:
        panel.nothing("There is too little data to tell, and no input varies.")
        return
    ax = panel.axes("timesteps back", "share told (1 = all)", left=0.56, above=2)
    ax.set_ylim(-0.04, 1.04)
    lags = np.array(decoding["lags"] if decoding else [], np.float64)
    r2 = measured.reals(capacity["r2"]) if capacity else np.array([])
    last = max(lags.max(initial=1.0), len(r2), needed or 1)
    ax.set_xscale("symlog", linthresh=1.0, linscale=0.4)
    ax.set_xlim(-0.08, last * 1.15)
    ax.set_xticks([0.0, *(10.0**power for power in range(len(str(int(last)))))])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.minorticks_off()
    if decoding:
        curve(
            ax, lags, measured.band(decoding["scores"]), BLUE, _short(decoding["of"]), "." if len(lags) < 15 else ""
        )
        if decoding["in_common"] is not None:
            ax.plot(lags, measured.reals(decoding["in_common"]), color=GREY, linewidth=1.0, linestyle="--",
                    label="alike anyway")  # fmt: skip
        ax.axhline(decoding["threshold"], color=GREY, linewidth=0.8, linestyle=":")
    if capacity:
        ax.plot(np.arange(1, len(r2) + 1), r2, color=ORANGE, linewidth=1.4, label="random inputs")
    if needed:
        mark(ax, [(needed, f"task needs {needed:,}", GREEN)])
    legend(ax)
    if box := ax.get_legend():
        inches = ax.get_position().height * panel.figure.get_figheight()
        box.set_bbox_to_anchor((1.0, 1.0 + 0.19 / inches), transform=ax.transAxes)


def _short(name: str) -> str:
    return style.plain(fitted(name, 0.8, SMALL))


def drift(panel: Panel, found: Values) -> None:
    """The loss against time on a rollout that is longer than what was trained on."""
    if found["reason"] is not None or found["growth"] is None:
        panel.asks("Does it drift?")
        panel.nothing(f"No rollout: {found['reason'] or 'nothing is known of it'}.")
        return
    growth, trained = interval(found["growth"]), found["training_timesteps"]
    panel.asks(
        "Does it drift?", f"Over {found['timesteps']:,} timesteps, loss of the last tenth ÷ of the first: {growth}"
    )
    ax = panel.axes("timesteps since its state was 0", "loss", above=1)
    times, losses = measured.reals(found["times"]), measured.band(found["losses"])
    scale_y(ax, losses[:, 0])
    low, high = ax.get_ylim()
    if ax.get_yscale() == "linear":
        ends = losses[(losses > low - (high - low)) & (losses < 3 * high)]
        scale_y(ax, ends[ends >= 0] if not (losses[:, 0] < 0).any() else ends, is_log=False, bottom=0.0)
    curve(ax, times, losses, BLUE)
    ax.set_xlim(0, max(times[np.isfinite(times)].max(initial=1.0), 1.0) * 1.03)
    ticks_of(ax.xaxis, False, *ax.get_xlim())
    mark(ax, [(trained, f"trained on {trained:,}", VERMILLION)])


def recurrence(panel: Panel, found: Values) -> None:
    """Eigenvalues of the recurrence's Jacobian, with the unit circle."""
    question = "How does the recurrence act on its state?"
    jacobian = found["jacobian"]
    if jacobian is None:
        panel.asks(question)
        panel.nothing("The state is too large to look at its Jacobian.")
        return
    radius = interval(jacobian["spectral_radius"])
    panel.asks(question, f"The slowest direction keeps × {radius} in a timestep; "
               "inside the circle, what it holds fades")  # fmt: skip
    points = _points(jacobian["eigenvalues"])
    farthest = np.hypot(*points.T) if len(points) else np.array([])
    reach = min(FARTHEST, max(1.15, 1.08 * farthest.max(initial=0.0)))
    side = panel.top - panel.bottom - 0.42 - 0.06
    ax = panel.axes("real part", "imaginary part", left=0.56, right=panel.width - 0.56 - side)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    ticks = [tick for tick in range(-3, 4) if abs(tick) <= reach]
    ax.set_xticks(ticks)
    ax.set_yticks(ticks)
    ax.add_patch(Circle((0, 0), 1.0, fill=False, color=VERMILLION, linewidth=1.3, zorder=2))
    drawn = points[farthest <= reach]
    ax.plot(
        *drawn[:: -(-len(drawn) // MOST_POINTS) or 1].T,
        "o",
        color=BLUE,
        markersize=3.2,
        alpha=0.55,
        markeredgewidth=0,
        zorder=3,
    )
    beyond = int((farthest > reach).sum())
    lines = [
        ("largest |λ|", str(radius)),
        ("points where it is above 1", percent(interval(jacobian["share_above_one"]))),
        ("most that a change grows\nin a timestep (‖J‖)", str(interval(jacobian["largest_singular_value"]))),
        *([("beyond the picture", f"{beyond:,} eigenvalues")] if beyond else []),
    ]
    y = 0.98
    for name, value in lines:
        for text, colour, weight in (*((part, GREY, "normal") for part in name.split("\n")), (value, INK, "bold")):
            ax.text(1.0 + 0.14 / side, y, style.plain(fitted(text, panel.width - side - 0.75, SMALL, weight)),
                    transform=ax.transAxes, fontsize=SMALL, color=colour, fontweight=weight, va="top")  # fmt: skip
            y -= 0.16 / side
        y -= 0.1 / side


def _points(eigenvalues: Sequence[Sequence[Sequence[float | None]]]) -> Array:
    points: Array = np.array([measured.reals(value) for point in eigenvalues for value in point]).reshape(-1, 2)
    return points[np.isfinite(points).all(axis=1)]
