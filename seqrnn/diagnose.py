"""python -m seqrnn.diagnose RUN_DIR: finds out why a run has not learned its task, and what to change.

Like ``seqrnn.plots.__main__``, it removes the current directory, which may have been received from someone, from the
module search path before anything else is imported. Modules that the user names may still be there.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from seqrnn.cli import run_commands


def seconds(text: str) -> float:
    """Returns a span of time from the command line.

    Raises:
        ValueError: it is negative, infinite or no number.
    """
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the ``seqrnn-diagnose`` command."""
    parser = argparse.ArgumentParser(
        "python -m seqrnn.diagnose",
        description="Finds out why a run has not learned its task, tries remedies, and recommends changes. "
        "Writes diagnosis.md, diagnosis.json and diagnosis.png into RUN_DIR.",
    )
    parser.add_argument("directory", metavar="RUN_DIR", type=Path, help="a run directory")
    parser.add_argument(
        "--seconds",
        type=seconds,
        help="about how long it may take; 0: try no remedies (default: 60; with --treat: 300)",
    )
    parser.add_argument(
        "--treat",
        action="store_true",
        help="follow the advice: train with it at full length, keep what is better on the validation data, diagnose "
        "that in turn, and stop when nothing helps or the time is over; runs go to RUN_DIR-treated",
    )
    run_commands.add_plugins(parser)
    options = parser.parse_args(arguments)

    def command() -> None:
        from seqrnn.cli import reporting

        if options.treat:
            with reporting.importing():
                from seqrnn import api
                from seqrnn.diagnosis import treatment
                from seqrnn.monitor import Progress
                from seqrnn.rundir.request import RunRequest
            allowed = treatment.SECONDS if options.seconds is None else options.seconds

            def make_run(request: RunRequest, evaluated: Callable[[Progress], None]) -> None:
                api.carry_out(request, quiet=True, evaluated=evaluated)

            treatment.Treatment(options.directory, make_run, allowed, options.plugins).treat()
            return
        with reporting.importing():
            from seqrnn.diagnosis.session import diagnose
        diagnose(options.directory, options.seconds, options.plugins)

    run_commands.carry_out(command, options.plugins, is_program=__name__ == "__main__")


if __name__ == "__main__":
    main()
