"""task=integral: a saturating integral of an input that jumps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Count, Fraction, NonNegative, Real
from seqrnn.errors import ConfigError
from seqrnn.registry import register
from seqrnn.tasks.protocol import Batch, Chunk

Array = NDArray[np.float64]
BLOCK = 4096  # timesteps that are generated at a time, so that a long stream takes constant memory
TRAIN, VALIDATION, TEST = range(3)


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
        gain: Real,
        offset: Real,
        jump_probability: Fraction,
        low: Real,
        high: Real,
        leak: Fraction,
        jitter: NonNegative,
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
        return [IntegralBatch(self, (TRAIN, epoch, n), streams, length) for n in range(each // length)]

    def validation(self) -> Sequence[Batch]:
        return [IntegralBatch(self, (VALIDATION, 0, 0), self.validation_sequences, self.validation_timesteps)]

    def test(self) -> Sequence[Batch]:
        return [IntegralBatch(self, (TEST, 0, 0), self.test_sequences, self.test_timesteps)]

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        steady = IntegralBatch(self, (TRAIN, 0, 0), 64, 1024).read(0, 1024).targets
        centre = float(steady.median() if self.loss == "l1" else steady.mean())
        return {
            f"constant ({'median' if self.loss == 'l1' else 'mean'})": lambda chunk: torch.full_like(
                chunk.targets, centre
            ),
            "input itself": lambda chunk: chunk.inputs,
        }

    def generate(self, seeds: tuple[int, ...], x: Array, y: Array, timesteps: int) -> tuple[Array, Array, Array]:
        """``timesteps`` more of B streams that have reached ``x`` and ``y`` (B,).

        Returns:
            Inputs (T, B) as the network sees them, outputs (T, B), and x (B,) without jitter at the end.
        """
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, *seeds])))
        jumps = rng.random((timesteps, len(x))) < self.jump_probability
        values = rng.random((timesteps, len(x)))
        # Each timestep holds the value of the latest jump: index 0 is where x stood before.
        latest = np.maximum.accumulate(np.where(jumps, np.arange(1, timesteps + 1)[:, None], 0), axis=0)
        held = np.take_along_axis(np.concatenate([x[None], values]), latest, axis=0)
        inputs = held + self.jitter * rng.standard_normal(held.shape) if self.jitter else held
        added = self.gain * (inputs - self.offset) + self.leak * inputs
        return inputs, clipped_sum(added, y, 1 - self.leak, self.low, self.high), held[-1]


def clipped_sum(added: Array, y: Array, keep: float, low: float, high: float) -> Array:
    """y_t = clip(keep · y_{t−1} + added_t, low, high) for all t at once; added (T, B), y (B,), result (T, B).

    One step is a map f(y) = clip(m·y + a, l, h), and two such maps in a row are one such map again. So all
    prefixes of the chain f_T ∘ … ∘ f_1 come out of log2(T) rounds, each joining every map with the one that ends
    where it begins (Hillis & Steele 1986), instead of out of T steps.
    """
    slope = np.full_like(added, keep)
    shift = added.copy()
    floor, ceiling = np.full_like(added, low), np.full_like(added, high)
    reach = 1
    while reach < len(added):
        m, a, lo, hi = slope[reach:], shift[reach:], floor[reach:], ceiling[reach:]  # the later map
        m0, a0, lo0, hi0 = slope[:-reach], shift[:-reach], floor[:-reach], ceiling[:-reach]  # the earlier one
        joined = (m * m0, m * a0 + a, np.clip(m * lo0 + a, lo, hi), np.clip(m * hi0 + a, lo, hi))
        for whole, part in zip((slope, shift, floor, ceiling), joined, strict=True):
            whole[reach:] = part
        reach *= 2
    return np.clip(slope * y + shift, floor, ceiling)


class IntegralBatch:
    """B streams of the task, generated block by block as they are read.

    A block depends on its seeds and on where the block before it ended, so those ends are kept (2 B numbers per
    block) and any block can be made again; the two latest are held.
    """

    def __init__(self, task: Integral, seeds: tuple[int, ...], streams: int, timesteps: int) -> None:
        self.task, self.seeds = task, seeds
        self.streams, self.timesteps = streams, timesteps
        self._ends = [(np.zeros(streams), np.clip(np.zeros(streams), task.low, task.high))]
        self._blocks: dict[int, tuple[Array, Array]] = {}

    def read(self, start: int, stop: int) -> Chunk:
        wanted = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        blocks = [self._block(number) for number in wanted]
        offset = wanted.start * BLOCK
        inputs, targets = (
            torch.from_numpy(np.concatenate(parts) if len(parts) > 1 else parts[0])[start - offset : stop - offset]
            for parts in zip(*blocks, strict=True)
        )
        starts = torch.zeros(inputs.shape, dtype=torch.bool)
        starts[: 1 if start == 0 else 0] = True
        valid = torch.ones(inputs.shape, dtype=torch.bool)
        return Chunk(inputs.unsqueeze(-1), targets.unsqueeze(-1), valid, starts)

    def _block(self, number: int) -> tuple[Array, Array]:
        if number not in self._blocks:
            for known in range(len(self._ends) - 1, number):
                self._generate(known)  # a jump ahead: the blocks on the way say where it begins
            self._generate(number)
        return self._blocks[number]

    def _generate(self, number: int) -> None:
        x, y = self._ends[number]
        length = min(BLOCK, self.timesteps - number * BLOCK)
        inputs, outputs, x = self.task.generate((*self.seeds, number), x, y, length)
        if len(self._ends) == number + 1:
            self._ends.append((x.copy(), outputs[-1].copy()))  # as views, they would hold their blocks
        self._blocks[number] = inputs, outputs
        while len(self._blocks) > 2:
            self._blocks.pop(next(iter(self._blocks)))
