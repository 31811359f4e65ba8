"""The study's runs as its sections ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seqrnn.diagnosis.intervals import Interval
from studies import runs
from studies.integral.arms import Arm, rates
from studies.runs import Result

SMOKE = ("smoke=true",)


@dataclass(frozen=True)
class Study:
    """Where runs lie and pictures go, and how much of it all is made.

    Args:
        folder: of runs and other results; kept between calls.
        pictures: where pictures go.
        quick: every run shrunk to a moment, to see that all works; the figures mean nothing.
        processes: side by side.
        say: tells people how far it is.
    """

    folder: Path
    pictures: Path
    quick: bool
    processes: int
    say: Callable[[str], None] = print
    known: dict[Arm, Result] = field(default_factory=dict)

    @property
    def extra(self) -> tuple[str, ...]:
        return SMOKE if self.quick else ()

    def make(self, arms: Sequence[Arm]) -> None:
        """Runs those arms that have not been run yet."""
        sweeps = [arm.sweep(self.extra) for arm in dict.fromkeys(arms)]
        runs.make(sweeps, self.folder / "runs", self.processes, self.say)

    def result(self, arm: Arm) -> Result:
        if arm not in self.known:
            self.known[arm] = runs.collect(arm.sweep(self.extra), self.folder / "runs")
        return self.known[arm]

    def tuned(self, arm: Arm, decay: str = "cosine") -> Arm:
        """The arm at the best of its step sizes, by validation error."""
        choices = rates(arm, decay)
        return choices[runs.tuned([self.result(choice) for choice in choices])]

    def ratio(self, arm: Arm, other: Arm) -> Interval:
        """The error of ``arm`` as a multiple of that of ``other``."""
        return runs.ratio(self.result(arm), self.result(other))
