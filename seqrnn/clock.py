"""The time that this process works, without what it spends on compiling."""

from __future__ import annotations

import threading
from time import perf_counter


class Stopwatch:
    """Measures the time during which at least one thread is inside of it."""

    def __init__(self) -> None:
        self._total, self._began, self._inside = 0.0, 0.0, 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._began = perf_counter()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._total += perf_counter() - self._began

    @property
    def seconds(self) -> float:
        """Seconds until now."""
        with self._lock:
            return self._total + (perf_counter() - self._began if self._inside else 0.0)


compiling = Stopwatch()  # of this process, with its waits for other processes that compile


def working_seconds() -> float:
    """Returns the seconds of a clock that stands still while this process compiles, or waits for another process that
    does. Code is compiled once on a machine, so it belongs to no measurement of what a computation takes."""
    return perf_counter() - compiling.seconds
