"""Labels: are some targets wrong? Errors that the network cannot foresee, on targets that it is sure of.

A target that is wrong contradicts a network that has learned the others. On validation sequences, which were not
trained on, a target is *contradicted*

    of classes    where the network prefers another class
    of numbers    where its error is likelier to be that of a target of another place than one like most others: a
                  mixture of Student's t, as wide-tailed as the errors want it, and of the errors that targets have
                  when they are swapped at random. Errors are those of the line on which most targets lie with the
                  outputs, as a network that is trained on wrong targets answers too close to the mean.

That most networks have contradicted targets says nothing. Wrong ones are told from those that are hard by three
things: the network has learned most of the others; contradictions are as frequent where it is surest (the surest
fifth) as elsewhere, or, of numbers, the mixture explains the errors better than Student's t alone; and nothing in its
state, its inputs and its outputs tells where they are (r² of a linear readout of the contradictions, on sequences
that it was not fitted to). A classifier that has learned a part is judged by the half of the targets that it is
surest of, which must pass the same tests. (Compare Northcutt, Jiang & Chuang 2021, "Confident learning", JAIR 70.)

Caveat: chance that strikes as rarely, and as blindly, as wrong labels do looks the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqrnn.diagnosis.instrument import Evidence, Finding, Picture
from seqrnn.diagnosis.intervals import UNKNOWN, Interval, Numbers, percent
from seqrnn.diagnosis.record import Items, Number, Record
from seqrnn.registry import register

if TYPE_CHECKING:
    from seqrnn.diagnosis.seen_data import Seen
    from seqrnn.diagnosis.trained_run import TrainedRun

LEAST, MOST = 0.02, 0.5  # share of targets: wrong ones are fewer than the others
LEARNED = {"classification": 0.7, "regression": 0.3}  # a network that has more has not learned the others
ALIKE = 0.6  # share of contradicted ones among the surest, by that among all
BLIND = 0.05  # r²
SUREST = 0.2  # of the targets
SURE = 0.5  # of the targets, that alone are judged where it has learned a part
LIKELIER = 0.01  # nats a target
OUTLIER = 4.0  # standard deviations from the median
LEAST_TARGETS = 64
SWAPS = 8  # of the targets, that say how likely a wrong one is seen to be wrong
FREEDOMS = (2.0, 4.0, 8.0, 30.0)  # of Student's t
BINS = 50
ROUNDS = 30  # of fits
TINY = 1e-9
MOST_OUTPUTS = 64
WORST = 20  # places


class Labels(Record):
    """
    Args:
        judged: share of the targets that are judged: those that the network is surest of.
        contradicted: share of those.
        surest: share of contradicted ones among the surest fifth, by that among all; of numbers 1.
        foreseen: r² with which contradictions are told from the state.
        learned: errors of the network by those of the best constant answer to all targets; of numbers: median error
            without contradicted targets, by that of targets that are swapped at random.
        gain: of numbers, by how many nats a target the mixture explains the errors better; of classes 1.
        loss_of_others: share of the loss that is not of contradicted targets.
        worst_timesteps, worst_sequences: places in the validation data, the largest loss first.
    """

    kind: Literal["classification", "regression"]
    targets: int
    judged: Number = 1.0
    contradicted: Interval
    surest: Number
    foreseen: Number
    learned: Number
    gain: Number
    loss_of_others: Interval
    worst_timesteps: Items[int]
    worst_sequences: Items[int]
    independent: str


@register("instrument", "labels")
class LabelsInstrument:
    description = "looking for wrong targets"
    order = 19
    result_type = Labels

    def measure(self, run: TrainedRun) -> Labels:
        """
        Raises:
            DataError: there are too few targets.
            TooSlow: there is no time for it.
        """
        from seqrnn.diagnosis.seen_data import seen
        from seqrnn.errors import DataError

        run.budget.check()
        if run.components.task.output_size > MOST_OUTPUTS:
            raise DataError(
                f"it has {run.components.task.output_size} outputs, and at most {MOST_OUTPUTS} are judged"
            )
        found = seen(run)
        targets = found.outputs[found.chunk.valid], found.chunk.targets[found.chunk.valid]
        losses = run.components.loss(*targets).cpu().numpy()
        kind = run.components.task.kind
        if kind != "classification":
            return _measured(found, losses, _numbers(found), kind)
        judged = _classes(found)
        result = _measured(found, losses, judged, kind)
        if has_wrong_targets(result):
            return result
        sure = _measured(found, losses, judged, kind, SURE)
        return sure if has_wrong_targets(sure) else result

    def symptoms(self, result: Labels) -> Iterator[Finding]:
        if not has_wrong_targets(result):
            return
        places = ", ".join(
            f"timestep {time} of sequence {sequence}"
            for time, sequence in list(zip(result.worst_timesteps, result.worst_sequences, strict=True))[:3]
        )
        which, learned = "validation targets", "the others"
        if result.judged < 1:
            which, learned = f"validation targets that it is surest of ({100 * result.judged:.0f} %)", "a part"
        yield Finding(
            name="label_noise",
            title="Some targets are wrong",
            description=f"{percent(result.contradicted)} of the {which} contradict a network that has "
            f"learned {learned}, and nothing tells which: the largest errors are at {places} (from 0; "
            "diagnosis.json has more). Look at those in the data. What bears wrong targets best: task.loss=l1 for "
            "numbers, the weights of the best evaluation, and few epochs.",
            evidence=[
                Evidence(quantity="share of contradicted targets", interval=result.contradicted),
                Evidence(quantity="share of the loss that the other targets have", interval=result.loss_of_others),
            ],
            remedies=[],
            effect=UNKNOWN,  # of what any network could reach; it comes after causes that trials have proven
        )

    def pictures(self) -> list[Picture]:
        return []


class Judged(NamedTuple):
    """
    Args:
        is_contradicted: (N,), each target.
        expected: (N,), how likely a target of another place would be contradicted there.
        sureness: (N,), of the network; zeros where that is not known.
        learned, gain: see ``Labels``.
        constant: share of errors of the best constant answer; of numbers 1.
    """

    is_contradicted: NDArray[np.bool_]
    expected: Numbers
    sureness: Numbers
    learned: float
    gain: float
    constant: float = 1.0


def has_wrong_targets(result: Labels) -> bool:
    """Whether contradicted targets are wrong ones: frequent enough, foreseen by nothing, and not fewer where the
    network is surest, although it has learned what they are among."""
    return (
        result.contradicted.low >= LEAST
        and result.contradicted.high <= MOST
        and result.learned <= LEARNED[result.kind]
        and result.surest >= ALIKE
        and result.foreseen <= BLIND
        and result.gain >= LIKELIER
    )


def _measured(
    found: Seen, losses: Numbers, judged: Judged, kind: Literal["classification", "regression"], share: float = 1.0
) -> Labels:
    """Returns the result for the share of the targets that the network is surest of."""
    from seqrnn.diagnosis.intervals import resampled, spread
    from seqrnn.diagnosis.readout import decoded, r2, scaled

    order = np.argsort(-judged.sureness, kind="stable")[: max(1, round(share * len(losses)))]
    valid, wrong, losses = found.valid, judged.is_contradicted[order], losses[order]
    groups = found.groups[valid][order]
    known = np.unique(groups, return_inverse=True)[1]
    columns = (wrong, np.ones(len(known)), losses * ~wrong, losses)
    sums = np.stack([np.bincount(known, column) for column in columns], axis=1).astype(np.float64)
    drawn, total = resampled(sums), sums.sum(axis=0)

    def ratio(above: int, below: int) -> Interval:
        with np.errstate(divide="ignore", invalid="ignore"):
            return spread(float(total[above] / total[below]), drawn[:, above] / drawn[:, below], len(sums))

    contradicted, foreseen = float(wrong.mean()), 0.0
    if 0 < contradicted < 1 and sums.shape[0] > 1:
        outputs, expected = found.outputs.cpu().numpy(), judged.expected[order]
        parts = [found.states, found.chunk.inputs.cpu().numpy(), outputs, outputs**2]
        given = np.concatenate(parts, axis=-1)[valid][order]
        surplus = wrong - expected * wrong.sum() / max(expected.sum(), TINY)
        fit = decoded(scaled(given), surplus[:, None], groups)
        foreseen = float(r2(fit.errors.sum(), fit.totals.sum()))
    surest = wrong[: max(1, round(SUREST * len(wrong)))].mean()
    is_sure = contradicted > 0 and judged.sureness.any()
    worst = np.argwhere(valid)[order][wrong][np.argsort(-losses[wrong])][:WORST]
    return Labels(
        kind=kind,
        targets=len(losses),
        judged=share,
        contradicted=ratio(0, 1),
        surest=float(surest / contradicted) if is_sure else 1.0,
        foreseen=foreseen,
        learned=judged.learned if share == 1 else float(contradicted / max(judged.constant, TINY)),
        gain=judged.gain,
        loss_of_others=ratio(2, 3),
        worst_timesteps=[int(place) for place in worst[:, 0]],
        worst_sequences=[int(place) for place in worst[:, 1]],
        independent=found.independent,
    )


def _classes(found: Seen) -> Judged:
    """Judges classes."""
    import torch

    outputs = found.outputs[found.chunk.valid]
    sureness = torch.softmax(outputs, dim=-1).amax(dim=-1).cpu().numpy()
    labels = found.chunk.targets[found.chunk.valid].cpu().numpy()
    wrong = outputs.argmax(dim=-1).cpu().numpy() != labels
    constant = 1 - np.bincount(labels).max() / len(labels)
    return Judged(wrong, np.ones(len(labels)), sureness, float(wrong.mean() / max(constant, TINY)), 1.0, constant)


def _numbers(found: Seen) -> Judged:
    """Judges numbers."""
    outputs, wanted = found.outputs[found.chunk.valid].cpu().numpy(), found.wanted[found.valid]
    deviation = np.subtract(*np.quantile(wanted, [0.75, 0.25], axis=0)) / 1.349
    varies = deviation > 0
    outputs, wanted, deviation = outputs[:, varies], wanted[:, varies], deviation[varies]
    zeros, is_wrong = np.zeros(len(wanted)), np.zeros(len(wanted), bool)
    # Outliers lie beyond all other targets; they are not those of other places.
    is_usual = (np.abs(wanted - np.median(wanted, axis=0)) < OUTLIER * deviation).all(axis=1)
    if not varies.any() or is_usual.sum() < LEAST_TARGETS:
        return Judged(is_wrong, zeros, zeros, 1.0, 0.0)
    outputs, wanted = outputs[is_usual] / deviation, wanted[is_usual] / deviation
    fitted = np.stack([line(*pair) for pair in zip(outputs.T, wanted.T, strict=True)], axis=1)
    rng = np.random.default_rng(0)
    errors, *others = [wanted - fitted, *(rng.permutation(wanted) - fitted for _ in range(SWAPS))]
    mixture, gain = separated(errors, others[0])
    is_wrong[is_usual] = wrong = mixture(errors) > 0.5
    expected = zeros.copy()
    expected[is_usual] = np.mean([mixture(one) > 0.5 for one in others], axis=0)
    learned = float(np.median(np.abs(errors[~wrong])) / np.median(np.abs(others[0]))) if not wrong.all() else 1.0
    return Judged(is_wrong, expected, zeros, learned, gain)


def separated(errors: Numbers, others: Numbers) -> tuple[Callable[[Numbers], Numbers], float]:
    """Tells errors (N, C) of targets that are right from those of targets that belong elsewhere, by a mixture of
    Student's t and of the density of the latter, fitted by expectation and maximisation.

    Args:
        others: (N, C), errors as they would be if targets were swapped at random.

    Returns:
        What computes the probabilities (N,) that the targets of such errors are wrong; and by how many nats a target
        the mixture is likelier than Student's t alone.
    """
    from scipy.special import gammaln

    size = errors.shape[1]
    start = np.diag(np.maximum(np.quantile(np.abs(errors), 0.25, axis=0) / 0.3186, TINY))  # of normal deviations

    def log_wrong(values: Numbers) -> Numbers:
        found: Numbers = np.sum([log_density(*pair) for pair in zip(others.T, values.T, strict=True)], axis=0)
        return found

    def distances(values: Numbers, root: Numbers) -> Numbers:
        found: Numbers = (np.linalg.solve(root, values.T) ** 2).sum(axis=0)
        return found

    def log_right(values: Numbers, root: Numbers, freedom: float) -> Numbers:
        constant = gammaln((freedom + size) / 2) - gammaln(freedom / 2) - size / 2 * np.log(freedom * np.pi)
        tail = (freedom + size) / 2 * np.log1p(distances(values, root) / freedom)
        found: Numbers = constant - np.log(np.diag(root)).sum() - tail
        return found

    known = log_wrong(errors)

    def fitted(freedom: float, share: float) -> tuple[float, float, Numbers, float]:
        """Returns the mean log likelihood, the share of wrong ones, and the root of the covariance and the freedom of
        the others."""
        root, likelihood, wrong = start, -np.inf, np.zeros(len(errors))
        for _ in range(ROUNDS):
            whole = right = log_right(errors, root, freedom)
            if share:
                whole = np.logaddexp(np.log1p(-share) + right, np.log(share) + known)
                wrong = np.exp(np.log(share) + known - whole)
                share = float(np.clip(wrong.mean(), 1e-6, 0.9))
            likelihood = float(whole.mean())
            weights = (1 - wrong) * (freedom + size) / (freedom + distances(errors, root))
            covariance = (errors * weights[:, None]).T @ errors / max(float((1 - wrong).sum()), TINY)
            root = np.linalg.cholesky(covariance + np.eye(size) * (TINY + TINY * np.trace(covariance)))
        return likelihood, share, root, freedom

    alone = max(fitted(freedom, 0.0)[0] for freedom in FREEDOMS)
    likelihood, share, root, freedom = max((fitted(freedom, 0.1) for freedom in FREEDOMS), key=lambda one: one[0])

    def mixture(values: Numbers) -> Numbers:
        right, wrong = np.log1p(-share) + log_right(values, root, freedom), np.log(share) + log_wrong(values)
        probabilities: Numbers = np.exp(wrong - np.logaddexp(right, wrong))
        return probabilities

    return mixture, likelihood - alone


def log_density(samples: Numbers, values: Numbers) -> Numbers:
    """Returns the logarithm of the density of samples (N,) at values (M,), by a histogram."""
    low, high = np.quantile(samples, [0.001, 0.999])
    edges = np.linspace(low, max(high, low + TINY), BINS + 1)
    counts = np.histogram(np.clip(samples, edges[0], edges[-1]), edges)[0] + 0.5
    density = counts / counts.sum() / np.diff(edges)
    place = np.clip(np.searchsorted(edges, values) - 1, 0, BINS - 1)
    found: Numbers = np.log(density[place])
    return found


def line(outputs: Numbers, targets: Numbers) -> Numbers:
    """Returns the values (N,) of the line a + b · output that has the least absolute errors, by reweighted least
    squares: wrong targets, which draw a network towards the mean, do not move it."""
    given = np.stack([np.ones_like(outputs), outputs], axis=1)
    weights = np.ones_like(outputs)
    fitted: Numbers = outputs
    for _ in range(ROUNDS):
        weighed = given * weights[:, None]
        found = np.linalg.lstsq(weighed.T @ given, weighed.T @ targets, rcond=None)[0]
        fitted = given @ found
        errors = np.abs(targets - fitted)
        weights = 1 / np.maximum(errors, 1e-3 * max(float(errors.mean()), 1e-12))
    return fitted
