"""Signals that ask a run to end: received at once, and answered where the run can be resumed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from seqrnn.errors import Interrupted

HANDLED = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)


class Signals:
    """Within its ``with`` block, Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 end the run after a checkpoint. A
    second Ctrl-C ends it at once. Signals that the process ignores are still ignored.

    A handler that was installed before, such as one of a scheduler's library, decides: it is called when the run has
    written its checkpoint, and if it returns, the run continues.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._pending: list[tuple[int, FrameType | None]] = []
        self._deferred = self._interrupted = False

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # only it may set handlers
            for signum in HANDLED:
                before = signal.getsignal(signum)
                if before is not signal.SIG_IGN and before is not None:  # None: it was not installed from Python
                    self._before[signum] = before
                    signal.signal(signum, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, before in self._before.items():
            signal.signal(signum, before)
        if error is None:
            self.answer()  # signals that came while files were written

    @property
    def pending(self) -> bool:
        """Whether a signal has been received that is not answered yet."""
        return bool(self._pending)

    @property
    def received(self) -> list[int]:
        """The numbers of the signals that are not answered yet."""
        return [signum for signum, _ in self._pending]

    def request(self, signum: int) -> None:
        """Asks the run to end as the signal would: for a run outside of the main thread, which receives none."""
        self._pending.append((signum, None))

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Lets signals within its block wait for ``answer``."""
        before, self._deferred = self._deferred, True
        try:
            yield
        finally:
            self._deferred = before

    def answer(self) -> None:
        """Ends the run, or calls the earlier handler, for each signal that has been received.

        Raises:
            Interrupted: the run is to end. An earlier handler may raise something else.
        """
        while self._pending:
            signum, frame = self._pending.pop(0)
            before = self._before.get(signum)
            if not callable(before) or before is signal.default_int_handler:
                raise Interrupted(signum)
            before(signum, frame)
            self._interrupted = False  # the earlier handler returned, so the run continues

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = self._interrupted or signum == signal.SIGINT
        self._pending.append((signum, frame))
        if not self._deferred:
            self.answer()
        elif signum == signal.SIGINT and os.isatty(2):
            os.write(2, b"\nstops after this update; Ctrl-C once more: at once\n")
