"""Sequences that a task draws at random. T timesteps, B streams, I inputs, O outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.errors import ConfigError
from seqrnn.tasks.protocol import Chunk, Stored, stored

MOST_NUMBERS = 2**26  # inputs and outputs of a batch, which is drawn as a whole
TRAIN, VALIDATION, TEST, ROLLOUT, BASELINE = range(5)  # the first number of a seed: no split repeats another
FITTED = 64  # sequences from which a baseline is computed, where it has no formula
Array = NDArray[Any]


class Drawn(NamedTuple):
    """Whole sequences: inputs (T, B, I), targets (T, B, O) or (T, B), and which targets are valid (None: all)."""

    inputs: Array
    targets: Array
    valid: Array | None = None


Draw = Callable[[np.random.Generator, int, int], Drawn]  # (random numbers, T, B) -> B sequences of T timesteps


class DrawnData:
    """The data of a task whose sequences are independent of one another and all of one length.

    Every epoch draws ``train_sequences`` new sequences, in batches of at most ``streams``. A batch is drawn when it
    is first read, from the seed, the epoch and the number of the batch alone. Validation and test data are drawn
    separately, once.

    Args:
        seed: of the run.
        draw: draws sequences.
        sequences: how many there are for training, for validation and for the test.
        length: timesteps of a sequence.
        size: inputs and outputs of a timestep, I + O.
        extra: timesteps that are drawn with each sequence and are not part of it.

    Raises:
        ConfigError: the validation or the test data would not fit into memory.
    """

    def __init__(
        self,
        seed: int,
        draw: Draw,
        sequences: tuple[int, int, int],
        *,
        length: int,
        size: int,
        extra: int = 0,
    ) -> None:
        self.seed, self.draw, self.length = seed, draw, length
        self.numbers = (length + extra) * size  # of a sequence
        self.train_sequences, self.validation_sequences, self.test_sequences = sequences
        problems = [
            f"task.{split}_sequences={count}: {count:,} sequences of {self.numbers:,} numbers each are held in "
            f"memory; make them fewer or shorter: {MOST_NUMBERS:,} numbers at most"
            for split, count in (("validation", self.validation_sequences), ("test", self.test_sequences))
            if count * self.numbers > MOST_NUMBERS
        ]
        if problems:
            raise ConfigError(*problems)

    def train(self, epoch: int, streams: int) -> Sequence[DrawnBatch]:
        """Returns the batches of an epoch; the last one may have fewer streams."""
        streams = min(streams, self.train_sequences)
        if streams * self.numbers > MOST_NUMBERS:
            raise ConfigError(
                f"schedule.streams={streams}: that many sequences of {self.numbers:,} numbers each are drawn at a "
                f"time; make them fewer or shorter: {MOST_NUMBERS:,} numbers at most"
            )
        return DrawnEpoch(self, epoch, streams)

    def validation(self) -> Sequence[DrawnBatch]:
        return [self._validation]

    def test(self) -> Sequence[DrawnBatch]:
        return [self._test]

    def rollout(self, timesteps: int, streams: int) -> DrawnBatch:
        """Returns new sequences of any length."""
        return DrawnBatch(self, (ROLLOUT, 0, 0), timesteps, streams)

    def sample(self) -> Chunk:
        """Returns sequences from which a baseline can be computed; none of them is in the other data."""
        return DrawnBatch(self, (BASELINE, 0, 0), self.length, FITTED).read(0, self.length)

    @cached_property
    def _validation(self) -> DrawnBatch:
        return DrawnBatch(self, (VALIDATION, 0, 0), self.length, self.validation_sequences)

    @cached_property
    def _test(self) -> DrawnBatch:
        return DrawnBatch(self, (TEST, 0, 0), self.length, self.test_sequences)


@dataclass(frozen=True)
class DrawnEpoch(Sequence["DrawnBatch"]):
    """The batches of an epoch. Each is made when it is asked for, so that the epoch's data need not be in memory."""

    data: DrawnData
    epoch: int
    streams: int

    def __len__(self) -> int:
        return -(-self.data.train_sequences // self.streams)

    def distinct(self) -> list[tuple[DrawnBatch, int]]:
        """Returns a batch of each size, and how many batches have it."""
        whole, rest = divmod(self.data.train_sequences, self.streams)
        return [(self[0], whole)] + ([(self[-1], 1)] if rest else [])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        number = index % len(self)
        streams = min(self.streams, self.data.train_sequences - number * self.streams)
        return DrawnBatch(self.data, (TRAIN, self.epoch, number), self.data.length, streams)


class DrawnBatch:
    """B sequences, drawn when they are first read."""

    def __init__(self, data: DrawnData, seeds: tuple[int, ...], timesteps: int, streams: int) -> None:
        self.data, self.seeds = data, seeds
        self.timesteps, self.streams = timesteps, streams

    def read(self, start: int, stop: int) -> Chunk:
        return self._stored.read(start, stop)

    @cached_property
    def _stored(self) -> Stored:
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.data.seed, *self.seeds])))
        drawn = self.data.draw(rng, self.timesteps, self.streams)
        valid = None if drawn.valid is None else torch.from_numpy(np.ascontiguousarray(drawn.valid))
        return stored(torch.from_numpy(drawn.inputs), torch.from_numpy(drawn.targets), valid)


def since(delay: int, timesteps: int, streams: int) -> Array:
    """Returns which timesteps (T, B) come at least ``delay`` timesteps after the first."""
    return np.repeat(np.arange(timesteps)[:, None] >= delay, streams, axis=1)


def constant(value: float) -> Callable[[Chunk], Tensor]:
    """Returns a predictor of one number."""
    return lambda chunk: torch.full_like(chunk.targets, value)


def class_shares(shares: Sequence[float]) -> Callable[[Chunk], Tensor]:
    """Returns a predictor of the same probability of each class at all timesteps. It outputs their logarithms."""
    logits = torch.tensor(shares, dtype=torch.float64).clamp_min(1e-12).log()
    return lambda chunk: logits.expand(*chunk.targets.shape, len(logits))


def delayed(values: Tensor, delay: int) -> Tensor:
    """Returns values (T, …) of ``delay`` timesteps ago; zeros before the first timestep."""
    past = torch.zeros_like(values)
    past[delay:] = values[: max(0, len(values) - delay)]
    return past


def delay_line(sample: Chunk, lags: int) -> Callable[[Chunk], Tensor]:
    """Returns the best linear predictor from the latest ``lags`` inputs and a constant, by least squares.

    Args:
        sample: sequences that it is fitted to. Timesteps before the first have zeros for inputs.
    """

    def columns(chunk: Chunk) -> Tensor:  # (T, B, I · lags + 1)
        past = [delayed(chunk.inputs.double(), lag) for lag in range(lags)]
        return torch.cat([*past, torch.ones_like(past[0][..., :1])], dim=-1)

    weights = torch.linalg.lstsq(columns(sample)[sample.valid], sample.targets.double()[sample.valid]).solution
    return lambda chunk: (columns(chunk) @ weights).to(chunk.targets.dtype)
