"""The study's runs as its sections ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seqrnn.diagnosis.intervals import Interval
from studies import runs
from studies.integral.arms import Arm, rates
from studies.runs import Result, Sweep


@dataclass(frozen=True)
class Study:
    """The folders and the size of a study.

    Args:
        folder: of runs and other results; what is in it is not made a second time.
        pictures: the folder of pictures.
        quick: shrinks every run to seconds, as a test; the figures mean nothing.
        processes: at a time.
        announce: prints how many sweeps have been made.
    """

    folder: Path
    pictures: Path
    quick: bool
    processes: int
    announce: Callable[[str], None] = print
    known: dict[Arm, Result] = field(default_factory=dict)

    def sweep(self, name: str, overrides: Sequence[str], seeds: Sequence[int]) -> Sweep:
        if self.quick:
            return Sweep(name, (*overrides, "smoke=true"), tuple(seeds[:2]))
        return Sweep(name, tuple(overrides), tuple(seeds))

    def of(self, arm: Arm) -> Sweep:
        return self.sweep(arm.name, arm.overrides, arm.seeds)

    def make(self, sweeps: Sequence[Sweep]) -> None:
        """Trains the missing runs."""
        runs.make(sweeps, self.folder / "runs", self.processes, self.announce)

    def make_arms(self, arms: Sequence[Arm]) -> None:
        self.make([self.of(arm) for arm in arms])

    def result(self, arm: Arm) -> Result:
        if arm not in self.known:
            self.known[arm] = runs.collect(self.of(arm), self.folder / "runs")
        return self.known[arm]

    def tuned(self, arm: Arm, decay: str = "cosine") -> Arm:
        """Returns the arm at the best of its step sizes, by validation error."""
        choices = rates(arm, decay)
        return choices[runs.tuned([self.result(choice) for choice in choices])]

    def ratio(self, arm: Arm, other: Arm) -> Interval:
        """Returns the error of ``arm`` as a multiple of that of ``other``."""
        return runs.ratio(self.result(arm), self.result(other))
