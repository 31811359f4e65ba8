"""Recursive forecasts: what a network predicts is fed back to it as its next input.

T timesteps, N sequences, B origins (the timesteps from which forecasts are made), I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.device import DeviceContext
from seqrnn.kernels.specification import recurrence_of
from seqrnn.models.network import Network
from seqrnn.models.protocol import State
from seqrnn.models.unroll import unroll
from seqrnn.tasks.protocol import Batch, Chunk, Origins

ORIGINS_AT_ONCE = 1024
CHUNK = 1024  # timesteps before the first origin that are computed at a time
Indices = NDArray[np.int64]


Begun = TypeVar("Begun", bound=Origins)


def forecast(
    network: Network,
    batch: Batch,
    wanted: NDArray[np.bool_],
    begin: Callable[[Indices, Indices], Begun],
    steps: int,
    context: DeviceContext,
) -> Iterator[tuple[Indices, Indices, Begun]]:
    """Yields forecasts of several origins at a time, with the timesteps (B,) and the sequences (B,) of the origins.

    The network reads the batch up to each origin, and from there on what it has predicted itself.

    Args:
        network: in evaluation mode.
        wanted: (T, N), from which timesteps forecasts are wanted.
        begin: makes ``Origins`` of timesteps (B,) and sequences (B,).
        steps: of each forecast.
    """
    (times,) = np.nonzero(wanted.any(axis=1))
    if not len(times):
        return
    first, end, streams = int(times[0]), int(times[-1]) + 1, batch.streams
    state = network.initial_state(streams)
    with torch.inference_mode(), context.precision():
        for start in range(0, first, CHUNK):
            chunk = _read(batch, start, min(start + CHUNK, first), context)
            _, state = unroll(network.recur, network.initial_state, chunk.inputs, chunk.starts, state)
        length = max(1, ORIGINS_AT_ONCE // streams)
        for start in range(first, end, length):
            chunk = _read(batch, start, min(start + length, end), context)
            outputs, states, state = _all_states(network, chunk, state)
            timesteps, sequences = np.nonzero(wanted[start : start + length])
            if not len(timesteps):
                continue
            chosen = torch.from_numpy(timesteps * streams + sequences).to(context.device)
            origins = begin(timesteps + start, sequences)
            origins.take(outputs[chosen].to(context.dtype).cpu().numpy())
            now = tuple(part[:, chosen] for part in states)
            for _ in range(steps - 1):
                inputs = torch.from_numpy(origins.inputs())[None].to(context.device, context.dtype)
                made, now = network(inputs, now)
                origins.take(made[0].to(context.dtype).cpu().numpy())
            yield timesteps + start, sequences, origins


def _read(batch: Batch, start: int, stop: int, context: DeviceContext) -> Chunk:
    with torch.inference_mode(False):  # a task may keep what it makes, and training may use it too
        chunk = batch.read(start, stop)
    return context(chunk)


def _all_states(network: Network, chunk: Chunk, state: State) -> tuple[Tensor, State, State]:
    """Returns the outputs (T · N, O), the states after each timestep as those of T · N streams, and the last state
    (of N streams)."""
    recurrence = recurrence_of(network.cell)
    if (
        recurrence is not None and recurrence.specification.outputs_are_states and len(recurrence.layers) == 1
    ):  # all timesteps in one call
        hidden, state = unroll(network.recur, network.initial_state, chunk.inputs, chunk.starts, state)
        return network.head(hidden).flatten(0, 1), (hidden.flatten(0, 1)[None],), state
    outputs, states = [], []
    for timestep in range(len(chunk.inputs)):
        one = chunk.between(timestep, timestep + 1)
        made, state = unroll(network, network.initial_state, one.inputs, one.starts, state)
        outputs.append(made[0])
        states.append(state)
    together = tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))
    return torch.cat(outputs), together, state
