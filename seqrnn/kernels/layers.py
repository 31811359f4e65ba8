"""A layer over the timesteps of many windows side by side: forward, and backward.

Row ``timestep · columns + column`` of a buffer belongs to that timestep of one window of one stream; a column is
what plain training computes alone.
"""

from __future__ import annotations

from seqrnn.kernels import gru, independent, lstm, simple
from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import add, clear, copy
from seqrnn.kernels.layout import (
    B_IN,
    B_STATE,
    BIAS,
    BLOCKS,
    CELL,
    D_CELL,
    D_STATE,
    GATE,
    GATES,
    GRU,
    IND_TANH,
    INPUT,
    INPUTS,
    LSTM,
    OUTPUT,
    PREVIOUS,
    PREVIOUS_CELL,
    PRODUCT,
    SIZE,
    W_IN,
    W_IN_T,
    W_STATE,
    W_STATE_T,
)
from seqrnn.kernels.matmul import matmul, transpose
from seqrnn.kernels.simd import alwaysinline

ONE = 0  # where the number 1 lies in w


@kernel
def prepare(kind, p, w, layer, through_time, below):
    """Computes, once for all windows between two changes of the parameters, what their products need: transposed
    matrices where a gradient flows ``through_time`` or to a layer ``below``, and the biases."""
    alwaysinline()
    H, I = layer[SIZE], layer[INPUTS]
    N = BLOCKS[kind] * H
    if kind >= IND_TANH:
        independent.prepare(p, w, layer)
    elif through_time:
        transpose(H, N, p, layer[W_STATE], N, w, layer[W_STATE_T], H)
    if below:
        transpose(I, N, p, layer[W_IN], N, w, layer[W_IN_T], I)
    if layer[B_IN] < 0:
        clear(w, layer[BIAS], N)
    else:
        copy(p, layer[B_IN], w, layer[BIAS], N)
    if layer[B_STATE] >= 0:  # the candidate of a GRU adds its own behind the reset gate
        add(p, layer[B_STATE], w, layer[BIAS], 2 * H if kind == GRU else N)


@kernel
def project(kind, p, w, layer, rows):
    """W x + b of all rows, into their gates."""
    alwaysinline()
    H, I = layer[SIZE], layer[INPUTS]
    N, width = BLOCKS[kind] * H, GATES[kind] * H
    gate = layer[GATE]
    for row in range(rows):
        copy(w, layer[BIAS], w, gate + row * width, N)
    matmul(rows, N, I, w, layer[INPUT], I, 1, p, layer[W_IN], N, w, gate, width, 1)


@kernel
def step(kind, p, w, layer, row, rows):
    """One timestep of ``rows`` columns, whose previous states are in place."""
    if kind == GRU:
        gru.forward(p, w, layer, row, rows)
    elif kind == LSTM:
        lstm.forward(p, w, layer, row, rows)
    elif kind >= IND_TANH:
        independent.forward(kind, w, layer, row, rows)
    else:
        simple.forward(kind, p, w, layer, row, rows)


@kernel
def follow(kind, w, layer, row, before, rows, starts):
    """Previous states of ``rows`` rows: those that the rows from ``before`` on ended with, zero where one starts."""
    alwaysinline()
    H = layer[SIZE]
    copy(w, layer[OUTPUT] + before * H, w, layer[PREVIOUS] + row * H, rows * H)
    if kind == LSTM:
        copy(w, layer[CELL] + before * H, w, layer[PREVIOUS_CELL] + row * H, rows * H)
    restart(kind, w, layer, row, rows, starts)


@kernel
def restart(kind, w, layer, row, rows, starts):
    """Previous states become zero where a sequence starts."""
    alwaysinline()
    H = layer[SIZE]
    for m in range(row, row + rows):
        if starts[m]:
            clear(w, layer[PREVIOUS] + m * H, H)
            if kind == LSTM:
                clear(w, layer[PREVIOUS_CELL] + m * H, H)


@kernel
def backward(kind, p, g, w, layer, depth, columns, starts, above, open_):
    """Through all timesteps, the last first: adds the layer's part to ``g``; ``above`` is where the gradient by its
    inputs goes, or -1. If ``open_``, D_STATE and D_CELL hold the gradient by the final state, and get the one by the
    initial state; if not, there is none by the one, and nobody asks for the other."""
    alwaysinline()
    H, I = layer[SIZE], layer[INPUTS]
    N, width, rows = BLOCKS[kind] * H, GATES[kind] * H, depth * columns
    state, gate = layer[D_STATE], layer[GATE]
    if not open_:
        clear(w, state, columns * H)
        if kind == LSTM:
            clear(w, layer[D_CELL], columns * H)
    if kind >= IND_TANH:
        clear(w, layer[PRODUCT], columns * H)
    for k in range(depth - 1, -1, -1):
        row = k * columns
        through = k > 0 or open_
        if kind == GRU:
            gru.backward(w, layer, row, columns, through)
        elif kind == LSTM:
            lstm.backward(w, layer, row, columns, through)
        elif kind >= IND_TANH:
            independent.backward(kind, w, layer, row, columns, through)
        else:
            simple.backward(kind, w, layer, row, columns, through)
        for column in range(columns):
            if starts[row + column]:
                clear(w, state + column * H, H)
                if kind == LSTM:
                    clear(w, layer[D_CELL] + column * H, H)

    previous = layer[PREVIOUS]
    matmul(I, N, rows, w, layer[INPUT], 1, I, w, gate, width, g, layer[W_IN], N, 1)
    if layer[B_IN] >= 0:
        matmul(1, N, rows, w, ONE, 0, 0, w, gate, width, g, layer[B_IN], 0, 1)
    if kind == GRU:
        candidate = gate + 3 * H
        matmul(H, 2 * H, rows, w, previous, 1, H, w, gate, width, g, layer[W_STATE], N, 1)
        matmul(H, H, rows, w, previous, 1, H, w, candidate, width, g, layer[W_STATE] + 2 * H, N, 1)
        if layer[B_STATE] >= 0:
            matmul(1, 2 * H, rows, w, ONE, 0, 0, w, gate, width, g, layer[B_STATE], 0, 1)
            matmul(1, H, rows, w, ONE, 0, 0, w, candidate, width, g, layer[B_STATE] + 2 * H, 0, 1)
    elif kind >= IND_TANH:
        matmul(1, H, columns, w, ONE, 0, 0, w, layer[PRODUCT], H, g, layer[W_STATE], 0, 1)
    else:
        matmul(H, N, rows, w, previous, 1, H, w, gate, width, g, layer[W_STATE], N, 1)
        if layer[B_STATE] >= 0:
            matmul(1, N, rows, w, ONE, 0, 0, w, gate, width, g, layer[B_STATE], 0, 1)
    if above >= 0:
        matmul(rows, I, N, w, gate, width, 1, w, layer[W_IN_T], I, w, above, I, 0)
