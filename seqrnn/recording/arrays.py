"""The arrays that a run writes: enough to draw its pictures from, and no more than a file should hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn.evaluation import Predictions
from seqrnn.tasks.protocol import Batch, Chunk

MOST_STORED = 2_000_000  # timesteps of test sequences
MOST_STORED_BYTES = 2**29  # half of what seqrnn.rundir.bounded_arrays reads
MOST_ANIMATED = 2_000  # timesteps of them in a frame of an animation
MOST_ANIMATED_CLASSES = 10_000  # the same of a classification
EXAMPLES = 25  # classified sequences whose inputs are kept, and as many of the mistakes
SHARED = ("inputs", "targets", "valid", "starts")  # by all frames of an animation
MOST_EXAMPLE_BYTES = 2**26  # of their inputs
SAMPLES = 10  # training sequences of a classification task
Arrays = dict[str, NDArray[Any]]


def samples(batch: Batch) -> Arrays:
    """Returns samples.npz: inputs (T, n, I) and targets (n,) of the first training sequences of a classification. The
    inputs are NaN behind the last judged timestep of a sequence, where it has ended."""
    chunk = batch.read(0, batch.timesteps)
    inputs, valid = chunk.inputs[:, :SAMPLES].numpy().copy(), chunk.valid[:, :SAMPLES].numpy()
    ended = ~np.maximum.accumulate(valid[::-1], axis=0)[::-1] & valid.any(axis=0)
    inputs[ended] = np.nan
    return {"inputs": inputs, "targets": chunk.targets[-1, :SAMPLES].numpy()}


def predictions_of(predictions: Predictions, kind: str) -> Arrays:
    """Returns predictions.npz.

    Regression: inputs, targets and outputs (T, N, ·), valid and starts (T, N) of the first sequences. Classification:
    outputs (N', O) and targets (N',) of all valid timesteps, timestep by timestep, and in ``sequences`` (N',) the
    test sequence of each; ``example_inputs`` (T, n, I) are the inputs of the sequences of the rows ``examples`` (n,):
    the first ones, and the mistakes with the most probable predictions.
    """
    if kind == "regression":
        arrays = {name: getattr(predictions, name) for name in ("inputs", "targets", "outputs", "valid", "starts")}
        sequence_bytes = sum(array[:, :1].nbytes for array in arrays.values())
        kept = max(1, min(MOST_STORED // len(predictions.inputs), MOST_STORED_BYTES // sequence_bytes))
        return {name: array[:, :kept] for name, array in arrays.items()}
    outputs, targets = predictions.judged()
    sequences = np.nonzero(predictions.valid)[1]
    most_probable = np.argsort(-outputs.max(axis=1) + _log_sum(outputs))
    mistakes = most_probable[outputs.argmax(axis=1)[most_probable] != targets[most_probable]]
    examples = np.unique(np.concatenate([np.arange(min(EXAMPLES, len(targets))), mistakes[:EXAMPLES]]))
    examples = examples[: max(1, MOST_EXAMPLE_BYTES // predictions.inputs[:, :1].nbytes)]
    return {
        "outputs": outputs,
        "targets": targets,
        "sequences": sequences,
        "examples": examples,
        "example_inputs": predictions.inputs[:, sequences[examples]],
    }


def _log_sum(logits: NDArray[Any]) -> NDArray[Any]:
    largest = logits.max(axis=1)
    total: NDArray[Any] = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return total


@dataclass(frozen=True)
class FirstSequences:
    """The first sequences of a test batch, as many as an animation shows; a batch itself."""

    batch: Batch
    kind: str

    @property
    def streams(self) -> int:
        most = MOST_ANIMATED_CLASSES if self.kind == "classification" else MOST_ANIMATED
        room = max(1, most // self.timesteps)
        return min(room, SAMPLES if self.kind == "classification" else room, self.batch.streams)

    @property
    def timesteps(self) -> int:
        return self.batch.timesteps

    def read(self, start: int, stop: int) -> Chunk:
        chunk = self.batch.read(start, stop)
        first = slice(self.streams)
        return Chunk(chunk.inputs[:, first], chunk.targets[:, first], chunk.valid[:, first], chunk.starts[:, first])


def packed(frames: Sequence[tuple[int, Predictions]]) -> dict[str, Any]:
    """Returns the frames of an animation so far as tensors. All show the same sequences, which are packed once."""
    if not frames:
        return {}
    shared = {name: torch.from_numpy(getattr(frames[0][1], name)) for name in SHARED}
    outputs = [torch.from_numpy(predictions.outputs) for _, predictions in frames]
    return {"timesteps": [timesteps for timesteps, _ in frames], "outputs": outputs, **shared}


def unpacked(frames: Mapping[str, Any]) -> list[tuple[int, Predictions]]:
    """Returns the frames that ``packed`` has packed."""
    if not frames:
        return []
    shared = {name: frames[name].numpy() for name in SHARED}
    return [
        (timesteps, Predictions(outputs=outputs.numpy(), **shared))
        for timesteps, outputs in zip(frames["timesteps"], frames["outputs"], strict=True)
    ]


def snapshots_of(frames: Sequence[tuple[int, Predictions]], kind: str) -> Arrays:
    """Returns snapshots.npz: timesteps (F,), inputs and targets (T, n, ·), and outputs (F, T, n, O) of the F frames;
    of a classification, targets and outputs at the last timestep only."""
    first = frames[0][1]
    judged = slice(-1, None) if kind == "classification" else slice(None)
    return {
        "timesteps": np.array([timesteps for timesteps, _ in frames]),
        "inputs": first.inputs,
        "targets": first.targets[judged],
        "outputs": np.stack([predictions.outputs[judged] for _, predictions in frames]),
    }
