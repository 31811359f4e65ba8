"""Gradient noise: how much of an update's gradient is chance, and what would average it out.

At the weights as they are, g is the gradient of one update of the schedule, G its mean over the data, and Σ its
covariance. The simple noise scale of McCandlish, Kaplan et al. (2018, arXiv:1812.06162, eq. 2.9), in updates,

    noise scale = tr Σ / |G|²,

says over how many updates' data gradients would have to be averaged for noise to be no larger than signal. Below 1,
larger batches are wasted; far above 1, steps are mostly chance.

Averaging over what follows in the same streams (schedule.update_every) helps less than averaging over other streams,
as far as neighbouring gradients are alike. With m updates in a row, whose mean has the covariance Σ_m,

    worth of accumulating = tr Σ / (m tr Σ_m),

1 where neighbours are as good as strangers, 1/m where they are all the same.

Caveats: |G|² is estimated without bias, so it may come out as 0, and the scale as infinite; near a minimum it is, as
G vanishes there. Whether noise does harm is for the step size to say (see ``seqrnn.diagnosis.forgetting``). Intervals
are a bootstrap over places in the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqrnn.diagnosis.intervals import Interval, bootstrapped
from seqrnn.diagnosis.subject import Subject
from seqrnn.diagnosis.truncation import gradient, states_along

PLACES = 32
IN_A_ROW = 8  # updates
LONGEST = 2000  # timesteps of them
NUMBERS = 2**25  # of all gradients together, at most
ROUNDING = 1e-12
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """
    Args:
        scale: the noise scale, in updates.
        targets: of an update, on average.
        in_a_row: m; 1: updates are of different sequences, and nothing is known of neighbours.
        worth: of accumulating.
        places: in the data.
    """

    scale: Interval
    targets: float
    in_a_row: int
    worth: Interval
    places: int


def measure(subject: Subject) -> Noise:
    components, schedule = subject.components, subject.components.schedule
    network, loss, step = components.network, components.loss, subject.update_timesteps
    parameters = list(network.parameters())
    longest = subject.timeline.ends[0]
    in_a_row = max(1, min(IN_A_ROW, LONGEST // step, longest // step))
    size = sum(parameter.numel() for parameter in parameters)
    places = max(4, min(PLACES, NUMBERS // (size * in_a_row)))
    stretches = subject.ahead(
        places, in_a_row * step, streams=schedule.streams, network=network, context=components.context
    )
    found, targets = [], []
    for stretch in stretches:
        states = states_along(network, stretch)
        own = [(number * step, (number + 1) * step) for number in range(in_a_row)]
        arguments = network, loss, stretch.chunk, states, schedule.window, schedule.stride, schedule.carry
        found.append([gradient(*arguments, parameters=parameters, between=between) for between in own])
        targets.append(int(stretch.chunk.valid[: in_a_row * step].sum()) / in_a_row)
    gradients = np.array(found)  # (places, in a row, P)
    mean = gradients.mean(axis=1)
    single = np.stack([gradients[:, number] @ gradients[:, number].T for number in range(in_a_row)])
    together = mean @ mean.T
    return Noise(
        scale=bootstrapped(len(mean), lambda chosen: scale(single, together, chosen)),
        targets=float(np.mean(targets)),
        in_a_row=in_a_row,
        worth=bootstrapped(len(mean), lambda chosen: worth(single, together, chosen)),
        places=len(mean),
    )


def scale(single: Array, together: Array, chosen: NDArray[np.int64]) -> float:
    """The noise scale, from the products of gradients at N places with each other.

    Args:
        single: of the updates of the same number in a row, (m, N, N).
        together: of the means over a row, (N, N).
        chosen: places.
    """
    weights = _weights(chosen, len(together))
    pairs = float(weights @ together @ weights - weights**2 @ together.diagonal())  # of two places: without bias
    signal = pairs / max(1 - float(weights @ weights), ROUNDING)
    noise = float(np.mean([_spread(products, weights) for products in single]))
    return noise / signal if signal > 0 else math.inf


def worth(single: Array, together: Array, chosen: NDArray[np.int64]) -> float:
    """What accumulating is worth, from the same products."""
    weights = _weights(chosen, len(together))
    noise = float(np.mean([_spread(products, weights) for products in single]))
    averaged = len(single) * _spread(together, weights)
    return noise / averaged if averaged > 0 else 1.0


def _weights(chosen: NDArray[np.int64], count: int) -> Array:
    weights: Array = np.bincount(chosen, minlength=count) / len(chosen)
    return weights


def _spread(products: Array, weights: Array) -> float:
    """The trace of the covariance."""
    own = float(weights @ products.diagonal())
    varies = own - float(weights @ products @ weights)
    return varies * len(products) / (len(products) - 1) if varies > ROUNDING * own else 0.0
