"""Tasks with a fault in their data: ``task=narma task.name=planted_narma +task.wrong_labels=0.3``.

A plugin: importing it registers ``planted_NAME`` for each task in ``TASKS``. Such a task has the settings of the one
that it is made from, and some more. T timesteps, B streams, I inputs, O outputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrnn import registry
from seqrnn.bounds import Fraction, Moderate, Natural, Spread
from seqrnn.plugins import load_components
from seqrnn.schedule import distinct
from seqrnn.tasks.protocol import Batch, Chunk, Stored

TASKS = (
    "sine", "sincos", "integral", "adding", "copy", "delayed_echo", "xor", "letters", "parity", "add_memory",
    "memory_capacity", "mackey_glass", "lorenz", "narma",
)  # fmt: skip
TRAIN, VALIDATION, TEST, ROLLOUT = range(4)
FAR = 10.0  # standard deviations that an outlier lies off


class Planted:
    """A task whose data is altered.

    What misleads training (wrong labels, outliers, noise) is in the training and the validation data, as in life; the
    test data is clean, so that test scores say what was learned. What belongs to the data itself (shift, scale, a
    driver) is in all data. Standard deviations are those of the task's own validation targets.

    Args:
        task: that it is made from.
        seed: of the run.
        fixed_data: whether each epoch has the data of the first one, so that it can be learned by heart.
        wrong_labels: share of the targets that are those of another place.
        outliers: share of the targets, of a regression, that lie ``FAR`` standard deviations off.
        target_noise: standard deviation of the noise on the targets of a regression, in standard deviations.
        shift: timesteps by which targets come too early: from what has not been read yet.
        input_scale: what inputs are multiplied by, after
        input_offset: has been added to them.
        driver: by how many standard deviations a random number, drawn at each timestep, moves the target of a
            regression.
        driver_seen: whether that number is an input, the last one.
    """

    def __init__(
        self,
        task: Any,
        seed: int,
        *,
        fixed_data: bool,
        wrong_labels: float,
        outliers: float,
        target_noise: float,
        shift: int,
        input_scale: float,
        input_offset: float,
        driver: float,
        driver_seen: bool,
    ) -> None:
        self.task, self.seed = task, seed
        self.fixed_data, self.shift = fixed_data, shift
        self.wrong_labels, self.outliers, self.target_noise = wrong_labels, outliers, target_noise
        self.input_scale, self.input_offset = input_scale, input_offset
        self.driver, self.driver_seen = driver, driver > 0 and driver_seen
        self.input_size = task.input_size + self.driver_seen
        self._first_epochs: dict[int, Sequence[Batch]] = {}

    @property
    def all_inputs(self) -> Mapping[str, Any]:
        """The setting with which the driver is an input."""
        return {"driver_seen": True} if self.driver and not self.driver_seen else {}

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the task that it is made from."""
        if name.startswith("_") or name == "task":
            raise AttributeError(name)
        return getattr(self.task, name)

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        if not self.fixed_data:
            return self._altered(self.task.train(epoch, streams), TRAIN, epoch)
        if streams not in self._first_epochs:
            self._first_epochs[streams] = list(self._altered(self.task.train(0, streams), TRAIN, 0))
        return self._first_epochs[streams]

    def validation(self) -> Sequence[Batch]:
        return self._validation

    def test(self) -> Sequence[Batch]:
        return list(self._altered(self.task.test(), TEST, 0))

    def rollout(self, timesteps: int, streams: int) -> Batch | None:
        """Returns longer sequences, altered as test data is; None where the task has none."""
        longer = getattr(self.task, "rollout", None)
        batch = None if longer is None else longer(timesteps, streams)
        return None if batch is None else AlteredBatch(batch, partial(self._alter, split=ROLLOUT), (ROLLOUT, 0, 0))

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        """Returns the best constant for clean targets; the task's own predictors may read inputs as they were."""
        chunks = [batch.read(0, batch.timesteps) for batch in self._altered(self.task.validation(), TEST, 1)]
        if self.task.kind == "classification":
            labels = torch.cat([chunk.targets[chunk.valid] for chunk in chunks])
            shares = torch.bincount(labels, minlength=self.task.output_size).double() / len(labels)
            logits = shares.clamp_min(1e-12).log()
            return {"constant (class shares)": lambda chunk: logits.expand(*chunk.targets.shape, len(logits))}
        targets = torch.cat([chunk.targets[chunk.valid] for chunk in chunks]).double()  # (N, O)
        centre = targets.median(dim=0).values if self.task.loss == "l1" else targets.mean(dim=0)
        return {"constant": lambda chunk: centre.to(chunk.targets.dtype).expand_as(chunk.targets)}

    @cached_property
    def _validation(self) -> Sequence[Batch]:
        return list(self._altered(self.task.validation(), VALIDATION, 0))

    @cached_property
    def _spread(self) -> float:
        """The standard deviation of the task's own validation targets."""
        chunks = [batch.read(0, batch.timesteps) for batch in self.task.validation()]
        return float(torch.cat([chunk.targets[chunk.valid] for chunk in chunks]).double().std())

    def _altered(self, batches: Sequence[Batch], split: int, epoch: int) -> AlteredBatches:
        return AlteredBatches(batches, partial(self._alter, split=split), (split, epoch))

    def _alter(self, chunk: Chunk, seeds: tuple[int, ...], *, split: int) -> Chunk:
        """Returns whole sequences with everything that is wrong with them."""
        # Tasks draw their data by the same numbers: without a key of its own, what is drawn here would depend on it.
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, *seeds], spawn_key=(1,))))
        inputs, targets, valid = chunk.inputs, chunk.targets, chunk.valid
        if self.driver:
            moves = torch.from_numpy(rng.standard_normal((*valid.shape, 1))).to(inputs.dtype)  # (T, B, 1)
            targets = targets + (self.driver * self._spread * moves).to(targets.dtype)
            inputs = torch.cat([inputs, moves], dim=-1) if self.driver_seen else inputs
        if self.input_scale != 1 or self.input_offset:
            inputs = (inputs + self.input_offset) * self.input_scale
        if self.shift:
            targets, valid = _earlier(targets, valid, chunk.starts, self.shift)
        if split in (TRAIN, VALIDATION):
            targets = self._misled(targets, valid, rng)
        return Chunk(inputs, targets, valid, chunk.starts)

    def _misled(self, targets: Tensor, valid: Tensor, rng: np.random.Generator) -> Tensor:
        """Returns targets that are noisy, or wrong here and there."""
        if self.target_noise:
            noise = torch.from_numpy(rng.standard_normal(targets.shape)).to(targets.dtype)
            targets = targets + self.target_noise * self._spread * noise
        if self.outliers:
            hit = torch.from_numpy(rng.random(targets.shape) < self.outliers)
            targets = targets + FAR * self._spread * hit.to(targets.dtype)
        if self.wrong_labels:
            judged = targets[valid]  # (N,) or (N, O)
            hit = torch.from_numpy(rng.random(len(judged)) < self.wrong_labels)
            others = judged[torch.from_numpy(rng.permutation(len(judged)))]
            targets = targets.clone()
            targets[valid] = torch.where(hit.reshape(-1, *[1] * (judged.ndim - 1)), others, judged)
        return targets


