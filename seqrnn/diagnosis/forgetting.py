"""Forgetting: whether the network is better on what it has just been trained on than on what it has not.

While training goes on (see ``seqrnn.diagnosis.continued``), at many moments, with the weights of that moment:

    loss(k)     on a stretch of 50 timesteps per stream that training passed k timesteps ago: 50, 500, 5,000, 50,000
    ahead       on such stretches that training will come to later: never seen, or, where the data is finite, not
                since the last epoch
    unseen      on the sequences that are evaluated during training

    recency gap = 1 − loss(50) / ahead

A network that follows the latest points has a gap above 0 (French 1999, "Catastrophic forgetting in connectionist
networks"); one that has memorised its finite data has none, but has ahead below unseen. Short sequences are taken
whole. The network comes to each stretch with the state that it reaches in the 500 timesteps before it.

Caveats: intervals are a bootstrap over blocks of neighbouring moments, which depend on each other. Where the learning
rate has decayed to nothing, nothing is being forgotten, whatever was before.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn.diagnosis.continued import Continued
from seqrnn.diagnosis.intervals import Interval, bootstrapped, in_blocks, of_mean, of_ratio
from seqrnn.diagnosis.subject import Stretch, Subject
from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.unroll import unroll

AGES = (50, 500, 5_000, 50_000)
AHEAD = (700, 3_000, 12_000, 40_000)
LENGTH = 50  # timesteps of a stretch
MOMENTS, BLOCKS = 160, 20
TOGETHER = 8  # moments whose weights are averaged, at least
STREAMS = 16  # of a stretch
APART = 250  # timesteps per stream between two moments
PAIRS = 2**14  # (timestep, stream) pairs of unseen sequences
SECONDS = 6.0  # that training may take
TINY = 1e-30  # a loss of which there are logarithms
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Forgetting:
    """
    Args:
        ages: timesteps per stream; those that the run is long enough for.
        losses: at those ages.
        ahead, unseen: losses.
        gap: the recency gap.
        unseen_ratio: unseen / ahead.
        factor: on the optimizer's learning rate, of the last update.
        averaged: the loss on unseen sequences of weights averaged over the moments of a block, by that of the
            weights from its middle on: below 1 where steps are so large that they throw the weights about (Polyak &
            Juditsky 1992).
        change: the loss on unseen sequences in the last quarter of the moments, by that of the run's own network:
            what going on brings.
        passed: timesteps per stream from the end of the run to the last moment.
        moments: how many.
        update_ratio: ‖Δw‖ / ‖w‖ of one update, by parameter.
    """

    ages: list[int]
    losses: list[Interval]
    ahead: Interval
    unseen: Interval
    gap: Interval
    unseen_ratio: Interval
    factor: float
    averaged: Interval
    change: Interval
    passed: int
    moments: int
    update_ratio: dict[str, Interval]


def measure(subject: Subject) -> Forgetting:
    """
    Raises:
        Diverged: training that went on diverged.
    """
    going = Continued(subject, SECONDS / 3)
    try:
        return _measure(subject, going)
    finally:
        going.close()


def _measure(subject: Subject, going: Continued) -> Forgetting:
    run, loss = going.run, going.run.loss
    updates = max(1, APART // subject.update_timesteps)
    moments = int(min(MOMENTS, max(BLOCKS, SECONDS / (going.pace * updates))))
    ages = [age for age in AGES if age <= subject.position]
    chunk = run.context(subject.unseen(max(STREAMS, PAIRS // len(subject.evaluation.inputs))))
    unseen = Stretch(chunk, run.network.initial_state(chunk.inputs.shape[1]))
    finished = mean_loss(subject.components.network, loss, unseen)
    rows, weights, ratios = [], [], []
    for _ in going.snapshots(moments, updates):
        going.network.eval()
        places = [going.position - age for age in ages] + [going.position + far for far in AHEAD]
        stretches = [
            subject.stretch(max(0, context), LENGTH, streams=STREAMS, network=going.network, context=run.context)
            for context in places
        ]
        rows.append([mean_loss(going.network, loss, stretch) for stretch in (*stretches, unseen)])
        before = going.weights()
        weights.append(before)
        going.network.train()
        going.train(1)
        ratios.append(_update_ratios(going.network, before, going.weights()))
    found = np.array(rows)
    ahead = np.nanmean(found[:, len(ages) : -1], axis=1)
    table = in_blocks(np.column_stack([found[:, : len(ages)], ahead, found[:, -1]]), BLOCKS)
    column = {name: table[:, at] for at, name in enumerate([*ages, "ahead", "unseen"])}
    quarter = max(1, len(table) // 4)
    names = [name for name, _ in going.network.named_parameters()]

    def mean(name: object) -> Interval:
        return bootstrapped(len(table), lambda chosen: float(column[name][chosen].mean()))

    def ratio(name: object, other: object) -> Interval:
        return bootstrapped(
            len(table), lambda chosen: float(column[name][chosen].mean() / max(column[other][chosen].mean(), TINY))
        )

    recent = ratio(ages[0], "ahead") if ages else Interval(math.nan, -math.inf, math.inf)
    return Forgetting(
        ages=ages,
        losses=[mean(age) for age in ages],
        ahead=mean("ahead"),
        unseen=mean("unseen"),
        gap=Interval(1 - recent.value, 1 - recent.high, 1 - recent.low),
        unseen_ratio=ratio("unseen", "ahead"),
        factor=going.factor,
        averaged=_averaged(going, unseen, weights, found[:, -1]),
        change=of_ratio(np.maximum(column["unseen"][-quarter:], TINY), np.full(quarter, max(finished, TINY))),
        passed=going.position - subject.position,
        moments=moments,
        update_ratio={
            name: of_mean(values) for name, values in zip(names, in_blocks(np.array(ratios), BLOCKS).T, strict=True)
        },
    )


def mean_loss(network: Network, loss: Loss, stretch: Stretch) -> float:
    """The loss per valid target of a stretch; NaN if it has none."""
    chunk = stretch.chunk
    with torch.no_grad():
        hidden, _ = unroll(network.recur, network.initial_state, chunk.inputs, chunk.starts, stretch.state)
        losses = loss(network.head(hidden[chunk.valid]), chunk.targets[chunk.valid])
    return float(losses.mean()) if len(losses) else np.nan


def _update_ratios(network: Network, before: torch.Tensor, after: torch.Tensor) -> list[float]:
    sizes = [parameter.numel() for parameter in network.parameters()]
    pairs = zip(torch.split(before, sizes), torch.split(after, sizes), strict=True)
    return [float((new - old).norm() / old.norm().clamp_min(TINY)) for old, new in pairs]


def _averaged(going: Continued, unseen: Stretch, weights: list[torch.Tensor], losses: Array) -> Interval:
    """The loss of weights averaged over blocks, by the mean loss of the weights at as many moments from the middle of
    a block on: where training makes progress, those before it are worse, and make any average look good."""
    twin = copy.deepcopy(going.network).eval()
    blocks = max(2, min(BLOCKS, len(weights) // TOGETHER))
    each = len(weights) // blocks
    own, averaged = [], []
    for block in range(blocks):
        middle = block * each + each // 2
        own.append(losses[middle : middle + each].mean())
        mean = torch.stack(weights[block * each : (block + 1) * each]).mean(dim=0)
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(mean.to(unseen.chunk.inputs), list(twin.parameters()))
        averaged.append(mean_loss(twin, going.run.loss, unseen))
    return of_ratio(np.maximum(averaged, TINY), np.maximum(own, TINY))
