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

from seqrnn.cli.interrupts import exiting_at_once


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
    parser.add_argument(
        "--which",
        choices=("tested", "best"),
        default="tested",
        help="the weights that the run was tested with (tested), or those of its best evaluation",
    )
    parser.add_argument(
        "--plugins",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module to import that the run needs (may be given more than once); it is code, so a run directory "
        "cannot ask for it itself",
    )
    options = parser.parse_args(arguments)
    if options.plugins and __name__ == "__main__" and not sys.flags.safe_path:
        sys.path.append(str(Path.cwd()))
    with exiting_at_once():
        from seqrnn.cli import reporting

    def command() -> None:
        with reporting.importing():
            from seqrnn.exporting.session import export
        export(options.directory, options.format, options.out, options.which, options.plugins)

    reporting.run(command)


if __name__ == "__main__":
    main()
