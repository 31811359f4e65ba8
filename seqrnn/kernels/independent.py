"""One timestep of units that each hear only themselves, y = φ(W x + u ⊙ h + b): forward, and backward.

Equations: ``seqrnn.models.indrnn``. The numbers of all columns lie in one row, so vectors run across columns, however
few units there are; u is laid out again and again for as long as a vector that begins anywhere in it.
"""

from __future__ import annotations

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import copy, tanh
from seqrnn.kernels.layout import (
    D_OUTPUT,
    D_STATE,
    GATE,
    IND_CLIP,
    IND_TANH,
    OUTPUT,
    PREVIOUS,
    PRODUCT,
    SIZE,
    W_STATE,
    W_STATE_T,
)
from seqrnn.kernels.simd import alwaysinline, fill, fma, lanes_of, load, noinline, store, where_greater, where_less


@kernel
def prepare(p, w, layer):
    """u, repeated up to a vector beyond its end."""
    alwaysinline()
    H, u = layer[SIZE], layer[W_STATE_T]
    copy(p, layer[W_STATE], w, u, H)
    for j in range(lanes_of(w)):
        w[u + H + j] = w[u + j]


@kernel
def forward(kind, w, layer, row, rows):
    noinline()
    H, u = layer[SIZE], layer[W_STATE_T]
    gate, previous, output = layer[GATE] + row * H, layer[PREVIOUS] + row * H, layer[OUTPUT] + row * H
    width, unit = lanes_of(w), 0  # the unit that the vector begins with
    onwards = width % H
    zero, one = fill(w, 0.0), fill(w, 1.0)
    for j in range(0, rows * H, width):
        remaining = rows * H - j
        y = fma(load(w, u + unit, width), load(w, previous + j, remaining), load(w, gate + j, remaining))
        if kind == IND_TANH:
            y = tanh(y)
        else:
            y = where_greater(zero, y, zero, y)
            if kind == IND_CLIP:
                y = where_greater(y, one, one, y)
        store(w, output + j, y, remaining)
        unit += onwards
        if unit >= H:
            unit -= H


@kernel
def backward(kind, w, layer, row, rows, through):
    """The gradient by u is added up in PRODUCT, column by column."""
    noinline()
    H, u = layer[SIZE], layer[W_STATE_T]
    gate, previous, output = layer[GATE] + row * H, layer[PREVIOUS] + row * H, layer[OUTPUT] + row * H
    above, after, product = layer[D_OUTPUT] + row * H, layer[D_STATE], layer[PRODUCT]
    width, unit = lanes_of(w), 0
    onwards = width % H
    zero, one = fill(w, 0.0), fill(w, 1.0)
    for j in range(0, rows * H, width):
        remaining = rows * H - j
        y = load(w, output + j, remaining)
        d = load(w, above + j, remaining) + load(w, after + j, remaining)
        if kind == IND_TANH:
            d = d * (1.0 - y * y)
        else:
            d = where_greater(y, zero, d, zero)
            if kind == IND_CLIP:
                d = where_less(y, one, d, zero)
        store(w, gate + j, d, remaining)
        store(w, product + j, fma(d, load(w, previous + j, remaining), load(w, product + j, remaining)), remaining)
        if through:
            store(w, after + j, d * load(w, u + unit, width), remaining)
        unit += onwards
        if unit >= H:
            unit -= H
