"""diagnosis.png: the verdict, a panel for each picture of an instrument, and the vital signs, on a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from seqrnn.diagnosis.diagnosis import Diagnosis, TriedRemedy, Verdict, read_diagnosis
from seqrnn.diagnosis.instrument import Finding, Picture, instruments
from seqrnn.diagnosis.intervals import Interval, number, part_of_length
from seqrnn.diagnosis.panel import LABEL, MOST_ROWS, Panel, Rectangle, Row, scale_y, ticks_of, width_of, wrapped
from seqrnn.plots import arrays, style
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import BLUE, DPI, GREEN, GREY, INK, LINE, SMALL, TEXT, VERMILLION, Array
from seqrnn.rundir.names import DIAGNOSIS, METRICS_JSONL
from seqrnn.rundir.reader import RunReader

WIDTH, MARGIN, GUTTER = 13.2, 0.25, 0.4  # inches
COLUMNS, HEIGHT, SPACE = 3, 2.55, 0.28
STRIP, STRIP_GAP = 1.75, 0.35  # of the vital signs
TITLE_WIDTH = 3.1  # of a finding
MOST_FINDINGS = 6
HEADING, HEADLINE = 15.0, 11.0  # points
DIVERGED = 1e6  # effect of a remedy
VITAL_SIGNS = {  # columns of the metrics, what they are, and whether they are shares
    "eval_half_life": ("half-life of an error, timesteps", False),
    "eval_truncation": ("direction of the gradient, 1 = right", True),
    "eval_saturated": ("share of units at their limits", True),
    "eval_rank": ("directions in which units vary", False),
}


def draw_diagnosis(directory: Path) -> list[Path]:
    """Draws ``diagnosis.png`` from ``diagnosis.json``, if there is one; returns the file written.

    Raises:
        DataError: it is not a run directory, or a file of it is missing or damaged.
    """
    run = RunReader(directory)
    if not run.has(DIAGNOSIS):
        return []
    metrics = run.metrics()
    if metrics:
        arrays.check_columns(metrics, directory / METRICS_JSONL)
    with style.defaults():
        figure = draw(read_diagnosis(directory), Facts(run.config(), run.summary()), metrics)
        return [style.save(figure, directory / "diagnosis.png", colours=256)]


@dataclass(frozen=True)
class Line:
    """A line of the head of the page, ``left`` inches from its margin."""

    text: str
    size: float = TEXT
    colour: str = INK
    weight: str = "normal"
    left: float = 0.0
    family: str = "sans-serif"
    stays: bool = False  # the next one is written beside it


def draw(diagnosis: Diagnosis, facts: Facts, metrics: Mapping[str, Array]) -> Figure:
    """Draws the verdict, the trials, a panel for each picture, and the vital signs of the training if it has any."""
    head = list(_head(diagnosis, facts))
    panels = _panels(diagnosis)
    rows = -(-len(panels) // COLUMNS)
    strip = STRIP + SPACE if vital_signs(metrics) else 0.0
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
    for place, (question, findings, drawn) in enumerate(panels):
        row, column = divmod(place, COLUMNS)
        bottom = height - top - (row + 1) * (HEIGHT + SPACE) + SPACE
        box = (MARGIN + column * each, bottom, each - GUTTER, HEIGHT)
        drawn(Panel(figure, box, question, _tag(diagnosis.verdict, findings)))
    if strip:
        _draw_vital_signs(figure, (MARGIN, 0.05, WIDTH - 2 * MARGIN, STRIP), metrics)
    return figure


def _head(diagnosis: Diagnosis, facts: Facts) -> Iterator[Line]:
    verdict, width = diagnosis.verdict, WIDTH - 2 * MARGIN
    title = f"Diagnosis: {diagnosis.task} with {diagnosis.model}"
    yield from (Line(text, HEADING, weight="bold") for text in wrapped(title, width, HEADING, "bold")[:2])
    yield from (Line(text, colour=GREY) for text in wrapped(facts.training_line, width, TEXT))
    yield from (
        Line(text, TEXT, VERMILLION, "bold") for note in facts.notes for text in wrapped(note, width, TEXT, "bold")
    )
    yield Line("", 4)
    colour = GREEN if verdict.solved else INK
    for text in wrapped(verdict.headline, width, HEADLINE, "bold")[:4]:
        yield Line(text, HEADLINE, colour, "bold")
    yield Line("", 3)
    causes = [cause.finding for cause in verdict.causes]
    for place, finding in enumerate(causes[:MOST_FINDINGS], 1):
        yield from _finding(f"{place}  ", finding, INK)
    if verdict.notes:
        yield Line("Other observations", colour=GREY, weight="bold")
    for finding in verdict.notes[: max(2, MOST_FINDINGS - len(causes))]:
        yield from _finding("·  ", finding, GREY)
    if len(causes) + len(verdict.notes) > MOST_FINDINGS:
        yield Line("Not all findings are shown here: see diagnosis.md.", colour=GREY)
    if verdict.advice and verdict.command:
        yield Line("", 3)
        length = part_of_length(verdict.advice.part)
        brought = f"in trials of {length}, this brought the loss to {verdict.advice.effect} of what it was"
        yield Line(f"What to do: {brought}", HEADLINE, GREEN, "bold")
        lines = wrapped(verdict.command, width - 0.2, TEXT, family="monospace")
        yield from (Line(text, left=0.2, family="monospace") for text in lines[:4])
    yield Line("", 3)
    yield Line(
        f"Dots and lines are estimates; bars and bands are their {100 * diagnosis.level:.3g} % confidence "
        "intervals. ◄ names the causes that a panel shows.",
        colour=GREY,
    )


def _finding(before: str, finding: Finding, colour: str) -> Iterator[Line]:
    titles = wrapped(before + finding.title, TITLE_WIDTH - 0.1, TEXT, "bold")[:3]
    texts = wrapped(finding.description, WIDTH - 2 * MARGIN - TITLE_WIDTH, TEXT)[:3]
    for row in range(max(len(titles), len(texts))):
        if row < len(titles):
            yield Line(titles[row], colour=colour, weight="bold", left=0.1, stays=row < len(texts))
        if row < len(texts):
            yield Line(texts[row], colour=GREY, left=TITLE_WIDTH)


def _tag(verdict: Verdict, findings: frozenset[str]) -> str:
    """Returns the numbers of the causes that a panel shows."""
    names = [cause.finding.name for cause in verdict.causes[:MOST_FINDINGS]]
    numbers = [str(place) for place, name in enumerate(names, 1) if name in findings]
    return f"◄ {', '.join(numbers)}" if numbers else ""


def _panels(diagnosis: Diagnosis) -> list[tuple[str, frozenset[str], Callable[[Panel], None]]]:
    """Returns question, findings and drawing of each panel: the pictures of the instruments, and the trials after the
    first."""
    panels = [
        (picture.question, picture.findings, _drawing(diagnosis, name, picture))
        for name, instrument in instruments().items()
        for picture in instrument.pictures()
        if name in diagnosis.results or name in diagnosis.missing
    ]
    trials = "What helps?", frozenset[str](), lambda panel: _draw_trials(panel, diagnosis.verdict)
    return [*panels[:1], trials, *panels[1:]]


def _drawing(diagnosis: Diagnosis, name: str, picture: Picture) -> Callable[[Panel], None]:
    def draw_panel(panel: Panel) -> None:
        if name in diagnosis.results:
            picture.draw(panel, diagnosis.results[name], diagnosis.examination)
        else:
            panel.write_heading()
            panel.write_reason(f"Not measured: {diagnosis.missing[name]}")

    return draw_panel


def _draw_trials(panel: Panel, verdict: Verdict) -> None:
    """Draws the effects of the remedies that were tried."""
    tried = [one for cause in verdict.causes for one in cause.tried] + list(verdict.other_trials)
    advice = verdict.advice
    effects = {one.remedy: one.effect for one in [*tried, *([advice] if advice else [])]}
    if not effects:
        panel.write_heading()
        panel.write_reason(verdict.trials_note)
        return
    helpful = sum(effect.high < 1 for effect in effects.values())
    lower, remedies = "lowers" if helpful == 1 else "lower", "remedy" if len(effects) == 1 else "remedies"
    answer = f"{helpful} of {len(effects)} {remedies} {lower} the loss with certainty"
    panel.write_heading(f"{answer}{' (green)' if helpful else ''}; 1 = as it is")
    ordered = sorted(effects, key=lambda name: (np.nan_to_num(effects[name].value, nan=np.inf), name))
    shown = [name for place, name in enumerate(ordered) if place < MOST_ROWS or (advice and name == advice.remedy)]
    rows = [_trial_row(name, effects[name], advice, LABEL * panel.width) for name in shown]
    panel.dots(rows, "loss with the remedy ÷ without it", marks=[(1.0, "")])


def _trial_row(name: str, effect: Interval, advice: TriedRemedy | None, room: float) -> Row:
    is_advice = advice is not None and advice.remedy == name
    label = f"► {name}" if is_advice else name
    if is_advice and width_of(label, SMALL, "bold") > room:
        label = "► the advice above"
    if not effect.value <= DIVERGED:
        return Row(label, Interval(np.nan, DIVERGED, np.nan), "diverges", VERMILLION, is_advice)
    colour = GREEN if effect.high < 1 else VERMILLION if effect.low > 1 else GREY
    return Row(label, effect, f"× {number(effect.value)}", colour, is_advice)


def vital_signs(metrics: Mapping[str, Array]) -> list[str]:
    """Returns the columns of vital signs that have something to draw."""
    return [name for name in VITAL_SIGNS if name in metrics and np.isfinite(style.real(metrics[name])).any()]


def _draw_vital_signs(figure: Figure, place: Rectangle, metrics: Mapping[str, Array]) -> None:
    """Draws a small picture of each vital sign, side by side, against the timesteps of all streams."""
    names = vital_signs(metrics)
    left, bottom, width, height = place
    Panel(figure, place, "How did it change while it was trained?").write_heading()
    each = (width + STRIP_GAP) / len(names)
    timesteps = style.real(metrics["timesteps"])
    for position, name in enumerate(names):
        title, is_share = VITAL_SIGNS[name]
        panel = Panel(figure, (left + position * each, bottom, each - STRIP_GAP, height - 0.24), title)
        panel.write(title, SMALL, INK)
        ax = panel.axes("timestep", left=0.5)
        x, y = style.thinned(timesteps, style.real(metrics[name]))
        ax.plot(x, y, color=BLUE, linewidth=1.3, marker="o" if len(x) < 40 else "", markersize=3)
        if is_share:
            low, high = style.limits([np.array([0.0, 1.0]), y], 0.04)
            ax.set_ylim(low, high)
            ticks_of(ax.yaxis, False, low, high, 4)
        else:
            scale_y(ax, y)
        ticks_of(ax.xaxis, False, *ax.get_xlim(), 3)
