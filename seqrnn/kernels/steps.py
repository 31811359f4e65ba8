"""Optimizer steps on flat parameters ``p`` with gradient ``g``, as ``torch.optim`` takes them.

``a``, ``b`` and ``m`` hold what an optimizer remembers; each names its own. The gradient is multiplied by ``scale``
(one over the number of targets, and clipping) on the way. ``o`` holds the numbers of ``seqrnn.kernels.layout``.
"""

from __future__ import annotations

import math

import numpy as np

from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.layout import (
    ADAGRAD,
    ALPHA,
    AMSGRAD,
    BETA1,
    BETA2,
    CENTERED,
    DECAY,
    DECOUPLED,
    EPS,
    LR,
    MOMENTUM,
    MU,
    NADAM,
    NESTEROV,
    RADAM,
    RMSPROP,
    SGD,
)
from seqrnn.kernels.simd import alwaysinline, fill, fma, lanes_of, load, square_root, store, sum_of, where_greater

NADAM_DECAY = 4e-3  # torch.optim.NAdam's default momentum_decay


@kernel
def squared_norm(g, count):
    """The sum of squares, from sums of each lane."""
    alwaysinline()
    width = lanes_of(g)
    one, two = fill(g, 0.0), fill(g, 0.0)
    for j in range(0, count, 2 * width):
        x, y = load(g, j, count - j), load(g, j + width, count - j - width)
        one, two = fma(x, x, one), fma(y, y, two)
    return 0.0 + sum_of(one + two)  # as a float64


@kernel
def step(kind, p, g, a, b, m, o, count, number, scale):
    """Step number ``number``, counted from 1."""
    if kind == SGD:
        _sgd(p, g, a, o, count, scale)
    elif kind == RMSPROP:
        _rmsprop(p, g, a, b, m, o, count, scale)
    elif kind == ADAGRAD:
        _adagrad(p, g, a, o, count, scale)
    else:
        _adam(kind, p, g, a, b, m, o, count, number, scale)


@kernel
def _sgd(p, g, a, o, count, scale):
    """a: momentum."""
    alwaysinline()
    lr, decay, momentum, nesterov = fill(p, o[LR]), fill(p, o[DECAY]), fill(p, o[MOMENTUM]), o[NESTEROV] > 0
    remembers, by = o[MOMENTUM] > 0, fill(p, scale)
    for j in range(0, count, lanes_of(p)):
        remaining = count - j
        parameter = load(p, j, remaining)
        d = fma(decay, parameter, load(g, j, remaining) * by)
        if remembers:
            buffer = fma(momentum, load(a, j, remaining), d)
            store(a, j, buffer, remaining)
            d = fma(momentum, buffer, d) if nesterov else buffer
        store(p, j, parameter - lr * d, remaining)


@kernel
def _adam(kind, p, g, a, b, m, o, count, number, scale):
    """Adam, AdamW, NAdam and RAdam: p ← p − (α a + β d) / (γ √b + ε). a: mean of gradients d; b: of their squares;
    m: the largest b (AMSGrad)."""
    alwaysinline()
    lr, beta1, beta2 = o[LR], o[BETA1], o[BETA2]
    bias1, bias2 = 1.0 - beta1**number, 1.0 - beta2**number
    from_mean, from_gradient, from_root, eps = lr / bias1, 0.0, 1.0 / math.sqrt(bias2), o[EPS]
    if kind == NADAM:
        now = beta1 * (1.0 - 0.5 * 0.96 ** (number * NADAM_DECAY))
        following = beta1 * (1.0 - 0.5 * 0.96 ** ((number + 1) * NADAM_DECAY))
        o[MU] = np.float32(np.float32(o[MU]) * np.float32(now))  # torch keeps the product so
        from_gradient = lr * (1.0 - now) / (1.0 - o[MU])
        from_mean = lr * following / (1.0 - o[MU] * following)
    elif kind == RADAM:
        longest = 2.0 / (1.0 - beta2) - 1.0
        length = longest - 2.0 * number * beta2**number / bias2
        if length > 5.0:
            above = (length - 4.0) * (length - 2.0) * longest
            from_mean *= math.sqrt(above / ((longest - 4.0) * (longest - 2.0) * length)) * math.sqrt(bias2)
            from_root = 1.0
        else:
            from_root, eps = 0.0, 1.0
    coupled = 0.0 if o[DECOUPLED] > 0 else o[DECAY]
    shrunk = fill(p, 1.0 - lr * o[DECAY] if o[DECOUPLED] > 0 else 1.0)
    keeps_largest, by, decay = o[AMSGRAD] > 0, fill(p, scale), fill(p, coupled)
    new1, new2 = fill(p, 1.0 - beta1), fill(p, 1.0 - beta2)
    old2, mean_by, gradient_by = fill(p, beta2), fill(p, from_mean), fill(p, from_gradient)
    root_by, small = fill(p, from_root), fill(p, eps)
    for j in range(0, count, lanes_of(p)):
        remaining = count - j
        parameter, mean = load(p, j, remaining) * shrunk, load(a, j, remaining)
        d = fma(decay, parameter, load(g, j, remaining) * by)
        mean = fma(new1, d - mean, mean)
        square = fma(new2 * d, d, old2 * load(b, j, remaining))
        store(a, j, mean, remaining)
        store(b, j, square, remaining)
        if keeps_largest:
            largest = load(m, j, remaining)
            square = where_greater(square, largest, square, largest)
            store(m, j, square, remaining)
        moved = fma(gradient_by, d, mean_by * mean)
        store(p, j, parameter - moved / fma(root_by, square_root(square), small), remaining)


@kernel
def _rmsprop(p, g, a, b, m, o, count, scale):
    """a: mean of squares; b: momentum; m: mean of gradients (centred)."""
    alwaysinline()
    lr, decay, momentum, eps = fill(p, o[LR]), fill(p, o[DECAY]), fill(p, o[MOMENTUM]), fill(p, o[EPS])
    old, new, by = fill(p, o[ALPHA]), fill(p, 1.0 - o[ALPHA]), fill(p, scale)
    remembers, centred = o[MOMENTUM] > 0, o[CENTERED] > 0
    for j in range(0, count, lanes_of(p)):
        remaining = count - j
        parameter = load(p, j, remaining)
        d = fma(decay, parameter, load(g, j, remaining) * by)
        square = fma(new * d, d, old * load(a, j, remaining))
        store(a, j, square, remaining)
        if centred:
            mean = load(m, j, remaining)
            mean = fma(new, d - mean, mean)
            store(m, j, mean, remaining)
            square = square - mean * mean
        d = d / (square_root(square) + eps)
        if remembers:
            d = fma(momentum, load(b, j, remaining), d)
            store(b, j, d, remaining)
        store(p, j, parameter - lr * d, remaining)


@kernel
def _adagrad(p, g, a, o, count, scale):
    """a: sum of squares."""
    alwaysinline()
    lr, decay, eps, by = fill(p, o[LR]), fill(p, o[DECAY]), fill(p, o[EPS]), fill(p, scale)
    for j in range(0, count, lanes_of(p)):
        remaining = count - j
        parameter = load(p, j, remaining)
        d = fma(decay, parameter, load(g, j, remaining) * by)
        square = fma(d, d, load(a, j, remaining))
        store(a, j, square, remaining)
        store(p, j, parameter - lr * d / (square_root(square) + eps), remaining)
