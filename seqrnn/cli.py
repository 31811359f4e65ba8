"""Around hydra: where conf/ is, names for run directories, and errors that say what to do.

Imports neither torch nor anything else that is slow, so that --help and errors come at once.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqrnn import overrides
from seqrnn.errors import UserError

INTERRUPTED = 130
STARTED = time.time()

# Two processes may start in the same microsecond.
OmegaConf.register_new_resolver("pid", os.getpid, replace=True)


def config_directory() -> str:
    """conf/: inside an installed package, beside it in a checkout.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"seqrnn's conf/ is missing: neither in {package} nor beside it; reinstall seqrnn")


def run(command: Callable[[], Any]) -> None:
    """Runs a command; a user's error is shown without a traceback, and decides the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter is no reason to stop
    before = os.environ.get("HYDRA_FULL_ERROR")
    wants_traceback = before not in (None, "", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra hands its errors over instead of ending the process
    try:
        command()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except UserError as error:
        _fail([] if error.shown else error.problems, error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        diagnosis = overrides.diagnose(error, sys.argv[1:], config_directory())
        if diagnosis.problems:
            _fail(diagnosis.problems, 2)
        sys.argv[1:] = diagnosis.arguments
        run(command)
    except BrokenPipeError:  # what read our output has gone: `seqrnn-train --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if wants_traceback or error.filename is None:
            raise
        _fail([f"{error.filename}: {error.strerror}; is the path right, and may it be written?"], 2)
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextmanager
def reporting() -> Iterator[None]:
    """Around the body of a job: shows a user's error at once, also when it is one job of a sweep that goes on."""
    try:
        yield
    except UserError as error:
        if HydraConfig.get().mode == RunMode.RUN:
            _remove_if_new_and_empty(Path(HydraConfig.get().runtime.output_dir))
            _fail([] if error.shown else error.problems, error.exit_code)
        if not error.shown:
            print(f"job {HydraConfig.get().job.num}: {error}", file=sys.stderr)
            error.shown = True
        raise


def _remove_if_new_and_empty(directory: Path) -> None:
    """hydra makes the run directory before anything can be checked; an error should leave none behind."""
    if directory.is_dir() and directory.stat().st_mtime >= STARTED and not any(directory.iterdir()):
        directory.rmdir()


def _fail(problems: Sequence[str], exit_code: int) -> None:
    if len(problems) == 1:
        print(f"error: {problems[0]}", file=sys.stderr)
    elif problems:
        print(f"{len(problems)} problems:", *problems, sep="\n  ", file=sys.stderr)
    sys.exit(exit_code)
