"""All findings of an examination: the symptoms of each instrument, and findings that need several results.

What an instrument recognises in its own result stands in its file, with its thresholds; here are the others.
"""

from __future__ import annotations

from collections.abc import Iterator

from seqrnn.diagnosis.instrument import Evidence, Examination, Finding, instruments
from seqrnn.diagnosis.instruments.baselines import AT_FLOOR, NOTHING, Baseline, Baselines
from seqrnn.diagnosis.instruments.forgetting import NOT_IMPROVED, Forgetting
from seqrnn.diagnosis.instruments.noise import Noise
from seqrnn.diagnosis.instruments.reach import EXPLODED, Reach
from seqrnn.diagnosis.instruments.truncation import Truncation
from seqrnn.diagnosis.intervals import number

SOLVED = 0.02  # of the best trivial predictor's loss
BIASED = 0.9  # cosine below which a schedule's gradient has another direction
NOISY = 2.0  # noise scale, in updates
ALIKE = 0.9  # accumulation efficiency below which neighbours are alike


def findings_of(found: Examination) -> list[Finding]:
    """Returns all findings, in no order of importance."""
    own = [
        finding
        for name, instrument in instruments().items()
        if name in found.results
        for finding in instrument.symptoms(found.results[name])
    ]
    if any(finding.name == "memorised" for finding in own):  # it has learned something, if only by heart
        own = [finding for finding in own if finding.name != "nothing_learned"]
    return [*own, *truncated_too_early(found), *dominated_by_noise(found)]


def is_solved(found: Examination) -> bool:
    """Whether nothing is left to be learned that would be visible in the loss."""
    baselines = found.get(Baselines)
    ratio = baselines.ratio if baselines else None
    return (ratio is not None and ratio.high <= SOLVED) or floor_of(found) is not None


def floor_of(found: Examination) -> Baseline | None:
    """Returns the floor of the task, the least loss of any predictor under any schedule, if the network has reached
    it."""
    baselines = found.get(Baselines)
    for baseline in baselines.baselines if baselines else ():
        if baseline.name.startswith("floor") and not baseline.is_conditional and baseline.ratio.high <= AT_FLOOR:
            return baseline
    return None


def has_learned(found: Examination) -> bool:
    """Whether it is better than trivial predictors, in its loss or its accuracy, on any data."""
    return not _has(found, "nothing_learned")


def has_learned_by_heart(found: Examination) -> bool:
    """Whether it is better on its training data, and no better than trivial predictors on other data."""
    ratio = baselines.ratio if (baselines := found.get(Baselines)) else None
    return ratio is not None and ratio.low >= NOTHING and _has(found, "memorised")


def _has(found: Examination, name: str) -> bool:
    return any(finding.name == name for finding in findings_of(found))


def truncated_too_early(found: Examination) -> Iterator[Finding]:
    """Yields a finding where the schedule's gradient differs from the full one, and the full one does not explode."""
    cut, reach = found.get(Truncation), found.get(Reach)
    if cut is None or cut.schedule_window is None or cut.cosine.high >= BIASED:
        return
    if cut.carry and cut.sufficient_window <= cut.schedule_window:
        return  # a longer window would be no better
    if reach is not None and any(value.low > EXPLODED for value in reach.reach_at_lags):
        return  # a full gradient that explodes is not the one to have
    evidence = [
        Evidence(quantity="cosine of the schedule's gradient with the full one", interval=cut.cosine),
        Evidence(quantity="its norm by that of the full one", interval=cut.ratio),
    ]
    distance = ""
    if reach is not None:
        evidence.append(Evidence(quantity="half-life of gradients, in timesteps", interval=reach.half_life))
        distance = (
            f" Gradients fall to half their size within {number(reach.half_life.value)} timesteps back in time."
        )
    difference = (
        f"gives a gradient whose direction differs from the full one: cosine {number(cut.cosine.value)}, "
        f"{number(cut.ratio.value)} of its norm.{distance}"
    )
    if cut.carry:
        title = "Gradients are cut too early"
        description = (
            f"The window of {cut.schedule_window} {difference} A window of {cut.sufficient_window} is long enough."
        )
    else:
        title = "Windows begin without the state"
        description = (
            f"Each window of {cut.schedule_window} begins with the initial state (schedule.carry=false), and "
            f"{difference} A window of {cut.sufficient_window} into which the state is carried is long enough."
        )
    remedies = [
        *([] if cut.carry else ["carried state"]),
        "longer window",
        "exact gradients",
        "approximate gradients",
        "wider batch",
    ]
    name = "window" if cut.carry else "carry"
    yield Finding(name=name, title=title, description=description, evidence=evidence, remedies=remedies)


def dominated_by_noise(found: Examination) -> Iterator[Finding]:
    """Yields a finding where gradients are mostly noise, and averaged weights show that this costs something."""
    noise, forgetting = found.get(Noise), found.get(Forgetting)
    if noise is None or forgetting is None:
        return
    if noise.scale.low < NOISY or forgetting.averaged_ratio.high >= NOT_IMPROVED:
        return
    neighbours = ""
    evidence = [
        Evidence(quantity="gradient noise scale, in updates", interval=noise.scale),
        Evidence(quantity="loss of averaged weights by that of the weights", interval=forgetting.averaged_ratio),
    ]
    efficiency = noise.accumulation_efficiency
    if noise.consecutive > 1:
        evidence.append(
            Evidence(
                quantity="efficiency of accumulating over neighbours, 1 = as good as more streams",
                interval=efficiency,
            )
        )
        if efficiency.high < ALIKE:
            neighbours = (
                f" Neighbours in a stream are alike (accumulating {noise.consecutive} of them is worth "
                f"{number(efficiency.value * noise.consecutive)} independent ones), so add streams rather than "
                "accumulate."
            )
    yield Finding(
        name="noise",
        title="Updates are mostly noise",
        description=f"With {number(noise.targets)} targets in an update, the gradients of at least "
        f"{number(noise.scale.low)} updates must be averaged for noise to be no larger than signal.{neighbours}",
        evidence=evidence,
        remedies=["more streams", "longer accumulation", "wider batch"],
    )
