"""Ends the jobs of a sweep that a launcher runs in other processes (joblib) when the command is interrupted.

Such a launcher kills its worker processes at once when its own process is interrupted, so that runs would lose what
they trained since their last checkpoint; and if its own process is killed, the workers would train to the end of the
sweep. Here the command first asks the jobs to end, and waits until they have written their checkpoints. A job ends,
too, when the command's process has gone.

Command and jobs share a folder, whose path the workers inherit in the environment. It has a file for each running
job, named after its process, and a file ``stop`` as soon as no other job may begin.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from seqrnn.cli.interrupts import INTERRUPTED
from seqrnn.errors import Interrupted

VARIABLE = "SEQRNN_SWEEP"  # PROCESS:FOLDER
STOP = "stop"
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")  # signals that end the command; the last comes when its terminal is closed
WATCH_EVERY = 0.5  # seconds
PATIENCE = 60.0  # seconds that the command waits for the checkpoints of its jobs when it is interrupted
LOOK_EVERY = 1.0  # seconds after which a command that waits for its jobs calls raise_if_interrupted
# On Windows, os.kill ends a process at once or sends it Ctrl-C. A job there sees by itself that it is asked to end.
CAN_SIGNAL = os.name == "posix"

_parent: int | None = None  # of a worker: the command's process
_ended_by: int | None = None  # the signal that is ending this command
_is_finishing = False  # whether a first signal waits
_postponed: int | None = None  # the one that waits


@contextmanager
def ending_with_us() -> Iterator[None]:
    """Wraps what may be a sweep, in the command's process: a signal that ends the command first ends the jobs in its
    workers, in order.

    Raises:
        Interrupted: the signal came; the jobs have written their checkpoints.
    """
    global _ended_by, _is_finishing, _postponed
    _ended_by, _is_finishing, _postponed = None, False, None
    with _shared_folder() as folder:
        ending = False

        def end(signum: int, frame: FrameType | None) -> None:
            global _ended_by, _postponed
            nonlocal ending
            if _is_finishing and _postponed is None:
                _postponed = signum
                if signum == signal.SIGINT and os.isatty(2):
                    os.write(2, b"\nstops when everything is written; Ctrl-C once more: at once\n")
                return
            _ended_by = signum
            if not ending and folder:  # a second signal does not wait
                ending = True
                with suppress(OSError):  # the disk of temporary files is full: each job ends by itself
                    _end_jobs(folder)
            raise Interrupted(signum)

        end.ends_command = True  # type: ignore[attr-defined]
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in ENDING if hasattr(signal, name)):
                if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
                    handlers[number] = signal.signal(number, end)
        if folder:
            os.environ[VARIABLE] = f"{os.getpid()}:{folder}"
        try:
            yield
        finally:
            _ended_by = None
            os.environ.pop(VARIABLE, None)
            for number, before in handlers.items():
                signal.signal(number, before)


@contextmanager
def finishing() -> Iterator[None]:
    """Lets the first signal within its block that would end the command wait until the block has ended without an
    error. A second one ends it at once. Within such a block, another one changes nothing.

    Raises:
        Interrupted: the signal that has waited.
    """
    global _ended_by, _is_finishing, _postponed
    if _is_finishing:
        yield
        return
    _is_finishing = True
    try:
        yield
    finally:
        _is_finishing = False
        signum, _postponed = _postponed, None
    if signum is not None:
        _ended_by = signum
        raise Interrupted(signum)


@contextmanager
def _shared_folder() -> Iterator[Path | None]:
    """Makes the folder that the command and its jobs share; None where no temporary file can be written, which a
    launcher that starts other processes finds out by itself."""
    with ExitStack() as stack:
        name = None
        with suppress(OSError):
            folder = tempfile.TemporaryDirectory(prefix="seqrnn-sweep-", ignore_cleanup_errors=True)
            name = stack.enter_context(folder)
        yield Path(name) if name else None


def raise_if_interrupted() -> None:
    """Raises an interruption, if a signal has come whose exception was lost: Python drops one that is raised within a
    destructor or a weak reference's callback, and packages may turn it into one of their own.

    Raises:
        Interrupted: a signal is ending this command.
    """
    if _ended_by is not None:
        raise Interrupted(_ended_by) from None


def _end_jobs(folder: Path) -> None:
    """Asks all jobs to end, and waits until they have."""
    (folder / STOP).touch()
    asked: set[int] = set()
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        running = {int(path.name) for path in folder.iterdir() if path.name.isdigit()}
        for process in [*running] if CAN_SIGNAL else ():
            try:
                os.kill(process, 0 if process in asked else signal.SIGTERM)
            except OSError:  # it has gone without removing its file
                running.discard(process)
        if not running:
            return
        asked |= running
        time.sleep(0.05)


@contextmanager
def in_worker() -> Iterator[None]:
    """Wraps a job: in a worker of a sweep, the job ends when the command asks for it or is gone. Elsewhere, it does
    nothing.

    Raises:
        Interrupted: the job is to end; or it is not to begin.
    """
    global _parent
    command, _, name = os.environ.get(VARIABLE, "").partition(":")
    is_worker = _parent is not None or (bool(command) and os.getppid() == int(command))
    if not is_worker or threading.current_thread() is not threading.main_thread():
        yield
        return
    _parent, folder = int(command), Path(name)
    file = folder / str(os.getpid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to workers too; the command passes it on
    signal.signal(signal.SIGTERM, _end_job)
    ended = threading.Event()
    threading.Thread(target=_watch, args=(_parent, folder / STOP, ended), daemon=True).start()
    try:
        with suppress(OSError):  # the command has gone, and its folder with it; or the disk is full
            file.touch()
        if (folder / STOP).exists() or os.getppid() != _parent:
            raise Interrupted(signal.SIGTERM)
        yield
    finally:
        ended.set()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a worker that dies between jobs takes the others with it
        file.unlink(missing_ok=True)
        if os.getppid() != _parent:
            os._exit(INTERRUPTED)  # everything is written, and there is no other job to wait for


def _end_job(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)


def _watch(parent: int, stop: Path, ended: threading.Event) -> None:
    """Ends the job when the command's process has gone, or, where it cannot send signals, when it asks for that."""
    while not ended.wait(WATCH_EVERY):
        if os.getppid() != parent or (not CAN_SIGNAL and stop.exists()):
            if CAN_SIGNAL:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                signal.raise_signal(signal.SIGTERM)  # os.kill would end the process without its handler
            return
