"""python -m seqrnn.report DIR…: compares runs in one HTML file.

Like ``seqrnn.plots.__main__``, it removes the current directory, which may have been received from someone, from the
module search path before anything else is imported.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

import argparse
from collections.abc import Sequence
from pathlib import Path

from seqrnn.cli.interrupts import exiting_at_once

DESCRIPTION = """\
Compares all runs at or below directories, of sweeps or not, in one HTML file that
needs no network: a leaderboard over seeds, learning curves, the effect of each key,
predictions, diagnoses, and failed runs with the lines that repeat them.

  python -m seqrnn.report outputs/sweep/NAME
  python -m seqrnn.report outputs --out report.html
"""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(
        "python -m seqrnn.report", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "directories", metavar="DIR", nargs="+", type=Path, help="a directory of a sweep, of runs, or a run directory"
    )
    made.add_argument("--out", type=Path, metavar="FILE", help="the file to write (default: DIR/report.html)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the ``seqrnn-report`` command."""
    options = parser().parse_args(arguments)
    with exiting_at_once():
        from seqrnn.cli import reporting

    def command() -> None:
        with reporting.importing():
            from seqrnn.errors import printable
            from seqrnn.reports.writing import write_report
        print(printable(str(write_report(options.directories, options.out))))

    reporting.run(command)


if __name__ == "__main__":
    main()
