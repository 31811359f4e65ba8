"""python -m seqrnn.predict RUN_DIR: predictions of a trained run, at once or line by line. It never trains the run.

Like ``seqrnn.diagnose``, it removes the current directory, which may have been received from someone, from the module
search path before anything else is imported. Modules that the user names may still be there.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from seqrnn.cli import run_commands

DESCRIPTION = """\
Predicts with a trained run: new tables, data that a built-in task draws,
images, or rows as they come:

  python -m seqrnn.predict RUN_DIR --data new.csv --out predictions.csv
  python -m seqrnn.predict RUN_DIR --timesteps 100000 --seed 7
  python -m seqrnn.predict RUN_DIR --data digits/ --out predictions.csv
  python -m seqrnn.predict RUN_DIR --stream < rows.jsonl
"""
EPILOG = """\
--stream reads rows from standard input, and answers each with a line of JSON
at once. A row is a JSON mapping of columns to values ({"input": 0.3}), a JSON
list of values ([0.3]), or a line of CSV below a header line. The columns of
task=csv are those of the table that the run was trained on ({"day":
"2024-03-01", "sales": 51.2}); null, or an empty cell, is a value that is not
known. With task.group, each group is a sequence with a state of its own; names
of groups are not inputs, so new ones may come. The columns of other tasks are
input, or input_0, input_1, … where there are several. In all of them, start
(true or false) begins a new sequence. A row that cannot be used is answered by
{"line": NUMBER, "error": REASON}, and changes nothing. The stream ends with
the input, with Ctrl-C or SIGTERM, or when nobody reads the answers.

With --learn, the true values of a forecast come with the rows that follow, and
those of a regression or classification with their own row. Other tasks have a
column target ({"input": 0.3, "target": 1}), and a row with true values alone
brings those of an earlier timestep of the sequence ({"timestep": 7, "target":
1}; without timestep: of the latest). Where true values have come, the answer
holds the losses of the network as it learns and as it was trained.

exit codes: 0 done; 2 something is wrong with the command, the run or the data;
3 the loss of --learn became NaN or infinite; 130 and 143 ended by Ctrl-C and
SIGTERM
"""


def whole_number(text: str, least: int) -> int:
    """Returns a whole number from the command line.

    Raises:
        ArgumentTypeError: it is none, or less than ``least``.
    """
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text}: should be a whole number of at least {least}")
    return value


def count(text: str) -> int:
    """Returns a whole number of at least 1."""
    return whole_number(text, 1)


def seed(text: str) -> int:
    """Returns a whole number of at least 0."""
    return whole_number(text, 0)


def rate(text: str) -> float:
    """Returns a learning rate from the command line.

    Raises:
        ArgumentTypeError: it is no positive number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: should be a positive number")
    return value


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(
        "python -m seqrnn.predict",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("directory", metavar="RUN_DIR", type=Path, help="a run directory")
    run_commands.add_which(made)
    run_commands.add_plugins(made)
    once = made.add_argument_group("predictions at once")
    once.add_argument(
        "--data",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="task=csv: tables with the columns that the run reads (CSV, .gz, .zip, Parquet); the targets of a "
        "regression or classification may be missing. task=mnist: PNG or PGM files of 28×28 pixels, folders of them, "
        "an .npz file with images (N, 28, 28), or IDX files",
    )
    once.add_argument(
        "--horizon",
        type=count,
        metavar="H",
        help="task=csv: predict H steps ahead: fewer than the run was trained for, or more where task.mode=recursive",
    )
    once.add_argument(
        "--latest",
        action="store_true",
        default=None,
        help="task=csv: write only the forecasts from the last observed row of each sequence: the future",
    )
    once.add_argument("--timesteps", type=count, metavar="N", help="draw one new sequence of that length")
    once.add_argument("--seed", type=seed, metavar="N", help="draw data with this seed (default: that of the run)")
    once.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the predictions to FILE.csv, FILE.parquet or FILE.npz; in CSV, a text that a spreadsheet would "
        "compute (= + - @) gets a leading '",
    )
    stream = made.add_argument_group("predictions line by line")
    stream.add_argument(
        "--stream", action="store_true", help="read rows from standard input, and answer each at once"
    )
    stream.add_argument(
        "--state", type=Path, metavar="FILE", help="continue from this file, if it exists, and write it at the end"
    )
    stream.add_argument(
        "--learn",
        nargs="?",
        const="",
        metavar="DIR",
        help="train a copy of the network further as true values arrive, in DIR (default: RUN_DIR-learned), where "
        "the next call continues; the run stays as it was, and DIR is a run directory with the new weights",
    )
    stream.add_argument(
        "--lr",
        type=rate,
        metavar="RATE",
        help="of --learn (default: optimizer.lr of the run / 50, because its training has lowered the rate to nearly "
        "0; larger where the world has changed for good)",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the ``seqrnn-predict`` command."""
    options = parser().parse_args(arguments)
    run_commands.carry_out(lambda: predict(options), options.plugins, is_program=__name__ == "__main__")


def predict(options: argparse.Namespace) -> None:
    """Does what the command line asks for.

    Raises:
        UserError: something is wrong with the command line, the run or the data.
    """
    from seqrnn.cli import reporting
    from seqrnn.errors import ConfigError

    once = ("data", "timesteps", "seed", "out", "horizon", "latest")
    given = [f"--{name}" for name in once if getattr(options, name) is not None]
    if options.stream and given:
        raise ConfigError(f"{' '.join(given)}: not with --stream, which reads rows from standard input")
    if options.latest and options.out is None and not options.stream:
        raise ConfigError("--latest: chooses what is written; name the file with --out FILE")
    if options.state is not None and not options.stream:
        raise ConfigError("--state: only with --stream")
    if options.learn is not None and not options.stream:
        raise ConfigError("--learn: only with --stream")
    if options.lr is not None and options.learn is None:
        raise ConfigError("--lr: only with --learn")
    if options.learn is not None and options.state is not None:
        raise ConfigError("--state: not with --learn, which keeps the state in its own directory")
    drawn = [name for name in given if name in ("--timesteps", "--seed")]
    if options.data is not None and drawn:
        raise ConfigError(f"{' '.join(drawn)}: not with --data, of which all timesteps are predicted")
    with reporting.importing():
        from seqrnn.prediction import command, outputs, table_command, trained
    if options.out is not None:
        outputs.check_path(options.out, options.data or [])
    run = trained.load(options.directory, options.plugins, options.which, options.seed)
    if options.stream:
        from seqrnn.prediction import stream

        if options.learn is None:
            stream.serve(run, options.state)
        else:
            directory = options.directory.absolute()
            learned = Path(options.learn) if options.learn else directory.with_name(f"{directory.name}-learned")
            stream.learn(run, learned, options.lr)
    elif run.reads_tables:
        if options.data is None:
            table_command.refuse_drawing(run)
        table_command.predict_on_tables(run, options.data, options.horizon, options.out, bool(options.latest))
    elif options.horizon is not None:
        raise ConfigError(f"--horizon {options.horizon}: {run.name} predicts no table; leave it out")
    elif options.latest:
        raise ConfigError(f"--latest: {run.name} predicts no table; leave it out")
    elif options.data is not None:
        command.predict_on_files(run, options.data, options.out)
    else:
        command.predict_on_drawn_data(run, options.timesteps, options.out)


if __name__ == "__main__":
    main()
