"""One timestep of long short-term memory: forward, and backward. Equations: ``seqrnn.models.lstm``.

Kept for the backward pass, per hidden unit: i, f, g, o, c and tanh c. The backward pass puts the gradients by the
sums before i, f, g and o in their places.
"""

from __future__ import annotations

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import sigmoid, tanh
from seqrnn.kernels.layout import (
    CELL,
    D_CELL,
    D_OUTPUT,
    D_STATE,
    GATE,
    OUTPUT,
    PREVIOUS,
    PREVIOUS_CELL,
    SIZE,
    TANH_CELL,
    W_STATE,
    W_STATE_T,
)
from seqrnn.kernels.matmul import matmul
from seqrnn.kernels.simd import fma, lanes_of, load, noinline, store


@kernel
def forward(p, w, layer, row, rows):
    noinline()
    H = layer[SIZE]
    gates, output, previous_cell = layer[GATE] + row * 4 * H, layer[OUTPUT], layer[PREVIOUS_CELL]
    cell, tanh_cell = layer[CELL], layer[TANH_CELL]
    matmul(rows, 4 * H, H, w, layer[PREVIOUS] + row * H, H, 1, p, layer[W_STATE], 4 * H, w, gates, 4 * H, 1)
    for m in range(rows):
        gate, unit = gates + m * 4 * H, (row + m) * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            i = sigmoid(load(w, gate + j, remaining))
            f = sigmoid(load(w, gate + H + j, remaining))
            g = tanh(load(w, gate + 2 * H + j, remaining))
            o = sigmoid(load(w, gate + 3 * H + j, remaining))
            c = fma(f, load(w, previous_cell + unit + j, remaining), i * g)
            t = tanh(c)
            store(w, gate + j, i, remaining)
            store(w, gate + H + j, f, remaining)
            store(w, gate + 2 * H + j, g, remaining)
            store(w, gate + 3 * H + j, o, remaining)
            store(w, cell + unit + j, c, remaining)
            store(w, tanh_cell + unit + j, t, remaining)
            store(w, output + unit + j, o * t, remaining)


@kernel
def backward(w, layer, row, rows, through):
    noinline()
    H = layer[SIZE]
    gates, above, state = layer[GATE] + row * 4 * H, layer[D_OUTPUT], layer[D_STATE]
    tanh_cell, previous_cell, state_cell = layer[TANH_CELL], layer[PREVIOUS_CELL], layer[D_CELL]
    for m in range(rows):
        gate, unit = gates + m * 4 * H, (row + m) * H
        after, after_cell = state + m * H, state_cell + m * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            i, f = load(w, gate + j, remaining), load(w, gate + H + j, remaining)
            g, o = load(w, gate + 2 * H + j, remaining), load(w, gate + 3 * H + j, remaining)
            t = load(w, tanh_cell + unit + j, remaining)
            d = load(w, above + unit + j, remaining) + load(w, after + j, remaining)
            d_c = fma(d * o, 1.0 - t * t, load(w, after_cell + j, remaining))
            store(w, gate + j, d_c * g * i * (1.0 - i), remaining)
            store(w, gate + H + j, d_c * load(w, previous_cell + unit + j, remaining) * f * (1.0 - f), remaining)
            store(w, gate + 2 * H + j, d_c * i * (1.0 - g * g), remaining)
            store(w, gate + 3 * H + j, d * t * o * (1.0 - o), remaining)
            store(w, after_cell + j, d_c * f, remaining)
    if through:
        matmul(rows, H, 4 * H, w, gates, 4 * H, 1, w, layer[W_STATE_T], H, w, state, H, 0)
