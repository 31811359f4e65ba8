"""Which windows the coming updates of a member consist of. Members whose batches have the same sizes share a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from seqrnn.schedule import Schedule, Window, WindowRange, split_updates, window_at
from seqrnn.strategies.protocol import Counts, WindowRanges
from seqrnn.tasks.protocol import Batch

Extent = tuple[int, int, int, int]


class BatchShape(NamedTuple):
    """The number and the size of a batch, which is all that a schedule needs to know of it.

    Args:
        number: of the batch, among those of the plan.
    """

    number: int
    timesteps: int
    streams: int


@dataclass(frozen=True, slots=True)
class PlannedUpdate:
    """An update.

    Args:
        epoch: the number of the epoch that it belongs to.
        windows: its windows, each with the shape of its batch.
        extents: of these, what must be equal for members' windows to be computed together: the timesteps to the
            window's end, to those that add loss and to the one before which the state is kept; the streams.
        timesteps: those that add loss, over all streams.
    """

    epoch: int
    windows: Sequence[tuple[BatchShape, Window]]
    extents: Sequence[Extent]
    timesteps: int


@dataclass(frozen=True)
class Plan:
    """Consecutive updates.

    Args:
        epochs, timesteps: of the updates, as ``UpdateStats`` has them.
    """

    updates: Sequence[PlannedUpdate]
    epochs: Counts
    timesteps: Counts


def planned(ranges: WindowRanges, schedule: Schedule) -> tuple[list[Batch], Plan]:
    """Returns the batches of ranges, each once, and the plan of their updates."""
    numbers: dict[int, int] = {}
    batches: list[Batch] = []
    described = []
    for each in ranges:
        batch = each.batch
        if id(batch) not in numbers:
            numbers[id(batch)] = len(batches)
            batches.append(batch)
        shape = BatchShape(numbers[id(batch)], batch.timesteps, batch.streams)
        described.append((each.epoch, shape, each.first, each.count, each.ends_epoch, each.epochs))
    return batches, _plan(tuple(described), schedule.cuts, schedule.windows_per_update)


@lru_cache(maxsize=16)
def _plan(
    ranges: tuple[tuple[int, BatchShape, int, int, bool, int], ...],
    cuts: tuple[int | None, int | None],
    windows_per_update: int,
) -> Plan:
    updates = [
        _update(parts, cuts) for parts in split_updates((WindowRange(*each) for each in ranges), windows_per_update)
    ]
    return Plan(
        updates,
        np.array([update.epoch for update in updates], np.int64),
        np.array([update.timesteps for update in updates], np.int64),
    )


def _update(parts: Sequence[WindowRange[BatchShape]], cuts: tuple[int | None, int | None]) -> PlannedUpdate:
    windows = [
        (each.batch, window_at(each.batch.timesteps, number, *cuts))
        for each in parts
        for number in range(each.first, each.first + each.count)
    ]
    return PlannedUpdate(
        parts[0].epoch,
        windows,
        tuple(_extent(batch, window) for batch, window in windows),
        sum(batch.streams * (window.stop - window.fresh) for batch, window in windows),
    )


def _extent(batch: BatchShape, window: Window) -> Extent:
    start = window.start
    return window.stop - start, window.fresh - start, min(window.keep, window.stop) - start, batch.streams
