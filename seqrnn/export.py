"""python -m seqrnn.export RUN_DIR --format onnx: exports a trained network for programs that do not have seqrnn.

Like ``seqrnn.plots.__main__``, it removes the current directory, which may have been received from someone, from the
module search path before anything else is imported. Modules that the user names may still be there.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

import argparse
from collections.abc import Sequence
from pathlib import Path

from seqrnn.cli import run_commands


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the ``seqrnn-export`` command."""
    parser = argparse.ArgumentParser(
        "python -m seqrnn.export",
        description="Exports the trained network of a run, with its recurrent state as inputs and outputs, and "
        "writes a model card. The export is compared with the run on its test data before it is kept.",
    )
    parser.add_argument("directory", metavar="RUN_DIR", type=Path, help="a run directory")
    parser.add_argument(
        "--format",
        required=True,
        choices=("onnx", "torch"),
        help="onnx: for onnxruntime and others (.onnx); torch: a program of torch.export (.pt2)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="the file; FILE_card.md is written beside it (default: model.onnx or model.pt2 in RUN_DIR, and "
        "model_card.md)",
    )
    run_commands.add_which(parser)
    run_commands.add_plugins(parser)
    options = parser.parse_args(arguments)

    def command() -> None:
        from seqrnn.cli import reporting

        with reporting.importing():
            from seqrnn.exporting.session import export
        export(options.directory, options.format, options.out, options.which, options.plugins)

    run_commands.carry_out(command, options.plugins, is_program=__name__ == "__main__")


if __name__ == "__main__":
    main()
