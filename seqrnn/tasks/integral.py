"""task=integral: the saturating integral of an input that jumps."""

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
BLOCK = 4096  # timesteps for which one random generator draws the numbers
BLOCKS_PER_SECTION = 8  # for a single stream; more streams take fewer, so that all calls of NumPy have similar sizes
SEQUENTIAL = 48  # timesteps up to which the recurrence is computed one timestep after another
LONGEST_SEGMENT = 64  # timesteps; a longer recurrence is cut into segments that are computed side by side
MOST_IN_MEMORY = 2**26  # pairs of a timestep and a stream: about 2 GB while they are generated
DRAWN = 2**16  # the same pairs, for the constant of ``Integral.baselines``
LONGEST_DRAWN = 1024  # timesteps, after which y no longer depends on where it started
MOST_MEASURED = 2**23  # the same pairs, for ``Integral.reach``
TRAIN, VALIDATION, TEST, ROLLOUT = range(4)  # the first number of a seed: no split repeats another
COVERED = 0.9  # the share of targets that depend on at most ``Integral.reach`` timesteps
FADED = 0.01  # an input of which this share is left in a leaking integral no longer counts


@register("task", "integral")
class Integral:
    """The input x jumps to a uniform value in [0, 1] with ``jump_probability`` per timestep, and stays otherwise. The
    output is y ← clip(y + gain · (x − offset) + leak · (x − y), low, high). x starts at 0, and y at the value between
    its limits that is nearest to 0.

    ``jitter`` is the standard deviation of Gaussian noise that is added to x at each timestep, before the network
    and the integral read it. Every epoch draws ``train_timesteps`` new timesteps, and divides them among the streams
    into sequences of ``sequence_length`` timesteps (None: one sequence per stream, as long as the epoch). A rest that
    does not fill one sequence in every stream is left out. Training, validation and test data are drawn separately;
    all three depend on the seed.
    """

    input_size = 1
    output_size = 1
    kind: Literal["regression"] = "regression"
    metrics = staticmethod(metrics.regression)

    smoke: ClassVar = {
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
        problems = [
            f"task.{split}_sequences={sequences}, task.{split}_timesteps={timesteps}: together they are "
            f"{sequences * timesteps:,} timesteps, which are all held in memory; make them at most {MOST_IN_MEMORY:,}"
            for split, sequences, timesteps in (
                ("validation", validation_sequences, validation_timesteps),
                ("test", test_sequences, test_timesteps),
            )
            if sequences * timesteps > MOST_IN_MEMORY
        ]
        if problems:
            raise ConfigError(*problems)
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
        if streams * min(BLOCK, each) > MOST_IN_MEMORY:
            raise ConfigError(
                f"schedule.streams={streams}: task=integral generates {BLOCK} timesteps of all streams at a time; "
                f"make it at most {MOST_IN_MEMORY // BLOCK:,}"
            )
        length = min(self.sequence_length or each, each)
        return TrainingSequences(self, epoch, streams, length, each // length)

    def validation(self) -> Sequence[Batch]:
        return [IntegralBatch(self, (VALIDATION, 0, 0), self.validation_sequences, self.validation_timesteps)]

    def test(self) -> Sequence[Batch]:
        return [IntegralBatch(self, (TEST, 0, 0), self.test_sequences, self.test_timesteps)]

    def rollout(self, timesteps: int, streams: int) -> Batch:
        """Returns new sequences of any length."""
        return IntegralBatch(self, (ROLLOUT, 0, 0), streams, timesteps)

    @cached_property
    def reach(self) -> int:
        """How many of the latest inputs y depends on: those since y was last at a limit, or since the sequence
        started, as far as the leak has left something of them. Measured on up to 64 sequences of ``test_timesteps``,
        as the number that is enough for 90 % of all y."""
        sequences = max(1, min(64, MOST_MEASURED // self.test_timesteps))
        batch = IntegralBatch(self, (TRAIN, 0, 0), sequences, self.test_timesteps)
        y = batch.read(0, self.test_timesteps).targets.squeeze(-1).numpy()  # (T, B)
        clock = np.arange(1, len(y) + 1)[:, None]
        limited = np.where((y == self.low) | (y == self.high), clock, 0)
        since = clock - np.maximum.accumulate(limited, axis=0)  # 0 at a limit; before the first limit, all inputs
        steps = max(1, math.ceil(np.quantile(since, COVERED)))
        if self.leak == 0:
            return steps
        fading = math.log(FADED) / math.log1p(-self.leak) if self.leak < 1 else 1.0
        return math.ceil(min(steps, fading))

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        """Returns the trivial predictors. The constant is that of new sequences as long as those of the test."""
        # y starts at a limit, and its median rises for some hundred timesteps
        timesteps = min(self.test_timesteps, LONGEST_DRAWN)
        drawn = IntegralBatch(self, (TRAIN, 0, 0), DRAWN // timesteps, timesteps).read(0, timesteps).targets
        centre = float(drawn.median() if self.loss == "l1" else drawn.mean())
        return {
            f"constant ({'median' if self.loss == 'l1' else 'mean'})": lambda chunk: torch.full_like(
                chunk.targets, centre
            ),
            "input itself": lambda chunk: chunk.inputs,
        }

    def generate(
        self, seeds: tuple[int, ...], first: int, x: Array, y: Array, timesteps: int
    ) -> tuple[Array, Array, Array]:
        """Generates ``timesteps`` of B streams, from the start of block number ``first`` on.

        Args:
            seeds: what the streams are drawn from, besides the task's seed.
            x, y: (B,) input without jitter, and output, before the first of these timesteps.

        Returns:
            Inputs (T, B) as the network reads them, outputs (T, B), and x (B,) without jitter at the last timestep.
        """
        shape = timesteps, len(x)
        jumps, values, noise = np.empty(shape, np.bool_), np.empty(shape), np.empty(shape if self.jitter else 0)
        for number, start in enumerate(range(0, timesteps, BLOCK), first):
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, *seeds, number])))
            block = slice(start, min(start + BLOCK, timesteps))
            jumps[block] = rng.random(jumps[block].shape) < self.jump_probability
            rng.random(out=values[block])
            if self.jitter:
                rng.standard_normal(out=noise[block])
        steady = latest_jumps(jumps, values, x)
        inputs = steady + self.jitter * noise if self.jitter else steady
        added = self.gain * (inputs - self.offset) + self.leak * inputs
        return inputs, clipped_sum(added, y, 1 - self.leak, self.low, self.high), steady[-1]


def latest_jumps(jumps: NDArray[np.bool_], values: Array, x: Array) -> Array:
    """Returns, for each timestep, the value (T, B) at the latest timestep with a jump.

    Args:
        jumps: (T, B) whether the stream jumps.
        values: (T, B) where it jumps to.
        x: (B,) the value before the first jump.
    """
    jumps, values = jumps.T.copy(), values.T.copy()  # (B, T): each stream is contiguous
    values[:, 0] = np.where(jumps[:, 0], values[:, 0], x)
    jumps[:, 0] = True
    places = np.flatnonzero(jumps)
    repeated = np.repeat(values.ravel()[places], np.diff(places, append=jumps.size))
    return np.ascontiguousarray(repeated.reshape(jumps.shape).T)


def clipped_sum(added: Array, y: Array, keep: float, low: float, high: float) -> Array:
    """Returns y_t = clip(keep · y_{t−1} + added_t, low, high) for all t: (T, B).

    One step is a map f(y) = clip(m·y + a, l, h), and a composition of such maps is such a map again: its l and h are
    the images of low and high. So a long sequence is cut into segments. All segments are run side by side, once from
    low and once from high, which gives the map of each; the maps, applied one after another, give the y that each
    segment starts from; then all segments are run side by side from there (a blocked scan, Blelloch 1990).

    Args:
        added: (T, B).
        y: (B,) before the first timestep, in [low, high].
        keep: what y is multiplied by at each timestep.
    """
    return _scan(added, y, keep, np.full((1, 1), low), np.full((1, 1), high), (low, high))


def _scan(added: Array, y: Array, keep: float, floor: Array, ceiling: Array, extremes: tuple[float, float]) -> Array:
    """Computes ``clipped_sum`` for limits of shape (T, B), or (1, 1) where all are equal; ``extremes`` are the least
    and the largest value that y can have."""
    timesteps, streams = added.shape
    if timesteps <= SEQUENTIAL:
        return _steps(added, y, keep, floor, ceiling)
    length = min(math.isqrt(timesteps), LONGEST_SEGMENT)
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
    """Computes ``_scan`` one timestep after another."""
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
    """The batches of an epoch. Each is made when it is asked for, so that the epoch's data need not be in memory."""

    task: Integral
    epoch: int
    streams: int
    timesteps: int
    batches: int

    def __len__(self) -> int:
        return self.batches

    def distinct(self) -> list[tuple[IntegralBatch, int]]:
        """Returns the first batch, and how many batches there are: all have its size."""
        return [(self[0], self.batches)]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self.batches))]
        if not -self.batches <= index < self.batches:
            raise IndexError(index)
        return IntegralBatch(self.task, (TRAIN, self.epoch, index % self.batches), self.streams, self.timesteps)


