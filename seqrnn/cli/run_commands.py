"""What the commands that read run directories share. Imports the standard library alone, for a fast --help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from seqrnn.cli.interrupts import exiting_at_once


def add_which(parser: argparse.ArgumentParser) -> None:
    """Adds the option that chooses the weights of a run."""
    parser.add_argument(
        "--which",
        choices=("tested", "best"),
        default="tested",
        help="the weights that the run was tested with (tested), or those of its best evaluation",
    )


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """Adds the option that names the modules of a user's own components."""
    parser.add_argument(
        "--plugins",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module to import that registers components, such as those of the run (may be given more than once); "
        "it is code, so a run directory cannot ask for it itself",
    )


def carry_out(command: Callable[[], object], plugins: Sequence[str], *, is_program: bool) -> None:
    """Carries out a command, and ends the process with an exit code if it fails.

    Args:
        plugins: modules that the user names. They may be in the current directory.
        is_program: whether the command is the program of this process, which has removed the current directory from
            the module search path.
    """
    if plugins and is_program and not sys.flags.safe_path:
        sys.path.append(str(Path.cwd()))
    with exiting_at_once():
        from seqrnn.cli import reporting
    reporting.run(command)
