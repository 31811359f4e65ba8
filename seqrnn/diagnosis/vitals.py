"""Vital signs: what can be measured of a network in a moment, at each evaluation of a training (diagnose=true).

They go into the metrics, without intervals, so that their change is seen:

    half_life        timesteps after which a gradient has half its strength (see ``instruments.reach``)
    truncation       cosine of the schedule's gradient with the full one (see ``instruments.truncation``)
    saturated        share of the cell's outputs beyond ±0.99 (cells whose outputs stay within ±1)
    rank             effective rank of the cell's outputs (Roy & Vetterli 2007)

Nothing here draws random numbers or changes the network: a training with vital signs is bit for bit that without.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from seqrnn.components import Components
from seqrnn.diagnosis.excerpts import Excerpt
from seqrnn.diagnosis.gradients import (
    compare,
    forward_gradient,
    gradient_norms,
    half_life,
    reach_curve,
    states_along,
    windowed_gradient,
)
from seqrnn.diagnosis.instruments.truncation import beginning_of
from seqrnn.tasks.protocol import Chunk

TIMESTEPS, STREAMS = 128, 16  # that are looked at
LIMIT = 0.99


class Vitals:
    """Measures a network that is being trained.

    Args:
        components: of the run; the sequences are the first of the validation data.
    """

    def __init__(self, components: Components) -> None:
        self.components = components
        batch = components.task.validation()[0]
        chunk = batch.read(0, batch.timesteps)
        streams = chunk.valid.any(dim=0).nonzero().flatten()[:STREAMS]
        last = int(chunk.valid[:, streams].any(dim=1).nonzero().max())
        begun = chunk.starts[: last + 1, streams.cpu()].any(dim=1).nonzero()
        first = max(int(begun.max()) if len(begun) else 0, last + 1 - TIMESTEPS)
        which = slice(first, last + 1), streams
        self.chunk: Chunk = components.context(
            Chunk(chunk.inputs[which], chunk.targets[which], chunk.valid[which], chunk.starts[which])
        )

    def __call__(self) -> dict[str, float]:
        """Returns the vital signs of the network as it is, by name."""
        components, chunk, schedule = self.components, self.chunk, self.components.schedule
        network = copy.deepcopy(components.network).eval()
        timesteps, streams = chunk.valid.shape
        states = states_along(network, Excerpt(chunk, network.initial_state(streams)))
        ending = chunk.valid[-1]
        norms = gradient_norms(
            network,
            components.loss,
            chunk.inputs[:, ending],
            chunk.targets[-1, ending],
            network.initial_state(int(ending.sum())),
        )
        arguments = network, components.loss, chunk, states
        full = windowed_gradient(*arguments, timesteps, timesteps, carry=True)
        cut = full
        if schedule.gradient == "snap1":
            piece, before = beginning_of(chunk, states)
            cut = forward_gradient(components, network, piece, tuple(part[0] for part in before))
            full = windowed_gradient(network, components.loss, piece, before, None, None, carry=True)
        elif schedule.gradient == "bptt" and not (schedule.carry and (schedule.window or timesteps) >= timesteps):
            cut = windowed_gradient(*arguments, schedule.window, schedule.stride, schedule.carry)
        with torch.no_grad():
            outputs, _ = network.recur(chunk.inputs, network.initial_state(streams))  # (T, B, H)
        return {
            "half_life": half_life(reach_curve(norms)),
            "truncation": compare(cut, full)[0],
            "saturated": float((outputs.abs() > LIMIT).double().mean()),
            "rank": _effective_rank(outputs.flatten(0, 1).double()),
        }


def _effective_rank(outputs: Tensor) -> float:
    """Returns exp of the entropy of the normalised singular values of centred outputs (N, H)."""
    values = torch.linalg.svdvals(outputs - outputs.mean(dim=0))
    shares = values / values.sum().clamp_min(1e-30)
    entropy = -(shares * shares.clamp_min(1e-30).log()).sum()
    return math.exp(float(entropy))
