"""Runs a command: exit codes, errors in plain words, and hydra's own errors explained.

Imports neither torch nor anything else that is slow, so that --help and errors come at once.
"""

from __future__ import annotations

import gc
import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf

from seqrnn import config_files
from seqrnn.cli import composition
from seqrnn.errors import ConfigError, UserError, printable

INTERRUPTED = 130
STARTED = time.time()
OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory|Storage size calculation overflowed")

_job_has_begun = False

# Two processes may start in the same microsecond.
OmegaConf.register_new_resolver("pid", os.getpid, replace=True)


def run(command: Callable[[], Any]) -> None:
    """Runs a command; a user's error is shown without a traceback, and decides the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter is no reason to stop
    try:
        command()
    except KeyboardInterrupt as error:
        sys.exit(getattr(error, "exit_code", INTERRUPTED))
    except UserError as error:
        _fail([] if error.shown else error.problems, error.exit_code)
    except BrokenPipeError:  # what read our output has gone: `seqrnn-train --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if wants_traceback():
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        _fail([f"{what}; is the path right, may it be written, and is there room?"], 2)


def run_hydra(command: Callable[[], Any]) -> None:
    """The same for a command of hydra's; where hydra cannot compose its config, all that is wrong is shown."""
    global _job_has_begun
    _job_has_begun = False
    before = os.environ.get("HYDRA_FULL_ERROR")
    show_traceback = wants_traceback()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra hands its errors over instead of ending the process
    try:
        command()
    except Exception as error:
        is_os_error = isinstance(error, OSError) and not isinstance(error, HydraException)
        if show_traceback or _job_has_begun or is_os_error or isinstance(error, UserError):
            raise
        diagnosis = composition.diagnose(error, sys.argv[1:], config_files.config_directory())
        if diagnosis.problems:
            raise ConfigError(*diagnosis.problems) from None
        sys.argv[1:] = diagnosis.arguments
        run_hydra(command)
    finally:
        if before is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def wants_traceback() -> bool:
    """Whether the user asks for tracebacks, in hydra's way: HYDRA_FULL_ERROR=1."""
    return os.environ.get("HYDRA_FULL_ERROR") not in (None, "", "0")


@contextmanager
def importing() -> Iterator[None]:
    """Around the first import of torch. Python looks for garbage again and again among the million objects that it
    makes, then and once more at exit: a third of the time of a short run. They all stay, so nobody need look.
    """
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
    """Around the body of a job that writes ``directory``: shows a user's error at once, also when it is one job of a
    sweep that goes on."""
    global _job_has_begun
    _job_has_begun = True
    try:
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
                raise
            reason = str(error).partition("\n")[0].rpartition("DefaultCPUAllocator: ")[2]
            raise UserError(
                f"out of memory: {reason or 'no more to be had'}; make the network, schedule.streams, "
                "schedule.window or the task's sizes smaller"
            ) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            where = error.filename or directory
            raise UserError(f"{where}: {error.strerror or error}; what was written before is there") from error
    except UserError as error:
        _remove_if_new_and_empty(directory)
        if sweep_job is None:
            _fail([] if error.shown else error.problems, error.exit_code)
        if not error.shown:
            print(f"job {sweep_job}: {'; '.join(map(printable, error.problems))}", file=sys.stderr)
            error.shown = True
        raise


def _remove_if_new_and_empty(directory: Path) -> None:
    """hydra makes the run directory before anything can be checked; an error should leave none behind."""
    for folder in (directory, *directory.parents):
        is_ours = folder.is_dir() and folder.stat().st_mtime >= STARTED and folder.is_relative_to(Path.cwd())
        if not is_ours or folder == Path.cwd() or any(folder.iterdir()):
            return
        folder.rmdir()


def _fail(problems: Sequence[str], exit_code: int) -> None:
    try:
        if len(problems) == 1:
            print(f"error: {printable(problems[0])}", file=sys.stderr)
        elif problems:
            print(f"{len(problems)} problems:", *map(printable, problems), sep="\n  ", file=sys.stderr)
        sys.stderr.flush()
    except OSError:  # nobody reads it; the exit code must say it all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(exit_code)
