"""Ctrl-C while a command is still being imported. Imports the standard library alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = 130  # as shells count: 128 and the number of the signal


def is_ours(handler: Any) -> bool:
    """Returns whether a signal's handler is Python's own, or one of a command's, marked by ``ends_command``."""
    return handler is signal.default_int_handler or getattr(handler, "ends_command", False)


@contextmanager
def exiting_at_once(clean_up: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Lets Ctrl-C, and SIGTERM where a command handles it, end the process within its block at once, without output.

    A KeyboardInterrupt that is raised within the import of a large package is a traceback at best; at worst, the
    package turns it into another error or drops it.

    Args:
        clean_up: called before the process ends.
    """

    def end(signum: int, frame: FrameType | None) -> None:
        try:
            clean_up()
        finally:
            os._exit(128 + signum)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Another thread may set no handler, and a handler that somebody else has set is theirs.
    mine = [number for number, handler in before.items() if is_ours(handler)]
    if threading.current_thread() is not threading.main_thread():
        mine = []
    for number in mine:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])
