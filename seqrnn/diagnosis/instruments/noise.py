"""Gradient noise: how much of an update's gradient is chance, and what would average it out.

At the weights as they are, g is the gradient of one update of the schedule, G its mean over the data, and Σ its
covariance. The simple noise scale of McCandlish, Kaplan et al. (2018, arXiv:1812.06162, eq. 2.9), in updates,

    noise scale = tr Σ / |G|²,

is how many updates' data gradients would have to be averaged for noise to be no larger than signal. Below 1, larger
batches are wasted; far above 1, steps are mostly chance.

Averaging over what follows in the same streams (schedule.update_every) helps less than averaging over other streams,
as far as neighbouring gradients are alike. With m consecutive updates, whose mean has the covariance Σ_m,

    accumulation efficiency = tr Σ / (m tr Σ_m),

1 where neighbours are as independent as other streams, 1/m where they are all the same.

Caveats: |G|² is estimated without bias, so it may come out as 0, and the scale as infinite; near a minimum it is, as
G vanishes there. Whether noise does harm depends on the step size (see ``seqrnn.diagnosis.instruments.forgetting``).
Intervals are a bootstrap over positions in the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seqrnn.diagnosis.instrument import Examination, Finding, Picture
from seqrnn.diagnosis.instruments.forgetting import Forgetting
from seqrnn.diagnosis.intervals import Interval, bootstrapped, number
from seqrnn.diagnosis.panel import Panel, Row
from seqrnn.diagnosis.record import Number, Record
from seqrnn.plots.style import BLUE, GREEN, ORANGE, PURPLE
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.trained_run import TrainedRun

POSITIONS, FEWEST_POSITIONS = 32, 4
CONSECUTIVE = 8  # updates
LONGEST = 2000  # timesteps of them
NUMBERS = 2**25  # of all gradients together, at most
ROUNDING = 1e-12
Array = NDArray[np.float64]


class Noise(Record):
    """
    Args:
        scale: the noise scale, in updates.
        targets: of an update, on average.
        consecutive: m; 1: updates are of different sequences, and nothing is known of neighbours.
        accumulation_efficiency: what accumulating over m neighbours is worth, compared with other streams.
        positions: in the data, how many.
    """

    scale: Interval
    targets: Number
    consecutive: int
    accumulation_efficiency: Interval
    positions: int


@register("instrument", "noise")
class NoiseInstrument:
    description = "measuring gradient noise"
    order = 30
    result_type = Noise

    def measure(self, run: TrainedRun) -> Noise:
        from seqrnn.diagnosis.gradients import states_along, windowed_gradient

        components, schedule, step = run.components, run.components.schedule, run.update_timesteps
        network, loss, check = components.network, components.loss, run.budget.check
        parameters = list(network.parameters())
        longest = run.data.first_batch_timesteps
        consecutive = max(1, min(CONSECUTIVE, LONGEST // step, longest // step))
        size = sum(parameter.numel() for parameter in parameters)
        timesteps, _ = run.affordable(
            consecutive * step, schedule.streams, passes=FEWEST_POSITIONS * 2, gradients=True, network=network,
            least=(step, schedule.streams),
        )  # fmt: skip
        consecutive = timesteps // step
        positions = max(FEWEST_POSITIONS, min(POSITIONS, NUMBERS // (size * consecutive)))
        excerpts = run.upcoming(
            positions, consecutive * step, streams=schedule.streams, network=network, context=components.context
        )
        found, targets = [], []
        for excerpt in run.budget.limited(excerpts, FEWEST_POSITIONS):
            states = states_along(network, excerpt, check)
            updates = [(number * step, (number + 1) * step) for number in range(consecutive)]
            reach = (None, None, True) if schedule.is_forward else (schedule.window, schedule.stride, schedule.carry)
            arguments = network, loss, excerpt.chunk, states, *reach
            found.append(
                [
                    windowed_gradient(*arguments, parameters=parameters, between=between, check=check)
                    for between in updates
                ]
            )
            targets.append(int(excerpt.chunk.valid[: consecutive * step].sum()) / consecutive)
        gradients = np.array(found)  # (positions, consecutive, P)
        mean = gradients.mean(axis=1)
        single = np.stack([gradients[:, number] @ gradients[:, number].T for number in range(consecutive)])
        together = mean @ mean.T
        return Noise(
            scale=bootstrapped(len(mean), lambda chosen: noise_scale(single, together, chosen)),
            targets=float(np.mean(targets)),
            consecutive=consecutive,
            accumulation_efficiency=bootstrapped(
                len(mean), lambda chosen: accumulation_efficiency(single, together, chosen)
            ),
            positions=len(mean),
        )

    def symptoms(self, result: Noise) -> Iterator[Finding]:
        """Yields nothing: whether noise does harm depends on the step size (see ``seqrnn.diagnosis.findings``)."""
        yield from ()

    def pictures(self) -> list[Picture]:
        shows = frozenset({"noise", "large_steps", "underfit"})
        return [Picture("Would averaging, or longer training, help?", draw, shows)]


def noise_scale(single: Array, together: Array, chosen: NDArray[np.int64]) -> float:
    """Returns the noise scale, from the products of gradients at N positions with each other.

    Args:
        single: of the updates of the same number in a row, (m, N, N).
        together: of the means over a row, (N, N).
        chosen: positions, with repetitions.
    """
    weights = _weights(chosen, len(together))
    pairs = float(weights @ together @ weights - weights**2 @ together.diagonal())  # of two positions: without bias
    signal = pairs / max(1 - float(weights @ weights), ROUNDING)
    noise = float(np.mean([_trace(products, weights) for products in single]))
    return noise / signal if signal > 0 else math.inf


def accumulation_efficiency(single: Array, together: Array, chosen: NDArray[np.int64]) -> float:
    """Returns what accumulating is worth, from the same products."""
    weights = _weights(chosen, len(together))
    noise = float(np.mean([_trace(products, weights) for products in single]))
    averaged = len(single) * _trace(together, weights)
    return noise / averaged if averaged > 0 else 1.0


def _weights(chosen: NDArray[np.int64], count: int) -> Array:
    weights: Array = np.bincount(chosen, minlength=count) / len(chosen)
    return weights


def _trace(products: Array, weights: Array) -> float:
    """Returns the trace of the covariance."""
    own = float(weights @ products.diagonal())
    varies = own - float(weights @ products @ weights)
    return varies * len(products) / (len(products) - 1) if varies > ROUNDING * own else 0.0


def draw(panel: Panel, result: Noise, found: Examination) -> None:
    """Draws how much of an update is noise, and what averaging it, or training on, does to the loss."""
    scale = result.scale
    text = number(scale.value) if math.isfinite(scale.value) else f"≥ {number(scale.low)}" if scale.low > 0 else "?"
    rows = [Row(("updates until", "signal = noise"), scale, text, BLUE)]
    if result.consecutive > 1:
        worth = result.accumulation_efficiency.times(result.consecutive)
        rows.append(Row((f"{result.consecutive:,} accumulated", "are worth"), worth, number(worth.value), ORANGE))
    if (forgetting := found.get(Forgetting)) is not None:
        averaged, continued = forgetting.averaged_ratio, forgetting.continued_ratio
        rows.append(Row(("loss, weights", "averaged ÷ not"), averaged, f"× {number(averaged.value)}", GREEN))
        rows.append(Row(("loss, trained", "on ÷ before"), continued, f"× {number(continued.value)}", PURPLE))
    panel.write_heading(f"Noise is as large as signal when {scale} updates are averaged")
    panel.dots(rows, "1 = one update, or the loss as it is", marks=[(1.0, "")])
