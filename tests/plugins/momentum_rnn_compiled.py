"""One timestep of momentum_rnn.MomentumRNN: forward and backward. The backward pass needs nothing but the state."""

from __future__ import annotations

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import tanh
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
from seqrnn.kernels.simd import fill, fma, lanes_of, load, noinline, store


@kernel
def forward(p, w, layer, row, rows):
    noinline()
    H = layer[SIZE]
    sums, h, previous = layer[SAVED] + row * H, layer[OUTPUT] + row * H, layer[PREVIOUS] + row * H
    v, previous_v = h + layer[NEXT_PART], previous + layer[NEXT_PART]
    matmul(rows, H, H, w, previous, H, 1, p, layer[W_STATE], H, w, sums, H, 1)
    half = fill(w, 0.5)
    for j in range(0, rows * H, lanes_of(w)):
        remaining = rows * H - j
        value = fma(half, load(w, previous_v + j, remaining), load(w, sums + j, remaining))
        store(w, v + j, value, remaining)
        store(w, h + j, tanh(value), remaining)


@kernel
def backward(w, layer, row, rows, through_time):
    noinline()
    H = layer[SIZE]
    sums, h, d_output = layer[SAVED] + row * H, layer[OUTPUT] + row * H, layer[D_OUTPUT] + row * H
    d_h, d_v = layer[D_STATE], layer[D_STATE] + layer[NEXT_D_PART]
    for j in range(0, rows * H, lanes_of(w)):
        remaining = rows * H - j
        y = load(w, h + j, remaining)
        d = load(w, d_output + j, remaining) + load(w, d_h + j, remaining)
        d = fma(d, 1.0 - y * y, load(w, d_v + j, remaining))
        store(w, sums + j, d, remaining)
        store(w, d_v + j, d * 0.5, remaining)
    if through_time:
        matmul(rows, H, H, w, sums, H, 1, w, layer[W_STATE_T], H, w, d_h, H, 0)
