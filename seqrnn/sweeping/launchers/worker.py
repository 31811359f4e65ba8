"""A process of this machine that carries out jobs of a sweep, one after another."""

from __future__ import annotations

import os
import queue
import signal
import threading
from multiprocessing.connection import Connection
from types import FrameType

from seqrnn import api  # noqa: F401  # imported once, before workers are forked
from seqrnn.errors import Interrupted
from seqrnn.sweeping.job import CarryOut


def work(connection: Connection, task: CarryOut) -> None:
    """Carries out the jobs whose names come through ``connection``, and sends each name back when its job has ended.

    None instead of a name, or the end of the connection because the command's process has gone, ends the process; a
    job that is running writes a checkpoint first.
    """
    # A terminal sends these to all processes of a command. The command alone answers, and asks its workers to end.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    names: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    is_busy = threading.Event()
    threading.Thread(target=_listen, args=(connection, names, is_busy), daemon=True).start()
    try:
        while (job := names.get()) is not None:
            is_busy.set()
            task.run(job)
            is_busy.clear()
            connection.send(job)
    except OSError:  # the command's process has gone
        pass
    except Interrupted as interrupted:
        os._exit(interrupted.exit_code)  # everything is written


def _end(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)


def _listen(connection: Connection, names: queue.SimpleQueue[str | None], is_busy: threading.Event) -> None:
    """Passes names on, until the process is to end; then it ends the job that is running."""
    try:
        while (name := connection.recv()) is not None:
            names.put(name)
    except (EOFError, OSError):
        pass
    names.put(None)
    if is_busy.is_set():
        if os.name == "posix":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            signal.raise_signal(signal.SIGTERM)  # os.kill would end the process without its handler
