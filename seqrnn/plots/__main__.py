"""python -m seqrnn.plots RUN_DIR [RUN_DIR ...]: draws the pictures of finished runs again."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

from seqrnn import plots
from seqrnn.cli import reporting
from seqrnn.diagnosis.page import draw_diagnosis
from seqrnn.errors import DataError, printable


def draw_all(directories: Sequence[Path]) -> None:
    """Draws the pictures of each run, and prints their paths.

    Raises:
        DataError: some of the directories could not be drawn; the others were.
    """
    problems: list[str] = []
    for directory in directories:
        try:
            plots.draw(
                directory,
                survive=DataError if reporting.wants_traceback() else Exception,
                tell=lambda path: print(printable(str(path))),
                others=[draw_diagnosis],
            )
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(*problems)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m seqrnn.plots", description="Draws the pictures of runs again.")
    parser.add_argument("directories", metavar="RUN_DIR", nargs="+", type=Path, help="a directory that a run left")
    directories = parser.parse_args(arguments).directories
    if not reporting.wants_traceback():
        warnings.simplefilter("ignore")  # numbers too large to draw, letters that the font lacks
    reporting.run(lambda: draw_all(directories))


if __name__ == "__main__":
    main()