def _earlier(targets: Tensor, valid: Tensor, starts: Tensor, shift: int) -> tuple[Tensor, Tensor]:
    """Returns, for each timestep, the target of ``shift`` timesteps later; none of another sequence is valid."""
    crosses = torch.zeros_like(valid)
    for step in range(1, shift + 1):
        crosses[:-step] |= starts[step:]
        crosses[-step:] = True
    return targets.roll(-shift, dims=0), valid.roll(-shift, dims=0) & ~crosses


class AlteredBatches(Sequence["AlteredBatch"]):
    """Batches that are altered when they are read.

    Args:
        alter: takes the chunk of a whole batch, and the seeds of what is drawn for it.
        seeds: of all batches; the number of a batch follows.
    """

    def __init__(
        self, batches: Sequence[Batch], alter: Callable[[Chunk, tuple[int, ...]], Chunk], seeds: tuple[int, ...]
    ) -> None:
        self.batches, self.alter, self.seeds = batches, alter, seeds

    def __len__(self) -> int:
        return len(self.batches)

    def distinct(self) -> Iterator[tuple[AlteredBatch, int]]:
        """Yields a batch of each size, and how many batches have it."""
        for batch, count in distinct(self.batches):
            yield AlteredBatch(batch, self.alter, (*self.seeds, 0)), count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        number = index % len(self)
        return AlteredBatch(self.batches[number], self.alter, (*self.seeds, number))


class AlteredBatch:
    """A batch that is altered as a whole when it is first read."""

    def __init__(
        self, batch: Batch, alter: Callable[[Chunk, tuple[int, ...]], Chunk], seeds: tuple[int, ...]
    ) -> None:
        self.batch, self.alter, self.seeds = batch, alter, seeds
        self.streams, self.timesteps = batch.streams, batch.timesteps

    def read(self, start: int, stop: int) -> Chunk:
        return self._stored.read(start, stop)

    @cached_property
    def _stored(self) -> Stored:
        return Stored(self.alter(self.batch.read(0, self.timesteps), self.seeds))


ADDED = {  # settings: their types, and the values that change nothing
    "fixed_data": (bool, False),
    "wrong_labels": (Fraction, 0.0),
    "outliers": (Fraction, 0.0),
    "target_noise": (Spread, 0.0),
    "shift": (Natural, 0),
    "input_scale": (Moderate, 1.0),
    "input_offset": (Moderate, 0.0),
    "driver": (Spread, 0.0),
    "driver_seen": (bool, True),
}


def _register(name: str) -> None:
    base = registry.find("task", name)

    def build(seed: int, **settings: Any) -> Planted:
        added = {key: settings.pop(key, usual) for key, (_, usual) in ADDED.items()}
        return Planted(base(seed, **settings), seed, **added)

    own = inspect.signature(base, eval_str=True)
    more = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=usual, annotation=kind)
        for key, (kind, usual) in ADDED.items()
    ]
    build.__signature__ = own.replace(parameters=[*own.parameters.values(), *more])  # type: ignore[attr-defined]
    build.__qualname__ = f"planted_{name}"
    registry.register("task", f"planted_{name}")(build)


load_components()
for _name in TASKS:
    _register(_name)
