"""From measurements to findings: a sentence each, with its evidence, and what might help.

A finding is made only where the whole confidence interval lies on the wrong side of a threshold; all thresholds stand
here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seqrnn.diagnosis.baselines import Baseline
from seqrnn.diagnosis.examination import Examination
from seqrnn.diagnosis.intervals import Interval, number
from seqrnn.diagnosis.subject import Subject

SOLVED = 0.02  # of the best trivial predictor's loss
NOTHING = 0.9  # of it: whoever has no less has learned nothing
AT_FLOOR = 1.05  # of the least loss that is possible
CUT = 0.9  # cosine below which a schedule's gradient is another one
NOISY = 2.0  # noise scale, in updates
THROWN = 0.95  # loss of averaged weights by that of the weights
MOVING = 0.05  # factor of the learning rate above which the weights still move
FORGETS = 0.1  # recency gap
GOES_ON = 0.8  # loss after training on, by that before
VANISHED, EXPLODED = 1e-3, 10.0  # reach
SATURATED = 0.5  # share of (unit, timestep) pairs
UNUSED = 0.25  # share of dead or duplicate units
SHORT = 0.5  # of the timesteps that a task depends on
MEMORISED = 1.5  # loss on unseen data by that on training data
DRIFTS = 1.25  # loss at the end of a long rollout by that at its start


@dataclass(frozen=True)
class Evidence:
    """A measurement with its interval."""

    what: str
    measured: Interval


@dataclass(frozen=True)
class Finding:
    """
    Args:
        name: of the kind of finding.
        title: in a few words.
        says: in a sentence or two.
        evidence: what it rests on.
        remedies: names of those that might help, see ``seqrnn.diagnosis.remedies``. Without any, it is worth knowing,
            and no cause of anything.
    """

    name: str
    title: str
    says: str
    evidence: list[Evidence]
    remedies: list[str]


Symptom = Callable[[Examination, Subject], Finding | None]


def findings_of(found: Examination, subject: Subject) -> list[Finding]:
    """All findings, in no order of importance."""
    return [finding for symptom in SYMPTOMS if (finding := symptom(found, subject)) is not None]


def is_solved(found: Examination) -> bool:
    """Whether there is nothing left to be learned that would show."""
    ratio = found.baselines.ratio if found.baselines else None
    return (ratio is not None and ratio.high <= SOLVED) or floor_of(found) is not None


def floor_of(found: Examination) -> Baseline | None:
    """The floor of the task that the network has reached: the least loss there is, whoever predicts."""
    for baseline in found.baselines.baselines if found.baselines else ():
        if baseline.name.startswith("floor") and baseline.ratio.high <= AT_FLOOR:
            return baseline
    return None


def _learned_nothing(found: Examination, subject: Subject) -> Finding | None:
    baselines = found.baselines
    if baselines is None or baselines.ratio is None or baselines.ratio.low < NOTHING:
        return None
    return Finding(
        "nothing_learned",
        "It has learned nothing",
        f"Its loss is {number(baselines.ratio.value)} times that of {baselines.best}, which knows nothing.",
        [Evidence(f"loss by that of {baselines.best}", baselines.ratio)],
        ["larger steps", "smaller steps", "longer training"],
    )


def _window(found: Examination, subject: Subject) -> Finding | None:
    cut, reach = found.truncation, found.reach
    if cut is None or cut.schedule is None or cut.cosine.high >= CUT:
        return None
    if cut.carries and cut.faithful <= cut.schedule:
        return None  # a longer one would do no better
    if reach is not None and any(at.low > EXPLODED for at in reach.at_lags):
        return None  # a full gradient that explodes is not one to be faithful to
    evidence = [
        Evidence("cosine of the schedule's gradient with the full one", cut.cosine),
        Evidence("its norm by that of the full one", cut.ratio),
    ]
    felt = ""
    if reach is not None:
        evidence.append(Evidence("half-life of gradients, in timesteps", reach.half_life))
        felt = f" Errors are felt with half their strength {number(reach.half_life.value)} timesteps back."
    elsewhere = (
        f"gives a gradient that points elsewhere than the full one: cosine {number(cut.cosine.value)}, "
        f"{number(cut.ratio.value)} of its norm.{felt}"
    )
    if not cut.carries:
        return Finding(
            "window",
            "Windows begin with nothing",
            f"Each window of {cut.schedule} begins with the initial state (schedule.carry=false), and {elsewhere} "
            f"One of {cut.faithful} into which the state is carried would be faithful.",
            evidence,
            ["carried state", "longer window", "wider batch"],
        )
    return Finding(
        "window",
        "Gradients are cut too early",
        f"The window of {cut.schedule} {elsewhere} A window of {cut.faithful} would be faithful.",
        evidence,
        ["longer window", "wider batch"],
    )


def _noise(found: Examination, subject: Subject) -> Finding | None:
    noise, forgetting = found.noise, found.forgetting
    if noise is None or forgetting is None or noise.scale.low < NOISY or forgetting.averaged.high >= THROWN:
        return None
    neighbours = ""
    evidence = [
        Evidence("gradient noise scale, in updates", noise.scale),
        Evidence("loss of averaged weights by that of the weights", forgetting.averaged),
    ]
    if noise.in_a_row > 1:
        evidence.append(Evidence("worth of accumulating over neighbours, 1 = as good as streams", noise.worth))
        if noise.worth.high < 0.9:
            neighbours = (
                f" Neighbours in a stream are alike (accumulating {noise.in_a_row} of them is worth "
                f"{number(noise.worth.value * noise.in_a_row)}), so add streams rather than accumulate."
            )
    return Finding(
        "noise",
        "Updates are mostly chance",
        f"With {number(noise.targets)} targets in an update, gradients of at least {number(noise.scale.low)} updates "
        f"would have to be averaged for noise to be no larger than signal.{neighbours}",
        evidence,
        ["more streams", "longer accumulation", "wider batch"],
    )


def _steps(found: Examination, subject: Subject) -> Finding | None:
    forgetting = found.forgetting
    if forgetting is None or forgetting.factor < MOVING or forgetting.averaged.high >= THROWN:
        return None
    return Finding(
        "large_steps",
        "Steps are too large for where it is",
        f"Weights averaged over a stretch of training have {number(forgetting.averaged.value)} of the loss of the "
        "weights themselves: the last steps throw them about a better place without getting there.",
        [Evidence("loss of averaged weights by that of the weights", forgetting.averaged)],
        ["decaying rate", "smaller steps", "wider batch"],
    )


def _forgetting(found: Examination, subject: Subject) -> Finding | None:
    forgetting = found.forgetting
    if forgetting is None or not forgetting.ages or forgetting.gap.low < FORGETS:
        return None
    return Finding(
        "forgetting",
        "It forgets",
        f"On the {forgetting.ages[0]} timesteps that it was trained on last, its loss is "
        f"{number(100 * forgetting.gap.value)} % lower than on data it has not seen for long, or never.",
        [
            Evidence("recency gap", forgetting.gap),
            Evidence(f"loss {forgetting.ages[0]} timesteps after training on it", forgetting.losses[0]),
            Evidence("loss ahead of training", forgetting.ahead),
        ],
        ["longer accumulation", "smaller steps"],
    )


def _underfit(found: Examination, subject: Subject) -> Finding | None:
    forgetting = found.forgetting
    if forgetting is None or forgetting.change.high >= GOES_ON:
        return None
    return Finding(
        "underfit",
        "Training ended while it was learning",
        f"Going on for {number(forgetting.passed)} timesteps per stream takes the loss to "
        f"{number(forgetting.change.value)} of what it was.",
        [Evidence("loss after going on, by that before", forgetting.change)],
        ["longer training", "larger steps"],
    )


def _vanishing(found: Examination, subject: Subject) -> Finding | None:
    reach = found.reach
    if reach is None:
        return None
    lag, at = len(reach.curve) - 1, reach.at_lags[-1]
    if reach.at_needed is not None and reach.needed is not None:
        lag, at = reach.needed, reach.at_needed
    elif reach.at_window is not None and reach.window is not None:
        lag, at = reach.window, reach.at_window
    if at.high >= VANISHED:
        return None
    return Finding(
        "vanishing",
        "Gradients vanish",
        f"An error reaches the state {lag} timesteps back with {number(at.value)} of its strength, a factor of "
        f"{number(reach.rate.value)} per timestep: what happened there cannot be learned from.",
        [Evidence(f"reach at lag {lag}", at), Evidence("factor per timestep", reach.rate)],
        ["orthogonal start", "gated cell", "longer window"],
    )


def _exploding(found: Examination, subject: Subject) -> Finding | None:
    reach = found.reach
    if reach is None:
        return None
    felt = [at for at, lag in enumerate(reach.lags) if reach.window is None or lag < max(reach.window, 2)]
    worst = max(felt, key=lambda at: reach.at_lags[at].low)
    if reach.at_lags[worst].low <= EXPLODED:
        return None
    return Finding(
        "exploding",
        "Gradients explode",
        f"An error is felt {number(reach.at_lags[worst].value)} times as strongly by the state {reach.lags[worst]} "
        "timesteps back as where it was made: single sequences decide where the weights go.",
        [Evidence(f"reach at lag {reach.lags[worst]}", reach.at_lags[worst])],
        ["clipped gradients", "orthogonal start", "smaller steps", "gated cell"],
    )


def _memory(found: Examination, subject: Subject) -> Finding | None:
    memory = found.memory
    if memory is None or memory.decoding is None or memory.needed is None:
        return None
    told = memory.decoding.reach
    if told.high >= SHORT * memory.needed:
        return None
    return Finding(
        "memory",
        "Its state does not hold the past",
        (
            f"Not even the present {memory.decoding.of} can be told from its state"
            if told.value < 0
            else f"The {memory.decoding.of} can be told from its state up to {told.value:g} timesteps back"
        )
        + f"; the task depends on {memory.needed}.",
        [Evidence(f"timesteps back that {memory.decoding.of} can be told", told)],
        [],
    )


def _saturated(found: Examination, subject: Subject) -> Finding | None:
    layers = found.states.layers if found.states is not None else []
    shares = [(layer.saturated, layer.name) for layer in layers if layer.saturated is not None]
    share, name = max(shares, key=lambda pair: pair[0].low, default=(None, ""))
    if share is None or share.low <= SATURATED:
        return None
    return Finding(
        "saturated",
        "Units are saturated",
        f"{number(100 * share.value)} % of the outputs of {name} are at their limits, where no gradient passes.",
        [Evidence(f"share saturated, {name}", share)],
        ["smaller steps", "orthogonal start", "clipped gradients"],
    )


def _unused(found: Examination, subject: Subject) -> Finding | None:
    for layer in found.states.layers if found.states is not None else []:
        for share, kind in ((layer.dead, "hardly vary"), (layer.duplicate, "do what another one does")):
            if share.low > UNUSED:
                return Finding(
                    "unused",
                    "Units are of no use",
                    f"{number(100 * share.value)} % of the {layer.units} units of {layer.name} {kind}.",
                    [Evidence(f"share of units that {kind}, {layer.name}", share)],
                    [],
                )
    return None


def _memorised(found: Examination, subject: Subject) -> Finding | None:
    forgetting = found.forgetting
    if forgetting is None or forgetting.unseen_ratio.low <= MEMORISED:
        return None
    return Finding(
        "memorised",
        "It does worse on data it was not trained on",
        f"Its loss on the sequences that are evaluated is {number(forgetting.unseen_ratio.value)} times that on "
        "training data: either it knows that by heart, or the two differ in kind.",
        [Evidence("loss on unseen data by that on training data", forgetting.unseen_ratio)],
        ["weight decay"],
    )


def _drift(found: Examination, subject: Subject) -> Finding | None:
    drift = found.drift
    if drift is None or drift.growth is None or drift.growth.low <= DRIFTS:
        return None
    return Finding(
        "drift",
        "It drifts",
        f"Over {drift.timesteps:,} timesteps, its loss at the end is {number(drift.growth.value)} times that at the "
        "beginning.",
        [Evidence("loss of the last tenth of a long rollout by that of the first", drift.growth)],
        ["longer window", "wider batch"],
    )


SYMPTOMS: tuple[Symptom, ...] = (
    _learned_nothing, _window, _noise, _steps, _forgetting, _underfit, _vanishing, _exploding, _memory, _saturated,
    _unused, _memorised, _drift,
)  # fmt: skip
