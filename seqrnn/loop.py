"""The one training loop, and evaluation. Nothing here asks which task, model or schedule it is running.

T timesteps, B streams, I inputs, O outputs; time comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, detached, restarted
from seqrnn.monitor import Monitor
from seqrnn.schedule import Schedule, Window
from seqrnn.tasks.protocol import Batch, Chunk, Task

EVALUATION_CHUNK = 1024  # timesteps that are evaluated at a time
Windows = Sequence[tuple[Batch, Window]]


class Gradients(Protocol):
    """How the gradient of an update is computed: ``WindowByWindow`` is the plain way."""

    def __call__(self, windows: Windows) -> tuple[float, int]:
        """Adds the gradient of the summed loss of the windows' fresh timesteps to the parameters' ``.grad``.

        Returns:
            That loss, and how many valid targets it is a sum over.
        """


def train(
    network: Network,
    task: Task,
    schedule: Schedule,
    optimizer: torch.optim.Optimizer,
    gradients: Gradients,
    monitor: Monitor,
) -> None:
    """Trains ``network`` in place, until ``monitor`` says that it is over.

    Raises:
        Diverged: the loss or the gradient became NaN or infinite; the weights are those before that update.
    """
    parameters = list(network.parameters())
    decay = schedule.decay(optimizer, monitor.progress.planned_updates)
    decay.evaluated(monitor.evaluate())
    for epoch in range(schedule.epochs):
        for windows in schedule.updates(task.train(epoch, schedule.streams)):
            lr = decay.set_rate(monitor.progress.position)
            optimizer.zero_grad()
            loss, targets = gradients(windows)
            norm = average_and_clip(parameters, targets, schedule.clip_norm)
            monitor.check(loss, norm)
            if targets:
                optimizer.step()
            timesteps = sum(batch.streams * (window.stop - window.fresh) for batch, window in windows)
            monitor.updated(epoch, timesteps, loss, targets, norm, lr)
            if monitor.evaluation_is_due:
                decay.evaluated(monitor.evaluate())
            if monitor.finished:
                return
    if not monitor.evaluation_is_due:  # a task that breaks its word: later epochs are shorter
        monitor.evaluate()


def average_and_clip(parameters: Iterable[nn.Parameter], targets: int, clip_norm: float | None) -> float:
    """Divides summed gradients by the number of targets, limits their norm, and returns the norm before that."""
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    for parameter in moved:
        assert parameter.grad is not None
        parameter.grad /= max(1, targets)
    return float(clip_grad_norm_(moved, clip_norm or float("inf")))


@dataclass(frozen=True)
class Place:
    """Where, and in which precision, a network computes."""

    device: torch.device
    dtype: torch.dtype
    autocast: torch.dtype | None = None  # the type of mixed precision, if any

    def __call__(self, chunk: Chunk) -> Chunk:
        """The chunk, put there."""
        return chunk.to(self.device, self.dtype)

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Within it, operations run in mixed precision if that was asked for."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            yield


class WindowByWindow:
    """The plain way: one window after another, forward and backward. A faster way must give the same gradient.

    A window begins with the state that was reached there when those timesteps were first seen, detached; with
    stride < window, that was before the latest updates. From there on it is run again, with the present weights.
    """

    def __init__(self, network: Network, loss: Loss, carry: bool, place: Place) -> None:
        self.network, self.loss, self.carry, self.place = network, loss, carry, place
        self.states: dict[int, State] = {}  # by the timestep that they come before

    def __call__(self, windows: Windows) -> tuple[float, int]:
        total, count = 0.0, 0
        for batch, window in windows:
            loss, targets = self._pass(batch, window)
            total, count = total + loss, count + targets
        return total, count

    def _pass(self, batch: Batch, window: Window) -> tuple[float, int]:
        if window.fresh == 0:
            self.states.clear()  # other sequences begin
        state = self.states.pop(window.start, None) or self.network.initial_state(batch.streams)
        chunk = self.place(batch.read(window.start, window.stop))
        fresh = window.fresh - window.start
        valid = chunk.valid[fresh:]  # (T', B)
        with self.place.precision():
            hidden, kept = unroll(self.network.cell, chunk.inputs, chunk.starts, state, window.keep - window.start)
            outputs = self.network.head(hidden[fresh:][valid])  # (targets, O): read only where there is a target
            losses = self.loss(outputs, chunk.targets[fresh:][valid])  # (targets,)
            loss = losses.sum()
        if self.carry and window.keep < batch.timesteps:
            self.states[window.keep] = detached(kept)
        if len(losses):
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.item(), len(losses)


def unroll(
    recurrence: Any, inputs: Tensor, starts: Tensor, state: State, keep: int | None = None
) -> tuple[Tensor, State]:
    """Runs a cell or a network over ``inputs`` (T, B, I), each stream from its initial state where ``starts`` (T, B)
    says.

    Returns:
        Its outputs (T, B, ·), and the state before timestep ``keep`` (None, or beyond the end: the final one).
    """
    steps = len(inputs)
    cuts = {0, steps, *starts.any(dim=1).nonzero().flatten().tolist()}
    if keep is not None and keep < steps:
        cuts.add(keep)
    pieces, kept = [], state
    for begin, end in pairwise(sorted(cuts)):
        if starts[begin].any():
            state = restarted(state, starts[begin], recurrence.initial_state(inputs.shape[1]))
        outputs, state = recurrence(inputs[begin:end], state)
        pieces.append(outputs)
        if keep is None or end <= keep:
            kept = state
    return (torch.cat(pieces) if len(pieces) > 1 else pieces[0]), kept


@dataclass(frozen=True)
class Predictions:
    """What a predictor makes of N whole sequences: inputs (T, N, I), targets (T, N, O) or (T, N), outputs
    (T, N, O); valid and starts (T, N)."""

    inputs: NDArray[Any]
    targets: NDArray[Any]
    outputs: NDArray[Any]
    valid: NDArray[np.bool_]
    starts: NDArray[np.bool_]

    def judged(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Outputs and targets where the target is valid: (N', O), and (N', O) or (N',)."""
        return self.outputs[self.valid], self.targets[self.valid]


