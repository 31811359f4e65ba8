"""Predictions of a network on whole sequences, and their scores. T timesteps, N sequences, I inputs, O outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn import recursion
from seqrnn.device import DeviceContext
from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.unroll import unroll
from seqrnn.tasks.protocol import Batch, Chunk, RecursiveBatch, Task

CPU = torch.device("cpu")
EVALUATION_CHUNK = 1024  # timesteps that are evaluated at a time


@dataclass(frozen=True)
class Predictions:
    """The outputs of a predictor for N whole sequences, and their data.

    Args:
        inputs: (T, N, I), of the network.
        targets: (T, N, O), or (T, N) class indices.
        outputs: (T, N, O).
        valid, starts: (T, N); see ``seqrnn.tasks.protocol.Chunk``.
        batches: that the sequences were read from, side by side; empty where that is not known.
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    outputs: NDArray[Any]
    valid: NDArray[np.bool_]
    starts: NDArray[np.bool_]
    batches: Sequence[Batch] = ()

    def judged(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Returns outputs (N', O) and targets (N', O) or (N',) of the N' valid targets."""
        return self.outputs[self.valid], self.targets[self.valid]


def predict(network: Network, batches: Sequence[Batch], context: DeviceContext) -> Predictions:
    """Returns the predictions of a network, in evaluation mode, for whole sequences. The state is carried from the
    first timestep to the last, whatever schedule the network was trained with. Where a batch is judged by recursive
    forecasts, these are made."""
    batches = list(batches)  # a sequence may make them each time it is asked
    was_training, judged_by = network.training, [judged_as(batch) for batch in batches]
    network.eval()
    try:
        with torch.inference_mode(), context.precision():
            parts = [
                _predict_batch(network, batch, context)
                if batch is judged
                else _forecast_batch(network, judged, context)
                for batch, judged in zip(batches, judged_by, strict=True)
            ]
    finally:
        network.train(was_training)
    inputs, targets, outputs, valid, starts = (np.concatenate(one, axis=1) for one in zip(*parts, strict=True))
    return Predictions(inputs, targets, outputs, valid, starts, tuple(judged_by))


def generate(network: Network, task: Task, context: DeviceContext) -> dict[str, NDArray[Any]]:
    """Returns the arrays that a task makes with a trained network (its ``generate_with``); none if it makes none."""
    task_generates = getattr(task, "generate_with", None)
    if task_generates is None:
        return {}
    state = network.initial_state(1)

    def feed(inputs: NDArray[np.float32]) -> NDArray[Any]:
        nonlocal state
        values = torch.from_numpy(inputs)[None, None].to(context.device, context.dtype)  # (1, 1, I)
        outputs, state = network(values, state)
        made: NDArray[Any] = outputs[0, 0].to(context.dtype).cpu().numpy()  # (O,)
        return made

    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode(), context.precision():
            arrays: dict[str, NDArray[Any]] = task_generates(feed)
    finally:
        network.train(was_training)
    return arrays


def judged_as(batch: Batch) -> Any:
    """Returns the batch that has the targets by which predictions of ``batch`` are judged."""
    return getattr(batch, "recursive", None) or batch


def _forecast_batch(network: Network, batch: RecursiveBatch, context: DeviceContext) -> list[NDArray[Any]]:
    """Returns inputs, targets, outputs, valid and starts of a whole batch of recursive forecasts; outputs are 0 where
    the target does not count."""
    with torch.inference_mode(False):
        chunk, read = (one.read(0, one.timesteps).to(CPU, context.dtype) for one in (batch, batch.source))
    targets, valid, starts = (getattr(chunk, name).numpy() for name in ("targets", "valid", "starts"))
    outputs = np.zeros_like(targets)
    for timesteps, streams, origins in recursion.forecast(
        network, batch.source, valid, batch.begin, batch.steps, context
    ):
        outputs[timesteps, streams] = origins.outputs
    return [read.inputs.numpy(), targets, outputs, valid, starts]


def _predict_batch(network: Network, batch: Batch, context: DeviceContext) -> list[NDArray[Any]]:
    """Returns inputs, targets, outputs, valid and starts of a whole batch."""
    state, chunks = network.initial_state(batch.streams), []
    for start in range(0, batch.timesteps, EVALUATION_CHUNK):
        with torch.inference_mode(False):  # a task may keep what it makes, and training may use it too
            chunk = batch.read(start, min(start + EVALUATION_CHUNK, batch.timesteps))
        chunk = context(chunk)
        outputs, state = unroll(network, network.initial_state, chunk.inputs, chunk.starts, state)
        values = (chunk.inputs, chunk.targets, outputs.to(context.dtype), chunk.valid, chunk.starts)
        chunks.append([value.cpu().numpy() for value in values])
    return [np.concatenate(pieces) for pieces in zip(*chunks, strict=True)]


def score(predictions: Predictions, task: Task, loss: Loss) -> dict[str, float]:
    """Returns the loss per valid target, and the task's metrics."""
    outputs, targets = predictions.judged()
    losses = loss(torch.from_numpy(outputs), torch.from_numpy(targets))
    return {"loss": losses.mean(dtype=torch.float64).item(), **task.metrics(*judged(predictions, task))}


def judged(predictions: Predictions, task: Task) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the outputs and targets of the N' valid timesteps that the task's metrics take: (N', …) each."""
    own = getattr(task, "judged", None)
    found: tuple[NDArray[Any], NDArray[Any]] = predictions.judged() if own is None else own(predictions)
    return found


def horizon_of(outputs: NDArray[Any], task: Task) -> int:
    """Returns how many timesteps each of the outputs predicts that ``judged`` has returned for a task."""
    return outputs.shape[1] if hasattr(task, "judged") and outputs.ndim == 3 else 1


def times_of(predictions: Predictions) -> tuple[NDArray[Any], bool]:
    """Returns when each valid timestep is (N',), and whether times of different sequences can be compared; of a task
    without times, which timestep of its sequence it is."""
    times = [batch.times for batch in predictions.batches if hasattr(batch, "times")]
    if times:
        share_time = all(getattr(batch, "share_time", False) for batch in predictions.batches)
        return np.concatenate(times, axis=1)[predictions.valid], share_time
    return np.nonzero(predictions.valid)[0], False


def score_baselines(predictions: Predictions, task: Task, loss: Loss) -> dict[str, dict[str, float]]:
    """Returns the same scores of the task's trivial predictors, by their names, on the same sequences."""
    return {name: score(made, task, loss) for name, made in predict_baselines(predictions, task)}


def predict_baselines(predictions: Predictions, task: Task) -> Iterator[tuple[str, Predictions]]:
    """Yields the names of the task's trivial predictors, and their predictions on the same sequences."""
    inputs = predictions.inputs
    if any(getattr(batch, "source", None) is not None for batch in predictions.batches):  # baselines read all steps
        read = (batch.read(0, batch.timesteps).inputs.numpy() for batch in predictions.batches)
        inputs = np.concatenate(list(read), axis=1).astype(inputs.dtype)
    values = (inputs, predictions.targets, predictions.valid, predictions.starts)
    chunk = Chunk(*(torch.from_numpy(value) for value in values))
    for name, predictor in task.baselines().items():
        yield name, replace(predictions, outputs=predictor(chunk).numpy())


def score_baselines_on(
    batches: Sequence[Batch], task: Task, loss: Loss, context: DeviceContext
) -> dict[str, dict[str, float]]:
    """Returns the scores of the task's trivial predictors on whole sequences that no network has seen."""
    batches = [judged_as(batch) for batch in batches]
    chunks = [batch.read(0, batch.timesteps).to(CPU, context.dtype) for batch in batches]
    inputs, targets, valid, starts = (
        torch.cat([getattr(chunk, name) for chunk in chunks], dim=1).numpy()
        for name in ("inputs", "targets", "valid", "starts")
    )
    without_outputs = Predictions(inputs, targets, targets[..., :0], valid, starts, tuple(batches))
    return score_baselines(without_outputs, task, loss)
