"""Does the error grow when a sequence goes on? The loss against time on a rollout longer than what was trained on.

The network runs, from its initial state and without a reset, over new sequences 20 times as long as those that it
was trained on: the longest training sequence, or the window where the schedule does not carry the state. The rollout
comes from the task's ``rollout``, or, for a task that has none, from its test sequences as far as they go. It is at
most 20,000 timesteps long; the result says how long it and the training sequences are.

    loss of a block     mean over its valid targets, per stream; 40 blocks of equal length
    growth              loss of the last tenth ÷ loss of the first tenth; nothing is skipped

The intervals are over streams: Student's t of a block's loss, the bootstrap of the growth. Of a single stream they
are over 16 pieces of the time in question, which is too narrow where an error lasts longer than a piece. The growth
counts losses below 1e-7 of what an output of zeros has as that much: they are rounding.

Caveats: the first tenth holds the network's way into the sequence. An error that is large there and shrinks later has
a growth below 1, so that a drift of the same size would hide behind it: look at the blocks. A drift that needs longer
than the rollout is not seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

from seqrnn.diagnosis.intervals import Interval, Numbers, of_mean, resampled, spread
from seqrnn.diagnosis.subject import Subject
from seqrnn.losses import Loss
from seqrnn.models.unroll import unroll
from seqrnn.tasks.protocol import Batch, Chunk

TIMES = 20
STREAMS = 16
MOST = 20_000  # timesteps
BLOCKS = 40
PIECES = 16  # that the time of a single stream is cut into
AT_ONCE = 1024  # timesteps
ROUNDING = 1e-7


@dataclass(frozen=True)
class Drift:
    """
    Args:
        reason: why there is no rollout; None where there is one. Without one, nothing else is known.
        training_timesteps: of the longest sequence, or window, that the state was carried through in training.
        timesteps, streams: of the rollout.
        source: ``rollout``: new sequences; ``test``: the task's test sequences as far as they go.
        over: what the intervals are over.
        times: the middle of each block, in timesteps.
        losses: of each block.
        first, last: loss of the first and of the last tenth.
        growth: last ÷ first.
    """

    reason: str | None
    training_timesteps: int
    timesteps: int = 0
    streams: int = 0
    source: str = ""
    over: str = ""
    times: list[float] = field(default_factory=list)
    losses: list[Interval] = field(default_factory=list)
    first: Interval | None = None
    last: Interval | None = None
    growth: Interval | None = None


def measure(subject: Subject) -> Drift:
    """Runs the network, as it was trained (its precision, its kernel), over the rollout."""
    trained = trained_timesteps(subject)
    batch, source = _sequences(subject, min(TIMES * trained, MOST))
    if batch is None:
        return Drift("sequences of this task have an end, and do not go on beyond it", trained)
    losses, valid, zeros = _losses(subject, batch)  # (T, B), (T, B)
    timesteps, streams = valid.shape
    tenth = max(1, timesteps // 10)
    floor = ROUNDING * zeros
    first, last = _cases(losses[:tenth], valid[:tenth]), _cases(losses[-tenth:], valid[-tenth:])
    if not len(first) or not len(last):
        return Drift("there are no valid targets at the start, or none at the end, of its sequences", trained)
    edges = np.linspace(0, timesteps, min(BLOCKS, timesteps) + 1).round().astype(int)
    blocks = [(begin, end, _cases(losses[begin:end], valid[begin:end])) for begin, end in pairwise(edges)]
    return Drift(
        reason=None,
        training_timesteps=trained,
        timesteps=timesteps,
        streams=streams,
        source=source,
        over=f"{streams} streams" if streams > 1 else "pieces of the time of 1 stream",
        times=[float(begin + end - 1) / 2 for begin, end, cases in blocks if len(cases)],
        losses=[of_mean(_means(cases)) for _, _, cases in blocks if len(cases)],
        first=of_mean(_means(first)),
        last=of_mean(_means(last)),
        growth=_growth(first, last, floor, paired=streams > 1),
    )


def trained_timesteps(subject: Subject) -> int:
    """How long the state is carried in training."""
    schedule = subject.components.schedule
    batches = subject.components.task.train(0, schedule.streams)
    longest = max(batch.timesteps for batch in batches)
    return longest if schedule.carry else min(schedule.window or longest, longest)


def _sequences(subject: Subject, timesteps: int) -> tuple[Batch | None, str]:
    """What to run over, and where it is from."""
    task = subject.components.task
    rollout = getattr(task, "rollout", None)
    if rollout is None:
        return task.test()[0], "test"
    return rollout(timesteps, STREAMS), "rollout"


def _losses(subject: Subject, batch: Batch) -> tuple[Numbers, Numbers, float]:
    """Losses (T, B), which targets are valid (T, B), and the mean loss of an output of zeros."""
    components = subject.components
    network, context, loss = components.network, components.context, components.loss
    state = network.initial_state(batch.streams)
    found, valid, zeros = [], [], []
    with torch.inference_mode(), context.precision():
        for start in range(0, min(batch.timesteps, MOST), AT_ONCE):
            with torch.inference_mode(False):  # a task may keep what it makes, and training may use it too
                chunk = batch.read(start, min(start + AT_ONCE, batch.timesteps, MOST))
            chunk = context(chunk)
            outputs, state = unroll(network, network.initial_state, chunk.inputs, chunk.starts, state)
            each = _each(loss, outputs.to(context.dtype), chunk)
            nothing = _each(loss, torch.zeros_like(outputs, dtype=context.dtype), chunk)
            found.append(each)
            valid.append(chunk.valid.cpu().numpy().astype(np.float64))
            zeros.append(float(nothing.sum()))
    there = np.concatenate(valid)
    return np.concatenate(found), there, sum(zeros) / max(1.0, float(there.sum()))


def _each(loss: Loss, outputs: torch.Tensor, chunk: Chunk) -> Numbers:
    """The loss at each timestep (T, B), 0 where the target is not valid."""
    found = torch.zeros(chunk.valid.shape, dtype=torch.float64, device=outputs.device)
    found[chunk.valid] = loss(outputs[chunk.valid], chunk.targets[chunk.valid]).double()
    values: Numbers = found.cpu().numpy()
    return values


def _cases(losses: Numbers, valid: Numbers) -> Numbers:
    """Sums of losses and numbers of targets (N, 2) per stream, or per piece of time of a single one."""
    if losses.shape[1] == 1:
        pieces = min(PIECES, len(losses))
        edges = np.linspace(0, len(losses), pieces + 1).round().astype(int)[:-1]
        sums = np.stack([np.add.reduceat(part[:, 0], edges) for part in (losses, valid)], axis=1)
    else:
        sums = np.stack([losses.sum(axis=0), valid.sum(axis=0)], axis=1)
    cases: Numbers = sums[sums[:, 1] > 0]
    return cases


def _means(cases: Numbers) -> Numbers:
    means: Numbers = cases[:, 0] / cases[:, 1]
    return means


def _growth(first: Numbers, last: Numbers, floor: float, paired: bool) -> Interval:
    """Loss of the last tenth ÷ that of the first, by the bootstrap: of streams, or of pieces of each tenth."""

    def ratio(later: Numbers, earlier: Numbers) -> Numbers:
        """Of sums (…, 2)."""
        means = [np.maximum(sums[..., 0] / sums[..., 1], floor) for sums in (later, earlier)]
        with np.errstate(divide="ignore", invalid="ignore"):  # targets that are all 0, hit exactly
            found: Numbers = np.where(means[0] == means[1], 1.0, means[0] / means[1])
        return found

    value = float(ratio(last.sum(axis=0), first.sum(axis=0)))
    if paired and len(first) == len(last):
        drawn = resampled(np.stack([last, first], axis=1))  # (R, 2, 2)
        samples = ratio(drawn[:, 0], drawn[:, 1])
    else:
        samples = ratio(resampled(last), resampled(first, seed=1))
    return spread(value if math.isfinite(value) else math.inf, samples, min(len(first), len(last)))
