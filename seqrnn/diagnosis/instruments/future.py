"""Future: do targets depend on inputs that come later, as targets do that are shifted by a timestep?

On validation sequences, a readout of the target at t from the state and the latest inputs is compared with one that
reads the next k inputs as well. Both are ridge regressions on the state, the inputs and random features of them, tanh
of random projections (Rahimi & Recht 2008), which hold products of inputs too:

    ratio(k)    squared error with the next k inputs ÷ squared error without, on sequences that neither was fitted to

Where the next inputs help, trainings are made on the same seeds in which each answer comes k timesteps later:

    effect      loss of answers that come k timesteps later ÷ loss of answers at once, over the same targets

A forecast's targets are later inputs by design; a task says so (``is_forecast``), or it is seen in the data: an
output most of which inputs some timesteps later tell. Nothing is said about forecasts, but where the targets of a
task that does not call itself one are the inputs of two or three timesteps later: that is a forecast of the next
timestep whose targets are shifted, or a longer one, which only its author can tell. Trials then show what a forecast
of the next timestep comes to.

Caveat: what depends on both the future and the distant past in a way that no state holds is not seen.
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
    from seqrnn.diagnosis.seen_data import Seen
    from seqrnn.diagnosis.trained_run import TrainedRun

HELPS = 0.9  # ratio
PROVEN = 0.75  # effect
ENOUGH, ROUNDING = 0.1, 0.01  # above the least ratio: the smallest delay that comes so close is the one that is named
UNEXPLAINED = 0.02  # of the targets' variance, by a readout without later inputs
AHEAD = (1, 2, 4)
BEHIND = 3  # timesteps before the present
FEATURES = 200  # random ones
MOST = 2**13  # targets
MOST_INPUTS = 32
FARTHEST = 100  # timesteps that a forecast may look ahead
SLIPS = (2, 3)  # timesteps ahead of targets that may have been meant to be those of the next timestep
COPIED = 1e-3  # of a target's variance: what later inputs may leave open about targets that are these
FORETOLD = 0.8  # of what inputs of the present leave open about a forecast's target
DETERMINED = 1e-4  # of a target's variance: what is left open where the present tells it


class Future(Record):
    """
    Args:
        ahead: how many later inputs are read, k.
        ratios: see above.
        independent: what the intervals are over.
        delay: timesteps by which answers are later in trials; None: no trial was made.
        effect: see above.
        part: of the run's length, of the trials.
        horizon: how many timesteps later the inputs are that the targets of a forecast are; None: it is none.
    """

    ahead: Items[int]
    ratios: Items[Interval]
    independent: str
    delay: int | None = None
    effect: Interval | None = None
    part: Number = 0.0
    horizon: int | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Future:
        require_equal_lengths(ahead=self.ahead, ratios=self.ratios)
        return self


@register("instrument", "future")
class FutureInstrument:
    description = "asking whether targets depend on later inputs"
    order = 14
    result_type = Future

    def measure(self, run: TrainedRun) -> Future:
        """
        Raises:
            DataError: the task is a forecast, or there is too little data, or too many inputs.
            TooSlow: there is no time for it.
        """
        from seqrnn.diagnosis.altered_data import compare, delayed
        from seqrnn.diagnosis.budget import TooSlow
        from seqrnn.diagnosis.seen_data import seen
        from seqrnn.errors import DataError

        run.budget.check()
        task = run.components.task
        if task.input_size > MOST_INPUTS:
            raise DataError(f"it has {task.input_size} inputs, and at most {MOST_INPUTS} are looked at")
        if getattr(task, "is_forecast", False):
            raise DataError("its targets are later inputs by design")
        found = seen(run)
        horizon = horizon_of(found)
        if horizon in SLIPS and "lr" in run.values["optimizer"]:
            result = Future(ahead=[], ratios=[], independent=found.independent, horizon=horizon, delay=horizon - 1)
            steps = horizon - 1
            made = compare(run, {"delayed": (delayed(steps, steps), {})}, base=delayed(0, steps))["delayed"]
            return result.model_copy(update={"effect": made.effect, "part": made.part})
        if horizon is not None or is_foretold(found):
            raise DataError("inputs of a later timestep tell its targets, so it is taken for a forecast")
        ratios = ratios_of(run, found)
        result = Future(ahead=list(AHEAD), ratios=ratios, independent=found.independent)
        least = min(ratio.value for ratio in ratios)
        delay = next(
            k for k, ratio in zip(AHEAD, ratios, strict=True) if ratio.value <= (1 + ENOUGH) * least + ROUNDING
        )
        if ratios[AHEAD.index(delay)].high >= HELPS or "lr" not in run.values["optimizer"]:
            return result
        try:
            trial = compare(run, {"delayed": (delayed(delay, delay), {})}, base=delayed(0, delay))["delayed"]
        except TooSlow:
            return result.model_copy(update={"delay": delay})
        return result.model_copy(update={"delay": delay, "effect": trial.effect, "part": trial.part})

    def symptoms(self, result: Future) -> Iterator[Finding]:
        effect, delay = result.effect, result.delay
        if delay is None or (effect is not None and not (effect.high < 1 and effect.value <= PROVEN)):
            return
        steps = f"{delay} timestep{'s' * (delay > 1)}"
        trial = (
            f", and where each answer comes {steps} later, trials come to {number(effect.value)} of the loss"
            if effect
            else ""
        )
        advice = (
            f"Shift the targets by {steps} against the inputs in the data, or ask for the answer that much later."
        )
        evidence = []
        if result.horizon is None:
            ratio = result.ratios[result.ahead.index(delay)]
            evidence = [Evidence(quantity=f"squared error of a readout with the next {steps}, by that without",
                                 interval=ratio)]  # fmt: skip
            shown = f"With the inputs of the next {steps}, a readout has {number(ratio.value)} of its squared error"
        else:
            shown = f"Targets are inputs of {result.horizon} timesteps later"
            advice += " If a forecast so far ahead is what is wanted, give the task the attribute is_forecast=True."
        if effect:
            evidence.append(Evidence(quantity=f"loss of answers {steps} later, by that at once", interval=effect))
        yield Finding(
            name="shifted_target",
            title="Targets depend on inputs that come later",
            description=f"{shown}{trial}. {advice}",
            evidence=evidence,
            remedies=[],
            effect=effect or UNKNOWN,
        )

    def pictures(self) -> list[Picture]:
        return []


def horizon_of(found: Seen) -> int | None:
    """Returns how many timesteps later the inputs are that the targets are, but for a linear map: the least number up
    to the largest of ``SLIPS``; None if there is none."""
    for ahead in range(1, max(SLIPS) + 1):
        later, wanted = _inputs_ahead(found, ahead)[1:]
        if len(wanted) < 4 * later.shape[1] + 16:
            return None
        wanted = wanted[:, wanted.std(axis=0) > 0]
        spread = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
        if spread.size and (_line_errors(later, wanted) <= COPIED * spread).all():
            return ahead
    return None


def is_foretold(found: Seen) -> bool:
    """Whether inputs of one later timestep tell most of what those of the present leave open about an output."""
    import numpy as np

    for ahead in range(1, min(FARTHEST, len(found.valid) - 1) + 1):
        present, later, wanted = _inputs_ahead(found, ahead)
        if len(wanted) < 4 * later.shape[1] + 16:
            continue
        alone, both = _line_errors(present, wanted), _line_errors(np.concatenate([present, later], axis=1), wanted)
        is_open = alone > DETERMINED * ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
        if (both[is_open] < (1 - FORETOLD) * alone[is_open]).any():
            return True
    return False


def _inputs_ahead(found: Seen, ahead: int) -> tuple[Numbers, Numbers, Numbers]:
    """Returns present inputs (N, I), those so many timesteps later (N, I), and targets (N, O), where a sequence is
    that long."""
    import numpy as np

    inputs, timesteps = found.chunk.inputs.cpu().numpy(), len(found.valid)
    if ahead >= timesteps:
        return inputs[:0, 0], inputs[:0, 0], found.wanted[:0, 0]
    ends = _ends(found.chunk.starts.numpy())
    counts = found.valid[:-ahead] & (np.arange(timesteps - ahead)[:, None] + ahead < ends[:-ahead])
    return inputs[:-ahead][counts], inputs[ahead:][counts], found.wanted[:-ahead][counts]


def _line_errors(given: Numbers, wanted: Numbers) -> Numbers:
    """Returns the squared errors (O,) of a line, by least squares."""
    import numpy as np

    given = np.concatenate([given, np.ones((len(given), 1))], axis=1)
    found: Numbers = ((wanted - given @ np.linalg.lstsq(given, wanted, rcond=None)[0]) ** 2).sum(axis=0)
    return found


def ratios_of(run: TrainedRun, found: Seen) -> list[Interval]:
    """Returns the error of a readout with later inputs by that without, for each of ``AHEAD``.

    Raises:
        DataError: too few targets have as many timesteps behind them.
    """
    import numpy as np

    from seqrnn.diagnosis.intervals import resampled, spread
    from seqrnn.diagnosis.readout import decoded, scaled
    from seqrnn.diagnosis.seen_data import FEWEST, spread_over
    from seqrnn.errors import DataError

    inputs, valid = found.chunk.inputs.cpu().numpy(), found.valid
    timesteps = len(valid)
    farthest = max(AHEAD)
    clock = np.arange(timesteps)[:, None]
    counts = valid & (clock + farthest < _ends(found.chunk.starts.numpy()))
    times, places = np.nonzero(counts)
    if len(times) < FEWEST:
        raise DataError("too few targets are followed by other timesteps")
    chosen = spread_over(len(times), MOST)
    times, places = times[chosen], places[chosen]
    groups, wanted = found.groups[times, places], found.wanted[times, places]
    if len(np.unique(groups)) < 2:
        raise DataError("there are too few sequences to compare readouts on")
    began = (clock - np.maximum.accumulate(np.where(found.chunk.starts.numpy(), clock, 0), axis=0))[times, places]
    past = [
        np.where((began >= back)[:, None], inputs[np.maximum(times - back, 0), places], 0.0)
        for back in range(BEHIND + 1)
    ]
    later = [inputs[times + ahead, places] for ahead in range(1, farthest + 1)]
    states = scaled(found.states[times, places])
    rng = np.random.default_rng(0)

    def errors(ahead: int) -> Numbers:
        run.budget.check()
        window = scaled(np.concatenate([*past, *later[:ahead]], axis=1))
        mixed = np.concatenate([window, states], axis=1)
        weights = rng.standard_normal((mixed.shape[1], FEATURES))
        weights[: window.shape[1]] *= 1.5 / np.sqrt(window.shape[1])
        weights[window.shape[1] :] *= 0.5 / np.sqrt(max(1, states.shape[1]))
        random = np.tanh(mixed @ weights + rng.standard_normal(FEATURES))
        features = np.concatenate([mixed, scaled(random)], axis=1)
        summed: Numbers = decoded(features, wanted, groups).errors.sum(axis=1)
        return summed

    without, found_ratios = errors(0), []
    if without.sum() <= UNEXPLAINED * _variance(found) * len(wanted):
        return [Interval(1.0, 1.0, 1.0)] * len(AHEAD)  # nothing is left for the future to explain
    for ahead in AHEAD:
        sums = np.stack([errors(ahead), without], axis=1)
        drawn, total = resampled(sums), sums.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found_ratios.append(spread(float(total[0] / total[1]), drawn[:, 0] / drawn[:, 1], len(sums)))
    return found_ratios


def _variance(found: Seen) -> float:
    """Returns the variance of all targets, summed over outputs."""
    return float(found.wanted[found.valid].var(axis=0).sum())


def _ends(starts: Numbers) -> Numbers:
    """Returns the timestep (T, B) at which the sequence of each timestep has ended."""
    import numpy as np

    timesteps = len(starts)
    next_start = np.where(starts, np.arange(timesteps)[:, None], timesteps)
    later = np.concatenate([next_start[1:], np.full((1, starts.shape[1]), timesteps)])
    found: Numbers = np.minimum.accumulate(later[::-1], axis=0)[::-1]
    return found
