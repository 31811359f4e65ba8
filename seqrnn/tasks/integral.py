"""task=integral: a saturating integral of an input that jumps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count, Fraction, Moderate, Spread
from seqrnn.errors import ConfigError
from seqrnn.registry import register
from seqrnn.tasks.protocol import Batch, Chunk, joined

Array = NDArray[np.float64]
BLOCK = 4096  # timesteps that are drawn from one random generator
AT_ONCE = 8  # blocks of a single stream that are computed together, so that NumPy has enough to do in each call
SHORT = 48  # timesteps that are computed one by one
LONGEST = 64  # timesteps of a segment
TRAIN, VALIDATION, TEST, ROLLOUT = range(4)
REACHED = 0.9  # of all targets depend on no more timesteps than ``Integral.reach``
FADED = 0.01  # the share of an input that has leaked away from the integral when it no longer counts


@register("task", "integral")
class Integral:
    """Input x: with ``jump_probability`` it jumps to a uniform value in [0, 1], otherwise it stays.
    Output y: y ← clip(y + gain · (x − offset) + leak · (x − y), low, high). Both start at 0, y within its limits.

    ``jitter`` is the standard deviation of Gaussian noise on x, new at each timestep; network and integral both
    see it. Every epoch is a new draw of ``train_timesteps``, shared out among the streams in sequences of
    ``sequence_length`` (None: one sequence per stream, as long as the epoch). What does not fill a sequence in every
    stream is left out.
    """

    input_size = 1
    output_size = 1
    kind: Literal["regression"] = "regression"
    metrics = staticmethod(metrics.regression)

    smoke: ClassVar = {  # what smoke=true lowers these numbers to
        "train_timesteps": 4000,
        "validation_sequences": 2,
        "validation_timesteps": 100,
        "test_sequences": 3,
        "test_timesteps": 300,
    }

    def __init__(
        self,
        seed: int,
        *,
        gain: Moderate,
        offset: Moderate,
        jump_probability: Fraction,
        low: Moderate,
        high: Moderate,
        leak: Fraction,
        jitter: Spread,
        train_timesteps: Count,
        sequence_length: Count | None,
        validation_sequences: Count,
        validation_timesteps: Count,
        test_sequences: Count,
        test_timesteps: Count,
        loss: Literal["l1", "mse"],
    ) -> None:
        if low >= high:
            raise ConfigError(f"task.low={low}: must be below task.high={high}")
        self.seed, self.loss = seed, loss
        self.gain, self.offset, self.leak = gain, offset, leak
        self.low, self.high = low, high
        self.jump_probability, self.jitter = jump_probability, jitter
        self.train_timesteps, self.sequence_length = train_timesteps, sequence_length
        self.validation_sequences, self.validation_timesteps = validation_sequences, validation_timesteps
        self.test_sequences, self.test_timesteps = test_sequences, test_timesteps

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        streams = min(streams, self.train_timesteps)
        each = self.train_timesteps // streams  # timesteps per stream
        length = min(self.sequence_length or each, each)
        return TrainingSequences(self, epoch, streams, length, each // length)

    def validation(self) -> Sequence[Batch]:
        return [IntegralBatch(self, (VALIDATION, 0, 0), self.validation_sequences, self.validation_timesteps)]

    def test(self) -> Sequence[Batch]:
        return [IntegralBatch(self, (TEST, 0, 0), self.test_sequences, self.test_timesteps)]

    def rollout(self, timesteps: int, streams: int) -> Batch:
        """New sequences, as long as they are asked for."""
        return IntegralBatch(self, (ROLLOUT, 0, 0), streams, timesteps)

    @cached_property
    def reach(self) -> int:
        """How many of the latest inputs y depends on: those since it was last at a limit, or since the sequence
        began, of which the leak has left something. Counted so that it is enough for 90 % of all y in 64 sequences
        of ``test_timesteps``."""
        targets = IntegralBatch(self, (TRAIN, 0, 0), 64, self.test_timesteps).read(0, self.test_timesteps).targets
        y = targets.squeeze(-1).numpy()  # (T, B)
        clock = np.arange(1, len(y) + 1)[:, None]
        limited = np.where((y == self.low) | (y == self.high), clock, 0)
        since = clock - np.maximum.accumulate(limited, axis=0)  # 0 at a limit; from the start, all inputs
        steps = max(1, math.ceil(np.quantile(since, REACHED)))
        if self.leak == 0:
            return steps
        lasting = 1 if self.leak == 1 else math.ceil(math.log(FADED) / math.log(1 - self.leak))
        return min(steps, lasting)

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        steady = IntegralBatch(self, (TRAIN, 0, 0), 64, 1024).read(0, 1024).targets
        centre = float(steady.median() if self.loss == "l1" else steady.mean())
        return {
            f"constant ({'median' if self.loss == 'l1' else 'mean'})": lambda chunk: torch.full_like(
                chunk.targets, centre
            ),
            "input itself": lambda chunk: chunk.inputs,
        }

    def generate(
        self, seeds: tuple[int, ...], first: int, x: Array, y: Array, timesteps: int
    ) -> tuple[Array, Array, Array]:
        """``timesteps`` more, from the start of block number ``first`` on, of B streams that have reached ``x`` and
        ``y`` (B,).

        Returns:
            Inputs (T, B) as the network sees them, outputs (T, B), and x (B,) without jitter at the end.
        """
        shape = timesteps, len(x)
        jumps, held, noise = np.empty(shape, np.bool_), np.empty(shape), np.empty(shape if self.jitter else 0)
        for number, start in enumerate(range(0, timesteps, BLOCK), first):
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, *seeds, number])))
            block = slice(start, min(start + BLOCK, timesteps))
            jumps[block] = rng.random(jumps[block].shape) < self.jump_probability
            rng.random(out=held[block])
            if self.jitter:
                rng.standard_normal(out=noise[block])
        held = _held(jumps, held, x)
        inputs = held + self.jitter * noise if self.jitter else held
        added = self.gain * (inputs - self.offset) + self.leak * inputs
        return inputs, clipped_sum(added, y, 1 - self.leak, self.low, self.high), held[-1]


def _held(jumps: NDArray[np.bool_], values: Array, x: Array) -> Array:
    """The value of each stream's latest jump, ``x`` (B,) before the first; all others (T, B)."""
    jumps, values = jumps.T.copy(), values.T.copy()  # (B, T): each stream in one piece
    values[:, 0] = np.where(jumps[:, 0], values[:, 0], x)
    jumps[:, 0] = True
    at = np.flatnonzero(jumps)
    return np.ascontiguousarray(np.repeat(values.ravel()[at], np.diff(at, append=jumps.size)).reshape(jumps.shape).T)


