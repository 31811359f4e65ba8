"""One timestep of the minimal gated recurrent unit: forward and backward. Equations: ``seqrnn.models.mingru``.

Saved for the backward pass, per hidden unit: z and n, which it replaces with the gradients by the sums before them.
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
        saved, previous, output = layer[SAVED] + m * 2 * H, layer[PREVIOUS] + m * H, layer[OUTPUT] + m * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            z, n = sigmoid(load(w, saved + j, remaining)), load(w, saved + H + j, remaining)
            if activation == POSITIVE:
                n = positive(n)
            h = load(w, previous + j, remaining)
            store(w, output + j, fma(z, n - h, h), remaining)
            store(w, saved + j, z, remaining)
            store(w, saved + H + j, n, remaining)


@kernel
def backward(w, layer, row, rows, through_time):
    noinline()
    H, activation = layer[SIZE], layer[ACTIVATION]
    for m in range(rows):
        saved, previous = layer[SAVED] + (row + m) * 2 * H, layer[PREVIOUS] + (row + m) * H
        d_output, d_state = layer[D_OUTPUT] + (row + m) * H, layer[D_STATE] + m * H
        for j in range(0, H, lanes_of(w)):
            remaining = H - j
            z, n = load(w, saved + j, remaining), load(w, saved + H + j, remaining)
            d = load(w, d_output + j, remaining) + load(w, d_state + j, remaining)
            d_n = d * z
            if activation == POSITIVE:
                d_n = d_n * slope_of_positive(n)
            store(w, saved + j, d * (n - load(w, previous + j, remaining)) * z * (1.0 - z), remaining)
            store(w, saved + H + j, d_n, remaining)
            store(w, d_state + j, d * (1.0 - z), remaining)
