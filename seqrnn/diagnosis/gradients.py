"""Gradients of a loss with respect to past states, and with respect to weights when sequences are cut into windows.

T timesteps, B streams, N segments, I inputs, H hidden units, L layers, P parameters.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.components import Components
from seqrnn.diagnosis.excerpts import Excerpt
from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, detached, restarted
from seqrnn.models.unroll import unroll
from seqrnn.schedule import cut_windows, group_by_extent
from seqrnn.strategies.rtrl import RTRL
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Chunk, Stored

LEAST = 1e-12  # a norm below is rounding
PAIRS = 2**15  # (timestep, stream) pairs that are computed side by side
Array = NDArray[np.float64]
Check = Callable[[], object]  # raises an error when the time is over


def gradient_norms(
    network: Network, loss: Loss, inputs: Tensor, targets: Tensor, state: State, check: Check = lambda: None
) -> Array:
    """Returns ‖∂L/∂s‖ of each of N segments (T, N, I), by lag from its end: (T + 1, N). The first row is the norm at
    the cell's last output, the last row that at the state before the first timestep."""
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN has no backward pass in evaluation mode
        return _gradient_norms(network, loss, inputs, targets, state, check)


def _gradient_norms(
    network: Network, loss: Loss, inputs: Tensor, targets: Tensor, state: State, check: Check
) -> Array:
    states = [tuple(part.detach().requires_grad_() for part in state)]
    for step in inputs:
        check()
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


def reach_curve(norms: Array) -> Array:
    """Returns the reach by lag, from norms (lags, N); NaN if there is no gradient at all."""
    means = norms.mean(axis=1)
    curve: Array = means / means[0] if means[0] > 0 else np.full(len(means), math.nan)
    return curve


def half_life(curve: Array) -> float:
    """Returns the first lag at which a curve is down to one half, between two lags on a logarithmic scale; the last
    lag, if it never is; NaN if there is no gradient at all."""
    if math.isnan(curve[0]):
        return math.nan
    below = np.flatnonzero(curve <= 0.5)
    if not len(below):
        return float(len(curve) - 1)
    lag = int(below[0])
    before, after = np.log(max(curve[lag - 1], LEAST)), np.log(max(curve[lag], LEAST))
    return lag - 1 + float((math.log(0.5) - before) / (after - before))


def decay_rate(curve: Array) -> float:
    """Returns the factor per timestep: the slope of log reach(k), k ≥ 1, by least squares; NaN if there is no
    gradient."""
    if math.isnan(curve[0]):
        return math.nan
    lags = np.arange(1, len(curve))
    above = curve[1:] > LEAST
    if above.sum() < 2:
        return 0.0
    return float(np.exp(np.polyfit(lags[above], np.log(curve[1:][above]), 1)[0]))


def compare(cut: Array, full: Array) -> tuple[float, float]:
    """Returns cosine and ratio of the norms of two gradients; two gradients of zero are equal."""
    own, whole = float(np.linalg.norm(cut)), float(np.linalg.norm(full))
    if whole == 0:
        return 1.0, 1.0
    return (min(1.0, float(cut @ full) / (own * whole)) if own else 0.0), own / whole


def states_along(network: Network, excerpt: Excerpt, check: Check = lambda: None) -> State:
    """Returns the states before each timestep of an excerpt: parts (T, L, B, H)."""
    state, before = excerpt.state, []
    with torch.no_grad():
        for inputs, starts in zip(excerpt.chunk.inputs, excerpt.chunk.starts, strict=True):
            check()
            if starts.any():
                state = restarted(state, starts, network.initial_state(len(starts)))
            before.append(state)
            _, state = network.cell(inputs[None], state)
    return tuple(torch.stack(parts) for parts in zip(*before, strict=True))


def windowed_gradient(
    network: Network,
    loss: Loss,
    chunk: Chunk,
    states: State,
    window: int | None,
    stride: int | None,
    carry: bool,
    *,
    parameters: Sequence[Tensor] | None = None,
    between: tuple[int, int] | None = None,
    check: Check = lambda: None,
) -> Array:
    """Returns the gradient (P,) of the mean loss of a chunk that is cut into windows, computed side by side.

    Args:
        states: before each timestep, parts (T, L, B, H).
        window, stride: as in a schedule.
        carry: whether windows begin with these states; otherwise with the initial state.
        parameters: None: the cell's.
        between: the timesteps whose loss counts, cut into strides from the first of them on; None: all.
    """
    parameters = list(network.cell.parameters()) if parameters is None else parameters
    if not parameters:  # an echo state network trains none of its cell
        return np.zeros(0)
    begin, end = between or (0, len(chunk.valid))
    end = min(end, len(chunk.valid))
    batch = Stored(chunk)
    windows = [(batch, each) for each in cut_windows(end, window, stride, begin)]
    sums: list[Tensor] = [torch.zeros_like(parameter) for parameter in parameters]
    for group in group_by_extent(windows, PAIRS):
        check()
        lead = group[0][1].fresh - group[0][1].start
        pieces = [chunk.between(each.start, each.stop) for _, each in group]
        inputs, starts, targets, valid = (
            torch.cat([getattr(piece, name) for piece in pieces], dim=1)
            for name in ("inputs", "starts", "targets", "valid")
        )
        targets, valid = targets[lead:], valid[lead:]
        if not valid.any():
            continue
        state = network.initial_state(inputs.shape[1])
        if carry:
            state = tuple(torch.cat([part[each.start] for _, each in group], dim=1) for part in states)
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN has no backward pass in evaluation mode
            hidden, _ = unroll(network.recur, network.initial_state, inputs, starts, state)
            total = loss(network.head(hidden[lead:][valid]), targets[valid]).sum()
            found = torch.autograd.grad(total, parameters, allow_unused=True)
        sums = [own if part is None else own + part for own, part in zip(sums, found, strict=True)]
    return _mean(sums, int(chunk.valid[begin:end].sum()))


def forward_gradient(
    components: Components, network: Network, chunk: Chunk, state: State, check: Check = lambda: None
) -> Array:
    """Returns the gradient (P,) of the mean loss of a chunk by the cell's parameters as the schedule computes it,
    forwards in time.

    Args:
        state: before the first timestep, parts (L, B, H).
    """
    network = copy.deepcopy(network)
    rtrl = RTRL(
        network, components.loss, components.schedule.gradient, components.context, DataFormat.of(components.task)
    )
    parameters = list(network.cell.parameters())
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    rtrl.begin(chunk.valid.shape[1])
    for timestep in range(len(chunk.valid)):
        check()
        _, state = rtrl.timestep(chunk.between(timestep, timestep + 1), detached(state))
    return _mean([parameter.grad for parameter in parameters], int(chunk.valid.sum()))


def _mean(sums: Sequence[Tensor | None], count: int) -> Array:
    flat: Array = torch.cat([part.reshape(-1) for part in sums if part is not None]).double().cpu().numpy()
    return flat / max(1, count)
