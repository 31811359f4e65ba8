"""The time that a part of a diagnosis may take, so that a diagnosis ends whatever the sizes of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from seqrnn.clock import working_seconds
from seqrnn.diagnosis.intervals import number
from seqrnn.errors import UserError

T = TypeVar("T")


class TooSlow(UserError):
    """A measurement would take longer than its budget allows."""


class Budget:
    """
    Args:
        seconds: that may be spent from now on.
        clock: returns seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = working_seconds) -> None:
        self.seconds, self.clock = seconds, clock
        self.started = clock()

    @property
    def remaining(self) -> float:
        """Seconds that are left."""
        return self.started + self.seconds - self.clock()

    def check(self) -> None:
        """Checks that time is left.

        Raises:
            TooSlow: the time is over.
        """
        if self.remaining < 0:
            raise self.too_slow()

    def affordable(self, wanted: int, seconds: float, least: int) -> int:
        """Returns how many of the ``wanted`` passes, of so many seconds each, fit into the time that is left.

        Raises:
            TooSlow: fewer than ``least`` do.
        """
        count = min(wanted, int(max(0.0, self.remaining) / seconds) if seconds > 0 else wanted)
        if count < min(least, wanted):
            raise self.too_slow()
        return count

    def limited(self, passes: Iterable[T], least: int) -> Iterator[T]:
        """Yields passes until another one, as long as the longest so far, would not fit into the time that is left.

        Raises:
            TooSlow: the time is over before ``least`` passes have been made.
        """
        longest, number = 0.0, 0
        iterator = iter(passes)
        while not number or self.remaining >= longest:
            began = self.clock()
            try:
                item = next(iterator)
            except StopIteration:
                return
            yield item
            longest, number = max(longest, self.clock() - began), number + 1
        if number < least:
            raise self.too_slow()

    def too_slow(self) -> TooSlow:
        """Returns the error."""
        return TooSlow(
            f"it would take longer than the {number(self.seconds)} s that a measurement may take on this machine"
        )