def clipped_sum(added: Array, y: Array, keep: float, low: float, high: float) -> Array:
    """y_t = clip(keep · y_{t−1} + added_t, low, high) for all t; added (T, B), y (B,) in [low, high], result (T, B).

    One step is a map f(y) = clip(m·y + a, l, h), and several such maps in a row are one such map again: its l and h
    are where low and high end up. So a long stream is cut into segments that are run side by side: from low and from
    high, which gives each segment's map; then the maps, one after another, give the y that each segment starts from;
    and from there its steps are made as they are defined (a scan in blocks, as in Blelloch 1990).
    """
    return _scan(added, y, keep, np.full((1, 1), low), np.full((1, 1), high), (low, high))


def _scan(added: Array, y: Array, keep: float, floor: Array, ceiling: Array, extremes: tuple[float, float]) -> Array:
    """The same for limits (T, B), or (1, 1) for all; ``extremes`` are the least and the largest that y can be."""
    timesteps, streams = added.shape
    if timesteps <= SHORT:
        return _steps(added, y, keep, floor, ceiling)
    length = min(math.isqrt(timesteps), LONGEST)
    segments = -(-timesteps // length)

    def side_by_side(values: Array) -> Array:
        if values.size == 1:
            return np.broadcast_to(np.full(segments * streams, values.item()), (length, segments * streams))
        padded = np.concatenate([values, np.zeros((segments * length - timesteps, streams))])
        return padded.reshape(segments, length, streams).swapaxes(0, 1).reshape(length, segments * streams)

    added, floor, ceiling = side_by_side(added), side_by_side(floor), side_by_side(ceiling)
    ends = np.repeat(np.array(extremes)[:, None], segments * streams, axis=1)  # (2, S · B)
    for step in range(length):
        if keep != 1:
            ends *= keep
        ends += added[step]
        np.maximum(ends, floor[step], out=ends)
        np.minimum(ends, ceiling[step], out=ends)
    shift = keep ** np.arange(length - 1.0, -1.0, -1.0) @ added  # (S · B,)
    shift, least, largest = (values.reshape(segments, streams) for values in (shift, *ends))
    reached = _scan(shift, y, keep**length, least, largest, extremes)  # (S, B)
    begins = np.concatenate([y[None], reached[:-1]]).ravel()
    result = _steps(added, begins, keep, floor, ceiling)
    return result.reshape(length, segments, streams).swapaxes(0, 1).reshape(-1, streams)[:timesteps]


def _steps(added: Array, y: Array, keep: float, floor: Array, ceiling: Array) -> Array:
    """The same, one step after another."""
    floor, ceiling = (np.broadcast_to(limit, (len(added), limit.shape[1])) for limit in (floor, ceiling))
    result = np.empty_like(added)
    for step, out in enumerate(result):
        if keep != 1:
            y = np.multiply(y, keep, out=out)
        np.add(y, added[step], out=out)
        np.maximum(out, floor[step], out=out)
        np.minimum(out, ceiling[step], out=out)
        y = out
    return result


@dataclass(frozen=True)
class TrainingSequences(Sequence["IntegralBatch"]):
    """The batches of an epoch, made as they are asked for: kept, they would hold the data of the whole epoch."""

    task: Integral
    epoch: int
    streams: int
    timesteps: int
    batches: int

    def __len__(self) -> int:
        return self.batches

    def distinct(self) -> list[tuple[IntegralBatch, int]]:
        """All batches are alike."""
        return [(self[0], self.batches)]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self.batches))]
        if not -self.batches <= index < self.batches:
            raise IndexError(index)
        return IntegralBatch(self.task, (TRAIN, self.epoch, index % self.batches), self.streams, self.timesteps)


