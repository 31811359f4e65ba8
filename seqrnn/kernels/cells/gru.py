"""One timestep of the gated recurrent unit: forward and backward. Equations: ``seqrnn.models.gru``.

Saved for the backward pass, per hidden unit: r, z, n and u, the part U h + b' of the candidate's sum that the reset
gate multiplies. The backward pass replaces them with the gradients by the sums before r, z and n, and by u.
"""

from __future__ import annotations

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import sigmoid, tanh
from seqrnn.kernels.layout import (
    B_STATE,
    D_OUTPUT,
    D_STATE,
    OUTPUT,
    PREVIOUS,
    PRODUCT,
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
    matmul(
        rows, 3 * H, H, w, layer[PREVIOUS] + row * H, H, 1, p, layer[W_STATE], 3 * H, w, layer[PRODUCT], 3 * H, 0
    )  # fmt: skip
    bias = layer[B_STATE] + 2 * H
    for m in range(rows):
        saved, product = layer[SAVED] + (row + m) * 4 * H, layer[PRODUCT] + m * 3 * H
        output, previous = layer[OUTPUT] + (row + m) * H, layer[PREVIOUS] + (row + m) * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            r = sigmoid(load(w, saved + j, remaining) + load(w, product + j, remaining))
            z = sigmoid(load(w, saved + H + j, remaining) + load(w, product + H + j, remaining))
            u = load(w, product + 2 * H + j, remaining) + load(p, bias + j, remaining)
            n = tanh(fma(r, u, load(w, saved + 2 * H + j, remaining)))
            store(w, output + j, fma(z, load(w, previous + j, remaining) - n, n), remaining)
            store(w, saved + j, r, remaining)
            store(w, saved + H + j, z, remaining)
            store(w, saved + 2 * H + j, n, remaining)
            store(w, saved + 3 * H + j, u, remaining)


@kernel
def backward(w, layer, row, rows, through_time):
    noinline()
    H = layer[SIZE]
    for m in range(rows):
        saved, previous = layer[SAVED] + (row + m) * 4 * H, layer[PREVIOUS] + (row + m) * H
        d_output, d_state = layer[D_OUTPUT] + (row + m) * H, layer[D_STATE] + m * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            r, z = load(w, saved + j, remaining), load(w, saved + H + j, remaining)
            n, u = load(w, saved + 2 * H + j, remaining), load(w, saved + 3 * H + j, remaining)
            d = load(w, d_output + j, remaining) + load(w, d_state + j, remaining)
            d_n = d * (1.0 - z) * (1.0 - n * n)
            store(w, saved + j, d_n * u * r * (1.0 - r), remaining)
            store(w, saved + H + j, d * (load(w, previous + j, remaining) - n) * z * (1.0 - z), remaining)
            store(w, saved + 2 * H + j, d_n, remaining)
            store(w, saved + 3 * H + j, d_n * r, remaining)
            store(w, d_state + j, d * z, remaining)
    if through_time:
        saved, d_state, transposed = layer[SAVED] + row * 4 * H, layer[D_STATE], layer[W_STATE_T]
        matmul(rows, H, 2 * H, w, saved, 4 * H, 1, w, transposed, H, w, d_state, H, 1)
        matmul(rows, H, H, w, saved + 3 * H, 4 * H, 1, w, transposed + 2 * H * H, H, w, d_state, H, 1)
