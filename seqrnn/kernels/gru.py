"""One timestep of the gated recurrent unit: forward, and backward. Equations: ``seqrnn.models.gru``.

Kept for the backward pass, per hidden unit: r, z, n, and U h of the candidate with its bias. The backward pass puts
the gradients by the sums before r, z and n in their places, and last the one by that U h.
"""

from __future__ import annotations

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import sigmoid, tanh
from seqrnn.kernels.layout import (
    B_STATE,
    D_OUTPUT,
    D_STATE,
    GATE,
    OUTPUT,
    PREVIOUS,
    PRODUCT,
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
        gate, product = layer[GATE] + (row + m) * 4 * H, layer[PRODUCT] + m * 3 * H
        output, previous = layer[OUTPUT] + (row + m) * H, layer[PREVIOUS] + (row + m) * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            r = sigmoid(load(w, gate + j, remaining) + load(w, product + j, remaining))
            z = sigmoid(load(w, gate + H + j, remaining) + load(w, product + H + j, remaining))
            u = load(w, product + 2 * H + j, remaining) + load(p, bias + j, remaining)
            n = tanh(fma(r, u, load(w, gate + 2 * H + j, remaining)))
            store(w, output + j, fma(z, load(w, previous + j, remaining) - n, n), remaining)
            store(w, gate + j, r, remaining)
            store(w, gate + H + j, z, remaining)
            store(w, gate + 2 * H + j, n, remaining)
            store(w, gate + 3 * H + j, u, remaining)


@kernel
def backward(w, layer, row, rows, through):
    noinline()
    H = layer[SIZE]
    for m in range(rows):
        gate, previous = layer[GATE] + (row + m) * 4 * H, layer[PREVIOUS] + (row + m) * H
        above, after = layer[D_OUTPUT] + (row + m) * H, layer[D_STATE] + m * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            r, z = load(w, gate + j, remaining), load(w, gate + H + j, remaining)
            n, u = load(w, gate + 2 * H + j, remaining), load(w, gate + 3 * H + j, remaining)
            d = load(w, above + j, remaining) + load(w, after + j, remaining)
            d_n = d * (1.0 - z) * (1.0 - n * n)
            store(w, gate + j, d_n * u * r * (1.0 - r), remaining)
            store(w, gate + H + j, d * (load(w, previous + j, remaining) - n) * z * (1.0 - z), remaining)
            store(w, gate + 2 * H + j, d_n, remaining)
            store(w, gate + 3 * H + j, d_n * r, remaining)
            store(w, after + j, d * z, remaining)
    if through:
        gate, state, transposed = layer[GATE] + row * 4 * H, layer[D_STATE], layer[W_STATE_T]
        matmul(rows, H, 2 * H, w, gate, 4 * H, 1, w, transposed, H, w, state, H, 1)
        matmul(rows, H, H, w, gate + 3 * H, 4 * H, 1, w, transposed + 2 * H * H, H, w, state, H, 1)
