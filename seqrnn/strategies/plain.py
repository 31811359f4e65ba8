"""Computes updates with torch, one after another: gradient of the windows, average, clipping, optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from seqrnn.device import DeviceContext
from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, detached
from seqrnn.models.unroll import unroll
from seqrnn.schedule import Schedule, Window, split_updates
from seqrnn.strategies import strategy_state
from seqrnn.strategies.protocol import Numbers, UpdateStats, WindowRanges
from seqrnn.strategies.strategy_state import StrategyState
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Batch, Chunk

Windows = Sequence[tuple[Batch, Window]]


class Gradients(Protocol):
    """Computes the gradient of an update. ``WindowByWindow`` is the reference."""

    states: dict[int, State]  # carried states by the timestep that they come before
    influence: dict[str, Tensor]  # as in ``StrategyState``

    def __call__(self, windows: Windows) -> tuple[float, int]:
        """Adds the gradient of the summed loss of the windows' fresh timesteps to the parameters' ``.grad``.

        Returns:
            That loss, and the number of valid targets that it is a sum over.
        """


class Plain:
    """Computes updates with torch's autograd and one of its optimizers.

    Args:
        gradients: computes the gradient of an update.
    """

    def __init__(self, network: Network, optimizer: Optimizer, schedule: Schedule, gradients: Gradients) -> None:
        self.network, self.parameters = network, list(network.parameters())
        self.optimizer, self.schedule, self.gradients = optimizer, schedule, gradients
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def prepare(self, announce: Callable[[str], None]) -> None:
        pass

    def state(self, streams: int, pending_carries: Sequence[int]) -> StrategyState:
        return StrategyState(
            strategy_state.optimizer_state(self.optimizer, self.network),
            strategy_state.group_settings(self.optimizer),
            strategy_state.cpu_states(self.gradients.states, pending_carries),
            self.gradients.influence if pending_carries else {},
        )

    def restore(self, state: StrategyState) -> None:
        strategy_state.load_optimizer_state(self.optimizer, self.network, state)
        strategy_state.load_states(self.gradients.states, state, self.parameters[0].device)
        self.gradients.influence = state.influence

    def finish(self) -> None:
        pass

    def __call__(self, ranges: WindowRanges, factors: Numbers) -> UpdateStats:
        rows = []
        for update, factor in zip(split_updates(ranges, self.schedule.windows_per_update), factors, strict=False):
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * float(factor)
            for parameter in self.parameters:  # also of those that the optimizer does not have
                parameter.grad = None
            windows = self.schedule.windows_of(update)
            loss, targets = self.gradients(windows)
            norm = average_and_clip(self.parameters, targets, self.schedule.clip_norm)
            timesteps = sum(batch.streams * (window.stop - window.fresh) for batch, window in windows)
            rows.append((update[0].epoch, timesteps, loss, targets, norm))
            if not (math.isfinite(loss) and math.isfinite(norm)):
                break
            if targets:
                self.optimizer.step()
        epochs, steps, losses, counts, norms = (np.array(column) for column in zip(*rows, strict=True))
        return UpdateStats(epochs, steps, losses, counts, norms, self.rates[0] * factors[: len(rows)])


def average_and_clip(parameters: Iterable[nn.Parameter], targets: int, clip_norm: float | None) -> float:
    """Divides summed gradients by the number of targets, and limits their norm; returns the norm before that."""
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    for parameter in moved:
        assert parameter.grad is not None
        parameter.grad /= max(1, targets)
    return float(clip_grad_norm_(moved, clip_norm or float("inf")))


class WindowRunner:
    """Runs the cell of a network over one window after another.

    A window begins with the detached state that was reached there when those timesteps were first computed; with
    stride < window, that was before the latest updates. From there on it is computed again with the present weights.
    """

    def __init__(self, network: Network, carry: bool, context: DeviceContext, data_format: DataFormat) -> None:
        self.network, self.carry, self.context, self.data_format = network, carry, context, data_format
        self.states: dict[int, State] = {}  # carried states by the timestep that they come before

    def __call__(self, batch: Batch, window: Window) -> tuple[Tensor, Chunk]:
        """Returns the outputs of the cell (T', B, H), and the data, of the window's fresh timesteps."""
        if window.fresh == 0:
            self.states.clear()  # a batch begins: other sequences
        state = self.states.pop(window.start, None) or self.network.initial_state(batch.streams)
        chunk = self.context(self.data_format.read(batch, window.start, window.stop))
        with self.context.precision():
            hidden, carried = unroll(
                self.network.recur,
                self.network.initial_state,
                chunk.inputs,
                chunk.starts,
                state,
                window.keep - window.start,
            )
        if self.carry and window.keep < batch.timesteps:
            self.states[window.keep] = detached(carried)
        fresh = window.fresh - window.start
        return hidden[fresh:], chunk.between(fresh, window.stop - window.start)


class WindowByWindow:
    """Computes the gradient of one window after another, forward and backward: the reference for faster ways."""

    def __init__(
        self, network: Network, loss: Loss, carry: bool, context: DeviceContext, data_format: DataFormat
    ) -> None:
        self.network, self.loss, self.context = network, loss, context
        self.run = WindowRunner(network, carry, context, data_format)
        self.states = self.run.states
        self.influence: dict[str, Tensor] = {}

    def __call__(self, windows: Windows) -> tuple[float, int]:
        total, count = 0.0, 0
        for batch, window in windows:
            loss, targets = self._pass(batch, window)
            total, count = total + loss, count + targets
        return total, count

    def _pass(self, batch: Batch, window: Window) -> tuple[float, int]:
        hidden, chunk = self.run(batch, window)
        with self.context.precision():
            outputs = self.network.head(hidden[chunk.valid])  # (targets, O): read only where there is a target
            losses = self.loss(outputs, chunk.targets[chunk.valid])  # (targets,)
            loss = losses.sum()
        if len(losses):
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.item(), len(losses)
