"""The memory with which one thread computes updates in compiled code: the network, its tables, and carried states."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn.kernels import layout
from seqrnn.kernels.compiler import Entry
from seqrnn.kernels.flat_influence import FlatInfluence
from seqrnn.kernels.network import FlatNetwork
from seqrnn.kernels.rtrl import train_updates_forward
from seqrnn.kernels.update import train_updates
from seqrnn.losses import KNOWN, Loss, cross_entropy, half_mse, l1, mse
from seqrnn.models.network import Network
from seqrnn.schedule import Schedule
from seqrnn.strategies.influence import influence_of
from seqrnn.strategies.protocol import Numbers

LOSS_KINDS: dict[Loss, int] = {
    mse: layout.MSE,
    half_mse: layout.HALF_MSE,
    l1: layout.L1,
    cross_entropy: layout.CROSS_ENTROPY,
    KNOWN[mse]: layout.KNOWN_MSE,
    KNOWN[half_mse]: layout.KNOWN_HALF_MSE,
    KNOWN[l1]: layout.KNOWN_L1,
}
# (timestep, column) pairs that are computed together: enough for large matrix products, few enough for the cache.
ROWS = 2048
Array = NDArray[Any]


class ThreadWorkspace:
    """Holds the tables and the arrays with which one thread computes updates, or the gradients of its streams.

    Args:
        batch: the most streams of this thread, and the most timesteps, of a training batch.
    """

    def __init__(self, network: Network, loss: Loss, schedule: Schedule, batch: tuple[int, int]) -> None:
        cell = network.cell.recurrence()
        streams, timesteps = batch
        cut_window, cut_stride = schedule.cuts
        window = cut_window or timesteps
        stride = cut_stride or window
        one = min(window, timesteps) * streams
        self.most = max(min(ROWS, one * schedule.windows_per_update), one)
        self.form = influence_of(network, schedule.gradient) if schedule.is_forward else None
        if self.form is not None:  # one timestep of all streams, and one row for each number of a stream's state
            self.most = streams + len(cell.specification.state) * cell.size
        self.flat = FlatNetwork(cell, network.head, self.most, self.most)
        self.influence = None
        if self.form is not None:
            kept = self.form.parameters, streams, self.form.rows, self.form.own_unit
            self.influence = FlatInfluence(self.flat, *kept)
        table = self.flat.table
        table[layout.LOSS_KIND] = LOSS_KINDS[loss]
        table[layout.STEP_KIND], table[layout.STEPS_MADE] = layout.NO_STEP, 0
        table[layout.STREAMS], table[layout.ROWS] = streams, self.most
        table[layout.PASSES] = schedule.windows_per_update
        table[layout.WINDOW], table[layout.STRIDE] = cut_window or 0, cut_stride or cut_window or 0
        slots = (window - stride) // stride + 1 if schedule.carry and cut_window else 0
        table[layout.SLOTS] = min(slots, schedule.count_windows(timesteps))
        table[layout.OVERLAP], table[layout.KEPT] = window - stride, stride - (window - stride) % stride
        parts = len(cell.specification.state)
        self.shape = max(1, int(table[layout.SLOTS])), len(cell.layers), parts, streams, cell.size
        self._allocate()

    def for_another_thread(self) -> ThreadWorkspace:
        """Returns a workspace of the same network, with arrays of its own."""
        twin = copy(self)
        twin.flat = self.flat.for_another_thread(self.most, self.most)
        twin.influence = self.influence and self.influence.for_another_thread()
        twin._allocate()
        return twin

    def _allocate(self) -> None:
        table, rows = self.flat.table, self.most
        self.gradient = torch.zeros_like(self.flat.p)
        self.arrays = self.flat.p.numpy(), self.gradient.numpy()
        self.tables = self.flat.w, self.flat.layers.reshape(-1), table
        self.carried = np.zeros(self.shape, self.dtype)  # (slots, L, parts, B, H)
        self.scratch = (
            self.carried.reshape(-1),
            np.zeros((int(table[layout.PASSES]) + 1) * layout.WINDOW_FIELDS, np.int64),
            np.zeros(rows, np.uint8),
            np.zeros(rows, np.int64),
            np.zeros(rows, np.int64),
            *(self.influence.arguments if self.influence else ()),
        )

    def slot_before(self, timestep: int) -> Array:
        """Returns the carried state (L, parts, B, H) of the window that begins with a timestep, as a view."""
        table = self.flat.table
        number = int(timestep + table[layout.OVERLAP]) // int(table[layout.STRIDE])
        slot: Array = self.carried[number % int(table[layout.SLOTS])]
        return slot

    @property
    def entry(self) -> Entry:
        """The compiled function that makes updates."""
        return train_updates_forward if self.influence else train_updates

    @property
    def dtype(self) -> Any:
        return self.flat.p.numpy().dtype

    def arguments(
        self, arrays: list[Array], numbers: Numbers, table: Array, data: tuple[Array, ...], rates: Numbers
    ) -> tuple[Any, ...]:
        """Returns the arguments of ``entry``, which writes the figures of updates to the last six."""
        count = len(rates)
        return (
            *self.arrays,
            *arrays,
            *self.tables,
            numbers,
            table,
            *data,
            *self.scratch,
            rates,
            np.empty(count, np.int64),
            np.empty(count, np.int64),
            np.empty(count),
            np.empty(count, np.int64),
            np.empty(count),
        )
