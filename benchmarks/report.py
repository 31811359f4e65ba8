"""Results: on the terminal, as JSON and Markdown, and in the documentation."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column is a name, the others are figures."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""

    def show(self, console: Console) -> None:
        table = RichTable()
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        console.print(f"\n{self.title}", style="bold", highlight=False)
        console.print(table)
        if self.note:
            console.print(self.note, style="dim", highlight=False)

    def markdown(self) -> str:
        lines = [
            f"| {' | '.join(self.columns)} |",
            f"|---|{'---:|' * (len(self.columns) - 1)}",
            *(f"| {' | '.join(row)} |" for row in self.rows),
        ]
        note = f"\n\n{self.note}" if self.note else ""
        return f"**{self.title}**\n\n" + "\n".join(lines) + note


@dataclass(frozen=True)
class Section:
    """What one of the benchmarks found: tables, and the figures behind them."""

    tables: list[Table]
    raw: Any
    pictures: list[Path] = field(default_factory=list)

    def markdown(self) -> str:
        return "\n\n".join(table.markdown() for table in self.tables)


def write(folder: Path, name: str, section: Section, machine: dict[str, Any]) -> None:
    """Writes a section's figures and tables into a folder of results."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine, "results": section.raw}, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(section.markdown() + "\n", encoding="utf-8")


def fill(document: Path, name: str, text: str, kind: str = "benchmarks") -> None:
    """Puts text between a document's ``<!-- KIND: NAME -->`` and ``<!-- end -->``.

    Raises:
        ValueError: it has no such place.
    """
    place = re.compile(rf"(<!-- {re.escape(kind)}: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    old = document.read_text(encoding="utf-8")
    if not place.search(old):
        raise ValueError(f"{document}: no place for {name}: add <!-- {kind}: {name} --> and <!-- end -->")
    document.write_text(place.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", old), encoding="utf-8")