class IntegralBatch:
    """B streams of the task, generated when they are read, in sections of a few blocks.

    A section depends on its seeds and on the last x and y of the section before it. These are kept (2 B numbers for
    each section), so that every section can be generated again; the two that were generated last are kept whole.
    """

    def __init__(self, task: Integral, seeds: tuple[int, ...], streams: int, timesteps: int) -> None:
        self.task, self.seeds = task, seeds
        self.streams, self.timesteps = streams, timesteps
        self.blocks = max(1, BLOCKS_PER_SECTION // streams)  # of a section
        self.length = min(self.blocks * BLOCK, timesteps)  # timesteps of a section
        self._ends = [(np.zeros(streams), np.clip(np.zeros(streams), task.low, task.high))]
        self._sections: dict[int, Chunk] = {}
        self._everywhere = torch.ones(self.length, streams, dtype=torch.bool)
        self._nowhere = torch.zeros(self.length, streams, dtype=torch.bool)

    def read(self, start: int, stop: int) -> Chunk:
        first, last = start // self.length, (stop - 1) // self.length
        if first == last:
            return self._section(first).between(start - first * self.length, stop - first * self.length)
        parts = []
        for number in range(first, last + 1):
            begin = number * self.length
            parts.append(self._section(number).between(max(start - begin, 0), min(stop - begin, self.length)))
        return joined(parts)

    def _section(self, number: int) -> Chunk:
        if number not in self._sections:
            for known in range(len(self._ends) - 1, number):
                self._generate(known)  # it gives the x and y from which the next one starts
            self._generate(number)
        return self._sections[number]

    def _generate(self, number: int) -> None:
        x, y = self._ends[number]
        length = min(self.length, self.timesteps - number * self.length)
        drawn, outputs, x = self.task.generate(self.seeds, number * self.blocks, x, y, length)
        if len(self._ends) == number + 1:
            self._ends.append((x.copy(), outputs[-1].copy()))  # views would keep the whole sections in memory
        starts = self._nowhere[:length]
        if number == 0:
            starts = starts.clone()
            starts[0] = True
        inputs, targets = (torch.from_numpy(part).unsqueeze(-1) for part in (drawn, outputs))  # (T, B, 1)
        self._sections[number] = Chunk(inputs, targets, self._everywhere[:length], starts)
        while len(self._sections) > 2:
            self._sections.pop(next(iter(self._sections)))
