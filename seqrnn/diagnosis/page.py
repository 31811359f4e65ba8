"""diagnosis.png: what a diagnosis says, and what it was measured on, on a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from seqrnn.plots import style
from seqrnn.plots.facts import Facts
from seqrnn.plots.measured import interval
from seqrnn.plots.panel import Panel, wrapped
from seqrnn.plots.panels import gradients, learning, states, vitals
from seqrnn.plots.style import DPI, GREEN, GREY, INK, LINE, TEXT, VERMILLION, Array

WIDTH, MARGIN, GUTTER = 13.2, 0.25, 0.4  # inches
COLUMNS, HEIGHT, SPACE = 3, 2.55, 0.28
STRIP = 1.75  # of the vital signs
NAMED = 3.1  # width of a finding's title
MOST_FINDINGS = 6
HEADING, SAYING = 15.0, 11.0  # points

Values = Mapping[str, Any]
Draw = Callable[[Panel], None]
# Of each question, the findings that rest on what is drawn below it.
ASKED_FOR: tuple[set[str], ...] = (
    {"nothing_learned"}, set(), {"forgetting", "memorised"}, {"window", "vanishing", "exploding"}, {"window"},
    {"memory"}, {"large_steps"}, {"noise", "large_steps", "underfit"}, {"drift"}, {"saturated", "unused"}, set(),
    set(),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """Of the head of the page, ``left`` inches from its margin."""

    text: str
    size: float = TEXT
    colour: str = INK
    weight: str = "normal"
    left: float = 0.0
    family: str = "sans-serif"
    stays: bool = False  # the next one stands beside it


def draw(diagnosis: Values, facts: Facts, metrics: Mapping[str, Array]) -> Figure:
    """The verdict, a panel for each question, and the vital signs of the training if it has any.

    Args:
        diagnosis: checked (``seqrnn.plots.measured``).
    """
    head = list(_head(diagnosis, facts))
    panels = _panels(diagnosis)
    rows = -(-len(panels) // COLUMNS)
    strip = STRIP + SPACE if vitals.present(metrics) else 0.0
    top = 0.2 + sum(line.size * LINE for line in head if not line.stays) + 0.15
    height = top + rows * (HEIGHT + SPACE) + strip
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    y = height - 0.15
    for line in head:
        figure.text(
            (MARGIN + line.left) / WIDTH, y / height, style.plain(line.text), fontsize=line.size, color=line.colour,
            fontweight=line.weight, family=line.family, va="top",
        )  # fmt: skip
        y -= 0 if line.stays else line.size * LINE
    each = (WIDTH - 2 * MARGIN + GUTTER) / COLUMNS
    for number, (drawn, tag) in enumerate(zip(panels, _tags(diagnosis["verdict"]), strict=True)):
        row, column = divmod(number, COLUMNS)
        bottom = height - top - (row + 1) * (HEIGHT + SPACE) + SPACE
        drawn(Panel(figure, (MARGIN + column * each, bottom, each - GUTTER, HEIGHT), tag))
    if strip:
        vitals.draw(figure, (MARGIN, 0.05, WIDTH - 2 * MARGIN, STRIP), metrics)
    return figure


def _head(diagnosis: Values, facts: Facts) -> Iterator[Line]:
    verdict, width = diagnosis["verdict"], WIDTH - 2 * MARGIN
    title = f"Diagnosis: {diagnosis['task']} with {diagnosis['model']}"
    yield from (Line(text, HEADING, weight="bold") for text in wrapped(title, width, HEADING, "bold")[:2])
    yield from (Line(text, colour=GREY) for text in wrapped(facts.recipe, width, TEXT))
    yield from (
        Line(text, TEXT, VERMILLION, "bold") for note in facts.notes for text in wrapped(note, width, TEXT, "bold")
    )
    yield Line("", 4)
    colour = GREEN if verdict["solved"] else INK
    for text in wrapped(verdict["headline"], width, SAYING, "bold")[:4]:
        yield Line(text, SAYING, colour, "bold")
    yield Line("", 3)
    causes = [cause["finding"] for cause in verdict["causes"]]
    for number, finding in enumerate(causes[:MOST_FINDINGS], 1):
        yield from _finding(f"{number}  ", finding, INK)
    if verdict["notes"]:
        yield Line("Worth knowing", colour=GREY, weight="bold")
    for finding in verdict["notes"][: max(2, MOST_FINDINGS - len(causes))]:
        yield from _finding("·  ", finding, GREY)
    left = len(causes) + len(verdict["notes"]) - MOST_FINDINGS
    if left > 0:
        yield Line("Not all findings are shown here: see diagnosis.md.", colour=GREY)
    if verdict["advice"] and verdict["command"]:
        yield Line("", 3)
        effect = interval(verdict["advice"]["effect"])
        yield Line(f"What to do: in trials, this brought the loss to {effect} of what it was", SAYING, GREEN, "bold")
        lines = wrapped(verdict["command"], width - 0.2, TEXT, family="monospace")
        yield from (Line(text, left=0.2, family="monospace") for text in lines[:4])
    yield Line("", 3)
    yield Line(
        f"Dots and lines are estimates; bars and bands are their {100 * diagnosis['level']:.3g} % confidence "
        "intervals. ◄ leads from a panel to the cause that it shows.",
        colour=GREY,
    )


def _finding(before: str, finding: Values, colour: str) -> Iterator[Line]:
    names = wrapped(before + finding["title"], NAMED - 0.1, TEXT, "bold")[:3]
    says = wrapped(finding["says"], WIDTH - 2 * MARGIN - NAMED, TEXT)[:3]
    for row in range(max(len(names), len(says))):
        if row < len(names):
            yield Line(names[row], colour=colour, weight="bold", left=0.1, stays=row < len(says))
        if row < len(says):
            yield Line(says[row], colour=GREY, left=NAMED)


def _tags(verdict: Values) -> list[str]:
    """For each question, the numbers of the causes that it shows."""
    names = [cause["finding"]["name"] for cause in verdict["causes"][:MOST_FINDINGS]]
    numbers = [[str(number) for number, name in enumerate(names, 1) if name in asked] for asked in ASKED_FOR]
    return [f"◄ {', '.join(found)}" if found else "" for found in numbers]


def _panels(diagnosis: Values) -> list[Draw]:
    verdict, found = diagnosis["verdict"], diagnosis["instruments"]
    forgetting, noise = found["forgetting"], found["noise"]

    def of(instrument: str, question: str, draw: Callable[[Panel, Values], None]) -> Draw:
        def drawn(panel: Panel) -> None:
            if found[instrument] is not None:
                draw(panel, found[instrument])
            else:
                panel.asks(question)
                panel.nothing(f"Not measured: {found['missing'].get(instrument, 'no reason is given')}")

        return drawn

    def averaging(panel: Panel) -> None:
        if noise is None and forgetting is None:
            of("noise", learning.AVERAGING, learning.steps)(panel)
        else:
            learning.averaging(panel, noise, forgetting)

    return [
        of("baselines", "Has it learned anything?", learning.baselines),
        lambda panel: learning.trials(panel, verdict),
        of("forgetting", "Does it forget?", learning.forgetting),
        of("reach", "How far back is an error felt?", gradients.reach),
        of("truncation", "Is the schedule's gradient the right one?", gradients.truncation),
        of("memory", "Does the state hold the past?", states.memory),
        of("forgetting", "How large are the steps?", learning.steps),
        averaging,
        of("drift", "Does it drift?", states.drift),
        of("states", "What do the units do?", states.units),
        of("states", "What do the gates do?", states.gates),
        of("states", "How does the recurrence act on its state?", states.recurrence),
    ]
