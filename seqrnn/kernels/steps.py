"""Optimizer steps on flat parameters, as ``torch.optim`` makes them: a kernel and an entry of ``STEPS`` for each.

A kernel has the arguments (p, g, a, b, m, o, count, number, scale). ``p`` are the parameters and ``g`` is the
gradient, ``count`` numbers each. The gradient is multiplied by ``scale`` before it is used: one over the number of
targets, and clipping. ``a``, ``b`` and ``m`` are as long, and hold what the optimizer remembers in the order of
``Step.tensors``.
``number`` counts the steps from 1. ``o`` holds the numbers of the optimizer (``seqrnn.kernels.layout``).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn.kernels.choice import choice_of
from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.layout import (
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
    NESTEROV,
)
from seqrnn.kernels.simd import (
    alwaysinline,
    fill,
    fma,
    lanes_of,
    load,
    noinline,
    square_root,
    store,
    sum_of,
    where_greater,
)

NADAM_DECAY = 4e-3  # the default of momentum_decay in torch.optim.NAdam


@kernel
def squared_norm(g, count):
    """Returns the sum of squares, added up lane by lane."""
    alwaysinline()
    width = lanes_of(g)
    one, two = fill(g, 0.0), fill(g, 0.0)
    for j in range(0, count, 2 * width):
        x, y = load(g, j, count - j), load(g, j + width, count - j - width)
        one, two = fma(x, x, one), fma(y, y, two)
    return 0.0 + sum_of(one + two)  # as a float64


@kernel
def _sgd(p, g, a, b, m, o, count, number, scale):
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
def _adam(p, g, a, b, m, o, count, number, scale):
    alwaysinline()
    bias1, bias2 = 1.0 - o[BETA1] ** number, 1.0 - o[BETA2] ** number
    _adaptive_moments(p, g, a, b, m, o, count, scale, o[LR] / bias1, 0.0, 1.0 / math.sqrt(bias2), o[EPS])


@kernel
def _nadam(p, g, a, b, m, o, count, number, scale):
    alwaysinline()
    lr, beta1, bias2 = o[LR], o[BETA1], 1.0 - o[BETA2] ** number
    now = beta1 * (1.0 - 0.5 * 0.96 ** (number * NADAM_DECAY))
    following = beta1 * (1.0 - 0.5 * 0.96 ** ((number + 1) * NADAM_DECAY))
    o[MU] = np.float32(np.float32(o[MU]) * np.float32(now))  # torch keeps the product in single precision
    from_gradient = lr * (1.0 - now) / (1.0 - o[MU])
    from_mean = lr * following / (1.0 - o[MU] * following)
    _adaptive_moments(p, g, a, b, m, o, count, scale, from_mean, from_gradient, 1.0 / math.sqrt(bias2), o[EPS])


@kernel
def _radam(p, g, a, b, m, o, count, number, scale):
    alwaysinline()
    beta2 = o[BETA2]
    bias1, bias2 = 1.0 - o[BETA1] ** number, 1.0 - beta2**number
    from_mean, from_root, eps = o[LR] / bias1, 0.0, 1.0
    longest = 2.0 / (1.0 - beta2) - 1.0
    length = longest - 2.0 * number * beta2**number / bias2
    if length > 5.0:
        above = (length - 4.0) * (length - 2.0) * longest
        from_mean *= math.sqrt(above / ((longest - 4.0) * (longest - 2.0) * length)) * math.sqrt(bias2)
        from_root, eps = 1.0, o[EPS]
    _adaptive_moments(p, g, a, b, m, o, count, scale, from_mean, 0.0, from_root, eps)


@kernel
def _adaptive_moments(p, g, a, b, m, o, count, scale, from_mean, from_gradient, from_root, eps):
    """p ← p − (from_mean · a + from_gradient · d) / (from_root · √b + eps), with the gradient d, its mean a, and the
    mean of its squares b; with AMSGrad, the largest b so far, m, stands in the place of b."""
    noinline()
    beta1, beta2 = o[BETA1], o[BETA2]
    coupled = 0.0 if o[DECOUPLED] > 0 else o[DECAY]
    shrunk = fill(p, 1.0 - o[LR] * o[DECAY] if o[DECOUPLED] > 0 else 1.0)
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
def _rmsprop(p, g, a, b, m, o, count, number, scale):
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
def _adagrad(p, g, a, b, m, o, count, number, scale):
    alwaysinline()
    lr, decay, eps, by = fill(p, o[LR]), fill(p, o[DECAY]), fill(p, o[EPS]), fill(p, scale)
    for j in range(0, count, lanes_of(p)):
        remaining = count - j
        parameter = load(p, j, remaining)
        d = fma(decay, parameter, load(g, j, remaining) * by)
        square = fma(d, d, load(a, j, remaining))
        store(a, j, square, remaining)
        store(p, j, parameter - lr * d / (square_root(square) + eps), remaining)


@dataclass(frozen=True)
class Step:
    """A kind of optimizer step.

    Args:
        optimizer: the class of torch.optim that makes the same step.
        kernel: the function that makes it in compiled code.
        settings: the numbers that it takes from a parameter group (torch's names): where each stands in ``o``.
        tensors: what it remembers of each parameter (torch's names), in the order of ``a``, ``b`` and ``m``: the
            setting without which torch does not remember it, or None.
        scalars: single numbers that torch remembers with each parameter: where each stands in ``o``, and its first
            value.
        counted: whether torch remembers the number of steps made (``step``) with each parameter.
        constants: numbers of ``o`` that no setting of torch's stands for.
        required: settings that must have this value; with another one, torch makes the step.
    """

    optimizer: Any
    kernel: Any
    settings: Mapping[str, int | tuple[int, int]]
    tensors: Mapping[str, str | None]
    scalars: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    counted: bool = True
    constants: Mapping[int, float] = field(default_factory=dict)
    required: Mapping[str, Any] = field(default_factory=dict)

    def describe(self, group: Mapping[str, Any], numbers: NDArray[np.float64]) -> None:
        """Writes the settings of a parameter group into ``numbers``, which become ``o``."""
        for place, value in self.constants.items():
            numbers[place] = value
        for place, value in self.scalars.values():
            numbers[place] = value
        for name, where in self.settings.items():
            if name in group:
                numbers[list(where) if isinstance(where, tuple) else where] = group[name]

    def applies_to(self, group: Mapping[str, Any], others: Collection[str]) -> bool:
        """Returns whether the kernel knows all settings of a parameter group but those named in ``others``."""
        known = {*self.settings, *self.required, *others}
        required = all(group.get(name, value) == value for name, value in self.required.items())
        return required and known.issuperset(group)

    def remembers(self, name: str, numbers: NDArray[np.float64]) -> bool:
        """Returns whether the step remembers one of its tensors with the settings in ``numbers``."""
        setting = self.tensors[name]
        place = None if setting is None else self.settings[setting]
        return place is None or bool(numbers[place] > 0)


_ADAM = {
    "betas": (BETA1, BETA2),
    "eps": EPS,
    "weight_decay": DECAY,
    "decoupled_weight_decay": DECOUPLED,
}
_MOMENTS: dict[str, str | None] = {"exp_avg": None, "exp_avg_sq": None}
_AMSGRAD: dict[str, str | None] = {**_MOMENTS, "max_exp_avg_sq": "amsgrad"}
_PLAIN = {"maximize": False}
STEPS = (
    Step(
        torch.optim.SGD,
        _sgd,
        settings={"momentum": MOMENTUM, "nesterov": NESTEROV, "weight_decay": DECAY},
        tensors={"momentum_buffer": "momentum"},
        counted=False,
        required={**_PLAIN, "dampening": 0},
    ),
    Step(torch.optim.Adam, _adam, {**_ADAM, "amsgrad": AMSGRAD}, _AMSGRAD, required=_PLAIN),
    Step(
        torch.optim.AdamW,
        _adam,
        {**_ADAM, "amsgrad": AMSGRAD},
        _AMSGRAD,
        constants={DECOUPLED: 1.0},  # in some versions of torch it is no setting of this class
        required=_PLAIN,
    ),
    Step(
        torch.optim.NAdam,
        _nadam,
        _ADAM,
        _MOMENTS,
        scalars={"mu_product": (MU, 1.0)},
        required={**_PLAIN, "momentum_decay": NADAM_DECAY},
    ),
    Step(torch.optim.RAdam, _radam, _ADAM, _MOMENTS, required=_PLAIN),
    Step(
        torch.optim.RMSprop,
        _rmsprop,
        settings={"alpha": ALPHA, "eps": EPS, "momentum": MOMENTUM, "centered": CENTERED, "weight_decay": DECAY},
        tensors={"square_avg": None, "momentum_buffer": "momentum", "grad_avg": "centered"},
        required=_PLAIN,
    ),
    Step(
        torch.optim.Adagrad,
        _adagrad,
        settings={"eps": EPS, "weight_decay": DECAY},
        tensors={"sum": None},
        required={**_PLAIN, "lr_decay": 0, "initial_accumulator_value": 0},
    ),
)
step = choice_of([kind.kernel for kind in STEPS])  # (place in STEPS, p, g, a, b, m, o, count, number, scale)
