"""One timestep of minimal long short-term memory: forward and backward. Equations: ``seqrnn.models.minlstm``.

Saved for the backward pass, per hidden unit: f, i, n and f / (f + i). The backward pass replaces the first three with
the gradients by the sums before them. ``sigmoid`` never returns 0, so f + i is not 0 either.
"""

from __future__ import annotations

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import positive, sigmoid, slope_of_positive
from seqrnn.kernels.layout import ACTIVATION, D_OUTPUT, D_STATE, OUTPUT, POSITIVE, PREVIOUS, SAVED, SIZE
from seqrnn.kernels.simd import fma, lanes_of, load, noinline, store


@kernel
def forward(p, w, layer, row, rows):
    noinline()
    H, activation = layer[SIZE], layer[ACTIVATION]
    for m in range(row, row + rows):
        saved, previous, output = layer[SAVED] + m * 4 * H, layer[PREVIOUS] + m * H, layer[OUTPUT] + m * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            f, i = sigmoid(load(w, saved + j, remaining)), sigmoid(load(w, saved + H + j, remaining))
            n = load(w, saved + 2 * H + j, remaining)
            if activation == POSITIVE:
                n = positive(n)
            kept = f / (f + i)
            store(w, output + j, fma(kept, load(w, previous + j, remaining) - n, n), remaining)
            store(w, saved + j, f, remaining)
            store(w, saved + H + j, i, remaining)
            store(w, saved + 2 * H + j, n, remaining)
            store(w, saved + 3 * H + j, kept, remaining)


@kernel
def backward(w, layer, row, rows, through_time):
    noinline()
    H, activation = layer[SIZE], layer[ACTIVATION]
    for m in range(rows):
        saved, previous = layer[SAVED] + (row + m) * 4 * H, layer[PREVIOUS] + (row + m) * H
        d_output, d_state = layer[D_OUTPUT] + (row + m) * H, layer[D_STATE] + m * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            f, i = load(w, saved + j, remaining), load(w, saved + H + j, remaining)
            n, kept = load(w, saved + 2 * H + j, remaining), load(w, saved + 3 * H + j, remaining)
            d = load(w, d_output + j, remaining) + load(w, d_state + j, remaining)
            d_kept = d * (load(w, previous + j, remaining) - n) * kept * (1.0 - kept)  # by log f − log i
            d_n = d * (1.0 - kept)
            if activation == POSITIVE:
                d_n = d_n * slope_of_positive(n)
            store(w, saved + j, d_kept * (1.0 - f), remaining)
            store(w, saved + H + j, d_kept * (i - 1.0), remaining)
            store(w, saved + 2 * H + j, d_n, remaining)
            store(w, d_state + j, d * kept, remaining)
