"""Inputs: does the network read numbers of a usual size? Mean and scale of each input, and a trial with others.

    scale    standard deviation over the training data; of an input with two values, half their distance

An input is far from standardised where its scale lies outside of 0.1 to 10, or its mean is more than five scales from
0. An input that never changes has no scale, and is left alone. Where one is far, trainings on the same seeds are made
with all inputs standardised (LeCun, Bottou, Orr & Müller 1998, "Efficient BackProp", section 4.3), and

    effect   loss with standardised inputs ÷ loss with the inputs as they are

decides whether that is a fault: many inputs of images are small and harmless. Without time for trials, it is
one where all inputs that vary are far.

Caveat: statistics are those of the first batches of an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import model_validator

from seqrnn.diagnosis.instrument import Evidence, Finding, Picture
from seqrnn.diagnosis.intervals import UNKNOWN, Interval, Numbers, number
from seqrnn.diagnosis.record import Items, Number, Record, require_equal_lengths
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.trained_run import TrainedRun

SMALL, LARGE = 0.1, 10.0  # scales
OFF = 5.0  # scales that a mean lies from 0
HELPS = 0.75  # effect
MOST = 2**20  # numbers that are looked at
MOST_INPUTS = 10_000
SHOWN = 4  # inputs that are named


class Inputs(Record):
    """
    Args:
        means, scales: of each input; the scale of one that never changes is 0.
        far: the numbers of those that are far from standardised.
        names: of these.
        effect: of standardised inputs; None: no trial was needed, or there was no time for it.
        part: of the run's length, of the trials.
    """

    means: Items[Number]
    scales: Items[Number]
    far: Items[int]
    names: Items[str]
    effect: Interval | None = None
    part: Number = 0.0

    @model_validator(mode="after")
    def _fits_together(self) -> Inputs:
        require_equal_lengths(means=self.means, scales=self.scales)
        require_equal_lengths(far=self.far, names=self.names)
        if any(not 0 <= place < len(self.means) for place in self.far):
            raise ValueError("far: should hold numbers of inputs")
        return self


@register("instrument", "inputs")
class InputsInstrument:
    description = "looking at the size of inputs"
    order = 11
    result_type = Inputs

    def measure(self, run: TrainedRun) -> Inputs:
        """
        Raises:
            DataError: there are more inputs than are looked at.
        """
        import torch

        from seqrnn.diagnosis.altered_data import compare, standardised
        from seqrnn.diagnosis.budget import TooSlow
        from seqrnn.errors import DataError

        run.budget.check()
        task = run.components.task
        if task.input_size > MOST_INPUTS:
            raise DataError(f"it has {task.input_size:,} inputs, and at most {MOST_INPUTS:,} are looked at")
        means, scales = moments(_sample(run))
        far = far_from_standardised(means, scales)
        known = getattr(getattr(task, "preprocessing", None), "input_names", None)
        names = [known[place] if known else f"input {place + 1}" for place in far]
        result = Inputs(means=means.tolist(), scales=scales.tolist(), far=far, names=names)
        if not far or "lr" not in run.values["optimizer"]:
            return result
        divisor = torch.from_numpy(scales).where(torch.from_numpy(scales) > 0, torch.ones(()).double())
        mean = torch.from_numpy(means).where(torch.from_numpy(scales) > 0, torch.zeros(()).double())
        try:
            as_they_are = standardised(torch.zeros_like(mean), torch.ones_like(divisor))
            found = compare(run, {"standardised": (standardised(mean, divisor), {})}, as_they_are)["standardised"]
        except TooSlow:
            return result
        return result.model_copy(update={"effect": found.effect, "part": found.part})

    def symptoms(self, result: Inputs) -> Iterator[Finding]:
        effect = result.effect
        if effect is None:
            shows = bool(result.far) and len(result.far) == sum(scale > 0 for scale in result.scales)
        else:
            shows = effect.high < 1 and effect.value <= HELPS
        if not shows:
            return
        shown = [
            f"{name} (mean {number(result.means[place])}, scale {number(result.scales[place])})"
            for place, name in list(zip(result.far, result.names, strict=True))[:SHOWN]
        ]
        more = f" and {len(result.far) - SHOWN} more" if len(result.far) > SHOWN else ""
        what = (
            f" With all of them at mean 0 and scale 1, trials come to {number(effect.value)} of the loss."
            if effect
            else " There was no time to try what standardised ones bring."
        )
        yield Finding(
            name="input_scale",
            title="Inputs are far from mean 0 and scale 1",
            description=f"{', '.join(shown)}{more}.{what} Subtract the mean of the training data and divide by its "
            "standard deviation where the task makes its inputs; task=csv does so by itself.",
            evidence=[Evidence(quantity="loss with standardised inputs, by that without", interval=effect)]
            if effect
            else [],
            remedies=[],
            effect=effect or UNKNOWN,
        )

    def pictures(self) -> list[Picture]:
        return []


def moments(inputs: Numbers) -> tuple[Numbers, Numbers]:
    """Returns mean and scale of each input, (I,) each, of inputs (N, I)."""
    import numpy as np

    means, scales = inputs.mean(axis=0), inputs.std(axis=0)
    low, high = inputs.min(axis=0), inputs.max(axis=0)
    has_two = ((inputs == low) | (inputs == high)).all(axis=0)
    scales = np.where(has_two, (high - low) / 2, scales)
    return means, np.where(scales > 1e-9 * np.abs(means), scales, 0.0)


def far_from_standardised(means: Numbers, scales: Numbers) -> list[int]:
    """Returns the numbers of the inputs that are, those that never change aside."""
    import numpy as np

    far = (scales < SMALL) | (scales > LARGE) | (np.abs(means) > OFF * scales)
    return [int(place) for place in np.flatnonzero(far & (scales > 0))]


def _sample(run: TrainedRun) -> Numbers:
    """Returns inputs (N, I) of the training data."""
    import numpy as np

    task, schedule = run.components.task, run.components.schedule
    batches, parts, left = task.train(0, schedule.streams), [], MOST
    for number_ in range(len(batches)):
        batch = batches[number_]
        timesteps = max(1, min(batch.timesteps, left // (batch.streams * task.input_size)))
        chunk = batch.read(0, timesteps)
        parts.append(chunk.inputs.reshape(-1, task.input_size).double().cpu().numpy())
        left -= parts[-1].size
        if left <= 0 or run.budget.remaining < run.budget.seconds / 2:
            break
    return np.concatenate(parts)
