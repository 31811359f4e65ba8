"""python -m seqrnn.diagnose RUN_DIR: why a run has not learned its task, and what to change.

Like ``seqrnn.plots.__main__``, it removes the current directory, which may have been received from someone, from the
module search path before anything else is imported. Modules that the user names may still be there.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from seqrnn.cli import reporting


def seconds(text: str) -> float:
    """A span of time, as typed."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """The ``seqrnn-diagnose`` command."""
    parser = argparse.ArgumentParser(
        "python -m seqrnn.diagnose",
        description="Finds out why a run has not learned its task, tries remedies, and says what to change. "
        "Writes diagnosis.md, diagnosis.json and diagnosis.png into RUN_DIR.",
    )
    parser.add_argument("directory", metavar="RUN_DIR", type=Path, help="a directory that a run left")
    parser.add_argument(
        "--seconds",
        type=seconds,
        help="for trials of remedies, about; 0: none (default: 30)",
    )
    parser.add_argument(
        "--plugins",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module to import that the run needs (may be given more than once); it is code, so a run directory "
        "cannot ask for it itself",
    )
    asked = parser.parse_args(arguments)
    if asked.plugins and __name__ == "__main__" and not sys.flags.safe_path:
        sys.path.append(str(Path.cwd()))

    def command() -> None:
        with reporting.importing():
            from seqrnn.diagnosis.session import diagnose
        diagnose(asked.directory, asked.seconds, asked.plugins)

    reporting.run(command)


if __name__ == "__main__":
    main()
