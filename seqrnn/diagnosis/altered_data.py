"""Tasks whose data is altered, and trials on them: what would the loss be if a fault of the data were undone?

The effect is the loss on altered data by that on the data as it is, of trainings on the same seeds. T timesteps,
B streams, I inputs, N sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.diagnosis.intervals import Interval, of_ratio
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import FIRST_SEED, Change, Training, Trials
from seqrnn.errors import DataError
from seqrnn.schedule import distinct
from seqrnn.tasks.protocol import Batch, Chunk, Predicted, Stored, Task

SEEDS, MORE_SEEDS, FEWEST = 3, 6, 2  # more of them where there is time at the whole length
SHARE = 0.6  # of the time of an instrument that its trials may be expected to take
MOST_NUMBERS = 2**26  # of training data that is held in memory
FEW = 4  # sequences, from which on some of them are left out; of fewer, their ends are
Alter = Callable[[Task], Task]
Read = Callable[[Batch, int, int], Chunk]  # reads timesteps of a batch, altered


class AlteredTask:
    """A task whose batches are read in another way, and which has no metrics but the loss: those of the task may not
    fit the altered data.

    Args:
        read: reads timesteps of a batch of the task; of training, validation and test data alike.
    """

    def __init__(self, task: Task, read: Read) -> None:
        self.task, self.read = task, read

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the task that is altered."""
        if name == "task":
            raise AttributeError(name)
        return getattr(self.task, name)

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        return AlteredBatches(self.task.train(epoch, streams), self.read)

    def validation(self) -> Sequence[Batch]:
        return AlteredBatches(self.task.validation(), self.read)

    def test(self) -> Sequence[Batch]:
        return AlteredBatches(self.task.test(), self.read)

    def metrics(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        return {}

    def judged(self, predictions: Predicted) -> tuple[NDArray[Any], NDArray[Any]]:
        return predictions.outputs[predictions.valid], predictions.targets[predictions.valid]


class AlteredBatches(Sequence["AlteredBatch"]):
    """Batches that are read in another way."""

    def __init__(self, batches: Sequence[Batch], read: Read) -> None:
        self.batches, self.alter = batches, read

    def __len__(self) -> int:
        return len(self.batches)

    def distinct(self) -> Iterator[tuple[AlteredBatch, int]]:
        """Yields a batch of each size, and how many batches have it."""
        for batch, count in distinct(self.batches):
            yield AlteredBatch(batch, self.alter), count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return AlteredBatch(self.batches[index], self.alter)


class AlteredBatch:
    """A batch that is read in another way."""

    def __init__(self, batch: Batch, read: Read) -> None:
        self.batch, self.alter = batch, read
        self.streams, self.timesteps = batch.streams, batch.timesteps

    def read(self, start: int, stop: int) -> Chunk:
        return self.alter(self.batch, start, stop)


def standardised(mean: Tensor, scale: Tensor) -> Alter:
    """Returns what subtracts a mean (I,) from the inputs of a task, and divides them by a scale (I,)."""

    def read(batch: Batch, start: int, stop: int) -> Chunk:
        chunk = batch.read(start, stop)
        inputs = ((chunk.inputs - mean) / scale).to(chunk.inputs.dtype)
        return Chunk(inputs, chunk.targets, chunk.valid, chunk.starts)

    return lambda task: AlteredTask(task, read)


def delayed(delay: int, among: int) -> Alter:
    """Returns what makes each target of a task count ``delay`` timesteps later, with what the network has read until
    then.

    Args:
        among: which targets count: those that are followed by so many timesteps of their sequence, so that the same
            ones count for each delay up to this.
    """

    def read(batch: Batch, start: int, stop: int) -> Chunk:
        first = max(0, start - delay)
        last = max(first + 1, min(batch.timesteps, stop - delay + among))
        around, chunk = batch.read(first, last), batch.read(start, stop)
        asked = torch.arange(start - delay, stop - delay)  # the timesteps whose targets count now
        rows = asked.clamp(first, last - 1) - first
        valid = around.valid[rows] & (asked >= 0)[:, None]
        for later in range(1, among + 1):
            follows = around.starts[(asked + later).clamp(first, last - 1) - first].logical_not()
            valid &= follows & (asked + later < batch.timesteps)[:, None]
        return Chunk(chunk.inputs, around.targets[rows], valid, chunk.starts)

    return lambda task: AlteredTask(task, read)


class LessData:
    """A task with a part of its training sequences, repeated so that there are as many updates.

    Args:
        share: of the sequences, or, of fewer than ``FEW``, of the timesteps of each.
        streams: of the schedule.
        seed: by which the sequences are chosen.

    Raises:
        DataError: its training data is too large to be held in memory, or its batches differ in length.
    """

    def __init__(self, task: Task, share: float, streams: int, seed: int = 0) -> None:
        self.task = task
        chunk, self.sizes = pool_of(task.train(0, streams))
        timesteps, count = chunk.valid.shape
        rng = np.random.default_rng(seed)
        if count >= FEW:
            chosen = rng.permutation(count)[: max(1, round(share * count))]
            chunk = _chosen(chunk, torch.from_numpy(chosen))
        else:
            kept = max(1, round(share * timesteps))
            chunk = chunk.between(0, kept)
            times = torch.arange(timesteps) % kept
            starts = chunk.starts[times]
            starts[times == 0] = True
            chunk = Chunk(chunk.inputs[times], chunk.targets[times], chunk.valid[times], starts)
        self.chunk = chunk

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the task that it is made from."""
        if name in ("task", "chunk", "sizes"):
            raise AttributeError(name)
        return getattr(self.task, name)

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        count = self.chunk.valid.shape[1]
        total = sum(self.sizes)
        rng = np.random.default_rng([1, epoch])
        order = np.concatenate([rng.permutation(count) for _ in range(-(-total // count))])[:total]
        parts = torch.split(torch.from_numpy(order), self.sizes)
        return [Stored(_chosen(self.chunk, part)) for part in parts]


def pool_of(batches: Sequence[Batch]) -> tuple[Chunk, list[int]]:
    """Returns all sequences of an epoch side by side, (T, N, …), and how many each batch has.

    Raises:
        DataError: they are too large to be held in memory, or differ in length.
    """
    sizes = [(batch.timesteps, batch.streams, count) for batch, count in distinct(batches)]
    if len({timesteps for timesteps, _, _ in sizes}) != 1:
        raise DataError("its training sequences differ in length")
    first = batches[0].read(0, 1)
    numbers = first.inputs[0, 0].numel() + first.targets[0, 0].numel()
    if sum(timesteps * streams * count for timesteps, streams, count in sizes) * numbers > MOST_NUMBERS:
        raise DataError("its training data is too large to be trained on in parts")
    chunks = [batch.read(0, batch.timesteps) for batch in batches]
    fields = zip(*((one.inputs, one.targets, one.valid, one.starts) for one in chunks), strict=True)
    whole = Chunk(*(torch.cat(parts, dim=1) for parts in fields))
    return whole, [chunk.valid.shape[1] for chunk in chunks]


def _chosen(chunk: Chunk, which: Tensor) -> Chunk:
    return Chunk(chunk.inputs[:, which], chunk.targets[:, which], chunk.valid[:, which], chunk.starts[:, which])


@dataclass(frozen=True)
class Compared:
    """The outcome of trials.

    Args:
        effect: loss with an alteration ÷ loss without it.
        part: of the run's length, of each training.
        loss: with the alteration, geometric mean over seeds.
        seeds: of the trainings.
    """

    effect: Interval
    part: float
    loss: float
    seeds: int


def compare(
    run: TrainedRun,
    altered: Mapping[str, tuple[Alter, Change]],
    base: Alter = lambda task: task,
    metric: str = "loss",
    least: float = 0.0,
    shared: Change | None = None,
) -> dict[str, Compared]:
    """Trains on altered data, and on the data as it is, on the same seeds, at a part of the run's length for which
    ``run.budget`` has time.

    Args:
        altered: what is tried, by name: the alteration of the task, and the change of the config.
        base: what it is compared with.
        metric: by which it is judged.
        least: part of the run's length, that the trainings must have at least.
        shared: change of the config in all trainings.

    Returns:
        The outcomes by name; those that there was time for.

    Raises:
        TooSlow: there is no time for trials whose loss means anything.
    """
    allowed = SHARE * run.budget.remaining
    alterations = {"": base, **{name: alter for name, (alter, _) in altered.items()}}
    trials = Trials(run, run.budget.remaining, alterations, metric)
    shared = shared or {}
    seeds = MORE_SEEDS if trials.seconds_of({}, 1.0, MORE_SEEDS * (1 + len(altered))) <= allowed else SEEDS
    count = seeds * (1 + len(altered))
    part = 1.0
    while part / 2 >= max(least, trials.shortest) and trials.seconds_of({}, part, count) > allowed:
        part /= 2
    if trials.seconds_of({}, part, count) > allowed / SHARE:
        raise run.budget.too_slow()
    asked = [
        [
            Training(shared, part, seed),
            *(Training({**shared, **change}, part, seed, data=name) for name, (_, change) in altered.items()),
        ]
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)
    ]
    made = iter(trials.finished_losses([training for row in asked for training in row]))
    losses = [[next(made) for _ in row] for row in asked]  # (seeds, 1 + altered)
    found = {}
    for place, name in enumerate(altered, 1):
        pairs = [(row[place], row[0]) for row in losses]
        known = np.array([(new, old) for new, old in pairs if new is not None and old is not None])
        if len(known) >= FEWEST:
            new, old = known.T
            found[name] = Compared(of_ratio(new, old), part, float(np.exp(np.log(new).mean())), len(known))
    if not found:
        raise run.budget.too_slow()
    return found
