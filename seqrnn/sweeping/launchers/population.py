"""Runs the jobs of a sweep as populations: side by side in this process, with updates that are computed together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from pydantic import BaseModel

from seqrnn import device, registry
from seqrnn.api import Host
from seqrnn.bounds import Count
from seqrnn.checkpoints.signals import Signals
from seqrnn.components import Components
from seqrnn.errors import ConfigError
from seqrnn.monitor import Pace
from seqrnn.plots.helper import Helper
from seqrnn.population import compatibility
from seqrnn.population.members import Member, Turn, Turns
from seqrnn.population.updates import Population
from seqrnn.sweeping.job import CarryOut

WHERE = "hydra.launcher"
MOST_NAMED = 5  # jobs that an error names


class PopulationSettings(BaseModel, frozen=True, extra="forbid", strict=True):
    """``hydra.launcher.*`` of ``hydra/launcher=population``; its file in conf/ says what they mean."""

    size: Count


def launch(
    task: CarryOut, names: Sequence[str], settings: Mapping[str, Any], announce: Callable[[str], object]
) -> None:
    """Runs jobs, and returns when all have ended.

    Args:
        names: of the jobs.
        settings: ``hydra.launcher.*``.
        announce: called with a line for the user.

    Raises:
        ConfigError: the settings are wrong, or jobs cannot be members of a population; none has begun.
        KeyboardInterrupt: the sweep was interrupted; the jobs have written checkpoints.
    """
    problems = registry.problems_with(PopulationSettings, settings, WHERE)
    if problems:
        raise ConfigError(*problems)
    size = PopulationSettings.model_validate(settings).size
    groups = _groups(task, names)
    if len(groups) > 1:
        counts = ", ".join(str(len(group)) for group in groups)
        announce(f"  {len(groups)} populations, of {counts} jobs, one after another")
    has_helper = task.draws and device.available_cores() > 1
    with Helper(announce) if has_helper else nullcontext() as pictures:
        for group in groups:
            _Jobs(task, group, size, pictures).run()


def _groups(task: CarryOut, names: Sequence[str]) -> list[list[str]]:
    """Returns the jobs of each population.

    Raises:
        ConfigError: some jobs can be in none.
    """
    refused: dict[str, list[str]] = {}
    groups: dict[str, list[str]] = {}
    for name in names:
        values = task.sweep.read_job(name).values
        obstacle = compatibility.obstacle(values)
        if obstacle:
            refused.setdefault(obstacle, []).append(name)
        else:
            groups.setdefault(compatibility.alike(values), []).append(name)
    if refused:
        raise ConfigError(*(f"hydra/launcher=population: {_of_jobs(jobs)}: {what}" for what, jobs in refused.items()))
    return list(groups.values())


def _of_jobs(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"job{'s' * (len(names) > 1)} {shown}{more}"


class _Job:
    """A job that runs as a member of a population, from its beginning to its first updates.

    Args:
        pace: of all members.
        carry_out: carries out the job, in a thread; it is given what the run takes from this process.
    """

    def __init__(self, turns: Turns, pace: Pace, carry_out: Callable[[Host], object]) -> None:
        self.member: Member | None = None
        self.signals = Signals()  # which are this process's; they are handed on to it
        self.turn = turns.start(
            lambda turn: carry_out(Host(lambda run: self._join(run, turn), lambda: self.signals, pace=lambda: pace))
        )

    def _join(self, components: Components, turn: Turn) -> Member:
        """Returns the strategy of the run, which waits for its updates."""
        self.member = Member(components, turn.wait)
        return self.member


class _Jobs:
    """The jobs of one population.

    Args:
        names: those that have not begun.
        size: the most that run at a time; when one has ended, the next one begins.
    """

    def __init__(self, task: CarryOut, names: Sequence[str], size: int, pictures: Helper | None) -> None:
        self._task, self._waiting, self._size, self._pictures = task, deque(names), size, pictures
        self._turns, self._population = Turns(), Population()
        self._running: list[_Job] = []
        self._failed: list[BaseException] = []  # errors that are not a run's own

    def run(self) -> None:
        """Runs them all.

        Raises:
            KeyboardInterrupt: the sweep was interrupted; the jobs have written checkpoints.
        """
        interruption: KeyboardInterrupt | None = None
        with Signals() as signals, signals.deferred():
            while self._running or (self._waiting and not signals.pending and interruption is None):
                try:
                    self._begin(signals.pending or interruption is not None)
                    self._hand_on(signals)
                    self._advance()
                except KeyboardInterrupt as error:  # the second Ctrl-C: its user does not want to wait
                    interruption = error
                    for member in self._members():
                        member.fail(KeyboardInterrupt())
        if interruption is not None:
            raise interruption
        if self._failed:
            raise self._failed[0]

    def _begin(self, is_ending: bool) -> None:
        """Begins jobs while there is room for them."""
        while self._waiting and len(self._running) < self._size and not is_ending:
            name = self._waiting.popleft()
            carry_out = partial(self._task.run, name, self._pictures)
            self._running.append(_Job(self._turns, self._population.pace, carry_out))
            self._drop_ended()

    def _hand_on(self, signals: Signals) -> None:
        """Hands signals that this process has received on to the runs."""
        for job in self._running:
            if signals.received and not job.signals.pending:
                job.signals.request(signals.received[0])

    def _advance(self) -> None:
        """Computes updates, and lets those jobs continue whose updates are complete."""
        members = self._members()
        if members:
            self._population.advance(members)
        for job in list(self._running):
            if job.member is not None and not job.member.pending:
                self._turns.give(job.turn)
        self._drop_ended()

    def _members(self) -> list[Member]:
        return [job.member for job in self._running if job.member is not None and not job.turn.has_ended]

    def _drop_ended(self) -> None:
        for job in self._running:
            error = job.turn.error
            if job.turn.has_ended and error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
                self._failed.append(error)
        self._running = [job for job in self._running if not job.turn.has_ended]
