"""Runs side by side in one process, whose updates are computed together.

Each member is an ordinary run, with its own training loop, recorder and checkpoints, in a thread of its own. Only one
thread runs at a time: a member runs until its loop asks its strategy for updates, and then waits. When all members
wait, this module computes as many updates as each of them has asked for, and the members whose updates are complete
continue, one after another. So nothing in a run has to know of the others, and what a process has only once, such as
torch's generator of random numbers, is handed over with the turn.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrnn.components import Components
from seqrnn.errors import ConfigError
from seqrnn.population.captured import CapturedWindows
from seqrnn.population.joint import Found, JointNetwork, JointWindow, extent, joint_window, keep_states
from seqrnn.population.stack import Row, Stack
from seqrnn.population.steps import rule_of
from seqrnn.schedule import split_updates
from seqrnn.strategies import strategy_state
from seqrnn.strategies.choice import engine_on
from seqrnn.strategies.plain import Windows
from seqrnn.strategies.protocol import Numbers, UpdateStats, WindowRanges
from seqrnn.strategies.reading import WindowData, WindowReader
from seqrnn.strategies.strategy_state import StrategyState
from seqrnn.tasks.checks import DataFormat

Compute = Callable[[JointWindow], Found]


class Member:
    """The strategy of a run whose updates a population computes.

    Args:
        wait: returns when the updates in ``pending`` have been computed.
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
        self.carried: dict[int, Any] = {}
        self.rate = float(self.row.group["lr"])
        self.clip = self.schedule.clip_norm or np.inf
        self.pending: deque[tuple[WindowRanges, float]] = deque()  # updates, and their learning rates
        self.error: BaseException | None = None
        self._made: list[tuple[int, int, float, int, float, float]] = []
        self._wait = wait

    def prepare(self, announce: Callable[[str], None]) -> None:
        self.announce = announce

    def __call__(self, ranges: WindowRanges, factors: Numbers) -> UpdateStats:
        self.reader.plan(ranges, self.schedule)
        updates = split_updates(ranges, self.schedule.windows_per_update)
        self.pending = deque(
            (update, self.rate * float(factor)) for update, factor in zip(updates, factors, strict=False)
        )
        self._made = []
        self._wait()
        error, self.error = self.error, None
        if error is not None:
            raise error
        epochs, timesteps, losses, targets, norms, rates = zip(*self._made, strict=True)
        return UpdateStats(
            np.array(epochs, np.int64),
            np.array(timesteps, np.int64),
            np.array(losses),
            np.array(targets, np.int64),
            np.array(norms),
            np.array(rates),
        )

    def made(self, windows: Windows, loss: float, targets: int, norm: float) -> None:
        """Takes the figures of the next pending update. One that diverged is the last."""
        update, rate = self.pending.popleft()
        timesteps = sum(batch.streams * (window.stop - window.fresh) for batch, window in windows)
        self._made.append((update[0].epoch, timesteps, loss, targets, norm, rate))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.pending.clear()

    def fail(self, error: BaseException) -> None:
        """Makes the run end with an error."""
        self.pending.clear()
        self.error = error

    def state(self, streams: int, pending_carries: Sequence[int]) -> StrategyState:
        return StrategyState(
            self.row.state(),
            strategy_state.group_settings(self.optimizer),
            strategy_state.cpu_states(self.carried, pending_carries),
        )

    def restore(self, state: StrategyState) -> None:
        strategy_state.load_optimizer_state(self.optimizer, self.network, state)
        strategy_state.load_states(self.carried, state, self.row.weights.device)
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


class Population:
    """Computes the updates of members together, those whose windows have the same extents."""

    def __init__(self) -> None:
        self._stacks: dict[tuple[int, ...], tuple[Stack, Compute]] = {}

    def advance(self, members: Sequence[Member]) -> None:
        """Makes updates until one of the members has none pending."""
        torch.set_num_threads(members[0].threads)  # which is a setting of each thread
        while all(member.pending for member in members):
            groups: dict[Any, list[tuple[Member, Windows]]] = defaultdict(list)
            for member in members:
                windows = member.schedule.windows_of(member.pending[0][0])
                extents = tuple(extent(batch, window) for batch, window in windows)
                groups[extents].append((member, windows))
            for group in groups.values():
                try:
                    self._update(group)
                except Exception as error:  # such as a lack of memory: each run reports it as its own
                    for member, _ in group:
                        member.fail(error)

    def _update(self, group: Sequence[tuple[Member, Windows]]) -> None:
        """Makes one update of each member of a group."""
        read: list[list[WindowData]] = []
        sound = []
        for member, windows in group:
            try:
                read.append([member.reader(batch, window) for batch, window in windows])
                sound.append((member, windows))
            except Exception as error:  # its data is wrong, which does not concern the others
                member.fail(error)
        if not sound:
            return
        members = [member for member, _ in sound]
        stack, compute = self._stack(members)
        carried = [member.carried for member in members]
        losses, has_gradient = (
            torch.zeros(len(members), device=stack.weights.device, dtype=stack.weights.dtype),
            False,
        )
        for number in range(len(sound[0][1])):
            side = [windows[number] for _, windows in sound]
            found = compute(joint_window(side, [data[number] for data in read], carried))
            if members[0].schedule.carry:
                keep_states(tuple(part.clone() for part in found.kept), side, carried)
            if found.losses is not None:
                losses = losses + found.losses
                stack.add(found.gradients, is_first=not has_gradient)
                has_gradient = True
        targets = [sum(data.count for data in own) for own in read]
        self._take_step(sound, stack, losses, targets, has_gradient)

    @staticmethod
    def _take_step(
        group: Sequence[tuple[Member, Windows]],
        stack: Stack,
        losses: Tensor,
        targets: Sequence[int],
        has_gradient: bool,
    ) -> None:
        """Takes the optimizers' steps of those members that have targets and have not diverged, and reports the
        update to all of them."""
        members = [member for member, _ in group]
        norms = torch.zeros_like(losses)
        if has_gradient:
            clips = np.array([member.clip for member in members], dtype=np.float64)
            norms = stack.gather(np.maximum(targets, 1).astype(np.float64), clips)
        # The only time that the processor waits for the device, once for the update of all members.
        found = torch.stack([losses.double(), norms.double()]).cpu().numpy()
        is_finite = np.isfinite(found).all(axis=0).tolist()
        which = [number for number, count in enumerate(targets) if count and is_finite[number]]
        if which:
            rates = np.array([members[number].pending[0][1] for number in which])
            with torch.no_grad():
                stack.step(which, rates)
        for (member, windows), loss, count, norm in zip(
            group, found[0].tolist(), targets, found[1].tolist(), strict=True
        ):
            member.made(windows, loss, count, norm)

    def _stack(self, members: Sequence[Member]) -> tuple[Stack, Compute]:
        """Returns the rows of these members, side by side, and what computes their windows."""
        key = tuple(id(member.row) for member in members)  # which the stack keeps alive
        if key not in self._stacks:
            # Those of any of these members are not theirs any more.
            self._stacks = {old: parts for old, parts in self._stacks.items() if not {*old} & {*key}}
            first, stack = members[0], Stack([member.row for member in members])
            network = JointNetwork(first.network, first.loss, stack)
            engine = engine_on(stack.weights.device) if first.captures else None
            compute = network if engine is None else CapturedWindows(network, engine, first.announce)
            self._stacks[key] = stack, compute
        return self._stacks[key]


def _say_nothing(text: str) -> None:
    pass
