"""Compares an exported network with the run that it comes from. T timesteps, N sequences, I inputs, O outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seqrnn.errors import DataError
from seqrnn.exporting.formats import Function
from seqrnn.exporting.programs import Timesteps
from seqrnn.models.network import Network
from seqrnn.models.protocol import State
from seqrnn.models.unroll import unroll

TOLERANCE = 1e-5  # of outputs
STATE_TOLERANCE = 1e-3  # a unit that keeps its state over 1,000 timesteps adds up the rounding of as many
PIECE = 1024  # timesteps that are computed in a call
STREAMED = 100  # timesteps that are computed one by one as well
MOST_TIMESTEPS = 20_000  # of each sequence
Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sequences:
    """Whole sequences of test data.

    Args:
        given: (T, N, ·), as the exported network is given them.
        inputs: (T, N, I), the same as the run's network is given them.
        starts: (T, N), where a new sequence begins.
    """

    given: Tensor
    inputs: Tensor
    starts: Tensor


@dataclass(frozen=True)
class Verified:
    """The result of a comparison.

    Args:
        difference: the largest between outputs of the export and of the run, or between their states.
        timesteps, sequences: T and N of what was compared.
    """

    difference: float
    timesteps: int
    sequences: int


def verify(
    exported: Function,
    network: Network,
    outputs_of: Transform,
    data: Sequences,
    timesteps: Timesteps,
) -> Verified:
    """Compares outputs and states of an exported network with those of the network of the run.

    The state is carried through whole sequences. The first timesteps are compared once more, with one in each call.

    Args:
        outputs_of: maps the outputs of the run's network to what the exported one should return.
        timesteps: that the export computes in a call.

    Raises:
        DataError: outputs differ by more than ``TOLERANCE``, or states by more than ``STATE_TOLERANCE``, in units of
            the larger of 1 and the largest number that the run computes; or they are NaN or infinite.
    """
    steps, sequences = min(len(data.inputs), MOST_TIMESTEPS), data.inputs.shape[1]
    ways = [(_one_by_one(exported), steps)]
    if timesteps == "any":
        ways = [(exported, steps), (_one_by_one(exported), min(steps, STREAMED))]
    with torch.inference_mode():
        difference = max(_difference(way, network, outputs_of, data, length) for way, length in ways)
    return Verified(difference, steps, sequences)


def _one_by_one(exported: Function) -> Function:
    """Returns what computes the same with one call for each timestep."""

    def run(inputs: Tensor, state: State) -> tuple[Tensor, State]:
        outputs = []
        for x in inputs:
            output, state = exported(x[None], state)
            outputs.append(output)
        return torch.cat(outputs), state

    return run


def _difference(
    exported: Function, network: Network, outputs_of: Transform, data: Sequences, timesteps: int
) -> float:
    """Returns the largest difference in the first timesteps."""
    initial = network.initial_state
    state = other = initial(data.inputs.shape[1])
    largest = 0.0
    for begin in range(0, timesteps, PIECE):
        piece = slice(begin, min(begin + PIECE, timesteps))
        outputs, state = unroll(network, initial, data.inputs[piece], data.starts[piece], state)
        found, other = unroll(exported, initial, data.given[piece], data.starts[piece], other)
        compared = [("outputs", outputs_of(outputs), found, TOLERANCE)]
        compared += [("state", *parts, STATE_TOLERANCE) for parts in zip(state, other, strict=True)]
        for what, expected, value, allowed in compared:
            scale = expected.abs().max().clamp(min=1)
            difference = ((value - expected).abs().max() / scale).item()
            if not difference <= allowed:  # also NaN
                raise DataError(
                    f"the exported network differs from the run by {difference:.2g} in its {what}, in timesteps "
                    f"{begin:,} to {piece.stop - 1:,} of the test data, and {allowed:g} is allowed; try another "
                    "--format, or train with precision=float64"
                )
            largest = max(largest, difference)
    return largest
