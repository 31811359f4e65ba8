"""Drift: whether the error grows in long sequences. The loss against time on a rollout longer than the training data.

The network runs, from its initial state and without a reset, over new sequences 20 times as long as those that it
was trained on: the longest training sequence, or the window where the schedule does not carry the state. The rollout
comes from the task's ``rollout``, or, for a task that has none, from its test sequences as far as they reach, if they
are longer. It is at most 20,000 timesteps long; the result has its length and that of the training sequences.

    loss of a block     mean over its valid targets, per stream; 40 blocks of equal length
    growth              loss of the last tenth ÷ loss of the first tenth; nothing is skipped

The intervals are over streams: Student's t of a block's loss, the bootstrap of the growth. Of a single stream they
are over 16 pieces of the time in question, which is too narrow where an error lasts longer than a piece. In the
growth, losses below 1e-7 of the loss of an output of zeros count as that much: they are rounding.

Caveats: the first tenth includes the beginning, where the network has seen little of the sequence. An error that is
large there and shrinks later has a growth below 1, and may hide a drift of the same size: look at the blocks. A drift
that needs longer than the rollout is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydantic import model_validator

from seqrnn.diagnosis import panel as drawing
from seqrnn.diagnosis.instrument import Evidence, Examination, Finding, Picture
from seqrnn.diagnosis.intervals import Interval, Numbers, number, of_mean, resampled, spread
from seqrnn.diagnosis.panel import Panel, curve, mark, scale_y, ticks_of
from seqrnn.diagnosis.record import Items, Number, Record, require_equal_lengths
from seqrnn.errors import DataError
from seqrnn.plots.style import BLUE, VERMILLION
from seqrnn.registry import register

if TYPE_CHECKING:
    import torch

    from seqrnn.diagnosis.trained_run import TrainedRun
    from seqrnn.losses import Loss
    from seqrnn.tasks.protocol import Batch, Chunk

DRIFTS = 1.25  # loss at the end of a long rollout by that at its start

TIMES = 20
STREAMS = 16
MOST = 20_000  # timesteps
BLOCKS = 40
PIECES = 16  # that the time of a single stream is cut into
AT_ONCE = 1024  # timesteps
ROUNDING = 1e-7


class Drift(Record):
    """
    Args:
        training_timesteps: of the longest sequence, or window, that the state was carried through in training.
        timesteps, streams: of the rollout.
        source: ``rollout``: new sequences; ``test``: the task's test sequences as far as they reach.
        independent: what the intervals are over.
        times: the middle of each block, in timesteps.
        losses: of each block.
        first_loss, last_loss: loss of the first and of the last tenth.
        growth: last ÷ first.
    """

    training_timesteps: int
    timesteps: int
    streams: int
    source: str
    independent: str
    times: Items[Number]
    losses: Items[Interval]
    first_loss: Interval
    last_loss: Interval
    growth: Interval

    @model_validator(mode="after")
    def _fits_together(self) -> Drift:
        require_equal_lengths(times=self.times, losses=self.losses)
        return self


@register("instrument", "drift")
class DriftInstrument:
    description = "running over sequences twenty times as long"
    order = 70
    result_type = Drift

    def measure(self, run: TrainedRun) -> Drift:
        """Runs the network, as it was trained (its precision, its kernel), over the rollout.

        Raises:
            DataError: the task has no sequences that are long enough.
            TooSlow: there is no time for as many timesteps as it was trained on.
        """
        trained = trained_timesteps(run)
        wanted, _ = run.affordable(
            min(TIMES * trained, MOST), STREAMS, network=run.components.network, least=(min(trained, MOST), STREAMS)
        )
        batch, source = _sequences(run, wanted)
        if batch is None:
            raise DataError("the sequences of this task have an end, so there are none that are longer")
        if source == "test" and batch.timesteps <= trained:
            raise DataError(
                f"its test sequences have {batch.timesteps:,} timesteps, no more than the {trained:,} that the state "
                "was carried through in training"
            )
        losses, valid, zeros = _losses(run, batch, wanted if source == "rollout" else MOST)  # (T, B), (T, B)
        timesteps, streams = valid.shape
        tenth = max(1, timesteps // 10)
        floor = ROUNDING * zeros
        first, last = _samples(losses[:tenth], valid[:tenth]), _samples(losses[-tenth:], valid[-tenth:])
        if not len(first) or not len(last):
            raise DataError("there are no valid targets at the start, or none at the end, of its sequences")
        edges = np.linspace(0, timesteps, min(BLOCKS, timesteps) + 1).round().astype(int)
        blocks = [(begin, end, _samples(losses[begin:end], valid[begin:end])) for begin, end in pairwise(edges)]
        return Drift(
            training_timesteps=trained,
            timesteps=timesteps,
            streams=streams,
            source=source,
            independent=f"{streams} streams" if streams > 1 else "pieces of the time of 1 stream",
            times=[float(begin + end - 1) / 2 for begin, end, samples in blocks if len(samples)],
            losses=[of_mean(_means(samples)) for _, _, samples in blocks if len(samples)],
            first_loss=of_mean(_means(first)),
            last_loss=of_mean(_means(last)),
            growth=_growth(first, last, floor, paired=streams > 1),
        )

    def symptoms(self, result: Drift) -> Iterator[Finding]:
        if result.growth.low > DRIFTS:
            yield Finding(
                name="drift",
                title="It drifts",
                description=f"Over {result.timesteps:,} timesteps, its loss at the end is "
                f"{number(result.growth.value)} times that at the beginning.",
                evidence=[
                    Evidence(
                        quantity="loss of the last tenth of a long rollout by that of the first",
                        interval=result.growth,
                    )
                ],
                remedies=["longer window"],
            )

    def pictures(self) -> list[Picture]:
        return [Picture("Does it drift?", draw, frozenset({"drift"}))]


def trained_timesteps(run: TrainedRun) -> int:
    """Returns for how many timesteps the state is carried in training."""
    schedule, longest = run.components.schedule, run.data.longest_batch_timesteps
    return longest if schedule.carry else min(schedule.window or longest, longest)


def _sequences(run: TrainedRun, timesteps: int) -> tuple[Batch | None, str]:
    """Returns sequences to run over, and where they are from."""
    task = run.components.task
    rollout = getattr(task, "rollout", None)
    if rollout is None:
        return task.test()[0], "test"
    return rollout(timesteps, STREAMS), "rollout"


def _losses(run: TrainedRun, batch: Batch, most: int) -> tuple[Numbers, Numbers, float]:
    """Returns losses (T, B), which targets are valid (T, B), and the mean loss of an output of zeros."""
    import torch

    from seqrnn.models.unroll import unroll

    components = run.components
    network, context, loss = components.network, components.context, components.loss
    state = network.initial_state(batch.streams)
    found, valid, zeros = [], [], []
    with torch.inference_mode(), context.precision():
        for start in range(0, min(batch.timesteps, most), AT_ONCE):
            run.budget.check()
            with torch.inference_mode(False):  # a task may keep what it makes, and training may use it too
                chunk = batch.read(start, min(start + AT_ONCE, batch.timesteps, most))
            chunk = context(chunk)
            outputs, state = unroll(network, network.initial_state, chunk.inputs, chunk.starts, state)
            each = _loss_of_each(loss, outputs.to(context.dtype), chunk)
            nothing = _loss_of_each(loss, torch.zeros_like(outputs, dtype=context.dtype), chunk)
            found.append(each)
            valid.append(chunk.valid.cpu().numpy().astype(np.float64))
            zeros.append(float(nothing.sum()))
    is_valid = np.concatenate(valid)
    return np.concatenate(found), is_valid, sum(zeros) / max(1.0, float(is_valid.sum()))


def _loss_of_each(loss: Loss, outputs: torch.Tensor, chunk: Chunk) -> Numbers:
    """Returns the loss at each timestep (T, B), 0 where the target is not valid."""
    import torch

    found = torch.zeros(chunk.valid.shape, dtype=torch.float64, device=outputs.device)
    found[chunk.valid] = loss(outputs[chunk.valid], chunk.targets[chunk.valid]).double()
    values: Numbers = found.cpu().numpy()
    return values


def _samples(losses: Numbers, valid: Numbers) -> Numbers:
    """Returns sums of losses and numbers of targets (N, 2) per stream, or per piece of time of a single one."""
    if losses.shape[1] == 1:
        pieces = min(PIECES, len(losses))
        edges = np.linspace(0, len(losses), pieces + 1).round().astype(int)[:-1]
        sums = np.stack([np.add.reduceat(part[:, 0], edges) for part in (losses, valid)], axis=1)
    else:
        sums = np.stack([losses.sum(axis=0), valid.sum(axis=0)], axis=1)
    samples: Numbers = sums[sums[:, 1] > 0]
    return samples


def _means(samples: Numbers) -> Numbers:
    means: Numbers = samples[:, 0] / samples[:, 1]
    return means


def _growth(first: Numbers, last: Numbers, floor: float, paired: bool) -> Interval:
    """Returns the loss of the last tenth ÷ that of the first, by the bootstrap of streams, or of pieces of time."""

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


def draw(panel: Panel, result: Drift, found: Examination) -> None:
    """Draws the loss against time on the rollout."""
    trained = result.training_timesteps
    panel.write_heading(
        f"Over {result.timesteps:,} timesteps, loss of the last tenth ÷ of the first: {result.growth}"
    )
    ax = panel.axes("timesteps since its state was 0", "loss", above=1)
    times, losses = drawing.reals(result.times), drawing.band(result.losses)
    scale_y(ax, losses[:, 0])
    low, high = ax.get_ylim()
    if ax.get_yscale() == "linear":
        ends = losses[(losses > low - (high - low)) & (losses < 3 * high)]
        scale_y(ax, ends[ends >= 0] if not (losses[:, 0] < 0).any() else ends, is_log=False, bottom=0.0)
    curve(ax, times, losses, BLUE)
    ax.set_xlim(0, max(times[np.isfinite(times)].max(initial=1.0), 1.0) * 1.03)
    ticks_of(ax.xaxis, False, *ax.get_xlim())
    mark(ax, [(trained, f"trained on {trained:,}", VERMILLION)])
