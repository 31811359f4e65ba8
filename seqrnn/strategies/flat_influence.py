"""The influence of parameters on the state as compiled code keeps it: in a flat array, beside the flat parameters."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrnn.kernels import layout
from seqrnn.kernels.influence import PANEL
from seqrnn.kernels.network import FlatNetwork
from seqrnn.strategies.influence import Influence


class FlatInfluence:
    """Holds the influence on the states of some streams.

    Args:
        form: what is kept of it.
        streams: how many streams, at most.
    """

    def __init__(self, form: Influence, flat: FlatNetwork, streams: int) -> None:
        self.form, self.flat = form, flat
        table, rows = flat.table, form.rows  # rows of all layers
        self.columns = int(table[layout.OUT_W] if table[layout.HEAD_KIND] == layout.LINEAR else table[layout.HEAD_W])
        first = flat.layers[0]
        parts, size, width = (int(first[name]) for name in (layout.PARTS, layout.SIZE, layout.BLOCKS))
        self.shape = streams, rows, self.columns
        layer_rows = parts * size
        self.scratch_size = 2 * parts * width * size if form.own_unit else layer_rows * (PANEL + size)
        # From layers, parts, units, as compiled code has them, to parts, layers, units, as a state has them.
        order = np.arange(rows).reshape(-1, parts, 1 if form.own_unit else size).swapaxes(0, 1)
        self.order = torch.from_numpy(order.reshape(-1).copy())
        names = {id(parameter): name for name, parameter in form.parameters.items()}
        numbered = flat.views(torch.arange(len(flat.p)))
        self.places = {names[id(each)]: columns for each, columns in numbered if id(each) in names}
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
        return self.numbers.reshape(-1), self.scratch, self.columns, int(self.form.own_unit)

    def by_name(self, streams: int) -> dict[str, Tensor]:
        """Returns the influence on the first streams, (B, rows, …) for each parameter, as copies."""
        numbers = torch.from_numpy(self.numbers)[:streams, self.order]  # (B, rows, C), a copy
        return {name: numbers[:, :, columns] for name, columns in self.places.items()}

    def load(self, stored: dict[str, Tensor]) -> None:
        """Sets the influence on the first streams, from that of each parameter."""
        numbers = torch.from_numpy(self.numbers)
        for name, columns in self.places.items():
            values = stored[name].to(numbers.dtype)
            inverse = torch.argsort(self.order)
            numbers[: len(values), :, columns] = values[:, inverse]
