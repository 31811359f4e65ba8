"""A layer over the timesteps of many windows side by side, forward and backward: what is the same for all cells.

What differs from cell to cell is computed by the kernels of ``seqrnn.kernels.cells``. Row ``timestep · columns +
column`` of a buffer belongs to that timestep of one window of one stream; a column is what plain training computes
alone.
"""

from __future__ import annotations

from seqrnn.kernels import dispatch
from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import add, clear, copy
from seqrnn.kernels.layout import (
    B_IN,
    B_STATE,
    BIAS,
    BLOCKS,
    D_STATE,
    INDEPENDENT,
    INPUT,
    INPUTS,
    NEXT_D_PART,
    NEXT_PART,
    OUTPUT,
    PARTS,
    PREVIOUS,
    PRODUCT,
    SAVED,
    SAVES,
    SCALED,
    SIZE,
    STATE_ROWS,
    W_IN,
    W_IN_T,
    W_STATE,
    W_STATE_T,
)
from seqrnn.kernels.matmul import matmul, transpose
from seqrnn.kernels.simd import alwaysinline, lanes_of

ONE = 0  # where the number 1 lies in w


@kernel
def prepare(p, w, layer, through_time, below):
    """Computes what all windows between two changes of the parameters share.

    That is the sum of the biases, and the transposed matrices that a gradient needs to flow ``through_time`` and to a
    layer ``below``.
    """
    alwaysinline()
    H, I = layer[SIZE], layer[INPUTS]
    N = layer[BLOCKS] * H
    if layer[INDEPENDENT]:
        copy(p, layer[W_STATE], w, layer[W_STATE_T], H)
        for j in range(lanes_of(w)):
            w[layer[W_STATE_T] + H + j] = w[layer[W_STATE_T] + j]
    elif through_time and layer[STATE_ROWS]:
        transpose(H, N, p, layer[W_STATE], N, w, layer[W_STATE_T], H)
    if below:
        transpose(I, N, p, layer[W_IN], N, w, layer[W_IN_T], I)
    if layer[B_IN] < 0:
        clear(w, layer[BIAS], N)
    else:
        copy(p, layer[B_IN], w, layer[BIAS], N)
    if layer[B_STATE] >= 0:  # where a gate multiplies the state's part of a sum, the cell adds this bias to that part
        add(p, layer[B_STATE], w, layer[BIAS], N - layer[SCALED] * H)


@kernel
def project(p, w, layer, rows):
    """Writes W x + b of all rows to SAVED, where the cell's kernel expects it."""
    alwaysinline()
    H, I = layer[SIZE], layer[INPUTS]
    N, width = layer[BLOCKS] * H, layer[SAVES] * H
    saved = layer[SAVED]
    for row in range(rows):
        copy(w, layer[BIAS], w, saved + row * width, N)
    matmul(rows, N, I, w, layer[INPUT], I, 1, p, layer[W_IN], N, w, saved, width, 1)


@kernel
def step(cell, p, w, layer, row, rows):
    """Computes one timestep of ``rows`` columns, whose previous states are in place."""
    dispatch.forward(cell, p, w, layer, row, rows)


@kernel
def continue_states(w, layer, row, before, rows, starts):
    """Copies the states after the rows from ``before`` on to where those before the rows from ``row`` on belong; they
    are zero where a sequence starts."""
    alwaysinline()
    H = layer[SIZE]
    for part in range(layer[PARTS]):
        begin = part * layer[NEXT_PART]
        copy(w, layer[OUTPUT] + begin + before * H, w, layer[PREVIOUS] + begin + row * H, rows * H)
    reset_states(w, layer, row, rows, starts)


@kernel
def reset_states(w, layer, row, rows, starts):
    """Sets the states before the rows from ``row`` on to zero where a sequence starts."""
    alwaysinline()
    H = layer[SIZE]
    for m in range(row, row + rows):
        if starts[m]:
            for part in range(layer[PARTS]):
                clear(w, layer[PREVIOUS] + part * layer[NEXT_PART] + m * H, H)


@kernel
def backward(cell, p, g, w, layer, depth, columns, starts, d_inputs, open_ends):
    """Goes back through all timesteps, and adds the layer's part to the gradient ``g``.

    The gradient by the inputs goes to ``d_inputs``, unless that is -1. With ``open_ends``, D_STATE holds the gradient
    by the final state, and receives the gradient by the initial state; without, the former is zero, and the latter is
    not computed.
    """
    alwaysinline()
    H, I, parts = layer[SIZE], layer[INPUTS], layer[PARTS]
    N, width, rows = layer[BLOCKS] * H, layer[SAVES] * H, depth * columns
    saved = layer[SAVED]
    if not open_ends:
        for part in range(parts):
            clear(w, layer[D_STATE] + part * layer[NEXT_D_PART], columns * H)
    if layer[INDEPENDENT]:
        clear(w, layer[PRODUCT], columns * H)
    for k in range(depth - 1, -1, -1):
        row = k * columns
        dispatch.backward(cell, w, layer, row, columns, k > 0 or open_ends)
        for column in range(columns):
            if starts[row + column]:
                for part in range(parts):
                    clear(w, layer[D_STATE] + part * layer[NEXT_D_PART] + column * H, H)

    matmul(I, N, rows, w, layer[INPUT], 1, I, w, saved, width, g, layer[W_IN], N, 1)
    if layer[B_IN] >= 0:
        matmul(1, N, rows, w, ONE, 0, 0, w, saved, width, g, layer[B_IN], 0, 1)
    if layer[INDEPENDENT]:
        matmul(1, H, columns, w, ONE, 0, 0, w, layer[PRODUCT], H, g, layer[W_STATE], 0, 1)
    elif layer[STATE_ROWS]:
        _state_gradient(g, w, layer, rows, 0, N - layer[SCALED] * H, saved)
        if layer[SCALED]:  # the gradients by these blocks' parts from the state lie behind those by their sums
            _state_gradient(g, w, layer, rows, N - layer[SCALED] * H, layer[SCALED] * H, saved + N)
    if d_inputs >= 0:
        matmul(rows, I, N, w, saved, width, 1, w, layer[W_IN_T], I, w, d_inputs, I, 0)


@kernel
def _state_gradient(g, w, layer, rows, begin, count, sums):
    """Adds the gradient by ``count`` columns of W_STATE and B_STATE from ``begin`` on, given the one by ``sums``."""
    H = layer[SIZE]
    N, width = layer[BLOCKS] * H, layer[SAVES] * H
    matmul(H, count, rows, w, layer[PREVIOUS], 1, H, w, sums, width, g, layer[W_STATE] + begin, N, 1)
    if layer[B_STATE] >= 0:
        matmul(1, count, rows, w, ONE, 0, 0, w, sums, width, g, layer[B_STATE] + begin, 0, 1)
