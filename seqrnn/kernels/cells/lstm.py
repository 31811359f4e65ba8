"""One timestep of long short-term memory: forward and backward. Equations: ``seqrnn.models.lstm``.

Saved for the backward pass, per hidden unit: i, f, g, o and tanh c. The backward pass replaces the first four with
the gradients by the sums before them. The second part of the state is c.
"""

from __future__ import annotations

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import sigmoid, tanh
from seqrnn.kernels.layout import (
    D_OUTPUT,
    D_STATE,
    NEXT_D_PART,
    NEXT_PART,
    OUTPUT,
    PREVIOUS,
    SAVED,
    SIZE,
    W_STATE,
    W_STATE_T,
)
from seqrnn.kernels.matmul import matmul
from seqrnn.kernels.simd import fma, lanes_of, load, noinline, store


@kernel
def forward(p, w, layer, row, rows):
    noinline()
    H = layer[SIZE]
    first, output, cell = layer[SAVED] + row * 5 * H, layer[OUTPUT], layer[OUTPUT] + layer[NEXT_PART]
    previous_cell = layer[PREVIOUS] + layer[NEXT_PART]
    matmul(rows, 4 * H, H, w, layer[PREVIOUS] + row * H, H, 1, p, layer[W_STATE], 4 * H, w, first, 5 * H, 1)
    for m in range(rows):
        saved, unit = first + m * 5 * H, (row + m) * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            i = sigmoid(load(w, saved + j, remaining))
            f = sigmoid(load(w, saved + H + j, remaining))
            g = tanh(load(w, saved + 2 * H + j, remaining))
            o = sigmoid(load(w, saved + 3 * H + j, remaining))
            c = fma(f, load(w, previous_cell + unit + j, remaining), i * g)
            t = tanh(c)
            store(w, saved + j, i, remaining)
            store(w, saved + H + j, f, remaining)
            store(w, saved + 2 * H + j, g, remaining)
            store(w, saved + 3 * H + j, o, remaining)
            store(w, saved + 4 * H + j, t, remaining)
            store(w, cell + unit + j, c, remaining)
            store(w, output + unit + j, o * t, remaining)


@kernel
def backward(w, layer, row, rows, through_time):
    noinline()
    H = layer[SIZE]
    first, d_output, previous_cell = layer[SAVED] + row * 5 * H, layer[D_OUTPUT], layer[PREVIOUS] + layer[NEXT_PART]
    d_state, d_cell = layer[D_STATE], layer[D_STATE] + layer[NEXT_D_PART]
    for m in range(rows):
        saved, unit, column = first + m * 5 * H, (row + m) * H, m * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            i, f = load(w, saved + j, remaining), load(w, saved + H + j, remaining)
            g, o = load(w, saved + 2 * H + j, remaining), load(w, saved + 3 * H + j, remaining)
            t = load(w, saved + 4 * H + j, remaining)
            d = load(w, d_output + unit + j, remaining) + load(w, d_state + column + j, remaining)
            d_c = fma(d * o, 1.0 - t * t, load(w, d_cell + column + j, remaining))
            store(w, saved + j, d_c * g * i * (1.0 - i), remaining)
            store(w, saved + H + j, d_c * load(w, previous_cell + unit + j, remaining) * f * (1.0 - f), remaining)
            store(w, saved + 2 * H + j, d_c * i * (1.0 - g * g), remaining)
            store(w, saved + 3 * H + j, d * t * o * (1.0 - o), remaining)
            store(w, d_cell + column + j, d_c * f, remaining)
    if through_time:
        matmul(rows, H, 4 * H, w, first, 5 * H, 1, w, layer[W_STATE_T], H, w, d_state, H, 0)
