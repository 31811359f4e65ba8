"""What a trained network remembers: of noise that drives it, and of its own task; and what the task needs.

capacity   the linear memory capacity of Jaeger (2001), "Short term memory in echo state networks", GMD report 152:
           the network is driven by independent, uniform inputs over the range of the task's own, and

               MC = Σ_k r²(u_{t−k}, best linear readout of the state before timestep t),  k = 1, 2, …, limit

           It is at most the size S of the state. Of several inputs, it is the sum over those that vary in the task.
           r² is of held-out streams (``seqrnn.diagnosis.readout``); what is not above the 95th percentile of what
           the same readouts tell of other streams' inputs counts as 0.
decoding   on the task's own sequences, r² of the target k timesteps ago from the state after the present one (of
           classes: the accuracy of a linear readout of them); of the inputs k timesteps ago where targets come once
           in a sequence. ``reach`` is the lag up to which r² stays above 0.5, or accuracy above the middle between
           always saying the most frequent class and 1.
needed     what the task says of its own reach (``reach`` in ``seqrnn.tasks.protocol``): how many of the latest
           timesteps, the present one included, have inputs that a target depends on.

Intervals: the bootstrap over streams of noise, and over the task's sequences (of few, over blocks of time).

Caveats: noise is not what the network was trained on, and a network that keeps what its task needs and no more has a
small capacity: it describes, and is no mark. What a linear readout cannot tell may still be there. A target that
changes slowly can be told long after its causes were forgotten: compare with how much targets so far apart have in
common (``in_common``, the squared correlation of the two).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn.diagnosis.intervals import Interval, Numbers, resampled, spread
from seqrnn.diagnosis.readout import lags_up_to, r2, scaled, told
from seqrnn.diagnosis.subject import Subject
from seqrnn.diagnosis.trajectories import cases_of, followed
from seqrnn.tasks.protocol import Chunk

STREAMS = 16  # of noise
PER_STREAM = 384  # timesteps that are judged
WASHOUT = 100
SHORTEST, LONGEST = 16, 400  # limits of k
CHANCE = 0.95
STRANGERS = 32  # lags that chance is judged by
MOST = 8192  # timesteps of the task's sequences, over all of them
FARTHEST = 400  # lag
DECODED = 0.5
LARGE = 256  # numbers of a state, above which fewer lags are looked at
FEWEST = 12  # pairs of a state and a target


@dataclass(frozen=True)
class Capacity:
    """
    Args:
        limit: the largest k.
        inputs: how many inputs vary in the task, and were driven.
        state_size: numbers that the state has, the most that the capacity can be.
        chance: r² below which a readout knows nothing.
        r2: for k = 1, 2, …, the mean over the inputs.
        total: the capacity.
    """

    limit: int
    inputs: int
    state_size: int
    chance: float
    r2: list[float]
    total: Interval


@dataclass(frozen=True)
class Decoding:
    """
    Args:
        of: ``targets`` or ``inputs``.
        measure: ``r2`` or ``accuracy``.
        over: what the intervals are over.
        lags: timesteps back.
        scores: how well the past is told at each lag.
        in_common: squared correlation of targets (or inputs) so far apart; None for classes.
        threshold: above which the past counts as told.
        reach: the largest lag up to which all are told; −1 if not even the present one is.
    """

    of: str
    measure: str
    over: str
    lags: list[int]
    scores: list[Interval]
    in_common: list[float] | None
    threshold: float
    reach: Interval


@dataclass(frozen=True)
class MemoryCapacity:
    """
    Args:
        capacity: None if no input varies in the task.
        decoding: None if there is too little data for it.
        needed: None if the task does not say.
    """

    capacity: Capacity | None
    decoding: Decoding | None
    needed: int | None


def measure(subject: Subject) -> MemoryCapacity:
    """Drives the network by noise, and by its task."""
    reach = getattr(subject.components.task, "reach", None)
    return MemoryCapacity(capacity_of(subject), decoding_of(subject), int(reach) if reach else None)


def capacity_of(subject: Subject) -> Capacity | None:
    """Jaeger's, of the trained network."""
    flat = subject.evaluation.inputs.flatten(0, 1)  # (N, I)
    low, high = flat.min(dim=0).values, flat.max(dim=0).values
    varying = (high > low).nonzero().flatten().cpu().numpy()
    if not len(varying):
        return None
    size = sum(part.shape[0] * part.shape[2] for part in subject.network.initial_state(1))
    limit = min(max(SHORTEST, max(100, 4 * size) // len(varying)), LONGEST)
    length = limit + WASHOUT + max(PER_STREAM, size)
    rng = torch.Generator().manual_seed(0)
    uniform = torch.rand(length, STREAMS, len(low), generator=rng, dtype=flat.dtype).to(flat.device)
    inputs = low + (high - low) * uniform  # (T, B, I)
    starts = torch.zeros(length, STREAMS, dtype=torch.bool)
    states = followed(subject.network, inputs, starts).cpu().numpy()[limit + WASHOUT - 1 : -1]  # before each timestep
    known = uniform.cpu().numpy()[:, :, varying]
    first, last = limit + WASHOUT, length
    lagged = [known[first - k : last - k] for k in range(1, limit + 1)]  # (T', B, I) each
    steps = last - first
    cases = np.tile(np.arange(STREAMS), steps)
    features = scaled(states).reshape(steps * STREAMS, -1)
    pasts = np.stack(lagged, axis=2).reshape(steps * STREAMS, -1)  # (N, K · I)
    others = np.stack([np.roll(past, 1, axis=1) for past in lagged[:STRANGERS]], axis=2).reshape(steps * STREAMS, -1)
    fit, strangers = told(features, pasts, cases), told(features, others, cases)
    unrelated = r2(strangers.errors.sum(axis=0), strangers.totals.sum(axis=0))
    chance = max(0.0, float(np.quantile(unrelated, CHANCE)))
    both = np.stack([fit.errors, fit.totals], axis=1)  # (B, 2, K · I)
    found = np.maximum(r2(*both.sum(axis=0)), 0.0)
    counted = found > chance
    samples = resampled(both)
    totals = (np.maximum(r2(samples[:, 0], samples[:, 1]), 0.0) * counted).sum(axis=1)
    return Capacity(
        limit=limit,
        inputs=len(varying),
        state_size=size,
        chance=chance,
        r2=(found * counted).reshape(limit, len(varying)).mean(axis=1).tolist(),
        total=spread(float((found * counted).sum()), totals, STREAMS),
    )


def decoding_of(subject: Subject) -> Decoding | None:
    """How far back the task's targets, or its inputs, can be told from the state."""
    chunk, of = _sequences(subject), "targets"
    timesteps, streams = chunk.valid.shape
    classes = not chunk.targets.is_floating_point()
    if int(chunk.valid.sum(dim=0).max()) <= 1:
        values, valid, of, classes = chunk.inputs, torch.ones_like(chunk.valid), "inputs", False
    elif classes:
        values, valid = torch.nn.functional.one_hot(chunk.targets, subject.components.task.output_size), chunk.valid
    else:
        values, valid = chunk.targets, chunk.valid
    past, there = values.double().cpu().numpy(), valid.cpu().numpy()
    states = scaled(followed(subject.network, chunk.inputs, chunk.starts).cpu().numpy())
    cases, over = cases_of(timesteps, streams)
    case = cases.numpy()
    clock = np.arange(timesteps)[:, None]
    since = clock - np.maximum.accumulate(np.where(chunk.starts.numpy(), clock, 0), axis=0)  # timesteps of a sequence
    threshold = DECODED
    if classes:
        share = float(past[there].mean(axis=0).max())
        threshold = (1 + share) / 2
    lags, scores, common = [], [], []
    farthest = min(FARTHEST, timesteps // 2 if streams < 2 else timesteps - 1)
    density = (16, 4) if states.shape[-1] <= LARGE else (2, 1)
    for lag in lags_up_to(farthest, *density):
        pairs = (since[lag:] >= lag) & there[: timesteps - lag]  # the state at t, and what was lag before
        if pairs.sum() < FEWEST or len(np.unique(case[lag:][pairs])) < 2:
            break
        told_of = past[: timesteps - lag][pairs]
        fit = told(states[lag:][pairs], told_of, case[lag:][pairs])
        sums = (
            np.stack([fit.hits, fit.counts], axis=1)
            if classes
            else np.stack([fit.errors.sum(axis=1), fit.totals.sum(axis=1)], axis=1)
        )  # (C, 2)
        drawn = np.concatenate([sums.sum(axis=0)[None], resampled(sums)])
        found = drawn[:, 0] / drawn[:, 1] if classes else r2(drawn[:, 0], drawn[:, 1])
        lags.append(lag)
        scores.append(spread(float(found[0]), found[1:], len(sums)))
        common.append(_in_common(told_of, past[lag:][pairs], there[lag:][pairs]))
    if not lags:
        return None
    return Decoding(
        of=of,
        measure="accuracy" if classes else "r2",
        over=over,
        lags=lags,
        scores=scores,
        in_common=None if classes else common,
        threshold=threshold,
        reach=Interval(
            _reach(lags, [score.value for score in scores], threshold),
            _reach(lags, [score.low for score in scores], threshold),
            _reach(lags, [score.high for score in scores], threshold),
        ),
    )


def _sequences(subject: Subject) -> Chunk:
    """As many evaluation sequences as have ``MOST`` timesteps together, and targets."""
    batch = subject.components.task.validation()[0]
    streams = max(subject.evaluation.inputs.shape[1], MOST // batch.timesteps)
    chunk = subject.context(batch.read(0, batch.timesteps))
    chosen = chunk.valid.any(dim=0).cpu().nonzero().flatten()[:streams]
    there = chosen.to(chunk.inputs.device)
    return Chunk(chunk.inputs[:, there], chunk.targets[:, there], chunk.valid[:, there], chunk.starts[:, chosen])


def _in_common(before: Numbers, now: Numbers, valid: NDArray[np.bool_]) -> float:
    """The squared correlation of values (N, O) and those some timesteps later, over all O of them."""
    if valid.sum() < 2:
        return 0.0
    before, now = (values[valid] - values[valid].mean(axis=0) for values in (before, now))
    squares = float((before**2).sum() * (now**2).sum())
    return float((before * now).sum()) ** 2 / squares if squares > 0 else 0.0


def _reach(lags: list[int], scores: list[float], threshold: float) -> float:
    reached = -1
    for lag, score in zip(lags, scores, strict=True):
        if not score > threshold:
            break
        reached = lag
    return float(reached)
