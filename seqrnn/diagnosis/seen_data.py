"""What a trained network has seen, and what it answers, on validation data: for instruments that judge the data.

T timesteps, B streams, N targets that count, I inputs, O outputs, S numbers of a state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.diagnosis.intervals import Interval, Numbers, resampled, spread
from seqrnn.diagnosis.readout import decoded, scaled
from seqrnn.diagnosis.trained_run import MOST_STREAMS, TrainedRun
from seqrnn.diagnosis.trajectories import independent_groups, states_after
from seqrnn.errors import DataError
from seqrnn.tasks.protocol import Chunk

FEWEST, ENOUGH = 64, 2000  # targets
MOST = 2**15  # timesteps


@dataclass(frozen=True)
class Seen:
    """
    Args:
        chunk: of validation sequences.
        states: (T, B, S), after each timestep.
        outputs: (T, B, O).
        wanted: (T, B, O), the targets; of classes, 1 for the class and 0 for the others.
        groups: (T, B), the number of the independent group of each timestep.
        independent: what the groups are.
    """

    chunk: Chunk
    states: Numbers
    outputs: Tensor
    wanted: Numbers
    groups: NDArray[np.int64]
    independent: str

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Whether the target of a timestep counts, (T, B)."""
        found: NDArray[np.bool_] = self.chunk.valid.cpu().numpy()
        return found


def seen(run: TrainedRun) -> Seen:
    """Runs the network over validation sequences.

    Raises:
        DataError: there are too few targets, or some numbers among them are missing.
        TooSlow: it takes too long.
    """
    chunk = run.validation
    timesteps, streams = chunk.valid.shape
    if streams == MOST_STREAMS and int(chunk.valid.sum()) < ENOUGH:
        chunk = run.validation_sequences(max(MOST_STREAMS, MOST // timesteps))
        timesteps, streams = chunk.valid.shape
    if int(chunk.valid.sum()) < FEWEST:
        raise DataError(f"the validation data has only {int(chunk.valid.sum())} targets")
    if chunk.targets.is_floating_point() and chunk.targets[chunk.valid].isnan().any():
        raise DataError("some numbers among the targets are missing")
    timesteps, streams = run.affordable(
        min(timesteps, max(1, MOST // streams)), streams, passes=2, least=(min(timesteps, FEWEST), 1)
    )
    chunk = run.first_of(chunk, timesteps, streams)
    states = states_after(run.network, chunk.inputs, chunk.starts, run.budget.check)
    outputs = _outputs(run, chunk)
    wanted = chunk.targets
    if not wanted.is_floating_point():
        wanted = torch.nn.functional.one_hot(wanted.clamp(min=0), run.components.task.output_size)
    groups, independent = independent_groups(timesteps, streams)
    return Seen(chunk, states.cpu().numpy(), outputs, wanted.double().cpu().numpy(), groups.numpy(), independent)


def _outputs(run: TrainedRun, chunk: Chunk) -> Tensor:
    from seqrnn.models.unroll import unroll

    with torch.no_grad():
        state = run.network.initial_state(chunk.inputs.shape[1])
        outputs, _ = unroll(run.network, run.network.initial_state, chunk.inputs, chunk.starts, state)
    return outputs


def error_ratio(features: Numbers, more: Numbers, targets: Numbers, groups: NDArray[np.int64]) -> Interval:
    """Returns the squared error of a linear readout of targets (N, O) from ``features`` and ``more`` by that from
    ``features`` (N, F) alone, on groups (N,) that they were not fitted to."""
    known = scaled(features)
    without = decoded(known, targets, groups).errors.sum(axis=1)
    both = decoded(np.concatenate([known, scaled(more)], axis=1), targets, groups).errors.sum(axis=1)
    sums = np.stack([both, without], axis=1)  # (G, 2)
    drawn, total = resampled(sums), sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return spread(float(total[0] / total[1]), drawn[:, 0] / drawn[:, 1], len(sums))


def spread_over(count: int, most: int) -> NDArray[np.int64]:
    """Returns at most so many numbers below ``count``, in order and spread evenly."""
    found: NDArray[np.int64] = np.linspace(0, count - 1, min(count, most)).astype(np.int64)
    return found
