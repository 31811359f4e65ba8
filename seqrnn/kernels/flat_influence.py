"""The influence of parameters on the state as compiled code keeps it: in a flat array, beside the flat parameters."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqrnn.kernels import layout
from seqrnn.kernels.influence import PANEL
from seqrnn.kernels.network import FlatNetwork


class FlatInfluence:
    """Holds the influence on the states of some streams.

    Args:
        parameters: of the cell, by name.
        streams: how many streams, at most.
        rows: numbers of state of a stream, or its parts if ``own_unit``.
        own_unit: whether each parameter has its influence on its own unit alone.
    """

    def __init__(
        self, flat: FlatNetwork, parameters: Mapping[str, nn.Parameter], streams: int, rows: int, own_unit: bool
    ) -> None:
        self.flat, self.own_unit = flat, own_unit
        table, first = flat.table, flat.layers[0]
        self.columns = int(table[layout.OUT_W] if table[layout.HEAD_KIND] == layout.LINEAR else table[layout.HEAD_W])
        parts, size, blocks = (int(first[name]) for name in (layout.PARTS, layout.SIZE, layout.BLOCKS))
        self.shape = streams, rows, self.columns
        self.scratch_size = 2 * parts * blocks * size if own_unit else parts * size * (PANEL + size)
        # From layers, parts, units, as compiled code has them, to parts, layers, units, as a state has them.
        order = np.arange(rows).reshape(-1, parts, 1 if own_unit else size).swapaxes(0, 1)
        self.order = torch.from_numpy(order.reshape(-1).copy())
        numbered = {id(each): columns for each, columns in flat.views(torch.arange(len(flat.p)))}
        self.places = {name: numbered[id(parameter)] for name, parameter in parameters.items()}
        self._allocate()

    def for_another_thread(self) -> FlatInfluence:
        """Returns the influence on the states of as many other streams."""
        twin = copy(self)
        twin._allocate()
        return twin

    def _allocate(self) -> None:
        dtype = self.flat.p.numpy().dtype
        self.numbers = np.zeros(self.shape, dtype)
        self.scratch = np.zeros(self.scratch_size, dtype)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What ``seqrnn.kernels.rtrl.train_updates_forward`` is given of it."""
        return self.numbers.reshape(-1), self.scratch, self.columns, int(self.own_unit)

    def by_name(self, streams: int) -> dict[str, Tensor]:
        """Returns the influence on the first streams, (B, rows, …) for each parameter, as copies."""
        numbers = torch.from_numpy(self.numbers)[:streams, self.order]  # (B, rows, C), a copy
        return {name: numbers[:, :, columns] for name, columns in self.places.items()}

    def load(self, stored: Mapping[str, Tensor]) -> None:
        """Sets the influence on the first streams, from that of each parameter."""
        numbers, inverse = torch.from_numpy(self.numbers), torch.argsort(self.order)
        for name, columns in self.places.items():
            values = stored[name].to(numbers.dtype)
            numbers[: len(values), :, columns] = values[:, inverse]
