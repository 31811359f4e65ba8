"""Ctrl-C while a command is still being imported. Imports the standard library alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # as shells count: 128 and the number of the signal


@contextmanager
def exiting_at_once(clean_up: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Within its block, Ctrl-C ends the process with exit code 130 and without a word.

    A KeyboardInterrupt that is raised within the import of a large package is a traceback at best; at worst, the
    package turns it into another error or drops it.

    Args:
        clean_up: called before the process ends.
    """

    def end(signum: int, frame: FrameType | None) -> None:
        try:
            clean_up()
        finally:
            os._exit(INTERRUPTED)

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield  # another thread may set no handler, and a handler that somebody set is theirs
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
