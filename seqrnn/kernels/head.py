"""The head and the loss, on rows that have a target: outputs, loss, and the gradient by what the head reads.

The arguments p, g, w and c are those of ``seqrnn.kernels.layout``; H is the size of the states that the head reads.
"""

from __future__ import annotations

import math

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.functions import copy, exp
from seqrnn.kernels.layers import ONE
from seqrnn.kernels.layout import (
    CROSS_ENTROPY,
    D_HIDDEN,
    HALF_MSE,
    HEAD_B,
    HEAD_KIND,
    HEAD_SIZE,
    HEAD_W,
    HEAD_W_T,
    HIDDEN,
    KNOWN_HALF_MSE,
    KNOWN_L1,
    KNOWN_MSE,
    L1,
    LOSS_KIND,
    MLP,
    OUT,
    OUT_B,
    OUT_W,
    OUT_W_T,
    OUTPUTS,
)
from seqrnn.kernels.matmul import matmul, transpose
from seqrnn.kernels.simd import alwaysinline, fill, lanes_of, load, noinline, store, sum_of, where_greater, where_less


@kernel
def prepare(p, w, c, H):
    """Computes the transposed matrices that all rows between two changes of the parameters share."""
    alwaysinline()
    read_by_output = H
    if c[HEAD_KIND] == MLP:
        read_by_output = c[HEAD_SIZE]
        transpose(H, read_by_output, p, c[HEAD_W], read_by_output, w, c[HEAD_W_T], H)
    transpose(read_by_output, c[OUTPUTS], p, c[OUT_W], c[OUTPUTS], w, c[OUT_W_T], read_by_output)


@kernel
def _affine(p, w, rows, read, size, weight, bias, out, outputs):
    alwaysinline()
    if bias >= 0:
        for row in range(rows):
            copy(p, bias, w, out + row * outputs, outputs)
    matmul(rows, outputs, size, w, read, size, 1, p, weight, outputs, w, out, outputs, 1 if bias >= 0 else 0)


@kernel
def _affine_gradient(g, w, rows, read, size, weight, bias, out, outputs):
    alwaysinline()
    matmul(size, outputs, rows, w, read, 1, size, w, out, outputs, g, weight, outputs, 1)
    if bias >= 0:
        matmul(1, outputs, rows, w, ONE, 0, 0, w, out, outputs, g, bias, 0, 1)


@kernel
def forward(p, w, c, H, rows, read):
    """Computes the outputs for rows of states that lie at ``read``."""
    alwaysinline()
    size = H
    if c[HEAD_KIND] == MLP:
        hidden, size = c[HIDDEN], c[HEAD_SIZE]
        _affine(p, w, rows, read, H, c[HEAD_W], c[HEAD_B], hidden, size)
        zero = fill(w, 0.0)
        for j in range(0, rows * size, lanes_of(w)):
            value = load(w, hidden + j, rows * size - j)
            store(w, hidden + j, where_greater(zero, value, zero, value), rows * size - j)
        read = hidden
    _affine(p, w, rows, read, size, c[OUT_W], c[OUT_B], c[OUT], c[OUTPUTS])


@kernel
def backward(g, w, c, H, rows, states, d_states):
    """Adds the head's part to the gradient ``g``, and writes the gradient by the states to ``d_states``."""
    alwaysinline()
    O, out, read, size, d_read = c[OUTPUTS], c[OUT], states, H, d_states
    if c[HEAD_KIND] == MLP:
        read, size, d_read = c[HIDDEN], c[HEAD_SIZE], c[D_HIDDEN]
    _affine_gradient(g, w, rows, read, size, c[OUT_W], c[OUT_B], out, O)
    matmul(rows, size, O, w, out, O, 1, w, c[OUT_W_T], size, w, d_read, size, 0)
    if c[HEAD_KIND] == MLP:
        zero = fill(w, 0.0)
        for j in range(0, rows * size, lanes_of(w)):
            remaining = rows * size - j
            store(
                w,
                d_read + j,
                where_greater(load(w, read + j, remaining), zero, load(w, d_read + j, remaining), zero),
                remaining,
            )
        _affine_gradient(g, w, rows, states, H, c[HEAD_W], c[HEAD_B], d_read, size)
        matmul(rows, H, size, w, d_read, size, 1, w, c[HEAD_W_T], H, w, d_states, H, 0)


@kernel
def loss(w, c, rows, where, targets, labels):
    """Returns the summed loss of the outputs, whose targets lie at ``where``, and replaces the outputs with its
    gradient."""
    alwaysinline()
    kind, O, out = c[LOSS_KIND], c[OUTPUTS], c[OUT]
    total = 0.0
    if kind == CROSS_ENTROPY:
        for m in range(rows):
            total += _cross_entropy(w, out + m * O, O, labels[where[m]])
        return total
    if kind >= KNOWN_MSE:
        for m in range(rows):
            total += _loss_of_known(w, kind, out + m * O, O, targets, where[m] * O)
        return total
    scale = 1.0 / O
    zero, one = fill(w, 0.0), fill(w, 1.0)
    for m in range(rows):
        for j in range(0, O, lanes_of(w)):
            remaining = O - j
            error = load(w, out + m * O + j, remaining) - load(targets, where[m] * O + j, remaining)
            if kind == L1:
                slope = where_greater(error, zero, one, where_less_zero(error))
                total += sum_of(slope * error) * scale
                error = slope * scale
            else:
                factor = 0.5 * scale if kind == HALF_MSE else scale
                total += sum_of(error * error) * factor
                error = error * (2.0 * factor)
            store(w, out + m * O + j, error, remaining)
    return total


@kernel
def _loss_of_known(w, kind, out, O, targets, place):
    """Returns the loss of one row of outputs, mean over those whose target is not NaN, and replaces the outputs with
    its gradient."""
    noinline()
    zero, one = fill(w, 0.0), fill(w, 1.0)
    missing = 0.0
    for j in range(0, O, lanes_of(w)):
        target = load(targets, place + j, O - j)
        missing += sum_of(where_less(target * 0.0, one, zero, one))  # NaN is not less
    scale = 1.0 / (O - missing)
    total = 0.0
    for j in range(0, O, lanes_of(w)):
        remaining = O - j
        target = load(targets, place + j, remaining)
        error = where_less(target * 0.0, one, load(w, out + j, remaining) - target, zero)
        if kind == KNOWN_L1:
            slope = where_greater(error, zero, one, where_less_zero(error))
            total += sum_of(slope * error) * scale
            error = slope * scale
        else:
            factor = 0.5 * scale if kind == KNOWN_HALF_MSE else scale
            total += sum_of(error * error) * factor
            error = error * (2.0 * factor)
        store(w, out + j, error, remaining)
    return total


@kernel
def where_less_zero(error):
    """Returns −1 where the error is negative, 0 where it is zero, NaN where it is NaN."""
    return where_greater(fill(error, 0.0), error, fill(error, -1.0), error * 0.0)


@kernel
def _cross_entropy(w, out, O, label):
    noinline()
    highest = w[out]
    for j in range(1, O):
        highest = max(highest, w[out + j])
    chosen = w[out + label] - highest
    total = 0.0
    for j in range(0, O, lanes_of(w)):
        remaining = O - j
        store(w, out + j, exp(load(w, out + j, remaining) - fill(w, highest)), remaining)
        total += sum_of(load(w, out + j, remaining))
    share = 1.0 / total
    for j in range(0, O, lanes_of(w)):
        store(w, out + j, load(w, out + j, O - j) * share, O - j)
    w[out + label] -= 1
    return math.log(total) - chosen
