"""Runs a command, and turns its errors into messages and exit codes.

Imports neither torch nor anything else that is slow, so that --help and errors come at once.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from hydra.errors import HydraException

from seqrnn import composition
from seqrnn.cli import workers
from seqrnn.cli.interrupts import INTERRUPTED, exiting_at_once
from seqrnn.errors import ConfigError, UserError, place_of, printable

STARTED = time.time()

_job_has_begun = False


def run(command: Callable[[], Any]) -> None:
    """Runs a command. An error that a user can mend is printed without a traceback, and decides the exit code."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # some terminals lack letters
    _buffer_output()
    try:
        command()
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        sys.exit(getattr(error, "exit_code", INTERRUPTED))
    except UserError as error:
        _fail([] if error.shown else error.problems, error.exit_code)
    except BrokenPipeError:  # the reader of our output has ended: `seqrnn-train --help | head`
        _drop_output(sys.stdout)
        sys.exit(1)
    except OSError as error:
        if wants_traceback():
            raise
        # Of the calls that name no file, only those that ask for the current directory find that one is missing.
        place = place_of(error) or ("the current directory" if isinstance(error, FileNotFoundError) else "")
        what = f"{place}: {error.strerror or error}" if place else str(error.strerror or error)
        _fail([f"{what}; is the path right, may it be written, and is there room?"], 2)


def run_hydra(command: Callable[[], Any]) -> None:
    """Runs a command of hydra's.

    Raises:
        ConfigError: hydra cannot compose the config; everything that is wrong with the command line.
    """
    global _job_has_begun
    _job_has_begun = False
    before = os.environ.get("HYDRA_FULL_ERROR")
    show_traceback = wants_traceback()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra raises its errors instead of ending the process
    try:
        command()
    except Exception as error:
        workers.raise_if_interrupted()
        is_os_error = isinstance(error, OSError) and not isinstance(error, HydraException)
        if show_traceback or _job_has_begun or is_os_error or isinstance(error, UserError):
            raise
        explanation = composition.explain(error, sys.argv[1:])
        if explanation.problems:
            raise ConfigError(*explanation.problems) from None
        sys.argv[1:] = explanation.arguments
        run_hydra(command)
    finally:
        if before is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def exit_code_of(error: BaseException) -> int:
    """Returns the exit code of a command that ends with ``error``."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return int(getattr(error, "exit_code", INTERRUPTED))
    return getattr(error, "exit_code", 2 if isinstance(error, OSError) else 1)


def wants_traceback() -> bool:
    """Returns whether the user asks for tracebacks, in hydra's way: HYDRA_FULL_ERROR=1."""
    return os.environ.get("HYDRA_FULL_ERROR") not in (None, "", "0")


@contextmanager
def importing(directory: Path | None = None) -> Iterator[None]:
    """Wraps the first import of torch: makes it faster, and lets Ctrl-C end the process.

    Python's garbage collector would search the million objects that the import makes several times, and once more at
    exit, which takes a third of the time of a short run. They all stay, so it is off within the block, and ignores
    them afterwards.

    Args:
        directory: a run directory that has been made for this process; it is removed if the process ends here.
    """
    clean_up = (lambda: remove_if_new_and_empty(directory)) if directory else (lambda: None)
    with exiting_at_once(clean_up):
        if "torch" in sys.modules or not gc.isenabled():
            yield
            return
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            gc.freeze()


@contextmanager
def reporting(directory: Path, sweep_job: int | None = None) -> Iterator[None]:
    """Wraps the body of a job that writes ``directory``: shows a user's error at once, also when the job is one of a
    sweep, whose other jobs still run.

    Args:
        sweep_job: the number of the job in its sweep.
    """
    global _job_has_begun
    _job_has_begun = True
    try:
        yield
    except UserError as error:
        remove_if_new_and_empty(directory)
        if sweep_job is None:
            _fail([] if error.shown else error.problems, error.exit_code)
        if not error.shown:
            print(f"job {sweep_job}: {'; '.join(map(printable, error.problems))}", file=sys.stderr)
            error.shown = True
        raise


def remove_if_new_and_empty(directory: Path) -> None:
    """Removes a run directory that hydra has made for this process, and its parents, where they are empty."""
    for folder in (directory, *directory.parents):
        is_ours = folder.is_dir() and folder.stat().st_mtime >= STARTED and folder.is_relative_to(Path.cwd())
        if not is_ours or folder == Path.cwd() or any(folder.iterdir()):
            return
        folder.rmdir()


def _fail(problems: Sequence[str], exit_code: int) -> None:
    """Prints problems to stderr, and ends the process."""
    try:
        sys.stdout.flush()
    except OSError:  # its file is full
        _drop_output(sys.stdout)
    try:
        if len(problems) == 1:
            print(f"error: {printable(problems[0])}", file=sys.stderr)
        elif problems:
            print(f"{len(problems)} problems:", *map(printable, problems), sep="\n  ", file=sys.stderr)
        sys.stderr.flush()
    except OSError:  # the reader of stderr has ended; the exit code is left
        _drop_output(sys.stderr)
    sys.exit(exit_code)


def _open_closed_streams() -> None:
    """Opens the standard streams that were closed when this process started (``>&-``), to read and write nothing.

    Otherwise the next file that is opened, one of a run, would get their numbers, and whatever is printed.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # each gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # it stays open


def _buffer_output() -> None:
    """Gives standard output a buffer where it has none (PYTHONUNBUFFERED=1); every line is still written at once. A
    buffer keeps what could not be written, by which ``errors.place_of`` knows that an error is one of this output."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.FileIO):
        buffered = io.BufferedWriter(io.FileIO(stream.fileno(), "w", closefd=False))
        sys.stdout = io.TextIOWrapper(buffered, stream.encoding, stream.errors, line_buffering=True)


def _drop_output(stream: TextIO) -> None:
    """Lets what a stream holds and is given be lost, so that Python does not fail to write it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
