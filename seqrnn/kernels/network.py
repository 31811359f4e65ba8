"""A network as compiled code sees it: all parameters in one flat array, and tables that say what lies where."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seqrnn.kernels import layout as layout
from seqrnn.kernels.specification import Recurrence

ALIGNED = 16  # numbers: each parameter begins a cache line
KINDS = {
    "tanh": layout.TANH,
    "relu": layout.RELU,
    "gru": layout.GRU,
    "lstm": layout.LSTM,
    "ind_tanh": layout.IND_TANH,
    "ind_relu": layout.IND_RELU,
    "ind_clip": layout.IND_CLIP,
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
        recurrence: the network's cell.
        head: a linear module, or a sequence of linear, ReLU and linear.
        rows: (timestep, column) pairs that are computed together, at most.
        columns: of them, at one timestep.
    """

    def __init__(self, recurrence: Recurrence, head: nn.Module, rows: int, columns: int) -> None:
        self.recurrence, self.head = recurrence, head
        self.kind = KINDS[recurrence.kind]
        space, self._moves = Space(), []  # type: ignore[var-annotated]
        self.layers = np.full((len(recurrence.layers), layout.LAYER_FIELDS), -1, np.int64)
        self.table: Table = np.full(layout.FIELDS, -1, np.int64)
        self._place_layers(space)
        self._place_head(space)
        self.table[layout.PARAMETERS] = space.size
        self.p = self._moved(space.size)
        self.table[layout.CELL_KIND] = self.kind
        self.table[layout.LAYERS] = len(self.layers)
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
            row[layout.SIZE] = size = self.recurrence.size
            row[layout.INPUTS] = layer.inputs
            width = layout.BLOCKS[self.kind] * size
            row[layout.W_IN] = begin = space.take(sum(matrix.numel() for matrix in layer.matrices))
            row[layout.W_STATE] = begin + layer.inputs * width
            for matrix in layer.matrices:
                self._moves.append((matrix, begin, layer.transposed))
                begin += matrix.numel()
            for field, bias in zip((layout.B_IN, layout.B_STATE), layer.biases, strict=False):
                row[field] = self._place(space, bias)

    def _place_head(self, space: Space) -> None:
        head, table = self.head, self.table
        last = head
        if isinstance(head, nn.Sequential):
            first, _, last = head
            assert isinstance(first, nn.Linear)
            table[layout.HEAD_SIZE] = first.out_features
            table[layout.HEAD_W], table[layout.HEAD_B] = (
                self._place(space, first.weight),
                self._place(space, first.bias),
            )
        assert isinstance(last, nn.Linear)
        table[layout.HEAD_KIND] = layout.LINEAR if last is head else layout.MLP
        table[layout.OUTPUTS] = last.out_features
        table[layout.OUT_W], table[layout.OUT_B] = self._place(space, last.weight), self._place(space, last.bias)

    def _place(self, space: Space, parameter: Tensor | None) -> int:
        if parameter is None:
            return -1
        assert isinstance(parameter, nn.Parameter)
        begin = space.take(parameter.numel())
        self._moves.append((parameter, begin, parameter.dim() == 2))
        return begin

    def _moved(self, size: int) -> Tensor:
        flat = torch.zeros(size, dtype=self.recurrence.layers[0].matrices[0].dtype)
        with torch.no_grad():
            for parameter, view in self.views(flat):
                view.copy_(parameter)
                parameter.data = view
        return flat

    def _workspace(self, rows: int, columns: int) -> NDArray[Any]:
        space, lstm = Space(), self.kind == layout.LSTM
        one = space.take(1)  # the number 1
        assert one == 0
        lowest = space.take(rows * int(self.layers[0, layout.INPUTS]))
        d_outputs = [space.take(rows * self.recurrence.size) for _ in range(min(2, len(self.layers)))]
        product, d_state, d_cell = (space.take(columns * count * self.recurrence.size) for count in (4, 1, 1))
        for index, row in enumerate(self.layers):
            H, width = int(row[layout.SIZE]), layout.BLOCKS[self.kind] * int(row[layout.SIZE])
            row[layout.INPUT] = self.layers[index - 1, layout.OUTPUT] if index else lowest
            row[layout.PREVIOUS], row[layout.OUTPUT] = space.take(rows * H), space.take(rows * H)
            row[layout.GATE] = space.take(rows * layout.GATES[self.kind] * H)
            row[layout.D_OUTPUT] = d_outputs[index % 2]
            row[layout.PRODUCT], row[layout.D_STATE], row[layout.D_CELL] = product, d_state, d_cell
            for field in (layout.PREVIOUS_CELL, layout.CELL, layout.TANH_CELL):
                row[field] = space.take(rows * H) if lstm else 0
            row[layout.BIAS] = space.take(width)
            row[layout.W_IN_T] = space.take(width * int(row[layout.INPUTS]))
            row[layout.W_STATE_T] = space.take(state_rows(self.kind, H) * width + ALIGNED)
        table, H = self.table, self.recurrence.size
        outputs, hidden = int(table[layout.OUTPUTS]), max(0, int(table[layout.HEAD_SIZE]))
        for field, count in (
            (layout.READ, rows * H),
            (layout.HIDDEN, rows * hidden),
            (layout.OUT, rows * outputs),
            (layout.D_HIDDEN, rows * hidden),
            (layout.D_READ, rows * H),
            (layout.HEAD_W_T, H * hidden),
            (layout.OUT_W_T, (hidden or H) * outputs),
        ):
            table[field] = space.take(count)
        work = np.zeros(space.size, self.p.numpy().dtype)
        work[0] = 1
        return work


def state_rows(kind: int, size: int) -> int:
    """Rows of the matrix that acts on the state; a single one where units hear only themselves."""
    return 1 if kind >= layout.IND_TANH else size


def _view(flat: Tensor, begin: int, parameter: nn.Parameter, turned: bool) -> Tensor:
    piece = flat[begin : begin + parameter.numel()]
    return piece.view(parameter.shape[::-1]).t() if turned else piece.view(parameter.shape)
