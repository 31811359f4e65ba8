"""python -m seqrnn.plots DIR [DIR ...]: draws the pictures of finished runs again, of all at or below directories.

Python puts the current directory first on its module search path for ``python -m``. Inside a directory that was
received from someone, that would run a yaml.py in it, so it is removed before anything else is imported. A module of
the standard library or a folder named seqrnn there are imported even earlier: ``seqrnn-plots`` and
``python -P -m seqrnn.plots`` never look into the current directory.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

from seqrnn.cli.interrupts import exiting_at_once

with exiting_at_once():  # what is slow to import
    from seqrnn import plots
    from seqrnn.cli import reporting
    from seqrnn.diagnosis.page import draw_diagnosis
    from seqrnn.errors import DataError, printable
    from seqrnn.plots import helper, style  # noqa: F401  style imports matplotlib
    from seqrnn.run_table import find_runs


def draw_all(directories: Sequence[Path]) -> None:
    """Draws the pictures of each run at or below directories, and prints their paths.

    Raises:
        DataError: some of the directories could not be drawn; the others were.
    """
    problems: list[str] = []
    for directory in [run for path in directories for run in list(find_runs(path)) or [path]]:
        not_drawn: Sequence[str] = ()
        try:
            plots.draw(
                directory,
                survive=DataError if reporting.wants_traceback() else Exception,
                announce=lambda path: print(printable(str(path))),
                others=[draw_diagnosis],
            )
        except DataError as error:
            not_drawn = error.problems
        helper.settle(directory, not_drawn)
        problems += not_drawn
    if problems:
        raise DataError(*problems)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the ``seqrnn-plots`` command."""
    parser = argparse.ArgumentParser("python -m seqrnn.plots", description="Draws the pictures of runs again.")
    parser.add_argument("directories", metavar="DIR", nargs="+", type=Path, help="what a run or a sweep left")
    directories = parser.parse_args(arguments).directories
    if not reporting.wants_traceback():
        warnings.simplefilter("ignore")  # numbers too large to draw, letters that the font lacks
    reporting.run(lambda: draw_all(directories))


if __name__ == "__main__":
    main()
