"""The states of a trained network on sequences of its task, and independent groups of timesteps.

N timesteps, T timesteps of B sequences, S numbers of a state, I inputs, H units, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, restarted

FEWEST_GROUPS = 16
MOST_STEPS = 8192
FEWEST_STEPS = 512


@dataclass(frozen=True)
class Steps:
    """N timesteps of validation sequences, each on its own.

    Args:
        inputs: (N, I).
        before: the state before each timestep, parts (L, N, H).
        after: the state after it.
        outputs: (N, H), of the cell.
        groups: (N,), the number of the sequence, or of the block of time of a sequence, that a timestep belongs to.
        starts: (N,), whether a sequence begins there.
        independent: what the groups are, for reports.
    """

    inputs: Tensor
    before: State
    after: State
    outputs: Tensor
    groups: Tensor
    starts: Tensor
    independent: str


def independent_groups(timesteps: int, streams: int) -> tuple[Tensor, str]:
    """Returns the number of the independent group (T, B) that each timestep belongs to, and what the groups are: the
    sequences, or, of few sequences, blocks of time.

    Neighbouring blocks are not quite independent: the interval over few sequences is somewhat too narrow where the
    sequence changes slowly compared with a block.
    """
    blocks = 1 if streams >= FEWEST_GROUPS else min(timesteps, -(-FEWEST_GROUPS // streams))
    block = torch.arange(timesteps) * blocks // timesteps  # (T,)
    sequences = f"{streams} sequence{'s' * (streams > 1)}"
    independent = sequences if blocks == 1 else f"{blocks * streams} blocks of time of {sequences}"
    return block[:, None] * streams + torch.arange(streams), independent


def sampled_steps(run: TrainedRun) -> Steps:
    """Returns up to ``MOST_STEPS`` steps that are spread evenly over the validation sequences.

    Raises:
        TooSlow: there is no time for ``FEWEST_STEPS``.
    """
    chunk, states = run.validation, run.states
    timesteps, streams = chunk.starts.shape
    _, most = run.affordable(1, MOST_STEPS, least=(1, FEWEST_STEPS))
    every = -(-timesteps * streams // most)
    groups, independent = independent_groups(timesteps, streams)
    chosen = torch.arange(0, timesteps, every)
    there = chosen.to(chunk.inputs.device)
    inputs = chunk.inputs[there].flatten(0, 1)  # (N, I)
    before = tuple(part[there].transpose(0, 1).flatten(1, 2) for part in states)  # (L, N, H)
    with torch.no_grad():
        outputs, after = run.network.cell(inputs[None], before)
    own = groups[chosen].flatten()
    return Steps(inputs, before, after, outputs[0], own, chunk.starts[chosen].flatten(), independent)


def states_after(
    network: Network, inputs: Tensor, starts: Tensor, check: Callable[[], object] = lambda: None
) -> Tensor:
    """Returns the state after each timestep of ``inputs`` (T, B, I), parts and layers side by side: (T, B, S).

    Args:
        check: is called before each timestep, and raises an error when the time is over.
    """
    streams = inputs.shape[1]
    state = network.initial_state(streams)
    result = []
    with torch.no_grad():
        for step, fresh in zip(inputs, starts, strict=True):
            check()
            if fresh.any():
                state = restarted(state, fresh, network.initial_state(streams))
            _, state = network.cell(step[None], state)
            result.append(torch.cat([part.transpose(0, 1).flatten(1) for part in state], dim=1))  # (B, S)
    return torch.stack(result)