class IntegralBatch:
    """B streams of the task, generated stretch by stretch as they are read, a few blocks at a time.

    A stretch depends on its seeds and on where the one before it ended, so those ends are kept (2 B numbers each) and
    any stretch can be made again; the two latest are held.
    """

    def __init__(self, task: Integral, seeds: tuple[int, ...], streams: int, timesteps: int) -> None:
        self.task, self.seeds = task, seeds
        self.streams, self.timesteps = streams, timesteps
        self.blocks = max(1, AT_ONCE // streams)  # of a stretch
        self.length = min(self.blocks * BLOCK, timesteps)
        self._ends = [(np.zeros(streams), np.clip(np.zeros(streams), task.low, task.high))]
        self._stretches: dict[int, Chunk] = {}
        self._everywhere = torch.ones(self.length, streams, dtype=torch.bool)
        self._nowhere = torch.zeros(self.length, streams, dtype=torch.bool)

    def read(self, start: int, stop: int) -> Chunk:
        first, last = start // self.length, (stop - 1) // self.length
        if first == last:
            return self._stretch(first).between(start - first * self.length, stop - first * self.length)
        parts = []
        for number in range(first, last + 1):
            begin = number * self.length
            parts.append(self._stretch(number).between(max(start - begin, 0), min(stop - begin, self.length)))
        return joined(parts)

    def _stretch(self, number: int) -> Chunk:
        if number not in self._stretches:
            for known in range(len(self._ends) - 1, number):
                self._generate(known)  # a jump ahead: those on the way say where it begins
            self._generate(number)
        return self._stretches[number]

    def _generate(self, number: int) -> None:
        x, y = self._ends[number]
        length = min(self.length, self.timesteps - number * self.length)
        drawn, outputs, x = self.task.generate(self.seeds, number * self.blocks, x, y, length)
        if len(self._ends) == number + 1:
            self._ends.append((x.copy(), outputs[-1].copy()))  # as views, they would hold their stretches
        starts = self._nowhere[:length]
        if number == 0:
            starts = starts.clone()
            starts[0] = True
        inputs, targets = (torch.from_numpy(part).unsqueeze(-1) for part in (drawn, outputs))  # (T, B, 1)
        self._stretches[number] = Chunk(inputs, targets, self._everywhere[:length], starts)
        while len(self._stretches) > 2:
            self._stretches.pop(next(iter(self._stretches)))
