"""One timestep of the simple recurrent network, y = φ(W x + U h + b): forward, and backward.

Equations: ``seqrnn.models.rnn`` and ``seqrnn.models.elman``.
"""

from __future__ import annotations

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import tanh
from seqrnn.kernels.layout import (
    D_OUTPUT,
    D_STATE,
    GATE,
    OUTPUT,
    PREVIOUS,
    SIZE,
    TANH,
    W_STATE,
    W_STATE_T,
)
from seqrnn.kernels.matmul import matmul
from seqrnn.kernels.simd import fill, lanes_of, load, noinline, store, where_greater


@kernel
def forward(kind, p, w, layer, row, rows):
    noinline()
    H = layer[SIZE]
    gate, output = layer[GATE] + row * H, layer[OUTPUT] + row * H
    matmul(rows, H, H, w, layer[PREVIOUS] + row * H, H, 1, p, layer[W_STATE], H, w, gate, H, 1)
    for j in range(0, rows * H, lanes_of(w)):
        remaining = rows * H - j
        y = load(w, gate + j, remaining)
        if kind == TANH:
            y = tanh(y)
        else:
            y = where_greater(fill(w, 0.0), y, fill(w, 0.0), y)
        store(w, output + j, y, remaining)


@kernel
def backward(kind, w, layer, row, rows, through):
    noinline()
    H = layer[SIZE]
    gate, output, above, after = (
        layer[GATE] + row * H,
        layer[OUTPUT] + row * H,
        layer[D_OUTPUT] + row * H,
        layer[D_STATE],
    )
    for j in range(0, rows * H, lanes_of(w)):
        remaining = rows * H - j
        y = load(w, output + j, remaining)
        d = load(w, above + j, remaining) + load(w, after + j, remaining)
        if kind == TANH:
            d = d * (1.0 - y * y)
        else:
            d = where_greater(y, fill(w, 0.0), d, fill(w, 0.0))
        store(w, gate + j, d, remaining)
    if through:
        matmul(rows, H, H, w, gate, H, 1, w, layer[W_STATE_T], H, w, after, H, 0)
