"""A layer of a recurrence as a function that torch can differentiate, computed in compiled code on the CPU.

It computes what the cells of ``torch.nn`` and those written out by hand compute, whose backward pass mostly goes
operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seqrnn.kernels import layers, layout
from seqrnn.kernels.compiler import entry
from seqrnn.kernels.functions import clear, copy
from seqrnn.kernels.layout import (
    B_IN,
    B_STATE,
    BLOCKS,
    D_OUTPUT,
    D_STATE,
    INPUT,
    INPUTS,
    NEXT_D_PART,
    NEXT_PART,
    OUTPUT,
    PARTS,
    PREVIOUS,
    SIZE,
    STATE_ROWS,
    W_IN,
    W_STATE,
)
from seqrnn.kernels.matmul import transpose
from seqrnn.kernels.network import (
    Space,
    aligned,
    cell_number,
    check_memory,
    describe_cell,
    place_columns,
    place_rows,
)
from seqrnn.kernels.simd import offset, pointer, pointer_to
from seqrnn.kernels.specification import CellSpecification, Layer, Recurrence

Array = NDArray[Any]
State = tuple[Tensor, ...]  # parts (L, B, H), as in seqrnn.models.protocol
SIZES_KEPT = 8  # of work spaces
LARGEST_KEPT = 2**24  # numbers in one of them
ROWS = 4096  # (timestep, stream) pairs that are computed at a time where nothing has to be saved


@entry
def forward(
    cell, inputs_, outputs_, W_in_, W_state_, b_in_, b_state_, transposed, workspace, w_, layer_, starts_, states_,
    depth, columns, gradients,
):  # fmt: skip
    """Runs a layer over ``depth`` timesteps of ``columns`` streams.

    Tensors are given by their addresses; ``states_`` has that of each part of the state, which is replaced by the
    state after the last timestep. The parameters are copied to the beginning of ``workspace`` in the order that the
    layers need (``transposed`` matrices are (outputs, inputs)); everything else is computed from place ``w_`` on, and
    stays there for the backward pass. Without ``gradients`` there will be none.
    """
    p, layer, starts, states = pointer(workspace), pointer(layer_), pointer(starts_), pointer(states_)
    w, inputs, outputs = offset(p, w_), pointer_to(workspace, inputs_), pointer_to(workspace, outputs_)
    W_in, W_state = pointer_to(workspace, W_in_), pointer_to(workspace, W_state_)
    b_in, b_state = pointer_to(workspace, b_in_), pointer_to(workspace, b_state_)
    H, I, rows = layer[SIZE], layer[INPUTS], depth * columns
    N, S = layer[BLOCKS] * H, layer[STATE_ROWS]
    if transposed:
        transpose(N, I, W_in, 0, I, p, layer[W_IN], N)
        transpose(N, S, W_state, 0, S, p, layer[W_STATE], N)
    else:
        copy(W_in, 0, p, layer[W_IN], I * N)
        copy(W_state, 0, p, layer[W_STATE], S * N)
    if layer[B_IN] >= 0:
        copy(b_in, 0, p, layer[B_IN], N)
    if layer[B_STATE] >= 0:
        copy(b_state, 0, p, layer[B_STATE], N)
    w[0] = 1
    copy(inputs, 0, w, layer[INPUT], rows * I)
    layers.prepare(p, w, layer, gradients, gradients)
    layers.project(p, w, layer, rows)
    for part in range(layer[PARTS]):
        state = pointer_to(workspace, states[part])
        copy(state, 0, w, layer[PREVIOUS] + part * layer[NEXT_PART], columns * H)
    for k in range(depth):
        if k:
            layers.continue_states(w, layer, k * columns, (k - 1) * columns, columns, starts)
        layers.step(cell, p, w, layer, k * columns, columns)
    copy(w, layer[OUTPUT], outputs, 0, rows * H)
    for part in range(layer[PARTS]):
        state = pointer_to(workspace, states[part])
        copy(w, layer[OUTPUT] + part * layer[NEXT_PART] + (rows - columns) * H, state, 0, columns * H)


@entry
def backward(
    cell, d_outputs_, d_inputs_, W_in_, W_state_, b_in_, b_state_, transposed, workspace, w_, layer_, starts_,
    states_, depth, columns, below,
):  # fmt: skip
    """Computes the gradient of what ``forward`` has saved in ``workspace``.

    The gradients by the parameters are written to the addresses of those, and if ``below``, that by the inputs.
    ``states_`` has the addresses of the gradient by the final state, which is replaced by that of the initial state.
    """
    p, layer, starts, states = pointer(workspace), pointer(layer_), pointer(starts_), pointer(states_)
    w, d_outputs, d_inputs = offset(p, w_), pointer_to(workspace, d_outputs_), pointer_to(workspace, d_inputs_)
    W_in, W_state = pointer_to(workspace, W_in_), pointer_to(workspace, W_state_)
    b_in, b_state = pointer_to(workspace, b_in_), pointer_to(workspace, b_state_)
    H, I, rows = layer[SIZE], layer[INPUTS], depth * columns
    N, S = layer[BLOCKS] * H, layer[STATE_ROWS]
    g = p  # the parameters themselves are not needed any more, only their transposes in w
    clear(g, 0, w_)
    copy(d_outputs, 0, w, layer[D_OUTPUT], rows * H)
    for part in range(layer[PARTS]):
        state = pointer_to(workspace, states[part])
        copy(state, 0, w, layer[D_STATE] + part * layer[NEXT_D_PART], columns * H)
    place = layer[INPUT] if below else -1  # when it is written, the inputs are not needed any more
    layers.backward(cell, p, g, w, layer, depth, columns, starts, place, True)
    if below:
        copy(w, place, d_inputs, 0, rows * I)
    for part in range(layer[PARTS]):
        state = pointer_to(workspace, states[part])
        copy(w, layer[D_STATE] + part * layer[NEXT_D_PART], state, 0, columns * H)
    if transposed:
        transpose(I, N, g, layer[W_IN], N, W_in, 0, I)
        transpose(S, N, g, layer[W_STATE], N, W_state, 0, S)
    else:
        copy(g, layer[W_IN], W_in, 0, I * N)
        copy(g, layer[W_STATE], W_state, 0, S * N)
    if layer[B_IN] >= 0:
        copy(g, layer[B_IN], b_in, 0, N)
    if layer[B_STATE] >= 0:
        copy(g, layer[B_STATE], b_state, 0, N)


def recur(recurrence: Recurrence, inputs: Tensor, state: State, training: bool) -> tuple[Tensor, State]:
    """Computes what the cell described by ``recurrence`` computes.

    Args:
        inputs: (T, B, I), float32 or float64, as the parameters are.
        state: before the first timestep, parts (L, B, H).
        training: whether dropout acts.

    Returns:
        The outputs (T, B, H), and the state after the last timestep. They have no second derivatives.

    Raises:
        ValueError: sizes or types that do not go together; compiled code does not check where it reads and writes.
    """
    _check(recurrence, inputs, state)
    specification, outputs = recurrence.specification, inputs
    ends = []
    for number, layer in enumerate(recurrence.layers):
        if number:
            outputs = F.dropout(outputs, recurrence.dropout, training)
        parameters = [*layer.matrices, *layer.biases]
        begin = [part[number] for part in state]
        if torch.is_grad_enabled() and any(t.requires_grad for t in (outputs, *begin, *parameters)):
            outputs, *end = _Layer.apply(specification, recurrence.size, layer, outputs, *begin, *parameters)
        else:
            outputs, end = _run_without_gradients(specification, recurrence.size, layer, outputs, begin)
        ends.append(end)
    return outputs, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


def _check(recurrence: Recurrence, inputs: Tensor, state: State) -> None:
    first = recurrence.layers[0]
    if inputs.dim() != 3 or not inputs.shape[0] or not inputs.shape[1] or inputs.shape[2] != first.inputs:
        expected = f"(T, B, {first.inputs}), T and B at least 1"
        raise ValueError(f"inputs of shape {tuple(inputs.shape)}: should be {expected}")
    recurrence.check_state(state, inputs.shape[1])
    types = {inputs.dtype, *(part.dtype for part in state), first.matrices[0].dtype}
    if len(types) > 1 or inputs.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"inputs, state and parameters of types {types}: should all be float32, or all float64")


def ready(dtype: torch.dtype, announce: Callable[[str], None], gradients: bool) -> None:
    """Compiles the forward pass ahead of use, and the backward pass if there will be ``gradients``."""
    workspace, table, flags = _Workspace(1, dtype).array, np.zeros(1, np.int64), np.zeros(1, np.uint8)
    for function in (forward, backward) if gradients else (forward,):
        function.ready(*range(8), workspace, 1, table, flags, table, 1, 1, 1, announce=announce)


class _Layer(torch.autograd.Function):
    """(inputs, parts of the state, matrices, biases) -> (outputs, parts of the state)."""

    @staticmethod
    def forward(
        ctx: Any, specification: CellSpecification, size: int, layer: Layer, inputs: Tensor, *rest: Tensor
    ) -> Any:
        state = rest[: len(specification.state)]
        ctx.save_for_backward(inputs, *state)
        ctx.call = _Call(specification, size, layer, inputs.shape, inputs.dtype)
        ctx.is_saved = True
        outputs, end = ctx.call(inputs, state)
        return outputs, *end

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("compiled recurrences have no second derivative; set kernel=torch")
        if not ctx.is_saved:  # a second pass through the same graph: the first one has overwritten what was saved
            inputs, *state = ctx.saved_tensors
            ctx.call(inputs, state)
        ctx.is_saved = False
        d_inputs, d_state, d_parameters = ctx.call.gradients(*gradients, below=ctx.needs_input_grad[3])
        return None, None, None, d_inputs, *d_state, *d_parameters


class _Call:
    """One pass of a layer over some timesteps, with everything that its gradient needs."""

    def __init__(
        self,
        specification: CellSpecification,
        size: int,
        layer: Layer,
        shape: torch.Size,
        dtype: torch.dtype,
        gradients: bool = True,
    ) -> None:
        self.cell, self.size, self.layer, self.with_gradients = cell_number(specification), size, layer, gradients
        self.steps, self.streams, self.inputs = shape
        rows = self.steps * self.streams
        self.table, self.begin, numbers = _places(
            specification, rows, self.streams, self.inputs, size, len(layer.biases)
        )
        self.workspace = _Workspace(numbers, dtype)
        self.starts = _no_starts(rows)
        # Transposed twice is not transposed: a view of a matrix that lies the other way round is used as it lies.
        self.transposed = layer.transposed and all(matrix.is_contiguous() for matrix in layer.matrices)

    def __call__(self, inputs: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Returns the outputs, and the state after them."""
        inputs = inputs.contiguous()
        end = [part.detach().clone(memory_format=torch.contiguous_format) for part in state]
        outputs = inputs.new_empty((self.steps, self.streams, self.size))
        parameters = (*self.layer.matrices, *self.layer.biases)
        self._compute(forward, inputs, outputs, end, parameters, self.with_gradients)
        return outputs, end

    def gradients(
        self, d_outputs: Tensor, *d_state: Tensor, below: bool
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
        """Returns the gradients by the inputs (if ``below``), the initial state and the parameters."""
        d_outputs = d_outputs.contiguous()
        d_initial = [part.clone(memory_format=torch.contiguous_format) for part in d_state]
        d_inputs = d_outputs.new_empty((self.steps, self.streams, self.inputs)) if below else None
        found = [torch.empty_like(parameter) for parameter in (*self.layer.matrices, *self.layer.biases)]
        self._compute(backward, d_outputs, d_inputs, d_initial, found, below)
        return d_inputs, d_initial, found

    def _compute(
        self,
        function: Any,
        first: Tensor,
        second: Tensor | None,
        state: Sequence[Tensor],
        parameters: Sequence[Tensor],
        flag: bool,
    ) -> None:
        """Calls a compiled function with the addresses of tensors. A single matrix is that of the inputs on top of
        that of the state; a bias that does not exist has no place in the table, so its address is not used."""
        lying = [
            part if self.transposed or part.dim() == 1 or not self.layer.transposed else part.t()
            for part in parameters
        ]
        lying = [part if part.is_contiguous() else part.contiguous() for part in lying]
        addresses = [part.data_ptr() for part in lying]
        if len(self.layer.matrices) == 1:
            addresses.insert(1, addresses[0] + lying[0].element_size() * self.inputs * lying[0].shape[1])
        addresses += [0] * (4 - len(addresses))
        function(
            self.cell, first.data_ptr(), 0 if second is None else second.data_ptr(), *addresses, int(self.transposed),
            self.workspace.array, self.begin, self.table, self.starts,
            np.array([part.data_ptr() for part in state], np.int64), self.steps, self.streams, int(flag),
        )  # fmt: skip


def _run_without_gradients(
    specification: CellSpecification, size: int, layer: Layer, inputs: Tensor, state: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Runs the forward pass piece by piece, so that the work space stays in the processor's cache."""
    steps = max(1, ROWS // max(1, inputs.shape[1]))
    pieces = []
    for piece in torch.split(inputs, steps):
        output, state = _Call(specification, size, layer, piece.shape, piece.dtype, gradients=False)(piece, state)
        pieces.append(output)
    return (torch.cat(pieces) if len(pieces) > 1 else pieces[0]), state


class _Workspace:
    """The work space of one call, with the activations that are saved for the backward pass.

    The array of a call that is over is given to the next one of its size: fresh memory would cost as much time as the
    arithmetic.
    """

    free: ClassVar[dict[tuple[int, Any], list[Array]]] = {}

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        self.key = (size, dtype)
        if size > LARGEST_KEPT:
            check_memory(size * dtype.itemsize)
        unused = self.free.get(self.key)
        self.array: Array = unused.pop() if unused else torch.empty(size, dtype=dtype).numpy()

    def __del__(self) -> None:
        while len(self.free) >= SIZES_KEPT and self.key not in self.free:
            self.free.pop(next(iter(self.free)))
        unused = self.free.setdefault(self.key, [])
        if len(unused) < 2 and len(self.array) <= LARGEST_KEPT:
            unused.append(self.array)


@lru_cache(maxsize=16)
def _no_starts(rows: int) -> Array:
    return np.zeros(rows, np.uint8)


@lru_cache(maxsize=64)
def _places(
    specification: CellSpecification, rows: int, columns: int, inputs: int, size: int, biases: int
) -> tuple[Array, int, int]:
    """Returns the layer's row of the table; the numbers that its parameters take, behind which the work space begins;
    and the numbers of both together."""
    table = np.full(layout.LAYER_FIELDS, -1, np.int64)
    describe_cell(table, specification, size, inputs)
    width, above = (
        specification.blocks * size,
        inputs + int(table[layout.STATE_ROWS]),
    )  # rows of the matrices, above the biases
    table[layout.W_IN], table[layout.W_STATE] = 0, inputs * width
    for number, field in enumerate((layout.B_IN, layout.B_STATE)[:biases]):
        table[field] = (above + number) * width
    space = Space()
    space.take(1)  # for the number 1, which stands at the beginning
    table[layout.INPUT], table[layout.D_OUTPUT] = space.take(rows * inputs), space.take(rows * size)
    for field, begin in place_columns(table, space, columns).items():
        table[field] = begin
    place_rows(table, space, rows)
    parameters = aligned((above + biases) * width)
    return table, parameters, parameters + space.size
