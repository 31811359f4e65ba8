"""The one training loop, and evaluation. Nothing here asks which task, model or schedule it is running.

T timesteps, B streams, I inputs, O outputs; time comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, restarted
from seqrnn.monitor import Monitor
from seqrnn.schedule import Agenda, Schedule
from seqrnn.strategies.protocol import Strategy
from seqrnn.tasks.protocol import Batch, Chunk, Task

EVALUATION_CHUNK = 1024  # timesteps that are evaluated at a time


class Course:
    """Where training stands in its data, and what sets its learning rate."""

    def __init__(self, task: Task, schedule: Schedule, updates: int) -> None:
        self.agenda = Agenda(schedule, lambda epoch: task.train(epoch, schedule.streams))
        self.decay = schedule.decay(updates)


def train(
    task: Task,
    schedule: Schedule,
    strategy: Strategy,
    monitor: Monitor,
    course: Course | None = None,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Trains, until ``monitor`` says that it is over, the network that ``strategy`` was made for.

    Args:
        course: from where to go on, if not from the beginning.
        pause: is called wherever training could be left, and gone on with later: between updates, with everything
            that has happened counted. It may raise what ends it.

    Raises:
        Diverged: the loss or the gradient became NaN or infinite; the weights are those before that update.
    """
    course = course or Course(task, schedule, monitor.progress.planned_updates)
    agenda, decay = course.agenda, course.decay
    if not monitor.progress.evaluation:
        decay.evaluated(monitor.evaluate())
    pause()
    while not monitor.finished:
        updates = monitor.horizon
        parts = agenda.take(updates)
        if not parts:
            break  # a task that breaks its word: later epochs are shorter
        monitor.updated(strategy(parts, decay.factors(monitor.progress.position, updates)))
        if monitor.evaluation_is_due:
            decay.evaluated(monitor.evaluate())
        pause()
    if not monitor.evaluation_is_due:
        monitor.evaluate()
    strategy.finish()


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


def unroll(
    recurrence: Callable[[Tensor, State], tuple[Tensor, State]],
    initial_state: Callable[[int], State],
    inputs: Tensor,
    starts: Tensor,
    state: State,
    keep: int | None = None,
) -> tuple[Tensor, State]:
    """Runs a recurrence, with or without its head, over ``inputs`` (T, B, I), each stream from its initial state
    where ``starts`` (T, B) says.

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
            state = restarted(state, starts[begin], initial_state(inputs.shape[1]))
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
        outputs, state = unroll(network, network.initial_state, chunk.inputs, chunk.starts, state)
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
