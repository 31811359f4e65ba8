"""A layer of a recurrence as a function that torch can differentiate, computed in compiled code on the CPU.

It stands in for ``torch.nn.RNN``, ``GRU`` and ``LSTM``, whose backward pass goes operation by operation (the LSTM's
does not), and for the Elman cell written out by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seqrnn.kernels import layers, layout
from seqrnn.kernels.compiler import entry
from seqrnn.kernels.functions import copy
from seqrnn.kernels.layout import (
    CELL,
    D_CELL,
    D_OUTPUT,
    D_STATE,
    INPUT,
    INPUTS,
    LSTM,
    OUTPUT,
    PREVIOUS,
    PREVIOUS_CELL,
    SIZE,
)
from seqrnn.kernels.network import KINDS, Space
from seqrnn.kernels.simd import pointer
from seqrnn.models.protocol import Layer, Recurrence, State

Array = NDArray[Any]
ROWS = 4096  # (timestep, stream) pairs that are computed at a time where nothing has to be kept


@entry
def forward(kind, p_, w_, layer_, inputs_, h_, c_, outputs_, starts_, depth, columns, keeps):
    """Runs a layer over ``depth`` timesteps of ``columns`` streams; the states in ``h`` and ``c`` move on."""
    p, w, layer, inputs = pointer(p_), pointer(w_), pointer(layer_), pointer(inputs_)
    h, c, outputs, starts = pointer(h_), pointer(c_), pointer(outputs_), pointer(starts_)
    H, rows = layer[SIZE], depth * columns
    copy(inputs, 0, w, layer[INPUT], rows * layer[INPUTS])
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
def backward(kind, p_, g_, w_, layer_, d_outputs_, d_h_, d_c_, d_inputs_, starts_, depth, columns, below):
    """The gradient of what ``forward`` has kept: by the parameters, added to ``g``; by the inputs, if ``below``; and
    from the one by the final state the one by the initial state, in its place."""
    p, g, w, layer = pointer(p_), pointer(g_), pointer(w_), pointer(layer_)
    d_outputs, d_h, d_c = pointer(d_outputs_), pointer(d_h_), pointer(d_c_)
    d_inputs, starts = pointer(d_inputs_), pointer(starts_)
    H, I, rows = layer[SIZE], layer[INPUTS], depth * columns
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


def recur(recurrence: Recurrence, inputs: Tensor, state: State, training: bool) -> tuple[Tensor, State]:
    """What a cell that is described by ``recurrence`` computes: inputs (T, B, I) and the state before them -> outputs
    (T, B, H) and the state after them. Second derivatives are refused."""
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


def ready(dtype: torch.dtype, announce: Callable[[str], None], gradients: bool) -> None:
    """Compiles ahead of use: the forward pass, and the backward pass if there will be ``gradients``."""
    number = np.zeros(1, torch.zeros(1, dtype=dtype).numpy().dtype)
    table, flags = np.zeros(1, np.int64), np.zeros(1, np.uint8)
    forward.ready(0, number, number, table, *[number] * 4, flags, 1, 1, 1, announce=announce)
    if gradients:
        backward.ready(0, *[number] * 3, table, *[number] * 4, flags, 1, 1, 1, announce=announce)


class _Layer(torch.autograd.Function):
    """(inputs, h[, c], matrices, biases) -> (outputs, h[, c])."""

    @staticmethod
    def forward(ctx: Any, kind: int, size: int, layer: Layer, inputs: Tensor, *rest: Tensor) -> Any:
        parts = 2 if kind == LSTM else 1
        ctx.call = _Call(kind, size, layer, inputs.shape, inputs.dtype, keeps=True)
        outputs, state = ctx.call(inputs.detach(), [part.detach() for part in rest[:parts]])
        return outputs, *state

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("compiled recurrences have no second derivative; set model.kernel=torch")
        d_inputs, d_state, d_parameters = ctx.call.gradients(*gradients, below=ctx.needs_input_grad[3])
        return None, None, None, d_inputs, *d_state, *d_parameters


class _Call:
    """One pass of a layer over some timesteps, with all that its gradient needs."""

    def __init__(
        self, kind: int, size: int, layer: Layer, shape: torch.Size, dtype: torch.dtype, keeps: bool
    ) -> None:
        self.kind, self.layer, self.size, self.keeps = kind, layer, size, keeps
        self.steps, self.streams, self.inputs = shape
        self.p = _flat(layer)
        self.table, work = _places(
            kind, self.steps * self.streams, self.streams, self.inputs, size, len(layer.biases)
        )
        self.w = torch.empty(work, dtype=dtype)
        self.w[0] = 1
        self.starts = np.zeros(self.steps * self.streams, np.uint8)

    def __call__(self, inputs: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Outputs, and the state after them."""
        state = [part.clone(memory_format=torch.contiguous_format) for part in state]
        outputs = inputs.new_empty(self.steps, self.streams, self.size)
        forward(
            self.kind, self.p, self.w.numpy(), self.table, _numbers(inputs), _numbers(state[0]), _numbers(state[-1]),
            _numbers(outputs), self.starts, self.steps, self.streams, int(self.keeps),
        )  # fmt: skip
        return outputs, state

    def gradients(
        self, d_outputs: Tensor, *d_state: Tensor, below: bool
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
        """By the inputs, the initial state and the parameters."""
        gradient = np.zeros_like(self.p)
        d_initial = [part.clone(memory_format=torch.contiguous_format) for part in d_state]
        d_inputs = d_outputs.new_empty(self.steps, self.streams, self.inputs) if below else None
        backward(
            self.kind, self.p, gradient, self.w.numpy(), self.table, _numbers(d_outputs), _numbers(d_initial[0]),
            _numbers(d_initial[-1]), _numbers(d_inputs if d_inputs is not None else d_initial[0]), self.starts,
            self.steps, self.streams, int(below),
        )  # fmt: skip
        return d_inputs, d_initial, _parts(torch.from_numpy(gradient), self.layer)


def _run_through(
    kind: int, size: int, layer: Layer, inputs: Tensor, state: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The forward pass alone, in stretches that stay in the cache."""
    steps = max(1, ROWS // max(1, inputs.shape[1]))
    pieces = []
    for piece in inputs.split(steps):
        output, state = _Call(kind, size, layer, piece.shape, piece.dtype, keeps=False)(piece, state)
        pieces.append(output)
    return (torch.cat(pieces) if len(pieces) > 1 else pieces[0]), state


def _numbers(tensor: Tensor) -> Array:
    array: Array = tensor.detach().contiguous().view(-1).numpy()
    return array


def _flat(layer: Layer) -> Array:
    """The parameters in one array: matrices (inputs, outputs), then biases."""
    matrices = [matrix.detach().t() if layer.transposed else matrix.detach() for matrix in layer.matrices]
    biases = [bias.detach() for bias in layer.biases]
    array: Array = torch.cat([part.reshape(-1) for part in (*matrices, *biases)]).numpy()
    return array


def _parts(flat: Tensor, layer: Layer) -> list[Tensor]:
    """A gradient that is laid out like ``_flat``, parameter by parameter."""
    pieces = flat.split([parameter.numel() for parameter in (*layer.matrices, *layer.biases)])
    found = []
    for piece, parameter in zip(pieces, (*layer.matrices, *layer.biases), strict=True):
        turned = layer.transposed and parameter.dim() == 2
        found.append(piece.view(parameter.shape[::-1]).t() if turned else piece.view(parameter.shape))
    return found


@lru_cache(maxsize=64)
def _places(kind: int, rows: int, columns: int, inputs: int, size: int, biases: int) -> tuple[Array, int]:
    """The layer's row of the table, and how much work space it takes."""
    table = np.full(layout.LAYER_FIELDS, -1, np.int64)
    width = layout.BLOCKS[kind] * size
    table[layout.INPUTS], table[layout.SIZE] = inputs, size
    table[layout.W_IN], table[layout.W_STATE] = 0, inputs * width
    for number, field in enumerate((layout.B_IN, layout.B_STATE)[:biases]):
        table[field] = (inputs + size + number) * width
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
        (layout.W_STATE_T, width * size),
    ):
        table[field] = space.take(count)
    for field in (layout.PREVIOUS_CELL, layout.CELL, layout.TANH_CELL):
        table[field] = space.take(rows * size) if kind == LSTM else 0
    return table, space.size
