"""A network as compiled code needs it: all parameters in one flat array, and tables that say what lies where."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seqrnn.device import available_memory
from seqrnn.kernels import dispatch, layout
from seqrnn.kernels.specification import CellSpecification, Recurrence

ALIGNED = 16  # numbers: each parameter begins a cache line
Table = NDArray[np.int64]


def aligned(count: int) -> int:
    """Returns ``count`` rounded up to whole cache lines."""
    return -(-count // ALIGNED) * ALIGNED


class Space:
    """Hands out places in a flat array."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, count: int) -> int:
        """Returns where ``count`` numbers begin."""
        begin = self.size
        self.size += aligned(count)
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
        space = Space()
        self._moves: list[tuple[nn.Parameter, int, bool]] = []  # parameter, where it begins, whether it is transposed
        self.layers = np.full((len(recurrence.layers), layout.LAYER_FIELDS), -1, np.int64)
        self.table: Table = np.full(layout.FIELDS, -1, np.int64)
        self._place_layers(space)
        self._place_head(space)
        self.table[layout.PARAMETERS] = space.size
        self.p = self._move_parameters(space.size)
        self.table[layout.CELL_NUMBER] = cell_number(recurrence.specification)
        self.table[layout.LAYERS] = len(self.layers)
        self.w = self._make_workspace(rows, columns)

    def for_another_thread(self, rows: int, columns: int) -> FlatNetwork:
        """Returns the same parameters with tables and a work space of their own."""
        twin = copy.copy(self)
        twin.layers, twin.table = self.layers.copy(), self.table.copy()
        twin.w = twin._make_workspace(rows, columns)
        return twin

    def views(self, flat: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        """Returns the parameters, each with its part of a flat tensor laid out as they are: a gradient, say."""
        return [
            (parameter, _view(flat, begin, parameter, transposed)) for parameter, begin, transposed in self._moves
        ]

    def _place_layers(self, space: Space) -> None:
        for row, layer in zip(self.layers, self.recurrence.layers, strict=True):
            describe_cell(row, self.recurrence.specification, self.recurrence.size, layer.inputs)
            width = row[layout.BLOCKS] * row[layout.SIZE]
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
            table[layout.HEAD_W] = self._place(space, first.weight)
            table[layout.HEAD_B] = self._place(space, first.bias)
        assert isinstance(last, nn.Linear)
        table[layout.HEAD_KIND] = layout.LINEAR if last is head else layout.MLP
        table[layout.OUTPUTS] = last.out_features
        table[layout.OUT_W] = self._place(space, last.weight)
        table[layout.OUT_B] = self._place(space, last.bias)

    def _place(self, space: Space, parameter: Tensor | None) -> int:
        if parameter is None:
            return -1
        assert isinstance(parameter, nn.Parameter)
        begin = space.take(parameter.numel())
        self._moves.append((parameter, begin, parameter.dim() == 2))
        return begin

    def _move_parameters(self, size: int) -> Tensor:
        flat = torch.zeros(size, dtype=self.recurrence.layers[0].matrices[0].dtype)
        with torch.no_grad():
            for parameter, view in self.views(flat):
                view.copy_(parameter)
                parameter.data = view
        return flat

    def _make_workspace(self, rows: int, columns: int) -> NDArray[Any]:
        H = self.recurrence.size
        space = Space()
        space.take(1)  # for the number 1, which stands at the beginning
        lowest = space.take(rows * int(self.layers[0, layout.INPUTS]))
        d_outputs = [space.take(rows * H) for _ in range(min(2, len(self.layers)))]  # one layer reads, one writes
        for_each_column = place_columns(self.layers[0], space, columns)
        for index, row in enumerate(self.layers):
            row[layout.INPUT] = self.layers[index - 1, layout.OUTPUT] if index else lowest
            row[layout.D_OUTPUT] = d_outputs[index % 2]
            for field, begin in for_each_column.items():
                row[field] = begin
            place_rows(row, space, rows)
        table = self.table
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
        dtype = self.p.numpy().dtype
        check_memory(space.size * dtype.itemsize)
        work = np.zeros(space.size, dtype)
        work[0] = 1
        return work


def check_memory(needed: int) -> None:
    """Checks that there is memory for so many bytes of work space, since Linux hands out more than there is.

    Raises:
        MemoryError: there is not.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryError(
            f"compiled code needs {needed / 1e9:,.1f} GB of work space, and {available / 1e9:,.1f} GB are available"
        )


def cell_number(specification: CellSpecification) -> int:
    """Returns the number by which compiled code knows a cell."""
    assert specification.compiled is not None
    return dispatch.NUMBERS[specification.compiled]


def describe_cell(row: Table, specification: CellSpecification, size: int, inputs: int) -> None:
    """Writes what a cell's specification says into a row of the layers' table."""
    row[layout.INPUTS], row[layout.SIZE] = inputs, size
    row[layout.BLOCKS], row[layout.SCALED] = specification.blocks, specification.scaled
    row[layout.SAVES], row[layout.PARTS] = specification.saved_numbers, len(specification.state)
    row[layout.INDEPENDENT] = specification.independent
    row[layout.STATE_ROWS] = (1 if specification.independent else size) if specification.state_in_sums else 0
    row[layout.ACTIVATION] = layout.ACTIVATIONS.index(specification.activation)


def place_columns(row: Table, space: Space, columns: int) -> dict[int, int]:
    """Takes the room for what a layer has for each column; returns, by field of the layers' table, what to write."""
    H, part = int(row[layout.SIZE]), aligned(columns * int(row[layout.SIZE]))
    return {
        layout.PRODUCT: space.take(columns * int(row[layout.BLOCKS]) * H),
        layout.D_STATE: space.take(int(row[layout.PARTS]) * part),
        layout.NEXT_D_PART: part,
    }


def place_rows(row: Table, space: Space, rows: int) -> None:
    """Takes the room for what a layer has for each row (but inputs and D_OUTPUT), and once."""
    H, parts, width = int(row[layout.SIZE]), int(row[layout.PARTS]), int(row[layout.BLOCKS] * row[layout.SIZE])
    row[layout.NEXT_PART] = part = aligned(rows * H)
    row[layout.PREVIOUS], row[layout.OUTPUT] = space.take(parts * part), space.take(parts * part)
    row[layout.SAVED] = space.take(rows * int(row[layout.SAVES]) * H)
    row[layout.BIAS] = space.take(width)
    row[layout.W_IN_T] = space.take(width * int(row[layout.INPUTS]))
    row[layout.W_STATE_T] = space.take(int(row[layout.STATE_ROWS]) * width + ALIGNED)


def _view(flat: Tensor, begin: int, parameter: nn.Parameter, transposed: bool) -> Tensor:
    piece = flat[begin : begin + parameter.numel()]
    return piece.view(parameter.shape[::-1]).t() if transposed else piece.view(parameter.shape)
