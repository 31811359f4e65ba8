"""The comparison of a sweep as tables: on the terminal, and as sweep.csv, sweep.md and sweep.tex."""

from __future__ import annotations

import csv
import io
import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from seqrnn.errors import printable
from seqrnn.prediction.outputs import as_text
from seqrnn.run_table import scores_by_name
from seqrnn.rundir.atomic import replacing
from seqrnn.rundir.names import LOG
from seqrnn.sweeping.comparison import SEED, Condition, Result, conditions, differing, higher_is_better
from seqrnn.sweeping.directory import FAILED, JOB_LOG
from seqrnn.sweeping.watching import duration

CSV, MARKDOWN, TEX = "sweep.csv", "sweep.md", "sweep.tex"
GAPS = (2, 1)  # between columns: the first for which there is room
MOST_ROWS = 50  # of a ranking on the screen
TEX_LETTERS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
LIGATURE = re.compile(r"(?<=[-`',?!])(?=[-`',])")  # between letters of which LaTeX would make one, such as --
MARKDOWN_LETTERS = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


@dataclass(frozen=True)
class Ranking:
    """Conditions of one task, or trials of a search, the best first.

    Args:
        head: the names of the columns.
        rows: their texts.
        texts: the columns, from 0, that hold words; the others hold numbers.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    texts: set[int]


def rankings(results: Sequence[Result]) -> list[Ranking]:
    """Returns a ranking for each task and headline metric of a sweep."""
    found = []
    groups = itertools.groupby(conditions(results), key=lambda condition: (condition.task, condition.metric))
    for (task, metric), group in groups:
        ranked = list(group)
        alone = len(ranked) == 1
        keys = [key for key in ranked[0].settings if alone or len({one.settings[key] for one in ranked}) > 1]
        direction = "higher" if higher_is_better(task, metric) else "lower"
        title = f"{task}: {metric} on the test data, {direction} is better; ± half of the 95 % interval of the mean"
        head = ["", *keys, "jobs", metric or "result", "±", "best baseline", "updates", "train s"]
        rows = [_row(place, one, keys) for place, one in enumerate(ranked, 1)]
        found.append(Ranking(title, head, rows, texts={*range(1, len(keys) + 1), head.index("best baseline")}))
    return found


def _row(place: int, one: Condition, keys: Sequence[str]) -> list[str]:
    finished, count = one.finished, len(one.results)
    updates, seconds = one.average("updates"), one.average("train_seconds")
    return [
        str(place) if one.values else "",
        *(one.settings[key] for key in keys),
        str(count) if finished == count else f"{finished} of {count}",
        number(one.mean),
        number(one.half_width),
        f"{one.baseline[0]} {number(one.baseline[1])}" if one.baseline else "",
        f"{updates:,.0f}" if updates is not None else "",
        number(seconds),
    ]


def number(value: float | None) -> str:
    """Returns a number with four significant digits; an empty text for None."""
    return "" if value is None else f"{value:.4g}"


def screen_tables(ranked: Sequence[Ranking], width: int) -> Iterator[Text | Table]:
    """Yields what the terminal shows at the end of a sweep.

    Args:
        width: of the screen, in characters. Where it is too narrow, texts are folded, between words if that is
            enough, so that numbers are whole.
    """
    for ranking in ranked:
        yield Text(printable(ranking.title), style="bold")
        heads = short_names([printable(head) for head in ranking.head])
        rows = [[printable(cell) for cell in row] for row in ranking.rows[:MOST_ROWS]]
        columns = [[head, *cells] for head, *cells in zip(heads, *rows, strict=True)]
        least = [
            max(cell_len(word) for text in column for word in (text.split() if place in ranking.texts else [text]))
            if any(column)
            else 0
            for place, column in enumerate(columns)
        ]
        gap = next((gap for gap in GAPS if sum(least) + gap * (len(least) - 1) <= width), None)
        table = Table(box=None, padding=(0, gap or GAPS[-1], 0, 0), pad_edge=False, header_style="bold")
        for place, head in enumerate(heads):
            is_text = place in ranking.texts
            table.add_column(
                head,
                justify="left" if is_text else "right",
                overflow="fold",
                no_wrap=not is_text,
                min_width=least[place] if gap else None,
            )
        for row in rows:
            table.add_row(*map(Text, row))
        yield table
        if len(ranking.rows) > MOST_ROWS:
            yield Text(f"and {len(ranking.rows) - MOST_ROWS:,} more in {MARKDOWN}")


def short_names(keys: Sequence[str]) -> list[str]:
    """Returns keys without their groups where they stay different, such as ``lr``: a screen is narrow."""
    last = [key.rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def repeat_command(result: Result) -> str:
    """Returns the command line that repeats a job by itself, in a directory of its own."""
    return shlex.join(["python", "-m", "seqrnn.train", *result.job.overrides])


def failures(results: Sequence[Result], directory: Path) -> list[tuple[str, list[str]]]:
    """Returns each job that failed, with lines that say why, where its log is, and how to repeat it."""
    found, keys = [], differing(results)
    for result in results:
        if result.outcome.status not in FAILED:
            continue
        folder = directory / result.job.name
        logs = [str(folder / name) for name in (JOB_LOG, LOG) if (folder / name).is_file()]
        lines = [f"{result.outcome.status}: {result.outcome.reason}", f"log: {', '.join(logs) or 'none was begun'}"]
        found.append((label(result, keys), [*lines, f"repeat: {repeat_command(result)}"]))
    return found


def label(result: Result, keys: Sequence[str]) -> str:
    """Returns the keys in which a job differs from the others, or all of its own."""
    shown = [f"{key}={result.settings[key]}" for key in keys] or result.job.overrides
    return " ".join(shown) or "the defaults"


def write_tables(results: Sequence[Result], ranked: Sequence[Ranking], directory: Path) -> None:
    """Writes sweep.csv (a row for each job), sweep.md and sweep.tex (the rankings)."""
    texts = {CSV: as_csv(results), MARKDOWN: as_markdown(ranked, failures(results, directory)), TEX: as_tex(ranked)}
    for name, text in texts.items():
        with replacing(directory / name) as path:
            path.write_text(text, encoding="utf-8")


def as_csv(results: Sequence[Result]) -> str:
    """Returns a row for each job: settings, status, all scores, baselines, updates and seconds."""
    rows = [_flat(result) for result in results]
    head = list(dict.fromkeys(key for row in rows for key in row))
    return "".join([_csv_line(head), *(_csv_line([row.get(name) for name in head]) for row in rows)])


def _flat(result: Result) -> dict[str, str | float | int | None]:
    row: dict[str, str | float | int | None] = {"job": result.job.name, "status": result.outcome.status}
    row |= {key: value for key, value in result.settings.items() if key != SEED}
    row[SEED] = result.seed
    row["headline"] = result.metric
    scores = scores_by_name(result.summary).items()
    row |= {f"{name}.{metric}": value for name, values in scores for metric, value in values.items()}
    row |= {key: result.summary.get(key) for key in ("updates", "timesteps", "train_seconds")}
    return row | {"attempts": result.outcome.attempts, "reason": result.outcome.reason}


def _csv_line(values: Sequence[str | float | int | None]) -> str:
    """Returns a line. A text that a spreadsheet would compute as a formula gets an apostrophe before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # so that a text is quoted which holds one of the two alone
    writer.writerow("" if value is None else as_text(str(value)) for value in values)
    return text.getvalue().removesuffix("\r\n") + "\n"


