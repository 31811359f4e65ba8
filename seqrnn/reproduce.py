"""python -m seqrnn.reproduce [NAME…]: repeats published figures, and says which of them hold.

Like ``seqrnn.evaluate``, it removes the current directory, which may have been received from someone, from the module
search path before anything else is imported.
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
Repeats published figures: trains what their sources describe with several
seeds, and says of each figure whether it is reproduced, is not, or is wrong.
Finished runs are not repeated, and interrupted ones are resumed. Exit code 1:
a figure that should be reproduced was not.

  python -m seqrnn.reproduce --quick
  python -m seqrnn.reproduce xor add-memory
  python -m seqrnn.reproduce --list
"""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(
        "python -m seqrnn.reproduce",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "names", metavar="NAME", nargs="*", help="a figure, or several: xor is xor-first, xor-second and xor-third"
    )
    made.add_argument("--quick", action="store_true", help="only what takes seconds: two minutes in all")
    made.add_argument("--list", action="store_true", help="print the names of all figures, and do nothing else")
    made.add_argument(
        "--out", type=Path, default=Path("outputs/reproduce"), metavar="DIR", help="of runs and results.json"
    )
    made.add_argument("--data-dir", type=Path, metavar="DIR", help="where MNIST lies (default: it is downloaded)")
    made.add_argument(
        "--docs",
        nargs="?",
        type=Path,
        const=Path("docs/truth.md"),
        metavar="FILE",
        help="fill this page with all that has been measured (default: docs/truth.md)",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the ``seqrnn-reproduce`` command."""
    options = parser().parse_args(arguments)

    def command() -> None:
        from seqrnn.cli import reporting

        with reporting.importing():
            from seqrnn.reproduction import command as reproduction
        if options.list:
            reproduction.show_list()
            return
        reproduction.reproduce(
            options.names,
            quick=options.quick,
            folder=options.out,
            document=options.docs,
            data_directory=options.data_dir,
        )

    run_commands.carry_out(command, (), is_program=__name__ == "__main__")


if __name__ == "__main__":
    main()
