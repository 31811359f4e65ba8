"""Computes updates with torch, one after another: gradient of the windows, average, clipping, optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from seqrnn.device import DeviceContext
from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State
from seqrnn.models.unroll import unroll_between
from seqrnn.schedule import Schedule, Window, split_updates
from seqrnn.strategies import strategy_state
from seqrnn.strategies.capture import CapturedUpdates, timesteps_layout
from seqrnn.strategies.engine import Engine
from seqrnn.strategies.optimizer_step import OptimizerStep, ParameterStep, optimizer_step
from seqrnn.strategies.protocol import Numbers, UpdateStats, WindowRanges
from seqrnn.strategies.reading import WindowData, WindowReader, selected
from seqrnn.strategies.strategy_state import StrategyState
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Batch

Windows = Sequence[tuple[Batch, Window]]


class Gradients(Protocol):
    """Computes the gradient of an update. ``WindowByWindow`` is the reference."""

    reader: WindowReader
    states: dict[int, State]  # carried states by the timestep that they come before
    influence: dict[str, Tensor]  # as in ``StrategyState``

    def read(self, windows: Windows) -> Sequence[Any]:
        """Returns the windows of an update with their data."""

    def __call__(self, inputs: Sequence[Any]) -> tuple[list[Tensor], int]:
        """Adds the gradient of the summed loss of the windows' fresh timesteps to the parameters' ``.grad``. Does not
        wait for the device.

        Args:
            inputs: from ``read``.

        Returns:
            Losses () whose sum that loss is, and the number of valid targets that it is a sum over.
        """


class Plain:
    """Computes updates with torch's autograd and one of its optimizers.

    Losses and norms stay on the device until the end of a block of updates, so that the processor need not wait for
    the device. If an update in the middle of the block turns out to have diverged, the block is computed once more
    from its beginning, up to that update.

    Args:
        gradients: computes the gradient of an update.
        engine: captures updates, so that later ones repeat them (see ``seqrnn.strategies.capture``); None: each is
            computed by itself.
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        schedule: Schedule,
        gradients: Gradients,
        engine: Engine | None = None,
    ) -> None:
        self.network, self.parameters = network, list(network.parameters())
        self.optimizer, self.schedule, self.gradients, self.engine = optimizer, schedule, gradients, engine
        self._captured: CapturedUpdates | None = None
        self._announce: Callable[[str], None] = lambda text: None
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.zero = self.parameters[0].new_zeros(())
        self._step: OptimizerStep | None = None  # made by the first update, after the state has been restored

    def prepare(self, announce: Callable[[str], None]) -> None:
        self._announce = announce

    def state(self, streams: int, pending_carries: Sequence[int]) -> StrategyState:
        return StrategyState(
            self._step.state() if self._step else strategy_state.optimizer_state(self.optimizer, self.network),
            strategy_state.group_settings(self.optimizer),
            strategy_state.cpu_states(self.gradients.states, pending_carries),
            self.gradients.influence if pending_carries else {},
        )

    def restore(self, state: StrategyState) -> None:
        self.finish()
        strategy_state.load_optimizer_state(self.optimizer, self.network, state)
        strategy_state.load_states(self.gradients.states, state, self.parameters[0].device)
        self.gradients.influence = state.influence

    def finish(self) -> None:
        if self._step:
            self._step.finish()
            self._step = self._captured = None

    def _use(self, step: OptimizerStep) -> None:
        """Steps by ``step`` from now on."""
        self._step = step
        if self.engine is not None:
            self._captured = CapturedUpdates(self.engine, self.network, self.gradients, step.gather, self._announce)

    def __call__(self, ranges: WindowRanges, factors: Numbers) -> UpdateStats:
        if self._step is None:
            clip_norm = self.schedule.clip_norm
            self._use(optimizer_step(self.network, self.optimizer, clip_norm, self.engine, self._announce))
        self.gradients.reader.plan(ranges, self.schedule)
        updates = list(split_updates(ranges, self.schedule.windows_per_update))[: len(factors)]
        restore = self._snapshot() if len(updates) > 1 else None
        figures = Figures()
        try:
            for number, update in enumerate(updates):
                if number:
                    self._take_step(figures, factors[number - 1])
                self._gradient(update, figures)
        except Exception:
            if restore is None or figures.first_diverged() is None:
                raise  # else what failed was given the numbers of an update that had diverged
        diverged = figures.first_diverged()
        if diverged is None:
            self._take_step(figures, factors[len(updates) - 1])
        elif restore is not None and diverged + 1 < len(updates):
            restore()
            kept = Figures()
            for number, update in enumerate(updates[:diverged]):
                self._gradient(update, kept)
                self._take_step(kept, factors[number])
        count = len(updates) if diverged is None else diverged + 1
        return figures.stats(count, self.rates[0] * factors[:count])

    def _gradient(self, update: WindowRanges, figures: Figures) -> None:
        """Computes the gradient of an update, averaged and clipped."""
        windows = self.schedule.windows_of(update)
        inputs = self.gradients.read(windows)
        compute = partial(self._compute, inputs)
        found, targets = self._captured(inputs, compute) if self._captured else compute()
        timesteps = sum(batch.streams * (window.stop - window.fresh) for batch, window in windows)
        figures.add(update[0].epoch, timesteps, found, targets)

    def _compute(self, inputs: Sequence[Any]) -> tuple[Tensor, int]:
        """Computes a gradient; returns losses and its norm as one tensor, and how many targets are valid."""
        for parameter in self.parameters:  # also of those that the optimizer does not have
            parameter.grad = None
        losses, targets = self.gradients(inputs)
        norm = self._gather(targets) if targets else self.zero
        return torch.stack([*(losses or [self.zero]), norm]), targets

    def _gather(self, targets: int) -> Tensor:
        assert self._step is not None
        norm = self._step.gather(targets)
        if norm is None:  # some parameters have no gradient, and optimizers leave those alone
            self._step.finish()
            self._use(step := ParameterStep(self.network, self.optimizer, self.schedule.clip_norm))
            norm = step.gather(targets)
            assert norm is not None
        return norm

    def _take_step(self, figures: Figures, factor: float) -> None:
        assert self._step is not None
        if figures.targets[-1]:
            self._step([rate * float(factor) for rate in self.rates])

    def _snapshot(self) -> Callable[[], None]:
        """Returns a function that sets everything that updates depend on to what it is now."""
        assert self._step is not None
        gradients, restore_weights = self.gradients, self._step.snapshot()
        states, influence = dict(gradients.states), gradients.influence
        generator = torch.get_rng_state()
        on_device = torch.cuda.get_rng_state(self.zero.device) if self.zero.is_cuda else None

        def restore() -> None:
            restore_weights()
            gradients.states.clear()
            gradients.states.update(states)
            gradients.influence = influence
            torch.set_rng_state(generator)
            if on_device is not None:
                torch.cuda.set_rng_state(on_device, self.zero.device)

        return restore


