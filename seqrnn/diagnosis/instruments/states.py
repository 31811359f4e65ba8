"""How the units of a trained network are used along real trajectories of its task.

Per layer, over the timesteps of validation sequences:

saturated   the share of (unit, timestep) pairs whose activation has hardly any slope left: |h| > 0.95 where outputs
            have the range of tanh (tanh' < 0.1), h at a limit where they are clipped to [0, 1]. And the share of
            units of which that is so more than 95 % of the time. It has no meaning for relu, nor for a cell whose
            equations are not known.
dead        units without an effect: of relu, those that are always 0; of the others, those whose standard deviation
            is below 1e-3 of the median unit's.
duplicate   units that vary like another one: |correlation| > 0.99, counted with both. They are capacity not in use,
            and natural where the task's own state has few dimensions.
rank        the effective rank of Roy & Vetterli (2007), eq. 2 and 3, of the centred states: exp of the entropy of the
            singular values as shares of their sum; and the participation ratio (Σλ)² / Σλ² of the covariance's
            eigenvalues λ, in which small directions count less.
gates       those of the cell's specification, computed from the parameters of ``cell.recurrence()``, or from the
            sums that ``cell.gate_sums`` returns. "Below" and "above" mean 0.05 and 0.95 for a gate whose activation
            is the sigmoid, −0.95 and 0.95 for tanh.

Intervals are over independent sequences (Student's t; for counts and ranks the bootstrap), or over blocks of time
where there are few sequences. The Jacobian is described in ``seqrnn.diagnosis.jacobian``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Circle, Patch

from seqrnn.diagnosis import panel as drawing
from seqrnn.diagnosis.instrument import Evidence, Examination, Finding, Picture
from seqrnn.diagnosis.intervals import Interval, number, percent
from seqrnn.diagnosis.panel import MOST_ROWS, Panel, Row, fitted, legend, whisker
from seqrnn.diagnosis.record import Items, Record
from seqrnn.diagnosis.state_records import Gate, Jacobian, Units
from seqrnn.plots import style
from seqrnn.plots.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, SMALL, VERMILLION
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.trained_run import TrainedRun

SATURATED = 0.5  # share of (unit, timestep) pairs
UNUSED = 0.25  # share of dead or duplicate units

COLOURS = (BLUE, ORANGE, GREEN, PURPLE)  # of layers
MARKERS = ("o", "s", "D", "^")
MOST_POINTS = 4000
SIGNED = "tanh"  # activation of a gate that lies between −1 and 1
FARTHEST = 3.0  # eigenvalue that is drawn


class States(Record):
    """
    Args:
        steps: timesteps that were looked at.
        independent: what the intervals are over.
        layers: the units of each layer; the last one's are the cell's outputs.
        gates: empty if the cell's specification has none.
        state_size: numbers that the cell remembers: all parts of its state, of all layers.
        jacobian: None if the state is too large for it.
    """

    steps: int
    independent: str
    layers: Items[Units]
    gates: Items[Gate]
    state_size: int
    jacobian: Jacobian | None


@register("instrument", "states")
class StatesInstrument:
    description = "looking at units and gates"
    order = 80
    result_type = States

    def measure(self, run: TrainedRun) -> States:
        from seqrnn.diagnosis import activations, jacobian
        from seqrnn.diagnosis.trajectories import sampled_steps
        from seqrnn.models.protocol import specification_of

        steps = sampled_steps(run)
        specification = specification_of(run.network.cell)
        activation = specification.activation if specification else None
        return States(
            steps=len(steps.inputs),
            independent=steps.independent,
            layers=[
                activations.units_of(name, h, steps.groups, activation, run.budget)
                for name, h in activations.layers_of(steps, specification)
            ],
            gates=activations.gates_of(run.network.cell, steps),
            state_size=run.state_size,
            jacobian=jacobian.along(run.network, steps),
        )

    def symptoms(self, result: States) -> Iterator[Finding]:
        yield from saturated(result)
        yield from unused(result)

    def pictures(self) -> list[Picture]:
        return [
            Picture("What do the units do?", draw_units, frozenset({"saturated", "unused"})),
            Picture("What do the gates do?", draw_gates),
            Picture("How does the recurrence act on its state?", draw_eigenvalues),
        ]


def saturated(result: States) -> Iterator[Finding]:
    shares = [(layer.saturated, layer.name) for layer in result.layers if layer.saturated is not None]
    share, name = max(shares, key=lambda pair: pair[0].low, default=(None, ""))
    if share is not None and share.low > SATURATED:
        yield Finding(
            name="saturated",
            title="Units are saturated",
            description=f"{number(100 * share.value)} % of the outputs of {name} are at their limits, where the "
            "gradient is nearly zero.",
            evidence=[Evidence(quantity=f"share saturated, {name}", interval=share)],
            remedies=["smaller learning rate", "usual start", "orthogonal start", "clipped gradients"],
        )


def unused(result: States) -> Iterator[Finding]:
    for layer in result.layers:
        for share, what in ((layer.dead, "hardly vary"), (layer.duplicate, "vary like another unit")):
            if share.low > UNUSED:
                yield Finding(
                    name="unused",
                    title="Some units are not used",
                    description=f"{number(100 * share.value)} % of the {layer.units} units of {layer.name} {what}.",
                    evidence=[Evidence(quantity=f"share of units that {what}, {layer.name}", interval=share)],
                    remedies=[],
                )
                return


def draw_units(panel: Panel, result: States, found: Examination) -> None:
    """Draws the shares of saturated, dead and duplicate units, and of the directions in use, per layer."""
    layers = result.layers[: len(COLOURS)]
    if not layers:
        panel.write_heading()
        panel.write_reason("The cell has no layers that can be looked at.")
        return
    ranks = ", ".join(number(layer.effective_rank.value) for layer in layers)
    several = len(result.layers) > 1
    counts = ", ".join(f"{layer.units:,}" for layer in layers)
    answer = f"They vary in about {ranks} directions; there are {counts} units"
    if len(result.layers) > len(layers):
        answer += f" (first {len(layers)} of {len(result.layers):,} layers)"
    panel.write_heading(answer)
    shares: dict[str, list[Interval]] = {
        "time at their limits": [layer.saturated for layer in layers if layer.saturated],
        "always at their limits": [layer.always_saturated for layer in layers if layer.always_saturated],
        "dead": [layer.dead for layer in layers],
        "duplicates": [layer.duplicate for layer in layers],
        "directions in use": [layer.effective_rank.times(1 / max(layer.units, 1)) for layer in layers],
    }
    rows = {label: [share.times(100) for share in values] for label, values in shares.items() if values}
    first = [
        Row(label, values[0], "" if several else percent(Interval(*[values[0].value / 100] * 3)))
        for label, values in rows.items()
    ]
    ax = panel.dots(first, "% of the units", is_log=False, bounds=(-2.0, 102.0), above=several)
    ax.set_xticks([0, 25, 50, 75, 100])
    for line in ax.get_lines():
        line.remove()
    for place, values in enumerate(rows.values()):
        for layer_number, value in enumerate(values):
            shift = 0.18 * (layer_number - (len(values) - 1) / 2)
            whisker(ax, value, place + shift, COLOURS[layer_number], MARKERS[layer_number])
    if several:
        room = min(0.8, panel.width / len(layers) - 0.5)
        for layer, colour, marker in zip(layers, COLOURS, MARKERS, strict=False):
            ax.plot([], [], marker, color=colour, label=style.plain(fitted(layer.name, room, SMALL)))
        legend(ax, len(layers))


def draw_gates(panel: Panel, result: States, found: Examination) -> None:
    """Draws the mean of each gate, and how often it is closed or open."""
    if not result.gates:
        panel.write_heading()
        panel.write_reason("This cell has no gates, or does not describe what it computes.")
        return
    gates = result.gates[:MOST_ROWS]
    several = len({gate.layer for gate in gates}) > 1
    more = f" (first {len(gates)} of {len(result.gates):,})" if len(gates) < len(result.gates) else ""
    panel.write_heading(f"Share of units and timesteps with a closed, half-open and open gate{more}; "
                        "the diamond is the mean")  # fmt: skip
    names = [f"{gate.name} {gate.layer:,}" if several else gate.name for gate in gates]
    labels = [f"{name} (±1)" if gate.activation == SIGNED else name for name, gate in zip(names, gates, strict=True)]
    rows = [Row(label, gate.mean, number(gate.mean.value), INK) for label, gate in zip(labels, gates, strict=True)]
    ax = panel.dots(rows, "share of units and timesteps; mean", is_log=False, bounds=(0.0, 1.0), above=1)
    for line in ax.get_lines():
        line.remove()
    for place, gate in enumerate(gates):
        closed, opened = np.nan_to_num(drawing.reals([gate.below.value, gate.above.value])).clip(0, 1)
        ax.barh(place, 1.0, color=PALE, height=0.62, zorder=1.2)
        ax.barh(place, closed, color=BLUE, height=0.62, zorder=1.3)
        ax.barh(place, opened, left=1 - opened, color=ORANGE, height=0.62, zorder=1.3)
        mean = gate.mean
        if gate.activation == SIGNED:
            mean = Interval(*((part + 1) / 2 for part in (mean.value, mean.low, mean.high)))
        whisker(ax, mean, place, INK, "D")
    ax.legend(
        [Patch(color=BLUE), Patch(color=PALE), Patch(color=ORANGE)],
        ["closed (< 0.05; ±1: < −0.95)", "between", "open (> 0.95)"],
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=SMALL - 1,
        borderaxespad=0.2, handlelength=0.9, columnspacing=0.8, handletextpad=0.4,
    )  # fmt: skip


def draw_eigenvalues(panel: Panel, result: States, found: Examination) -> None:
    """Draws the eigenvalues of the recurrence's Jacobian, with the unit circle."""
    jacobian = result.jacobian
    if jacobian is None:
        panel.write_heading()
        panel.write_reason("The state is too large for its Jacobian to be computed.")
        return
    panel.write_heading(f"The slowest direction is multiplied by {jacobian.spectral_radius} in a timestep; "
                        "what lies inside the circle fades")  # fmt: skip
    points = drawing.reals([part for point in jacobian.eigenvalues for value in point for part in value])
    points = points.reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
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
        ("largest |λ|", str(jacobian.spectral_radius)),
        ("points where it is above 1", percent(jacobian.share_above_one)),
        ("most that a change grows\nin a timestep (‖J‖)", str(jacobian.largest_singular_value)),
        *([("beyond the picture", f"{beyond:,} eigenvalues")] if beyond else []),
    ]
    y = 0.98
    for name, value in lines:
        for text, colour, weight in (*((part, GREY, "normal") for part in name.split("\n")), (value, INK, "bold")):
            ax.text(1.0 + 0.14 / side, y, style.plain(fitted(text, panel.width - side - 0.75, SMALL, weight)),
                    transform=ax.transAxes, fontsize=SMALL, color=colour, fontweight=weight, va="top")  # fmt: skip
            y -= 0.16 / side
        y -= 0.1 / side
