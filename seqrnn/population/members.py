"""Runs side by side in one process, whose updates are computed together.

Each member is an ordinary run, with its own training loop, recorder and checkpoints, in a thread of its own. Only one
thread runs at a time: a member runs until its loop asks its strategy for updates, and then waits. When all members
wait, ``seqrnn.population.updates`` makes as many updates as each of them has asked for, and the members whose updates
are complete continue, one after another. So nothing in a run has to know of the others, and what a process has only
once, such as torch's generator of random numbers, is handed over with the turn.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from seqrnn.components import Components
from seqrnn.errors import ConfigError
from seqrnn.models.protocol import State
from seqrnn.population.joint import Carried, MemberState
from seqrnn.population.plans import Plan, PlannedUpdate, planned
from seqrnn.population.stack import Row
from seqrnn.population.steps import rule_of
from seqrnn.strategies import strategy_state
from seqrnn.strategies.protocol import Numbers, UpdateStats, WindowRanges
from seqrnn.strategies.reading import WindowReader
from seqrnn.strategies.strategy_state import StrategyState
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Batch


class Member:
    """The strategy of a run whose updates a population computes.

    Args:
        wait: returns when all updates that are pending have been computed.
    """

    def __init__(self, components: Components, wait: Callable[[], None]) -> None:
        rule = rule_of(components.optimizer)
        if rule is None:
            raise ConfigError(f"optimizer.name={components.values['optimizer']['name']}: no rule for a population")
        self.network, self.optimizer = components.network, components.optimizer
        self.schedule, self.loss, self.context = components.schedule, components.loss, components.context
        self.captures = components.settings.capture
        self.announce: Callable[[str], None] = _say_nothing
        self.threads = torch.get_num_threads()
        self.reader = WindowReader(components.context, DataFormat.of(components.task))
        self.row = Row(self.network, self.optimizer, rule)
        self.carried: Carried = {}
        self.rate = float(self.row.group["lr"])
        self.clip = self.schedule.clip_norm or np.inf
        self.error: BaseException | None = None
        self.batches: list[Batch] = []  # of the pending updates
        self._plan: Plan | None = None
        self._rates: Sequence[float] = ()  # learning rates of the planned updates
        self._made: list[tuple[float, int, float]] = []  # losses, targets and norms of those that have been made
        self._end = 0  # how many will be made
        self._wait = wait

    def prepare(self, announce: Callable[[str], None]) -> None:
        self.announce = announce

    @property
    def pending(self) -> int:
        """How many updates the run waits for."""
        return self._end - len(self._made)

    @property
    def update(self) -> PlannedUpdate:
        """The first pending update."""
        assert self._plan is not None
        return self._plan.updates[len(self._made)]

    @property
    def update_rate(self) -> float:
        """The learning rate of the first pending update."""
        return self._rates[len(self._made)]

    def __call__(self, ranges: WindowRanges, factors: Numbers) -> UpdateStats:
        self.reader.plan(ranges, self.schedule)
        self.batches, plan = planned(ranges, self.schedule)
        self._plan = plan
        self._rates = (self.rate * factors[: len(plan.updates)]).tolist()
        self._made, self._end = [], len(self._rates)
        self._wait()
        error, self.error = self.error, None
        if error is not None:
            raise error
        losses, targets, norms = zip(*self._made, strict=True)
        made = slice(len(losses))
        return UpdateStats(
            plan.epochs[made],
            plan.timesteps[made],
            np.array(losses),
            np.array(targets, np.int64),
            np.array(norms),
            np.array(self._rates[made]),
        )

    def made(self, loss: float, targets: int, norm: float) -> None:
        """Takes the figures of the first pending update. One that diverged is the last."""
        self._made.append((loss, targets, norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._end = len(self._made)

    def fail(self, error: BaseException) -> None:
        """Makes the run end with an error."""
        self._end = len(self._made)
        self.error = error

    def state(self, streams: int, pending_carries: Sequence[int]) -> StrategyState:
        return StrategyState(
            self.row.state(),
            strategy_state.group_settings(self.optimizer),
            strategy_state.cpu_states({before: self._state(before) for before in pending_carries}, pending_carries),
        )

    def _state(self, before: int) -> State:
        """Returns the state that is carried to a timestep."""
        carried = self.carried[before]
        return carried.parts() if isinstance(carried, MemberState) else carried

    def restore(self, state: StrategyState) -> None:
        strategy_state.load_optimizer_state(self.optimizer, self.network, state)
        states: dict[int, State] = {}
        strategy_state.load_states(states, state, self.row.weights.device)
        self.carried = {**states}
        self.row.load()

    def finish(self) -> None:
        self.row.release()


class Turns:
    """Threads that take turns with the main thread: exactly one runs at a time.

    Each has its own state of torch's generators of random numbers.
    """

    def __init__(self) -> None:
        self._returned = threading.Semaphore(0)

    def start(self, work: Callable[[Turn], object]) -> Turn:
        """Runs ``work`` in a new thread, up to its first ``Turn.wait`` or to its end."""
        turn = Turn(self._returned, work)
        self.give(turn)
        return turn

    def give(self, turn: Turn) -> None:
        """Lets a thread run until it waits or ends.

        Raises:
            KeyboardInterrupt: Ctrl-C; the thread waits or has ended.
        """
        own = _generators()
        _set_generators(turn.generators or own)
        interrupted = False
        turn.go.release()
        while True:
            try:
                self._returned.acquire()
                break
            except KeyboardInterrupt:
                interrupted = True
        turn.generators = _generators()
        _set_generators(own)
        if interrupted:
            raise KeyboardInterrupt


class Turn:
    """A thread that runs only when it is given the turn."""

    def __init__(self, returned: threading.Semaphore, work: Callable[[Turn], object]) -> None:
        self.go, self._returned = threading.Semaphore(0), returned
        self.generators: list[Tensor] = []
        self.has_ended = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[Turn], object]) -> None:
        self.go.acquire()
        try:
            work(self)
        except BaseException as error:
            self.error = error
        finally:
            self.has_ended = True
            self._returned.release()

    def wait(self) -> None:
        """Returns the turn, and waits for the next one. Called in the thread."""
        self._returned.release()
        self.go.acquire()


def _generators() -> list[Tensor]:
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *on_gpu]


def _set_generators(states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])


def _say_nothing(text: str) -> None:
    pass
