"""One timestep of the simple recurrent network, y = φ(W x + U h + b), with φ = tanh or relu: forward and backward.

Equations: ``seqrnn.models.rnn`` and ``seqrnn.models.elman``. Saved for the backward pass: nothing but the outputs.
"""

from __future__ import annotations

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import tanh
from seqrnn.kernels.layout import (
    ACTIVATION,
    D_OUTPUT,
    D_STATE,
    OUTPUT,
    PREVIOUS,
    SAVED,
    SIZE,
    TANH,
    W_STATE,
    W_STATE_T,
)
from seqrnn.kernels.matmul import matmul
from seqrnn.kernels.simd import fill, lanes_of, load, noinline, store, where_greater


@kernel
def forward(p, w, layer, row, rows):
    noinline()
    H, activation = layer[SIZE], layer[ACTIVATION]
    sums, output = layer[SAVED] + row * H, layer[OUTPUT] + row * H
    matmul(rows, H, H, w, layer[PREVIOUS] + row * H, H, 1, p, layer[W_STATE], H, w, sums, H, 1)
    for j in range(0, rows * H, lanes_of(w)):
        remaining = rows * H - j
        y = load(w, sums + j, remaining)
        if activation == TANH:
            y = tanh(y)
        else:
            y = where_greater(fill(w, 0.0), y, fill(w, 0.0), y)
        store(w, output + j, y, remaining)


@kernel
def backward(w, layer, row, rows, through_time):
    noinline()
    H, activation = layer[SIZE], layer[ACTIVATION]
    sums, output = layer[SAVED] + row * H, layer[OUTPUT] + row * H
    d_output, d_state = layer[D_OUTPUT] + row * H, layer[D_STATE]
    for j in range(0, rows * H, lanes_of(w)):
        remaining = rows * H - j
        y = load(w, output + j, remaining)
        d = load(w, d_output + j, remaining) + load(w, d_state + j, remaining)
        if activation == TANH:
            d = d * (1.0 - y * y)
        else:
            d = where_greater(y, fill(w, 0.0), d, fill(w, 0.0))
        store(w, sums + j, d, remaining)
    if through_time:
        matmul(rows, H, H, w, sums, H, 1, w, layer[W_STATE_T], H, w, d_state, H, 0)
