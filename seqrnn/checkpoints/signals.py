"""Signals that ask a run to end: heard at once, answered where it can be gone on with."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from seqrnn.errors import Interrupted

HEARD = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))


class Signals:
    """Within its ``with`` block, Ctrl-C, SIGTERM, SIGUSR1 and SIGUSR2 end the run in order. A second Ctrl-C ends it
    at once. A signal that the process ignores is ignored still.

    A handler that somebody has installed before (a scheduler's library, say) has the last word: it is called when the
    run has written its checkpoint, and if it returns, the run goes on.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._waiting: list[tuple[int, FrameType | None]] = []
        self._deferred = self._interrupted = False

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # no other may
            for signum in HEARD:
                before = signal.getsignal(signum)
                if before is not signal.SIG_IGN and before is not None:  # None: not Python's to replace
                    self._before[signum] = before
                    signal.signal(signum, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, before in self._before.items():
            signal.signal(signum, before)
        if error is None:
            self.answer()  # what came while everything was written down

    @property
    def waiting(self) -> bool:
        """Whether a signal has been heard that is not answered yet."""
        return bool(self._waiting)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within it, signals wait until somebody answers them."""
        before, self._deferred = self._deferred, True
        try:
            yield
        finally:
            self._deferred = before

    def answer(self) -> None:
        """Does what the signals heard so far ask for.

        Raises:
            Interrupted: the run is to end. A handler from before may end it in its own way.
        """
        while self._waiting:
            signum, frame = self._waiting.pop(0)
            before = self._before[signum]
            if not callable(before) or before is signal.default_int_handler:
                raise Interrupted(signum)
            before(signum, frame)
            self._interrupted = False  # it has decided that the run goes on

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = self._interrupted or signum == signal.SIGINT
        self._waiting.append((signum, frame))
        if not self._deferred:
            self.answer()
        elif signum == signal.SIGINT and os.isatty(2):
            os.write(2, b"\nstops after this update; Ctrl-C once more: at once\n")
