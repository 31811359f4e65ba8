"""A network as compiled code sees it: all parameters in one flat array, and tables that say what lies where."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seqrnn.kernels import layout as at
from seqrnn.models.network import Network
from seqrnn.models.protocol import Recurrence

ALIGNED = 16  # numbers: each parameter begins a cache line
KINDS = {
    "tanh": at.TANH,
    "relu": at.RELU,
    "gru": at.GRU,
    "lstm": at.LSTM,
    "ind_tanh": at.IND_TANH,
    "ind_relu": at.IND_RELU,
    "ind_clip": at.IND_CLIP,
}
Table = NDArray[np.int64]


class Space:
    """Hands out places in a flat array."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, count: int) -> int:
        """Where ``count`` numbers begin."""
        begin = self.size
        self.size += -(-count // ALIGNED) * ALIGNED
        return begin


class FlatNetwork:
    """Moves the parameters of a network into one flat tensor ``p``, of which they become views.

    A matrix W of y = W x lies there transposed, (inputs, outputs), because the rows of a product are then
    contiguous. Gaps between parameters hold zeros.

    Args:
        recurrence: what the network's cell computes.
        rows: (timestep, column) pairs that are computed together, at most.
        columns: of them, at one timestep.
    """

    def __init__(self, network: Network, recurrence: Recurrence, rows: int, columns: int) -> None:
        self.network, self.recurrence = network, recurrence
        self.kind = KINDS[recurrence.kind]
        space, self._moves = Space(), []  # type: ignore[var-annotated]
        self.layers = np.full((len(recurrence.layers), at.LAYER_FIELDS), -1, np.int64)
        self.table: Table = np.full(at.FIELDS, -1, np.int64)
        self._place_layers(space)
        self._place_head(space)
        self.table[at.PARAMETERS] = space.size
        self.p = self._moved(space.size)
        self.table[at.CELL_KIND] = self.kind
        self.table[at.LAYERS] = len(self.layers)
        self.w = self._workspace(rows, columns)

    def beside(self, rows: int, columns: int) -> FlatNetwork:
        """The same parameters, with tables and work space of its own: for another thread."""
        twin = copy(self)
        twin.layers, twin.table = self.layers.copy(), self.table.copy()
        twin.w = twin._workspace(rows, columns)
        return twin

    def views(self, flat: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        """The parameters, each with its place in a flat tensor of their kind: a gradient, say."""
        return [(parameter, _view(flat, begin, parameter, turned)) for parameter, begin, turned in self._moves]

    def _place_layers(self, space: Space) -> None:
        for row, layer in zip(self.layers, self.recurrence.layers, strict=True):
            row[at.SIZE] = size = self.recurrence.size
            row[at.INPUTS] = layer.inputs
            width = at.BLOCKS[self.kind] * size
            row[at.W_IN] = begin = space.take(sum(matrix.numel() for matrix in layer.matrices))
            row[at.W_STATE] = begin + layer.inputs * width
            for matrix in layer.matrices:
                self._moves.append((matrix, begin, layer.transposed))
                begin += matrix.numel()
            for field, bias in zip((at.B_IN, at.B_STATE), layer.biases, strict=False):
                row[field] = self._place(space, bias)

    def _place_head(self, space: Space) -> None:
        head, table = self.network.head, self.table
        last = head
        if isinstance(head, nn.Sequential):
            first, _, last = head
            assert isinstance(first, nn.Linear)
            table[at.HEAD_SIZE] = first.out_features
            table[at.HEAD_W], table[at.HEAD_B] = self._place(space, first.weight), self._place(space, first.bias)
        assert isinstance(last, nn.Linear)
        table[at.HEAD_KIND] = at.LINEAR if last is head else at.MLP
        table[at.OUTPUTS] = last.out_features
        table[at.OUT_W], table[at.OUT_B] = self._place(space, last.weight), self._place(space, last.bias)

    def _place(self, space: Space, parameter: Tensor | None) -> int:
        if parameter is None:
            return -1
        assert isinstance(parameter, nn.Parameter)
        begin = space.take(parameter.numel())
        self._moves.append((parameter, begin, parameter.dim() == 2))
        return begin

    def _moved(self, size: int) -> Tensor:
        flat = torch.zeros(size, dtype=next(self.network.parameters()).dtype)
        with torch.no_grad():
            for parameter, view in self.views(flat):
                view.copy_(parameter)
                parameter.data = view
        return flat

    def _workspace(self, rows: int, columns: int) -> NDArray[Any]:
        space, lstm = Space(), self.kind == at.LSTM
        space.take(1)  # the number 1, which is written at 0 below
        lowest = space.take(rows * int(self.layers[0, at.INPUTS]))
        d_outputs = [space.take(rows * self.recurrence.size) for _ in range(min(2, len(self.layers)))]
        product, d_state, d_cell = (space.take(columns * count * self.recurrence.size) for count in (4, 1, 1))
        for index, row in enumerate(self.layers):
            H, width = int(row[at.SIZE]), at.BLOCKS[self.kind] * int(row[at.SIZE])
            row[at.INPUT] = self.layers[index - 1, at.OUTPUT] if index else lowest
            row[at.PREVIOUS], row[at.OUTPUT] = space.take(rows * H), space.take(rows * H)
            row[at.GATE] = space.take(rows * at.GATES[self.kind] * H)
            row[at.D_OUTPUT] = d_outputs[index % 2]
            row[at.PRODUCT], row[at.D_STATE], row[at.D_CELL] = product, d_state, d_cell
            for field in (at.PREVIOUS_CELL, at.CELL, at.TANH_CELL):
                row[field] = space.take(rows * H) if lstm else 0
            row[at.BIAS] = space.take(width)
            row[at.W_IN_T] = space.take(width * int(row[at.INPUTS]))
            row[at.W_STATE_T] = space.take(state_rows(self.kind, H) * width + ALIGNED)
        table, H = self.table, self.recurrence.size
        outputs, hidden = int(table[at.OUTPUTS]), max(0, int(table[at.HEAD_SIZE]))
        for field, count in (
            (at.READ, rows * H),
            (at.HIDDEN, rows * hidden),
            (at.OUT, rows * outputs),
            (at.D_HIDDEN, rows * hidden),
            (at.D_READ, rows * H),
            (at.HEAD_W_T, H * hidden),
            (at.OUT_W_T, (hidden or H) * outputs),
        ):
            table[field] = space.take(count)
        work = np.zeros(space.size, self.p.numpy().dtype)
        work[0] = 1
        return work


def state_rows(kind: int, size: int) -> int:
    """Rows of the matrix that acts on the state; a single one where units hear only themselves."""
    return 1 if kind >= at.IND_TANH else size


def _view(flat: Tensor, begin: int, parameter: nn.Parameter, turned: bool) -> Tensor:
    piece = flat[begin : begin + parameter.numel()]
    return piece.view(parameter.shape[::-1]).t() if turned else piece.view(parameter.shape)
