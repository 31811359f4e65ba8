"""python -m studies.integral: makes the runs, figures and tables of docs/integral.md.

Runs, tables and pictures go to outputs/studies/integral; finished runs are not made a second time. Delete
that folder to make all of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks import machine, report
from studies.integral.sections import SECTIONS
from studies.integral.study import Study

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "integral.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m studies.integral", description=__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {','.join(SECTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="shrink every run to seconds, as a test")
    parser.add_argument("--processes", type=int, default=2, help="side by side (default: 2)")
    parser.add_argument("--docs", action="store_true", help="put tables and pictures into docs/integral.md")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/studies/integral"), help="folder for all results"
    )
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(SECTIONS)
    if unknown:
        parser.error(f"--only: no such section: {', '.join(sorted(unknown))} (there are: {', '.join(SECTIONS)})")
    if options.processes < 1:
        parser.error(f"--processes {options.processes}: should be at least 1")
    if options.quick and options.docs:
        parser.error("--quick --docs: figures that mean nothing do not belong into the documentation; leave one out")
    return options


def main() -> None:
    options = arguments()
    console = Console()
    if not console.is_terminal:
        console = Console(width=118)
    folder = (options.output / "quick" if options.quick else options.output).resolve()
    study = Study(
        folder=folder,
        pictures=DOCUMENT.parent / "images" if options.docs else folder,
        quick=options.quick,
        processes=options.processes,
        announce=lambda text: console.print(text, style="dim", highlight=False),
    )
    facts = machine.describe("cpu", None)
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.only.split(","):
        section = SECTIONS[name](study)
        for table in section.tables:
            table.show(console)
        report.write(folder, name, section, facts)
        if options.docs:
            report.fill(DOCUMENT, name, section.markdown(), kind="study")
    console.print(f"results in {folder}")


if __name__ == "__main__":
    main()