def as_markdown(ranked: Sequence[Ranking], failed: Sequence[tuple[str, list[str]]]) -> str:
    """Returns the rankings and the jobs that failed."""
    parts = []
    for ranking in ranked:
        head, *rows = (f"| {' | '.join(map(_markdown, row))} |" for row in (ranking.head, *ranking.rows))
        line = "|---" * len(ranking.head) + "|"
        parts.append("\n".join([f"**{_markdown(ranking.title)}**", "", head, line, *rows]))
    if failed:
        lines = [f"- {_markdown(name)}: {'; '.join(map(_markdown, reasons))}" for name, reasons in failed]
        parts.append("\n".join(["**failed**", "", *lines]))
    return "\n\n".join(parts) + "\n"


def _markdown(text: str) -> str:
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKDOWN_LETTERS.sub(r"\\\1", plain)


def as_tex(ranked: Sequence[Ranking]) -> str:
    """Returns the rankings as tables of LaTeX, for the package booktabs."""
    parts = []
    for ranking in ranked:
        columns = "".join("l" if place in ranking.texts else "r" for place in range(len(ranking.head)))
        lines = [f"% {printable(ranking.title)}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines += [" & ".join(map(_tex, ranking.head)) + r" \\", r"\midrule"]
        lines += [" & ".join(map(_tex, row)) + r" \\" for row in ranking.rows]
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def _tex(text: str) -> str:
    if text == "±":
        return r"$\pm$"
    return LIGATURE.sub("{}", "".join(TEX_LETTERS.get(letter, letter) for letter in printable(text)))


def closing_line(results: Sequence[Result]) -> str:
    """Returns how many jobs ended in which way, and how long they took."""
    counts: dict[str, int] = {}
    for result in results:
        counts[result.outcome.status] = counts.get(result.outcome.status, 0) + 1
    seconds = sum(result.outcome.seconds for result in results)
    what = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"{len(results)} job{'s' * (len(results) != 1)}: {what}; {duration(seconds)} of work"