def predict(network: Network, batches: Sequence[Batch], place: Place) -> Predictions:
    """Runs a network, in evaluation mode, over whole sequences, carrying its state from the first timestep to the
    last, whatever schedule it was trained with."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode(), place.precision():
            parts = [_respond(network, batch, place) for batch in batches]
    finally:
        network.train(was_training)
    return Predictions(*(np.concatenate(pieces, axis=1) for pieces in zip(*parts, strict=True)))


def _respond(network: Network, batch: Batch, place: Place) -> list[NDArray[Any]]:
    """Inputs, targets, outputs, valid and starts of one batch, whole."""
    state, chunks = network.initial_state(batch.streams), []
    for start in range(0, batch.timesteps, EVALUATION_CHUNK):
        chunk = place(batch.read(start, min(start + EVALUATION_CHUNK, batch.timesteps)))
        outputs, state = unroll(network, chunk.inputs, chunk.starts, state)
        values = (chunk.inputs, chunk.targets, outputs.to(place.dtype), chunk.valid, chunk.starts)
        chunks.append([value.cpu().numpy() for value in values])
    return [np.concatenate(pieces) for pieces in zip(*chunks, strict=True)]


def score(predictions: Predictions, task: Task, loss: Loss) -> dict[str, float]:
    """The loss per valid target, and the task's metrics."""
    outputs, targets = predictions.judged()
    losses = loss(torch.from_numpy(outputs), torch.from_numpy(targets))
    return {"loss": losses.mean(dtype=torch.float64).item(), **task.metrics(outputs, targets)}


def score_baselines(predictions: Predictions, task: Task, loss: Loss) -> dict[str, dict[str, float]]:
    """The same scores, by name, of the task's trivial predictors on the same sequences."""
    values = (predictions.inputs, predictions.targets, predictions.valid, predictions.starts)
    chunk = Chunk(*(torch.from_numpy(value) for value in values))
    return {
        name: score(replace(predictions, outputs=predictor(chunk).numpy()), task, loss)
        for name, predictor in task.baselines().items()
    }
