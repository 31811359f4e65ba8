"""What a run lacks if a remedy helps: the finding that the success of a trial proves."""

from __future__ import annotations

from typing import NamedTuple

from seqrnn.diagnosis.instrument import Evidence, Finding
from seqrnn.diagnosis.intervals import number
from seqrnn.diagnosis.trials import Trial


class Proven(NamedTuple):
    """
    Args:
        finding: its name.
        title: in a few words.
    """

    finding: str
    title: str


CAUSES = {
    "larger learning rate": Proven("small_steps", "The learning rate is too small"),
    "smaller learning rate": Proven("large_steps", "The learning rate is too large"),
    "decaying rate": Proven("large_steps", "The learning rate does not decay"),
    "no warm-up": Proven("warmup", "The warm-up is too long"),
    "longer window": Proven("window", "Gradients are cut too early"),
    "exact gradients": Proven("window", "Gradients are cut too early"),
    "approximate gradients": Proven("window", "Gradients are cut too early"),
    "carried state": Proven("carry", "Sequences begin without the state"),
    "more streams": Proven("noise", "Updates are mostly noise"),
    "longer accumulation": Proven("noise", "Updates are mostly noise"),
    "fewer streams": Proven("few_updates", "The weights are updated too rarely"),
    "shorter accumulation": Proven("few_updates", "The weights are updated too rarely"),
    "all inputs": Proven("missing_input", "An informative input is left out"),
    "longer training": Proven("underfit", "Training is too short"),
    "shorter training": Proven("memorised", "It learns its training data by heart"),
    "more blocks": Proven("receptive_field", "The cell does not look back far enough"),
    "more units": Proven("few_units", "The network is too small"),
    "fewer units": Proven("many_units", "The network is larger than its data allows"),
    "clipped gradients": Proven("exploding", "Single gradients are too large"),
    "looser clipping": Proven("clipping", "Gradients are clipped too tightly"),
    "usual start": Proven("initial_scale", "The initial weights have an unsuitable scale"),
    "orthogonal start": Proven("initial_scale", "The initial weights are unsuitable"),
    "gated cell": Proven("cell", "The cell does not hold what the task needs"),
}


def proven_by(trial: Trial) -> Finding | None:
    """Returns the finding that the success of a trial proves; None for a remedy that changes several things, or that
    helps for several reasons, as the weights of the best evaluation do where the loss is noisy."""
    known = CAUSES.get(trial.name)
    if known is None:
        return None
    cost = f", on {number(trial.length)} times as many timesteps" if trial.length != 1 else ""
    return Finding(
        name=known.finding,
        title=known.title,
        description=f"A remedy for this alone ({trial.name}) brings the loss of trials to "
        f"{number(trial.effect.value)} of what it was{cost}.",
        evidence=[Evidence(quantity=f"loss with {trial.name}, by that without", interval=trial.effect)],
        remedies=[trial.name],
    )