class Figures:
    """Collects the figures of the updates of a block; losses and norms stay on the device until the end."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.timesteps: list[int] = []
        self.targets: list[int] = []
        self._found: list[Tensor] = []
        self._fetched: tuple[Numbers, Numbers] | None = None

    def add(self, epoch: int, timesteps: int, found: Tensor, targets: int) -> None:
        """Adds an update.

        Args:
            found: the losses of its windows, and the norm of its gradient.
        """
        self.epochs.append(epoch)
        self.timesteps.append(timesteps)
        self.targets.append(targets)
        self._found.append(found)

    def _fetch(self) -> tuple[Numbers, Numbers]:
        """Returns losses and norms; waits for the device the first time."""
        if self._fetched is None:
            values = torch.cat(self._found).double().cpu().numpy()
            counts = [each.shape[0] for each in self._found]
            ends = np.cumsum(counts)
            updates = np.repeat(np.arange(len(counts)), counts)
            norms = values[ends - 1].copy()
            values[ends - 1] = 0.0
            losses = np.bincount(updates, weights=values).astype(np.float64)
            self._fetched = found = losses, norms
            return found
        return self._fetched

    def first_diverged(self) -> int | None:
        """Returns the number of the first update whose loss or gradient is NaN or infinite; None: there is none."""
        losses, norms = self._fetch() if self.epochs else (np.empty(0), np.empty(0))
        found = np.flatnonzero(~(np.isfinite(losses) & np.isfinite(norms)))
        return int(found[0]) if len(found) else None

    def stats(self, count: int, rates: Numbers) -> UpdateStats:
        """Returns the figures of the first ``count`` updates."""
        losses, norms = self._fetch()
        epochs, timesteps, targets = (
            np.array(column[:count], np.int64) for column in (self.epochs, self.timesteps, self.targets)
        )
        return UpdateStats(epochs, timesteps, losses[:count], targets, norms[:count], rates)


@dataclass(frozen=True, slots=True)
class WindowInput:
    """A window with its data.

    Args:
        streams: of its batch.
        is_carried: whether the state before ``window.keep`` belongs to its batch.
    """

    window: Window
    streams: int
    is_carried: bool
    data: WindowData

    @property
    def start(self) -> int:
        return self.window.start

    @property
    def begins_batch(self) -> bool:
        return self.window.fresh == 0

    def layout(self, origin: int) -> Hashable:
        return timesteps_layout(self.window, origin), self.streams, self.is_carried, self.data.layout

    def tensors(self) -> list[Tensor]:
        return self.data.tensors()

    def with_tensors(self, tensors: Sequence[Tensor]) -> WindowInput:
        return replace(self, data=self.data.with_tensors(tensors))


class WindowRunner:
    """Runs the cell of a network over one window after another.

    A window begins with the detached state that was reached there when those timesteps were first computed; with
    stride < window, that was before the latest updates. From there on it is computed again with the present weights.
    """

    def __init__(self, network: Network, carry: bool, context: DeviceContext, data_format: DataFormat) -> None:
        self.network, self.carry, self.context = network, carry, context
        self.reader = WindowReader(context, data_format)
        self.states: dict[int, State] = {}  # carried states by the timestep that they come before

    def read(self, batch: Batch, window: Window) -> WindowInput:
        """Returns a window with its data."""
        return WindowInput(window, batch.streams, window.keep < batch.timesteps, self.reader(batch, window))

    def __call__(self, each: WindowInput) -> Tensor:
        """Returns the outputs of the cell (T', B, H) for the window's fresh timesteps."""
        window, restarts = each.window, each.data.restarts
        if window.fresh == 0:
            self.states.clear()  # a batch begins: other sequences
        state = self.states.pop(window.start, None)
        if state is None:
            state = self.network.initial_state(each.streams)
            restarts = [
                found for found in restarts if found[0]
            ]  # sequences that start here are in that state already
        recur, initial_state, keep = self.network.recur, self.network.initial_state, window.keep - window.start
        with self.context.precision():
            hidden, carried = unroll_between(recur, initial_state, each.data.inputs, restarts, state, keep)
        if self.carry and each.is_carried:
            self.states[window.keep] = self.context.carried(carried)
        fresh = window.fresh - window.start
        return hidden[fresh:] if fresh else hidden


class WindowByWindow:
    """Computes the gradient of one window after another, forward and backward: the reference for faster ways."""

    def __init__(
        self, network: Network, loss: Loss, carry: bool, context: DeviceContext, data_format: DataFormat
    ) -> None:
        self.network, self.loss, self.context = network, loss, context
        self.run = WindowRunner(network, carry, context, data_format)
        self.reader, self.states = self.run.reader, self.run.states
        self.influence: dict[str, Tensor] = {}

    def read(self, windows: Windows) -> Sequence[WindowInput]:
        return [self.run.read(batch, window) for batch, window in windows]

    def __call__(self, inputs: Sequence[WindowInput]) -> tuple[list[Tensor], int]:
        losses, count = [], 0
        for each in inputs:
            hidden, data = self.run(each), each.data
            if data.count:
                with self.context.precision():
                    outputs = self.network.head(selected(hidden, data.selection))  # (N, O)
                    loss = self.loss(outputs, data.targets)  # (N,)
                    loss = loss.sum() if data.count > 1 else loss
                loss.backward()  # type: ignore[no-untyped-call]
                losses.append(loss.detach().reshape(()))
                count += data.count
        return losses, count
