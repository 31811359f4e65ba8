"""Where a trained network goes on sequences of its task: states, and the steps from one to the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqrnn.diagnosis.subject import Subject
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, restarted

FEWEST_CASES = 16
MOST_STEPS = 8192


@dataclass(frozen=True)
class Steps:
    """N timesteps of evaluation sequences, each on its own; S of them as long as their cases are independent.

    Args:
        inputs: (N, I).
        before: the state before each timestep, parts (L, N, H).
        after: the state after it.
        outputs: (N, H), of the cell.
        cases: (N,), the number of the sequence, or of the block of time of a sequence, that a timestep belongs to.
        starts: (N,), whether a sequence begins there.
        over: what the cases are, for people.
    """

    inputs: Tensor
    before: State
    after: State
    outputs: Tensor
    cases: Tensor
    starts: Tensor
    over: str

    @property
    def count(self) -> int:
        """Of cases."""
        return int(self.cases.max()) + 1


def cases_of(timesteps: int, streams: int) -> tuple[Tensor, str]:
    """The independent case (T, B) that each timestep is of: its sequence, or, of few sequences, a block of time.

    Neighbouring blocks are not quite independent: the interval over few sequences is somewhat too narrow where blocks
    are short for how slowly the sequence changes.
    """
    blocks = 1 if streams >= FEWEST_CASES else min(timesteps, -(-FEWEST_CASES // streams))
    block = torch.arange(timesteps) * blocks // timesteps  # (T,)
    sequences = f"{streams} sequence{'s' * (streams > 1)}"
    over = sequences if blocks == 1 else f"{blocks * streams} blocks of time of {sequences}"
    return block[:, None] * streams + torch.arange(streams), over


def sampled_steps(subject: Subject) -> Steps:
    """Up to ``MOST_STEPS`` steps that are spread evenly over the evaluation sequences."""
    chunk, states = subject.evaluation, subject.states
    timesteps, streams = chunk.starts.shape
    every = -(-timesteps * streams // MOST_STEPS)
    cases, over = cases_of(timesteps, streams)
    chosen = torch.arange(0, timesteps, every)
    there = chosen.to(chunk.inputs.device)
    inputs = chunk.inputs[there].flatten(0, 1)  # (N, I)
    before = tuple(part[there].transpose(0, 1).flatten(1, 2) for part in states)  # (L, N, H)
    with torch.no_grad():
        outputs, after = subject.network.cell(inputs[None], before)
    return Steps(inputs, before, after, outputs[0], cases[chosen].flatten(), chunk.starts[chosen].flatten(), over)


def followed(network: Network, inputs: Tensor, starts: Tensor) -> Tensor:
    """The state after each timestep of ``inputs`` (T, B, I), all its parts and layers side by side: (T, B, S)."""
    streams = inputs.shape[1]
    state = network.initial_state(streams)
    result = []
    with torch.no_grad():
        for step, fresh in zip(inputs, starts, strict=True):
            if fresh.any():
                state = restarted(state, fresh, network.initial_state(streams))
            _, state = network.cell(step[None], state)
            result.append(torch.cat([part.transpose(0, 1).flatten(1) for part in state], dim=1))  # (B, S)
    return torch.stack(result)
