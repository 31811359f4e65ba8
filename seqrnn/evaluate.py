"""python -m seqrnn.evaluate RUN_DIR…: repeats the test of trained runs, with confidence intervals.

Like ``seqrnn.diagnose``, it removes the current directory, which may have been received from someone, from the module
search path before anything else is imported. Modules that the user names may still be there.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

import argparse
from collections.abc import Sequence
from pathlib import Path

from seqrnn.cli import run_commands

DESCRIPTION = """\
Repeats the test of trained runs from their saved weights, and prints their scores
and those of the baselines with confidence intervals (bootstrap: over sequences,
or over blocks of time where there are few). It trains nothing and writes nothing.

  python -m seqrnn.evaluate RUN_DIR
  python -m seqrnn.evaluate outputs/csv-gru/* --ensemble
  python -m seqrnn.evaluate RUN_DIR --data new.csv
"""


def confidence(text: str) -> float:
    """Returns the confidence of intervals from the command line.

    Raises:
        ArgumentTypeError: it is no share between 0.5 and 0.999.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 <= value <= 0.999:
        raise argparse.ArgumentTypeError(f"{text}: should be a number from 0.5 to 0.999, such as 0.95")
    return value


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(
        "python -m seqrnn.evaluate",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("directories", metavar="RUN_DIR", nargs="+", type=Path, help="a run directory")
    made.add_argument(
        "--data", nargs="+", type=Path, default=[], metavar="FILE", help="score these files, not the test data"
    )
    made.add_argument(
        "--ensemble", action="store_true", help="score the mean of the runs as well; they should have the same task"
    )
    made.add_argument(
        "--confidence", type=confidence, default=0.95, metavar="SHARE", help="of the intervals (default: 0.95)"
    )
    run_commands.add_which(made)
    run_commands.add_plugins(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the ``seqrnn-evaluate`` command."""
    made = parser()
    options = made.parse_args(arguments)
    if options.ensemble and len(options.directories) < 2:
        made.error("--ensemble: takes two run directories or more")

    def command() -> None:
        from seqrnn.cli import reporting

        with reporting.importing():
            from seqrnn.assessment.command import evaluate
        evaluate(
            options.directories,
            files=options.data,
            is_ensemble=options.ensemble,
            confidence=options.confidence,
            which=options.which,
            plugins=options.plugins,
        )

    run_commands.carry_out(command, options.plugins, is_program=__name__ == "__main__")


if __name__ == "__main__":
    main()
