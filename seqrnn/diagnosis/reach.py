"""Gradient reach: how much of an error is still felt by the states that led to it.

For a loss L_t at one timestep, the output o_t of the cell there, and the states s of the trained network along real
sequences,

    reach(k) = E ‖∂L_t/∂s_{t−k}‖ / E ‖∂L_t/∂o_t‖,        k = 1, 2, …,        reach(0) = 1

over segments that end at timestep t; s is the whole state: all its parts, of all layers. What falls geometrically
with k vanishes, what grows explodes (Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013,
eq. 5). It is a property of the weights as they are: no window is applied here, so what lies beyond the schedule's
window is what that schedule throws away.

Caveats: the mean is carried by the segments whose gradient survives, so where a target depends on the past only now
and then, it says more than the median does; intervals are a bootstrap over segments, which share their sequences if
there are only a few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn.diagnosis.intervals import Interval, bootstrapped
from seqrnn.diagnosis.subject import Subject
from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State

LEAST = 1e-12  # below, a norm is rounding
SHOWN = 30  # lags with an interval
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """
    Args:
        curve: reach(k) for k = 0, 1, …, as far as there is data.
        lags, at_lags: some of them, with intervals.
        half_life: the first lag at which it has fallen to one half; the last lag, if it does not.
        rate: the factor per timestep, fitted to the logarithms over the lags above rounding.
        window: the schedule's; None: whole sequences.
        at_window: reach at that lag, the first that the schedule cuts off, if the curve goes so far.
        needed: the lag of the first input that the task's targets depend on, if it says so.
        at_needed: reach at that lag.
        segments, sequences: how many were looked at.
    """

    curve: list[float]
    lags: list[int]
    at_lags: list[Interval]
    half_life: Interval
    rate: Interval
    window: int | None
    at_window: Interval | None
    needed: int | None
    at_needed: Interval | None
    segments: int
    sequences: int


def measure(subject: Subject) -> Reach:
    segments = subject.segments()
    norms = gradient_norms(
        subject.network, subject.components.loss, segments.inputs, segments.targets, segments.state
    )
    last, cases = len(norms) - 1, norms.shape[1]
    window, inputs = subject.components.schedule.window, getattr(subject.components.task, "reach", None)
    needed = None if inputs is None else inputs - 1  # the state so far back holds the first of them

    def at(lag: int) -> Interval:
        return bootstrapped(cases, lambda chosen: float(curve_of(norms[[0, lag]][:, chosen])[1]))

    lags = sorted({round(lag) for lag in np.geomspace(1, last, SHOWN)})
    return Reach(
        curve=curve_of(norms).tolist(),
        lags=lags,
        at_lags=[at(lag) for lag in lags],
        half_life=bootstrapped(cases, lambda chosen: half_life(curve_of(norms[:, chosen]))),
        rate=bootstrapped(cases, lambda chosen: rate(curve_of(norms[:, chosen]))),
        window=window,
        at_window=at(window) if window is not None and window <= last else None,
        needed=needed,
        at_needed=at(needed) if needed is not None and needed <= last else None,
        segments=cases,
        sequences=segments.sequences,
    )


def gradient_norms(network: Network, loss: Loss, inputs: torch.Tensor, targets: torch.Tensor, state: State) -> Array:
    """‖∂L/∂s‖ of each of N segments (T, N, I), by lag from its end: (T + 1, N): first that of the cell's last
    output, last that of the state before the first timestep."""
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN has no backward pass in evaluation mode
        return _gradient_norms(network, loss, inputs, targets, state)


def _gradient_norms(network: Network, loss: Loss, inputs: torch.Tensor, targets: torch.Tensor, state: State) -> Array:
    states = [tuple(part.detach().requires_grad_() for part in state)]
    for step in inputs:
        outputs, following = network.cell(step[None], states[-1])
        states.append(following)
    total = loss(network.head(outputs[0]), targets).sum()
    wanted = [outputs, *(part for parts in states[:-1] for part in parts)]
    found = iter(torch.autograd.grad(total, wanted, allow_unused=True))
    rows = []
    for parts in [1] + [len(state)] * len(inputs):
        gradients = [gradient for gradient in (next(found) for _ in range(parts)) if gradient is not None]
        squares = [gradient.square().sum(dim=(0, 2)) for gradient in gradients]
        rows.append(sum(squares, torch.zeros(inputs.shape[1], dtype=inputs.dtype, device=inputs.device)).sqrt())
    norms: Array = torch.stack([rows[0], *rows[:0:-1]]).cpu().numpy().astype(np.float64)
    return norms


def curve_of(norms: Array) -> Array:
    """reach by lag, from norms (lags, N)."""
    means = norms.mean(axis=1)
    curve: Array = means / means[0] if means[0] > 0 else np.full(len(means), math.nan)
    return curve


def half_life(curve: Array) -> float:
    """The first lag at which a curve is down to one half, between two lags on a logarithmic scale; the last lag, if
    it never is; NaN if there is no gradient at all."""
    if math.isnan(curve[0]):
        return math.nan
    below = np.flatnonzero(curve <= 0.5)
    if not len(below):
        return float(len(curve) - 1)
    lag = int(below[0])
    before, after = np.log(max(curve[lag - 1], LEAST)), np.log(max(curve[lag], LEAST))
    return lag - 1 + float((math.log(0.5) - before) / (after - before))


def rate(curve: Array) -> float:
    """The factor per timestep: the slope of log reach(k), k ≥ 1, by least squares; NaN if there is no gradient."""
    if math.isnan(curve[0]):
        return math.nan
    lags = np.arange(1, len(curve))
    above = curve[1:] > LEAST
    if above.sum() < 2:
        return 0.0
    return float(np.exp(np.polyfit(lags[above], np.log(curve[1:][above]), 1)[0]))
