"""What a trained network remembers: of random inputs, and of its own task; and what the task needs.

capacity   the linear memory capacity of Jaeger (2001), "Short term memory in echo state networks", GMD report 152:
           the network is driven by independent, uniform inputs over the range of the task's own, and

               MC = Σ_k r²(u_{t−k}, best linear readout of the state before timestep t),  k = 1, 2, …, limit

           It is at most the size S of the state. Of several inputs, it is the sum over those that vary in the task.
           r² is of held-out streams (``seqrnn.diagnosis.readout``); an r² that is not above the 95th percentile of
           what the same readouts decode of other streams' inputs counts as 0.
decoding   on the task's own sequences, r² of the target k timesteps ago from the state after the present one (of
           classes: the accuracy of a linear readout of them); of the inputs k timesteps ago where targets come once
           in a sequence. ``reach`` is the lag up to which r² stays above 0.5, or accuracy above the middle between
           always predicting the most frequent class and 1.
needed     the task's own reach (``reach`` in ``seqrnn.tasks.protocol``): how many of the latest timesteps, the
           present one included, have inputs that a target depends on.

Intervals: the bootstrap over streams of noise, and over the task's sequences (of few, over blocks of time).

Caveats: noise is not what the network was trained on, and a network that keeps what its task needs and no more has a
small capacity: it is a description, not a score. What a linear readout cannot decode may still be there. A target
that changes slowly can be decoded long after its causes were forgotten: compare with the squared correlation of
targets so far apart (``autocorrelation``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from seqrnn.diagnosis import panel as drawing
from seqrnn.diagnosis.budget import TooSlow
from seqrnn.diagnosis.instrument import Evidence, Examination, Finding, Picture
from seqrnn.diagnosis.intervals import Interval, Numbers, number, resampled, spread
from seqrnn.diagnosis.panel import Panel, curve, fitted, legend, mark
from seqrnn.diagnosis.record import Items, Name, Number, Record, require_equal_lengths
from seqrnn.plots import style
from seqrnn.plots.style import BLUE, GREEN, GREY, ORANGE, SMALL
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.trained_run import TrainedRun
    from seqrnn.tasks.protocol import Chunk

SHORT = 0.5  # of the timesteps that a task depends on

STREAMS = 16  # of noise
PER_STREAM = 384  # timesteps that are judged
WASHOUT = 100
SHORTEST, LONGEST = 16, 400  # limits of k
CHANCE = 0.95
CHANCE_LAGS = 32  # lags by which the r² of chance is measured
MOST = 8192  # timesteps of the task's sequences, over all of them
FARTHEST = 400  # lag
DECODED = 0.5
LARGE = 256  # numbers of a state, above which fewer lags are looked at
FEWEST = 12  # pairs of a state and a target
T = TypeVar("T")


class Capacity(Record):
    """
    Args:
        limit: the largest k.
        inputs: how many inputs vary in the task, and were driven.
        state_size: numbers that the state has, the most that the capacity can be.
        chance: r² up to which a readout is no better than chance.
        r2: for k = 1, 2, …, the mean over the inputs.
        total: the capacity.
    """

    limit: int
    inputs: int
    state_size: int
    chance: Number
    r2: Items[Number]
    total: Interval


class Decoding(Record):
    """
    Args:
        quantity: ``targets`` or ``inputs``.
        measure: ``r2`` or ``accuracy``.
        independent: what the intervals are over.
        lags: timesteps back.
        scores: how well the past is decoded at each lag.
        autocorrelation: squared correlation of targets (or inputs) so far apart; None for classes.
        threshold: above which the past counts as decoded.
        reach: the largest lag up to which all are decoded; −1 if not even the present one is.
    """

    quantity: Name
    measure: str
    independent: str
    lags: Items[int]
    scores: Items[Interval]
    autocorrelation: list[Number] | None
    threshold: float
    reach: Interval

    @model_validator(mode="after")
    def _fits_together(self) -> Decoding:
        require_equal_lengths(lags=self.lags, scores=self.scores, autocorrelation=self.autocorrelation)
        return self

    def describe_reach(self) -> str:
        """Returns in words how far back the past can be decoded."""
        if self.reach.value < 0:
            return f"Not even the present {self.quantity} can be decoded from its state"
        low, high = max(0.0, self.reach.low), self.reach.high
        bounds = f" [{low:g}, {high:g}]" if low < high else ""
        return f"The {self.quantity} can be decoded from its state up to {self.reach.value:g}{bounds} timesteps back"


class MemoryCapacity(Record):
    """
    Args:
        capacity: None if no input varies in the task, or if it would take too long.
        decoding: None if there is too little data for it, or if it would take too long.
        needed_timesteps: None if the task has no ``reach``.
    """

    capacity: Capacity | None
    decoding: Decoding | None
    needed_timesteps: int | None


@register("instrument", "memory")
class MemoryInstrument:
    description = "decoding the past from the state"
    order = 60
    result_type = MemoryCapacity

    def measure(self, run: TrainedRun) -> MemoryCapacity:
        """Drives the network by noise, and by its task.

        Raises:
            TooSlow: there is no time for either.
        """
        reach = getattr(run.components.task, "reach", None)
        capacity, is_slow = _in_time(capacity_of, run)
        decoding, is_slow_too = _in_time(decoding_of, run)
        if is_slow and is_slow_too:
            raise run.budget.too_slow()
        return MemoryCapacity(capacity=capacity, decoding=decoding, needed_timesteps=int(reach) if reach else None)

    def symptoms(self, result: MemoryCapacity) -> Iterator[Finding]:
        decoding, needed = result.decoding, result.needed_timesteps
        if decoding is not None and needed is not None and decoding.reach.high < SHORT * needed:
            yield Finding(
                name="memory",
                title="Its state does not hold the past",
                description=f"{decoding.describe_reach()}; the task depends on {needed}.",
                evidence=[
                    Evidence(
                        quantity=f"{decoding.measure} of the present {decoding.quantity}", interval=decoding.scores[0]
                    )
                    if decoding.reach.high < 0
                    else Evidence(
                        quantity=f"timesteps back that {decoding.quantity} can be decoded", interval=decoding.reach
                    )
                ],
                remedies=[],
            )

    def pictures(self) -> list[Picture]:
        return [Picture("Does the state hold the past?", draw, frozenset({"memory"}))]


def _in_time(measure: Callable[[TrainedRun], T], run: TrainedRun) -> tuple[T | None, bool]:
    """Returns what ``measure`` returns, and whether it takes too long, in which case there is no result."""
    try:
        return measure(run), False
    except TooSlow:
        return None, True


def capacity_of(run: TrainedRun) -> Capacity | None:
    """Returns the memory capacity of the trained network (Jaeger 2001).

    Raises:
        TooSlow: the network is too large for the time that is left.
    """
    import torch

    from seqrnn.diagnosis.readout import decoded, decoding_seconds, r2, scaled
    from seqrnn.diagnosis.trajectories import states_after

    flat = run.validation.inputs.flatten(0, 1)  # (N, I)
    low, high = flat.min(dim=0).values, flat.max(dim=0).values
    varying = (high > low).nonzero().flatten().cpu().numpy()
    if not len(varying):
        return None
    size = run.state_size
    limit = min(max(SHORTEST, max(100, 4 * size) // len(varying)), LONGEST)
    judged = max(PER_STREAM, size)
    length = limit + WASHOUT + judged
    run.affordable(length, STREAMS, least=(length, STREAMS))
    run.budget.affordable(4, decoding_seconds(judged * STREAMS, size, run.budget), 4)  # two, and as long for the task
    rng = torch.Generator().manual_seed(0)
    uniform = torch.rand(length, STREAMS, len(low), generator=rng, dtype=flat.dtype).to(flat.device)
    inputs = low + (high - low) * uniform  # (T, B, I)
    starts = torch.zeros(length, STREAMS, dtype=torch.bool)
    after = states_after(run.network, inputs, starts, run.budget.check).cpu().numpy()
    states = after[limit + WASHOUT - 1 : -1]  # before each timestep
    known = uniform.cpu().numpy()[:, :, varying]
    first, last = limit + WASHOUT, length
    lagged = [known[first - k : last - k] for k in range(1, limit + 1)]  # (T', B, I) each
    steps = last - first
    groups = np.tile(np.arange(STREAMS), steps)
    features = scaled(states).reshape(steps * STREAMS, -1)
    pasts = np.stack(lagged, axis=2).reshape(steps * STREAMS, -1)  # (N, K · I)
    others = np.stack([np.roll(past, 1, axis=1) for past in lagged[:CHANCE_LAGS]], axis=2).reshape(
        steps * STREAMS, -1
    )
    fit, by_chance = decoded(features, pasts, groups), decoded(features, others, groups)
    unrelated = r2(by_chance.errors.sum(axis=0), by_chance.totals.sum(axis=0))
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


def decoding_of(run: TrainedRun) -> Decoding | None:
    """Returns how far back the task's targets, or its inputs, can be decoded from the state.

    Raises:
        TooSlow: there is no time for all lags; fewer would make the reach look shorter than it is.
    """
    import torch

    from seqrnn.diagnosis.readout import decoded, decoding_seconds, lags_up_to, r2, scaled
    from seqrnn.diagnosis.trajectories import independent_groups, states_after

    chunk, quantity = _sequences(run), "targets"
    timesteps, streams = chunk.valid.shape
    classes = not chunk.targets.is_floating_point()
    if int(chunk.valid.sum(dim=0).max()) <= 1:
        values, valid, quantity, classes = chunk.inputs, torch.ones_like(chunk.valid), "inputs", False
    elif classes:
        values, valid = torch.nn.functional.one_hot(chunk.targets, run.components.task.output_size), chunk.valid
    else:
        values, valid = chunk.targets, chunk.valid
    past, is_valid = values.double().cpu().numpy(), valid.cpu().numpy()
    run.affordable(timesteps, streams, least=(timesteps, streams))
    states = scaled(states_after(run.network, chunk.inputs, chunk.starts, run.budget.check).cpu().numpy())
    groups, independent = independent_groups(timesteps, streams)
    group = groups.numpy()
    clock = np.arange(timesteps)[:, None]
    since = clock - np.maximum.accumulate(np.where(chunk.starts.numpy(), clock, 0), axis=0)  # timesteps of a sequence
    threshold = DECODED
    if classes:
        share = float(past[is_valid].mean(axis=0).max())
        threshold = (1 + share) / 2
    lags, scores, correlations = [], [], []
    farthest = min(FARTHEST, timesteps // 2 if streams < 2 else timesteps - 1)
    density = (16, 4) if states.shape[-1] <= LARGE else (2, 1)
    wanted_lags = lags_up_to(farthest, *density)
    seconds = decoding_seconds(timesteps * streams, states.shape[-1], run.budget)
    run.budget.affordable(len(wanted_lags), seconds, len(wanted_lags))
    for lag in wanted_lags:
        run.budget.check()
        pairs = (since[lag:] >= lag) & is_valid[: timesteps - lag]  # the state at t, and the value lag before
        if pairs.sum() < FEWEST or len(np.unique(group[lag:][pairs])) < 2:
            break
        wanted = past[: timesteps - lag][pairs]
        fit = decoded(states[lag:][pairs], wanted, group[lag:][pairs])
        sums = (
            np.stack([fit.hits, fit.counts], axis=1)
            if classes
            else np.stack([fit.errors.sum(axis=1), fit.totals.sum(axis=1)], axis=1)
        )  # (G, 2)
        drawn = np.concatenate([sums.sum(axis=0)[None], resampled(sums)])
        found = drawn[:, 0] / drawn[:, 1] if classes else r2(drawn[:, 0], drawn[:, 1])
        lags.append(lag)
        scores.append(spread(float(found[0]), found[1:], len(sums)))
        correlations.append(_squared_correlation(wanted, past[lag:][pairs], is_valid[lag:][pairs]))
    if not lags:
        return None
    return Decoding(
        quantity=quantity,
        measure="accuracy" if classes else "r2",
        independent=independent,
        lags=lags,
        scores=scores,
        autocorrelation=None if classes else correlations,
        threshold=threshold,
        reach=Interval(
            _reach(lags, [score.value for score in scores], threshold),
            _reach(lags, [score.low for score in scores], threshold),
            _reach(lags, [score.high for score in scores], threshold),
        ),
    )


def _sequences(run: TrainedRun) -> Chunk:
    """Returns as many validation sequences that have targets as have ``MOST`` timesteps together."""
    from seqrnn.diagnosis.trained_run import MOST_STREAMS

    timesteps, streams = run.validation.valid.shape
    if streams == MOST_STREAMS and MOST // timesteps > streams:
        return run.validation_sequences(MOST // timesteps)
    return run.validation


def _squared_correlation(before: Numbers, now: Numbers, valid: NDArray[np.bool_]) -> float:
    """Returns the squared correlation of values (N, O) and those some timesteps later, over all O of them."""
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


def draw(panel: Panel, result: MemoryCapacity, found: Examination) -> None:
    """Draws how well the past can be decoded from the state, by lag."""
    capacity, decoding, needed = result.capacity, result.decoding, result.needed_timesteps
    parts = []
    if decoding:
        parts.append(decoding.describe_reach())
    if needed:
        parts.append(f"the task needs {needed:,}")
    if capacity:
        parts.append(f"it holds {number(capacity.total.value)} random inputs")
    answer = "; ".join(parts)
    panel.write_heading(answer[:1].upper() + answer[1:])
    if not decoding and not capacity:
        panel.write_reason("There is too little data, or too little time, to decode anything, and no input varies.")
        return
    ax = panel.axes("timesteps back", "share decoded (1 = all)", left=0.56, above=2)
    ax.set_ylim(-0.04, 1.04)
    lags = np.array(decoding.lags if decoding else [], np.float64)
    r2 = drawing.reals(capacity.r2) if capacity else np.array([])
    last = max(lags.max(initial=1.0), len(r2), needed or 1)
    ax.set_xscale("symlog", linthresh=1.0, linscale=0.4)
    ax.set_xlim(-0.08, last * 1.15)
    ax.set_xticks([0.0, *(10.0**power for power in range(len(str(int(last)))))])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.minorticks_off()
    if decoding:
        name = style.plain(fitted(decoding.quantity, 0.8, SMALL))
        curve(ax, lags, drawing.band(decoding.scores), BLUE, name, "." if len(lags) < 15 else "")
        if decoding.autocorrelation is not None:
            ax.plot(lags, drawing.reals(decoding.autocorrelation), color=GREY, linewidth=1.0, linestyle="--",
                    label="correlation")  # fmt: skip
        ax.axhline(decoding.threshold, color=GREY, linewidth=0.8, linestyle=":")
    if capacity:
        ax.plot(np.arange(1, len(r2) + 1), r2, color=ORANGE, linewidth=1.4, label="random inputs")
    if needed:
        mark(ax, [(needed, f"task needs {needed:,}", GREEN)])
    legend(ax)
    if box := ax.get_legend():
        inches = ax.get_position().height * panel.figure.get_figheight()
        box.set_bbox_to_anchor((1.0, 1.0 + 0.19 / inches), transform=ax.transAxes)
