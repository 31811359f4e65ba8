"""Checks of a task's data. Whatever is wrong with it is named: the split, the batch, the timestep and the stream.

Validation and test data are checked completely, once, before training. Of the training data, every chunk that is read
is checked for shapes, types and classes; its numbers are looked at when a loss is not finite. T timesteps, B streams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from seqrnn.errors import DataError
from seqrnn.schedule import Schedule, Window, WindowRange, split_updates
from seqrnn.tasks.protocol import Batch, Chunk, Task, missing_targets

CHUNK = 1024  # timesteps that are read at a time
SPLITS = ("train", "validation", "test")  # whose scores are named after them
SEARCHED = 10**7  # pairs of a timestep and a stream of the training data among which a valid target is looked for


@dataclass(frozen=True)
class DataFormat:
    """What all chunks of a task look like.

    Args:
        input_size: I.
        output_size: O; with ``classes``, how many classes there are.
        classes: whether targets are class indices.
        missing_targets: whether numbers among the targets may be NaN, which do not count.
    """

    input_size: int
    output_size: int
    classes: bool
    missing_targets: bool = False

    @staticmethod
    def of(task: Task) -> DataFormat:
        """Returns the format that a task declares."""
        classes = task.loss == "cross_entropy"
        return DataFormat(task.input_size, task.output_size, classes, missing_targets(task))

    def read(self, batch: Batch, start: int, stop: int, where: str = "training data") -> Chunk:
        """Reads timesteps ``start`` to ``stop`` of a batch, and checks their shapes, types and classes.

        Args:
            where: where the batch is from, for the error.

        Raises:
            DataError: something has another shape or type than it should have, or there is no such class.
        """
        chunk = batch.read(start, stop)
        problem = self._problem(chunk, stop - start, batch.streams)
        if problem:
            raise DataError(f"{where}, timesteps {start} to {stop - 1}: {problem}")
        return chunk

    def _problem(self, chunk: Any, timesteps: int, streams: int) -> str | None:
        extent = (timesteps, streams)
        expected = {
            "inputs": (*extent, self.input_size),
            "targets": extent if self.classes else (*extent, self.output_size),
            "valid": extent,
            "starts": extent,
        }
        for name, shape in expected.items():
            values = getattr(chunk, name, None)
            if not isinstance(values, Tensor):
                return (
                    f"{name} should be a tensor, not {type(values).__name__}"
                    if isinstance(chunk, Chunk)
                    else f"read() returned {type(chunk).__name__}, and should return a seqrnn.tasks.protocol.Chunk"
                )
            if values.shape != shape:
                return f"{name} of shape {tuple(values.shape)} instead of {shape}{_dimensions(name, self.classes)}"
        if not chunk.inputs.is_floating_point():
            return f"inputs are {chunk.inputs.dtype}, and should be floating point: inputs.float()"
        for name in ("valid", "starts"):
            values = getattr(chunk, name)
            if values.dtype != torch.bool:
                return f"{name} is {values.dtype}, and should be bool: {name}.bool()"
        if chunk.starts.device.type != "cpu":
            return f"starts lies on {chunk.starts.device}, and should stay on the CPU"
        if not self.classes:
            if not chunk.targets.is_floating_point():
                return f"targets are {chunk.targets.dtype}, and the task's loss wants floating point: targets.float()"
            return None
        if chunk.targets.dtype != torch.int64:
            return f"targets are {chunk.targets.dtype}, and cross_entropy wants int64 class indices: targets.long()"
        judged = chunk.targets[chunk.valid]
        if len(judged):
            low, high = (int(bound) for bound in judged.aminmax())
            if low < 0 or high >= self.output_size:
                return (
                    f"a target is class {low if low < 0 else high}, and classes go from 0 to {self.output_size - 1} "
                    "(output_size says how many there are); a timestep without a target should not be valid"
                )
        return None


def _dimensions(name: str, classes: bool) -> str:
    last = {"inputs": ", input_size", "targets": "" if classes else ", output_size"}.get(name, "")
    return f" (timesteps, streams{last})"


def check_data(task: Task, streams: int, dtype: torch.dtype) -> None:
    """Checks a task's data before training: validation and test data completely, training data up to the first chunk
    with a valid target.

    Args:
        streams: of a training batch, at most.
        dtype: the floating-point type that the network computes in.

    Raises:
        DataError: what is wrong, for each of the three.
    """
    problems: list[str] = []
    data_format = DataFormat.of(task)
    splits: dict[str, Callable[[], Sequence[Batch]]] = {
        "training": lambda: task.train(0, streams),
        "validation": task.validation,
        "test": task.test,
    }
    for name, read in splits.items():
        batches = read()
        try:
            _check_sequence(name, batches)
            if name == "training":
                _find_target(data_format, batches, dtype)
            else:
                _check_completely(data_format, name, batches, dtype)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(*problems)


def check_baseline_names(names: Iterable[str], values: Mapping[str, Any]) -> None:
    """Checks that no baseline would stand in the place of something else: in tables, ``test.mse`` is the score of the
    network, and ``task.loss`` a key of the config; the network is listed by its own name.

    Args:
        names: of the task's trivial predictors.
        values: the config.

    Raises:
        DataError: one would.
    """
    taken = {*SPLITS, *values, values["model"]["name"]}
    problems = [
        f"task.name={values['task']['name']}: its trivial predictor {name!r} has the name of something else in the "
        f"tables of results; give it another name in the task's baselines(), such as '{name} (trivial)'"
        for name in names
        if name in taken
    ]
    if problems:
        raise DataError(*problems)


def _check_sequence(name: str, batches: Any) -> None:
    if not (hasattr(batches, "__len__") and hasattr(batches, "__getitem__")):
        raise DataError(
            f"{name} data: the task gave {type(batches).__name__}, and should give a sequence of batches, such as a "
            "list"
        )
    if not len(batches):
        raise DataError(f"{name} data: the task gave no batch at all; it needs at least one")


def _check_batch(where: str, batch: Any) -> None:
    missing = [part for part in ("streams", "timesteps", "read") if not hasattr(batch, part)]
    if missing:
        raise DataError(
            f"{where}: the task gave a batch of type {type(batch).__name__}, which has no "
            f"{' and no '.join(missing)}; a batch is a seqrnn.tasks.protocol.Batch (seqrnn.tasks.protocol.stored "
            "makes one of tensors)"
        )
    if batch.streams < 1 or batch.timesteps < 1:
        raise DataError(
            f"{where}: the batch has {batch.streams} streams and {batch.timesteps} timesteps; it needs at least one "
            "of each"
        )


def _chunks(data_format: DataFormat, name: str, batches: Sequence[Batch]) -> Iterator[tuple[str, int, Chunk]]:
    """Reads batches in order; yields where each chunk is from, its first timestep, and the chunk itself."""
    for number, batch in enumerate(batches):
        where = f"{name} data, batch {number}" if len(batches) > 1 else f"{name} data"
        _check_batch(where, batch)
        for start in range(0, batch.timesteps, CHUNK):
            yield where, start, data_format.read(batch, start, min(start + CHUNK, batch.timesteps), where)


def _find_target(data_format: DataFormat, batches: Sequence[Batch], dtype: torch.dtype) -> None:
    pairs = 0
    for where, start, chunk in _chunks(data_format, "training", batches):
        check_values(chunk, dtype, start, where, data_format.missing_targets)
        pairs += chunk.valid.numel()
        if chunk.valid.any() or pairs > SEARCHED:
            return
    raise DataError(
        f"training data: none of the {pairs:,} targets of the first epoch is valid, so there is nothing to learn "
        "from; `valid` should be true where a target counts"
    )


def _check_completely(data_format: DataFormat, name: str, batches: Sequence[Batch], dtype: torch.dtype) -> None:
    targets = 0
    for where, start, chunk in _chunks(data_format, name, batches):
        check_values(chunk, dtype, start, where, data_format.missing_targets)
        targets += int(chunk.valid.sum())
    lengths = sorted({batch.timesteps for batch in batches})
    if len(lengths) > 1:
        raise DataError(
            f"{name} data: one batch has {lengths[0]} timesteps and another {lengths[-1]}, and all should have the "
            "same; pad the shorter sequences, with `valid` false there"
        )
    if not targets:
        raise DataError(
            f"{name} data: no target is valid, so nothing can be judged; `valid` should be true where a target counts"
        )


def check_values(chunk: Chunk, dtype: torch.dtype, start: int, where: str, missing_targets: bool = False) -> None:
    """Checks that all inputs and all valid targets are finite in the type that the network computes in.

    Args:
        start: the timestep of the batch with which the chunk begins.
        where: where the chunk is from, for the error.
        missing_targets: whether some of the targets of a valid timestep may be NaN.

    Raises:
        DataError: a number is not finite.
    """
    for name in ("inputs", "targets"):
        values = getattr(chunk, name)
        if not values.is_floating_point():
            continue
        finite = values.to(dtype).isfinite()
        if finite.all():
            continue
        wrong = ~finite
        if name == "targets":
            missing = values.isnan()
            wrong &= chunk.valid.unsqueeze(-1)
            if missing_targets:
                wrong &= ~missing | missing.all(dim=-1, keepdim=True)
        if wrong.any():
            step, stream, column = (int(index) for index in wrong.nonzero()[0])
            value, others = float(values[step, stream, column]), int(wrong.sum()) - 1
            remedy = "fill in what is missing"
            found = str(value)
            if math.isfinite(value):
                found = f"{value:g}, which is too large for {str(dtype).removeprefix('torch.')}"
                remedy = "scale the data, or set precision=float64"
            elif name == "targets":
                remedy = "fill in what is missing, or make `valid` false there"
            raise DataError(
                f"{where}: {name[:-1]} {column} of stream {stream} at timestep {start + step} is {found}"
                f"{f' (and {others:,} more nearby)' if others else ''}; {remedy}"
            )


def check_update(
    ranges: Sequence[WindowRange[Batch]], number: int, schedule: Schedule, data_format: DataFormat, dtype: torch.dtype
) -> None:
    """Checks the numbers that an update was computed from, and those that came before in the same sequences.

    Args:
        ranges: windows of several updates.
        number: which of the updates, from 0.

    Raises:
        DataError: one of them is not finite.
    """
    update = next(islice(split_updates(ranges, schedule.windows_per_update), number, None))
    where = f"training data of epoch {update[0].epoch}"
    for batch, start, stop in _extents(schedule.windows_of(update), schedule.carry):
        chunk = data_format.read(batch, start, stop, where)
        check_values(chunk, dtype, start, where, data_format.missing_targets)


def _extents(windows: Sequence[tuple[Batch, Window]], carry: bool) -> Iterator[tuple[Batch, int, int]]:
    """Yields the timesteps of windows and, with ``carry``, those before the first of them, which made its state."""
    for batch, window in windows:
        yield batch, window.start, window.stop
    batch, window = windows[0]
    begin = max(0, window.start - SEARCHED // batch.streams) if carry else window.start
    for start in range(begin, window.start, CHUNK):
        yield batch, start, min(start + CHUNK, window.start)
