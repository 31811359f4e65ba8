"""One timestep of units that each receive only themselves, y = φ(W x + u ⊙ h + b), with φ = tanh, relu or clip.

Equations: ``seqrnn.models.indrnn``. Saved for the backward pass: nothing but the outputs. The numbers of all columns
lie one after another, so vectors run across columns, however few units there are; W_STATE_T holds u, repeated for as
long as a vector that begins anywhere in it.
"""

from __future__ import annotations

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import tanh
from seqrnn.kernels.layout import (
    ACTIVATION,
    CLIP,
    D_OUTPUT,
    D_STATE,
    OUTPUT,
    PREVIOUS,
    PRODUCT,
    SAVED,
    SIZE,
    TANH,
    W_STATE_T,
)
from seqrnn.kernels.simd import fill, fma, lanes_of, load, noinline, store, where_greater, where_less


@kernel
def forward(p, w, layer, row, rows):
    noinline()
    H, u, activation = layer[SIZE], layer[W_STATE_T], layer[ACTIVATION]
    sums, previous, output = layer[SAVED] + row * H, layer[PREVIOUS] + row * H, layer[OUTPUT] + row * H
    width, unit = lanes_of(w), 0  # the unit that the vector begins with
    advance = width % H
    zero, one = fill(w, 0.0), fill(w, 1.0)
    for j in range(0, rows * H, width):
        remaining = rows * H - j
        y = fma(load(w, u + unit, width), load(w, previous + j, remaining), load(w, sums + j, remaining))
        if activation == TANH:
            y = tanh(y)
        else:
            y = where_greater(zero, y, zero, y)
            if activation == CLIP:
                y = where_greater(y, one, one, y)
        store(w, output + j, y, remaining)
        unit += advance
        if unit >= H:
            unit -= H


@kernel
def backward(w, layer, row, rows, through_time):
    """Adds the gradient by u to PRODUCT, column by column."""
    noinline()
    H, u, activation = layer[SIZE], layer[W_STATE_T], layer[ACTIVATION]
    sums, previous, output = layer[SAVED] + row * H, layer[PREVIOUS] + row * H, layer[OUTPUT] + row * H
    d_output, d_state, product = layer[D_OUTPUT] + row * H, layer[D_STATE], layer[PRODUCT]
    width, unit = lanes_of(w), 0
    advance = width % H
    zero, one = fill(w, 0.0), fill(w, 1.0)
    for j in range(0, rows * H, width):
        remaining = rows * H - j
        y = load(w, output + j, remaining)
        d = load(w, d_output + j, remaining) + load(w, d_state + j, remaining)
        if activation == TANH:
            d = d * (1.0 - y * y)
        else:
            d = where_greater(y, zero, d, zero)
            if activation == CLIP:
                d = where_less(y, one, d, zero)
        store(w, sums + j, d, remaining)
        store(w, product + j, fma(d, load(w, previous + j, remaining), load(w, product + j, remaining)), remaining)
        if through_time:
            store(w, d_state + j, d * load(w, u + unit, width), remaining)
        unit += advance
        if unit >= H:
            unit -= H
