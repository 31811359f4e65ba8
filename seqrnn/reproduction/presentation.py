"""Shows results: as a table on the terminal, and as Markdown for the documentation."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from seqrnn.diagnosis.intervals import Interval
from seqrnn.errors import ConfigError
from seqrnn.reproduction.figure import Figure
from seqrnn.reproduction.measuring import Result
from seqrnn.rundir.atomic import replacing

BEGIN, END = "<!-- reproduce: figures -->", "<!-- end -->"
NOT_MEASURED = "not measured"
WIDTH = 100  # letters of a line of commands in the documentation
Results = Mapping[str, Result]


def number(value: float) -> str:
    """Returns a figure with four significant digits at most."""
    return f"{value:.4g}" if math.isfinite(value) else "diverged"


def interval(ours: Interval, seeds: int) -> str:
    """Returns our figure with its interval; a single run has none."""
    if seeds == 1 or not math.isfinite(ours.value):
        return number(ours.value)
    return f"{ours.value:.3g} [{ours.low:.3g}, {ours.high:.3g}]"


def table(figures: Mapping[str, Figure], results: Results) -> Table:
    """Returns results as a table of at most 80 columns; its last column is CPU seconds."""
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    made.add_column("figure", no_wrap=True)
    made.add_column("published", justify="right", no_wrap=True)
    made.add_column("ours, 95 % interval", no_wrap=True)
    made.add_column("verdict")
    made.add_column("s", justify="right", no_wrap=True)
    for name, figure in figures.items():
        found = results.get(name)
        ours, verdict, seconds = _cells(figure, found)
        made.add_row(name, number(figure.published), ours, verdict, seconds)
    return made


def check(document: Path) -> None:
    """Checks that a document has a place for figures.

    Raises:
        ConfigError: it is missing, or has no such place.
    """
    _parts(document)


def fill(document: Path, figures: Mapping[str, Figure], results: Results) -> None:
    """Puts all figures between the two marks of a document.

    Raises:
        ConfigError: as ``check``.
    """
    before, after = _parts(document)
    with replacing(document) as temporary:
        text = f"{before}{BEGIN}\n{markdown(figures, results)}\n{END}{after}"
        temporary.write_text(text, encoding="utf-8")


def markdown(figures: Mapping[str, Figure], results: Results) -> str:
    """Returns a table of all figures, and a section for each."""
    lines = ["", "| figure | published | ours, 95 % interval | verdict | CPU s |", "|---|---:|---:|---|---:|"]
    for name, figure in figures.items():
        ours, verdict, seconds = _cells(figure, results.get(name))
        lines.append(f"| [`{name}`](#{name}) | {number(figure.published)} | {ours} | {verdict} | {seconds} |")
    return "\n".join([*lines, "", *(_section(figure, results.get(name)) for name, figure in figures.items())])


def _parts(document: Path) -> tuple[str, str]:
    """Returns what stands before the marks of a document, and after them."""
    try:
        before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    except FileNotFoundError:
        raise ConfigError(f"{document}: no such file; --docs is for a checkout of seqrnn, in its root") from None
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"{document}: should have the lines {BEGIN} and {END}, between which the figures go")
    return before, after


def _cells(figure: Figure, result: Result | None) -> tuple[str, str, str]:
    if result is None:
        return "", NOT_MEASURED, ""
    return interval(result.ours, figure.seeds), result.verdict, f"{result.cpu_seconds:.0f}"


def _section(figure: Figure, result: Result | None) -> str:
    low, high = map(number, figure.tolerated)
    facts = {
        "Published": f"{number(figure.published)}.",
        "Source": f"{figure.source}.",
        "Tolerated": f"{low} to {high}: {figure.tolerance}.",
        "The published figure": f"{figure.wrong}." if figure.wrong else "",
        "Deviations": f"{figure.deviations}." if figure.deviations else "",
        "Ours": _ours(figure, result),
    }
    listed = [f"- {name}: {fact}" for name, fact in facts.items() if fact]
    command = " \\\n".join(textwrap.wrap(figure.command(), WIDTH, break_long_words=False, break_on_hyphens=False))
    return "\n".join(
        [f"### {figure.name}", "", f"{_capitalised(figure.what)}.", "", *listed, "", "```sh", command, "```", ""]
    )


def _ours(figure: Figure, result: Result | None) -> str:
    if result is None:
        return f"{NOT_MEASURED}."
    values = ", ".join(number(value) for value in result.values)
    of_seeds = f" (seeds 0 to {figure.seeds - 1}: {values})" if figure.seeds > 1 else ""
    return f"{interval(result.ours, figure.seeds)}{of_seeds}: {result.verdict}."


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]
