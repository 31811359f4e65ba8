"""Truncation bias: what is wrong with the gradient that a schedule uses, compared with that of full backpropagation.

On a stretch of training data, with the same weights, g(w) is the gradient of the mean loss that windows of w
timesteps give, and g that of one window over the whole stretch:

    cosine(w) = ⟨g(w), g⟩ / (‖g(w)‖ ‖g‖),        ratio(w) = ‖g(w)‖ / ‖g‖

over the parameters of the cell (a head sees the same state whatever the window, so its gradient is without bias as
long as the state is carried); the mean cosine and the geometric mean ratio over stretches, by Student's t. Williams &
Peng (1990) give the algorithm; Tallec & Ollivier (2017, arXiv:1705.08209) why its bias matters; Aicher, Foti & Fox
(2019, arXiv:1905.07473) measure it.

Caveats: "full" ends at the horizon, the length of the stretches. It is the bias at these weights: a network that has
never been given long gradients may have nothing to send along them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.diagnosis.intervals import Interval, of_mean, of_ratio
from seqrnn.diagnosis.subject import LONGEST, Stretch, Subject
from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, restarted
from seqrnn.models.unroll import unroll
from seqrnn.schedule import cut_windows, group_by_extent
from seqrnn.tasks.protocol import Chunk, Stored

STRETCHES = 16
STREAMS = 8  # of a stretch
SHORTEST = 256  # timesteps of a horizon, if sequences are that long
WINDOWS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
FAITHFUL = 0.9  # cosine of a window that will do
LEAST = 1e-12  # a ratio that is no less than nothing
PAIRS = 2**15  # (timestep, stream) pairs that are run side by side
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Truncation:
    """
    Args:
        horizon: timesteps of a stretch.
        windows, cosines, ratios: a curve; the last is the horizon itself.
        schedule: the schedule's own window; None: whole sequences.
        cosine, ratio: of the schedule as it is: its window, stride and carry.
        faithful: the shortest of the windows from which on the cosine is at least ``FAITHFUL``.
        stretches: how many were looked at.
        carries: whether the schedule carries the state into its windows, as those of the curve do.
    """

    horizon: int
    windows: list[int]
    cosines: list[Interval]
    ratios: list[Interval]
    schedule: int | None
    cosine: Interval
    ratio: Interval
    faithful: int
    stretches: int
    carries: bool = True


def measure(subject: Subject) -> Truncation:
    components, schedule = subject.components, subject.components.schedule
    network, loss = components.network, components.loss
    longest = max(batch.timesteps for batch in components.task.train(0, schedule.streams)[:1])
    horizon = min(longest, max(SHORTEST, 4 * (schedule.window or 0)), LONGEST)
    count = STRETCHES if schedule.streams >= STREAMS else 2 * STRETCHES
    stretches = subject.ahead(count, horizon, streams=STREAMS, network=network, context=components.context)
    horizon = len(stretches[0].chunk.inputs)
    windows = [window for window in WINDOWS if window < horizon] + [horizon]
    uncut = schedule.window is None or (schedule.window >= horizon and schedule.carry)

    cosines, ratios = np.ones((2, len(windows) + 1, len(stretches)))
    for case, stretch in enumerate(stretches):
        states = states_along(network, stretch)
        full = gradient(network, loss, stretch.chunk, states, horizon, horizon, carry=True)
        for row, window in enumerate(windows[:-1]):
            cut = gradient(network, loss, stretch.chunk, states, window, window, carry=True)
            cosines[row, case], ratios[row, case] = compare(cut, full)
        if not uncut:
            cut = gradient(network, loss, stretch.chunk, states, schedule.window, schedule.stride, schedule.carry)
            cosines[-1, case], ratios[-1, case] = compare(cut, full)
    mean_cosines = [_bounded(of_mean(row)) for row in cosines]
    mean_ratios = [of_ratio(np.maximum(row, LEAST), np.ones(len(row))) for row in ratios]
    short = max((row for row in range(len(windows) - 1) if mean_cosines[row].value < FAITHFUL), default=-1)
    return Truncation(
        horizon=horizon,
        windows=windows,
        cosines=mean_cosines[:-1],
        ratios=mean_ratios[:-1],
        schedule=schedule.window,
        cosine=mean_cosines[-1],
        ratio=mean_ratios[-1],
        faithful=windows[short + 1],
        stretches=len(stretches),
        carries=schedule.carry,
    )


def compare(cut: Array, full: Array) -> tuple[float, float]:
    """Cosine and ratio of the norms of two gradients; nothing agrees with nothing."""
    own, whole = float(np.linalg.norm(cut)), float(np.linalg.norm(full))
    if whole == 0:
        return 1.0, 1.0
    return (min(1.0, float(cut @ full) / (own * whole)) if own else 0.0), own / whole


def states_along(network: Network, stretch: Stretch) -> State:
    """The states before each timestep of a stretch: parts (T, L, B, H)."""
    state, before = stretch.state, []
    with torch.no_grad():
        for inputs, starts in zip(stretch.chunk.inputs, stretch.chunk.starts, strict=True):
            if starts.any():
                state = restarted(state, starts, network.initial_state(len(starts)))
            before.append(state)
            _, state = network.cell(inputs[None], state)
    return tuple(torch.stack(parts) for parts in zip(*before, strict=True))


def gradient(
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
) -> Array:
    """The gradient (P,) of the mean loss of a stretch that is cut into windows, run side by side.

    Args:
        states: before each timestep, (T, L, B, H).
        carry: whether windows begin with them; else with the initial state.
        parameters: None: the cell's.
        between: the timesteps whose loss counts, cut into strides from the first of them on; None: all.
    """
    parameters = list(network.cell.parameters()) if parameters is None else parameters
    begin, end = between or (0, len(chunk.valid))
    end = min(end, len(chunk.valid))
    batch = Stored(chunk)
    windows = [(batch, each) for each in cut_windows(end, window, stride, begin)]
    sums: list[Tensor] = [torch.zeros_like(parameter) for parameter in parameters]
    for group in group_by_extent(windows, PAIRS):
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
    flat: Array = torch.cat([part.reshape(-1) for part in sums]).double().cpu().numpy()
    return flat / max(1, int(chunk.valid[begin:end].sum()))


def _bounded(cosine: Interval) -> Interval:
    return Interval(cosine.value, max(-1.0, cosine.low), min(1.0, cosine.high))
