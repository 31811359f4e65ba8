"""A layer of a recurrence as a function that torch can differentiate, computed in compiled code on the CPU.

It stands in for ``torch.nn.RNN``, ``GRU`` and ``LSTM``, whose backward pass goes operation by operation (the LSTM's
does not), and for the Elman cell written out by hand.
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
    CELL,
    D_CELL,
    D_OUTPUT,
    D_STATE,
    IND_TANH,
    INPUT,
    INPUTS,
    LSTM,
    OUTPUT,
    PREVIOUS,
    PREVIOUS_CELL,
    SIZE,
    W_IN,
    W_STATE,
)
from seqrnn.kernels.matmul import transpose
from seqrnn.kernels.network import ALIGNED, KINDS, Space, state_rows
from seqrnn.kernels.simd import offset, pointer, pointer_to
from seqrnn.kernels.specification import Layer, Recurrence

Array = NDArray[Any]
State = tuple[Tensor, ...]  # parts (L, B, H), as in seqrnn.models.protocol
SIZES_KEPT = 8  # of work spaces
LARGEST_KEPT = 2**24  # numbers in one of them
ROWS = 4096  # (timestep, stream) pairs that are computed at a time where nothing has to be kept


@entry
def forward(
    kind, inputs_, h_, c_, outputs_, W_in_, W_state_, b_in_, b_state_, turned, memory, w_, layer_, starts_, depth,
    columns, keeps,
):  # fmt: skip
    """Runs a layer over ``depth`` timesteps of ``columns`` streams; the states in ``h`` and ``c`` move on. Tensors
    come as addresses. The parameters are put at the beginning of ``memory`` as the layers want them, and what the
    backward pass needs from ``w_`` on; ``turned`` matrices are (outputs, inputs)."""
    p, layer, starts = pointer(memory), pointer(layer_), pointer(starts_)
    w, inputs, h, c = offset(p, w_), pointer_to(memory, inputs_), pointer_to(memory, h_), pointer_to(memory, c_)
    outputs, W_in, W_state = pointer_to(memory, outputs_), pointer_to(memory, W_in_), pointer_to(memory, W_state_)
    b_in, b_state = pointer_to(memory, b_in_), pointer_to(memory, b_state_)
    H, I, rows = layer[SIZE], layer[INPUTS], depth * columns
    N, S = BLOCKS[kind] * H, 1 if kind >= IND_TANH else H
    if turned:
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
    layers.prepare(kind, p, w, layer, keeps, keeps)
    layers.project(kind, p, w, layer, rows)
    copy(h, 0, w, layer[PREVIOUS], columns * H)
    if kind == LSTM:
        copy(c, 0, w, layer[PREVIOUS_CELL], columns * H)
    for k in range(depth):
        if k:
            layers.follow(kind, w, layer, k * columns, (k - 1) * columns, columns, starts)
        layers.step(kind, p, w, layer, k * columns, columns)
    copy(w, layer[OUTPUT], outputs, 0, rows * H)
    last = (rows - columns) * H
    copy(w, layer[OUTPUT] + last, h, 0, columns * H)
    if kind == LSTM:
        copy(w, layer[CELL] + last, c, 0, columns * H)


@entry
def backward(
    kind, d_outputs_, d_h_, d_c_, d_inputs_, W_in_, W_state_, b_in_, b_state_, turned, memory, w_, layer_, starts_,
    depth, columns, below,
):  # fmt: skip
    """The gradient of what ``forward`` has kept: by the parameters; by the inputs, if ``below``; and from the one by
    the final state the one by the initial state, in its place."""
    p, layer, starts = pointer(memory), pointer(layer_), pointer(starts_)
    w, d_outputs, d_inputs = offset(p, w_), pointer_to(memory, d_outputs_), pointer_to(memory, d_inputs_)
    d_h, d_c = pointer_to(memory, d_h_), pointer_to(memory, d_c_)
    W_in, W_state = pointer_to(memory, W_in_), pointer_to(memory, W_state_)
    b_in, b_state = pointer_to(memory, b_in_), pointer_to(memory, b_state_)
    H, I, rows = layer[SIZE], layer[INPUTS], depth * columns
    N, S = BLOCKS[kind] * H, 1 if kind >= IND_TANH else H
    g = p  # the parameters themselves are not needed any more, only their transposes in w
    clear(g, 0, w_)
    copy(d_outputs, 0, w, layer[D_OUTPUT], rows * H)
    copy(d_h, 0, w, layer[D_STATE], columns * H)
    if kind == LSTM:
        copy(d_c, 0, w, layer[D_CELL], columns * H)
    place = layer[INPUT] if below else -1  # the inputs are not needed any more by then
    layers.backward(kind, p, g, w, layer, depth, columns, starts, place, True)
    if below:
        copy(w, place, d_inputs, 0, rows * I)
    copy(w, layer[D_STATE], d_h, 0, columns * H)
    if kind == LSTM:
        copy(w, layer[D_CELL], d_c, 0, columns * H)
    if turned:
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
    """What a cell that is described by ``recurrence`` computes: inputs (T, B, I) and the state before them -> outputs
    (T, B, H) and the state after them. Second derivatives are refused."""
    _check(recurrence, inputs, state)
    kind, outputs = KINDS[recurrence.kind], inputs
    ends = []
    for number, layer in enumerate(recurrence.layers):
        if number:
            outputs = F.dropout(outputs, recurrence.dropout, training)
        parameters = [*layer.matrices, *layer.biases]
        begin = [part[number] for part in state]
        if torch.is_grad_enabled() and any(t.requires_grad for t in (outputs, *begin, *parameters)):
            outputs, *end = _Layer.apply(kind, recurrence.size, layer, outputs, *begin, *parameters)
        else:
            outputs, end = _run_through(kind, recurrence.size, layer, outputs, begin)
        ends.append(end)
    return outputs, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


def _check(recurrence: Recurrence, inputs: Tensor, state: State) -> None:
    """Compiled code does not look where it reads and writes.

    Raises:
        ValueError: sizes or types that do not go together.
    """
    first = recurrence.layers[0]
    if inputs.dim() != 3 or not inputs.shape[0] or not inputs.shape[1] or inputs.shape[2] != first.inputs:
        expected = f"(T, B, {first.inputs}), T and B at least 1"
        raise ValueError(f"inputs of shape {tuple(inputs.shape)}: should be {expected}")
    parts, shape = 2 if recurrence.kind == "lstm" else 1, (len(recurrence.layers), inputs.shape[1], recurrence.size)
    if len(state) != parts or any(part.shape != shape for part in state):
        raise ValueError(f"a state of shapes {[tuple(part.shape) for part in state]}: should be {parts} of {shape}")
    kinds = {inputs.dtype, *(part.dtype for part in state), first.matrices[0].dtype}
    if len(kinds) > 1 or inputs.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"inputs, state and parameters of types {kinds}: should all be float32, or all float64")


def ready(dtype: torch.dtype, announce: Callable[[str], None], gradients: bool) -> None:
    """Compiles ahead of use: the forward pass, and the backward pass if there will be ``gradients``."""
    memory, table, flags = _Workspace(1, dtype).array, np.zeros(1, np.int64), np.zeros(1, np.uint8)
    for function in (forward, backward) if gradients else (forward,):
        function.ready(*range(10), memory, 1, table, flags, 1, 1, 1, announce=announce)


class _Layer(torch.autograd.Function):
    """(inputs, h[, c], matrices, biases) -> (outputs, h[, c])."""

    @staticmethod
    def forward(ctx: Any, kind: int, size: int, layer: Layer, inputs: Tensor, *rest: Tensor) -> Any:
        parts = 2 if kind == LSTM else 1
        ctx.save_for_backward(inputs, *rest[:parts])
        ctx.call = _Call(kind, size, layer, inputs.shape, inputs.dtype)
        ctx.kept = True
        outputs, state = ctx.call(inputs, rest[:parts])
        return outputs, *state

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("compiled recurrences have no second derivative; set kernel=torch")
        if not ctx.kept:  # a second pass through the same graph: the first one has used up what was kept
            inputs, *state = ctx.saved_tensors
            ctx.call(inputs, state)
        ctx.kept = False
        d_inputs, d_state, d_parameters = ctx.call.gradients(*gradients, below=ctx.needs_input_grad[3])
        return None, None, None, d_inputs, *d_state, *d_parameters


class _Call:
    """One pass of a layer over some timesteps, with all that its gradient needs."""

    def __init__(self, kind: int, size: int, layer: Layer, shape: torch.Size, dtype: torch.dtype) -> None:
        self.kind, self.size, self.layer, self.dtype, self.keeps = kind, size, layer, dtype, 1
        self.steps, self.streams, self.inputs = shape
        rows = self.steps * self.streams
        places = _places(kind, rows, self.streams, self.inputs, size, len(layer.biases))
        self.table, self.work, memory = places
        self.memory = _Workspace(memory, dtype)
        self.starts = _no_starts(rows)
        # A turned view of a matrix that lies the other way round needs no turning.
        self.turned = layer.transposed and all(matrix.is_contiguous() for matrix in layer.matrices)

    def __call__(self, inputs: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Outputs, and the state after them."""
        inputs = inputs.contiguous()
        state = [part.detach().clone(memory_format=torch.contiguous_format) for part in state]
        outputs = inputs.new_empty((self.steps, self.streams, self.size))
        self._compute(forward, inputs, state, outputs, (*self.layer.matrices, *self.layer.biases), self.keeps)
        return outputs, state

    def gradients(
        self, d_outputs: Tensor, *d_state: Tensor, below: bool
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
        """By the inputs, the initial state and the parameters."""
        d_outputs = d_outputs.contiguous()
        d_initial = [part.clone(memory_format=torch.contiguous_format) for part in d_state]
        d_inputs = d_outputs.new_empty((self.steps, self.streams, self.inputs)) if below else None
        found = [torch.empty_like(parameter) for parameter in (*self.layer.matrices, *self.layer.biases)]
        self._compute(backward, d_outputs, d_initial, d_inputs, found, int(below))
        return d_inputs, d_initial, found

    def _compute(
        self, entry: Any, first: Tensor, state: list[Tensor], other: Tensor | None, parameters: Sequence[Tensor],
        flag: int,
    ) -> None:  # fmt: skip
        """Hands over addresses. A single matrix is that of the inputs on top of that of the state; a bias that is
        not there has no place in the table, so its address does not matter."""
        held = [
            part if self.turned or part.dim() == 1 or not self.layer.transposed else part.t() for part in parameters
        ]
        held = [part if part.is_contiguous() else part.contiguous() for part in held]
        places = [part.data_ptr() for part in held]
        if len(self.layer.matrices) == 1:
            places.insert(1, places[0] + held[0].element_size() * self.inputs * held[0].shape[1])
        places += [0] * (4 - len(places))
        entry(
            self.kind, first.data_ptr(), state[0].data_ptr(), state[-1].data_ptr(),
            0 if other is None else other.data_ptr(), *places, int(self.turned), self.memory.array, self.work,
            self.table, self.starts, self.steps, self.streams, flag,
        )  # fmt: skip


def _run_through(
    kind: int, size: int, layer: Layer, inputs: Tensor, state: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The forward pass alone, in stretches that stay in the cache."""
    steps = max(1, ROWS // max(1, inputs.shape[1]))
    pieces = []
    for piece in torch.split(inputs, steps):
        call = _Call(kind, size, layer, piece.shape, piece.dtype)
        call.keeps = 0
        output, state = call(piece, state)
        pieces.append(output)
    return (torch.cat(pieces) if len(pieces) > 1 else pieces[0]), state


class _Workspace:
    """Work space of one call; what a call that is over has used serves the next one of its size, since fresh memory
    costs as much time as the arithmetic."""

    free: ClassVar[dict[tuple[int, Any], list[Array]]] = {}

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        self.kind = (size, dtype)
        waiting = self.free.get(self.kind)
        self.array: Array = waiting.pop() if waiting else torch.empty(size, dtype=dtype).numpy()

    def __del__(self) -> None:
        while len(self.free) >= SIZES_KEPT and self.kind not in self.free:
            self.free.pop(next(iter(self.free)))
        waiting = self.free.setdefault(self.kind, [])
        if len(waiting) < 2 and len(self.array) <= LARGEST_KEPT:
            waiting.append(self.array)


@lru_cache(maxsize=16)
def _no_starts(rows: int) -> Array:
    return np.zeros(rows, np.uint8)


@lru_cache(maxsize=64)
def _places(kind: int, rows: int, columns: int, inputs: int, size: int, biases: int) -> tuple[Array, int, int]:
    """The layer's row of the table, where in the memory the work space begins, behind the parameters, and how much
    memory there has to be."""
    table = np.full(layout.LAYER_FIELDS, -1, np.int64)
    width, above = layout.BLOCKS[kind] * size, inputs + state_rows(kind, size)  # rows above the biases
    table[layout.INPUTS], table[layout.SIZE] = inputs, size
    table[layout.W_IN], table[layout.W_STATE] = 0, inputs * width
    for number, field in enumerate((layout.B_IN, layout.B_STATE)[:biases]):
        table[field] = (above + number) * width
    space = Space()
    space.take(1)  # the number 1
    for field, count in (
        (layout.INPUT, rows * inputs),
        (layout.PREVIOUS, rows * size),
        (layout.GATE, rows * layout.GATES[kind] * size),
        (layout.OUTPUT, rows * size),
        (layout.D_OUTPUT, rows * size),
        (layout.PRODUCT, columns * width),
        (layout.D_STATE, columns * size),
        (layout.D_CELL, columns * size),
        (layout.BIAS, width),
        (layout.W_IN_T, width * inputs),
        (layout.W_STATE_T, state_rows(kind, size) * width + ALIGNED),
    ):
        table[field] = space.take(count)
    for field in (layout.PREVIOUS_CELL, layout.CELL, layout.TANH_CELL):
        table[field] = space.take(rows * size) if kind == LSTM else 0
    parameters = -(-(above + biases) * width // ALIGNED) * ALIGNED
    return table, parameters, parameters + space.size
