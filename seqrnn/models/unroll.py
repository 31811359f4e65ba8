"""Runs a recurrence over whole sequences, and resets the state where a new sequence starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.models.protocol import State, restarted

Recurrence = Callable[[Tensor, State], tuple[Tensor, State]]
Restarts = Sequence[tuple[int, Tensor]]  # timesteps, in order, and the streams (B,) in which a sequence starts there


def restarts_of(starts: NDArray[Any]) -> Restarts:
    """Returns where sequences start, from ``starts`` (T, B), boolean."""
    return [(int(step), torch.from_numpy(starts[step])) for step in np.flatnonzero(starts.any(axis=1))]


def unroll(
    recurrence: Recurrence,
    initial_state: Callable[[int], State],
    inputs: Tensor,
    starts: Tensor,
    state: State,
    keep: int | None = None,
) -> tuple[Tensor, State]:
    """Runs a recurrence, with or without a head, over inputs (T, B, I).

    Args:
        starts: (T, B), boolean, on the CPU: before which timesteps a stream returns to its initial state.
        state: before the first timestep.
        keep: the timestep before which the state is returned; None, or one beyond the end: the final state.

    Returns:
        The outputs (T, B, ·), and that state.
    """
    return unroll_between(recurrence, initial_state, inputs, restarts_of(starts.numpy()), state, keep)


def unroll_between(
    recurrence: Recurrence,
    initial_state: Callable[[int], State],
    inputs: Tensor,
    restarts: Restarts,
    state: State,
    keep: int | None = None,
) -> tuple[Tensor, State]:
    """Does what ``unroll`` does, where it is known already where sequences start."""
    steps = len(inputs)
    if not restarts and (keep is None or keep >= steps):
        return recurrence(inputs, state)
    starting = dict(restarts)
    cuts = {0, steps, *starting}
    if keep is not None and keep < steps:
        cuts.add(keep)
    pieces, kept = [], state
    for begin, end in pairwise(sorted(cuts)):
        if begin in starting:
            state = restarted(state, starting[begin], initial_state(inputs.shape[1]))
        outputs, state = recurrence(inputs[begin:end], state)
        pieces.append(outputs)
        if keep is None or end <= keep:
            kept = state
    return (torch.cat(pieces) if len(pieces) > 1 else pieces[0]), kept
