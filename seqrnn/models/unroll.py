"""Runs a recurrence over whole sequences, and resets the state where a new sequence starts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from seqrnn.models.protocol import State, restarted


def unroll(
    recurrence: Callable[[Tensor, State], tuple[Tensor, State]],
    initial_state: Callable[[int], State],
    inputs: Tensor,
    starts: Tensor,
    state: State,
    keep: int | None = None,
) -> tuple[Tensor, State]:
    """Runs a recurrence, with or without a head, over inputs (T, B, I).

    Args:
        starts: (T, B), boolean: before which timesteps a stream returns to its initial state.
        state: before the first timestep.
        keep: the timestep before which the state is returned; None, or one beyond the end: the final state.

    Returns:
        The outputs (T, B, ·), and that state.
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
