"""Compares each condition with the best one, over the seeds that both have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from seqrnn.reports.numbers import count_of
from seqrnn.sweeping.comparison import Condition, deviation_of, half_width, mean_of

LEVEL = 0.05  # of the tests, after the correction
FEW_SEEDS = 6  # fewer cannot tell much


@dataclass(frozen=True)
class Difference:
    """The mean difference of a condition to the best one, over the seeds that both have.

    Args:
        seeds: how many.
        mean: of the differences.
        half_width: half of the 95 % confidence interval of the mean; None with one seed.
        p: of the paired t-test, corrected for the number of comparisons; None where it cannot be made.
    """

    seeds: int
    mean: float
    half_width: float | None
    p: float | None


def differences(ranked: Sequence[Condition]) -> list[Difference | None]:
    """Returns the difference of each condition to the first; None for the first, and where they share no seed.

    The test is Student's t-test of the paired differences, two-sided: the same seed draws the same data and the same
    initial weights, so what a seed adds to both cancels. The p-values are corrected by Holm (1979), so that the
    chance of one false difference among all comparisons stays below the level. Where all differences are equal,
    their spread is unknown, and no test is made.
    """
    if not ranked:
        return []
    best = ranked[0].by_seed
    found = [_difference(best, condition.by_seed) for condition in ranked[1:]]
    tested = [place for place, one in enumerate(found) if one is not None and one.p is not None]
    corrected = holm([found[place].p or 0.0 for place in tested])  # type: ignore[union-attr]
    for place, p in zip(tested, corrected, strict=True):
        found[place] = replace(found[place], p=p)  # type: ignore[type-var]
    return [None, *found]


def _difference(best: Mapping[int, float], other: Mapping[int, float]) -> Difference | None:
    values = [other[seed] - best[seed] for seed in best if seed in other]
    if not values:
        return None
    return Difference(len(values), mean_of(values), half_width(values), paired_p(values))


def paired_p(differences: Sequence[float]) -> float | None:
    """Returns the two-sided p-value of Student's t-test that the mean of differences is 0; None for fewer than two,
    and where all are equal."""
    count = len(differences)
    if count < 2 or len(set(differences)) == 1:
        return None
    from scipy.special import stdtr  # scipy.stats takes 0.6 s to import

    mean, deviation = mean_of(differences), deviation_of(differences)
    if not 0 < deviation < math.inf:
        return None
    return 2 * float(stdtr(count - 1, -abs(mean) / deviation * math.sqrt(count)))


def holm(values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for their number by the step-down method of Holm (1979, Scandinavian Journal of
    Statistics 6, 65-70)."""
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = largest
    return corrected


def notes_of(ranked: Sequence[Condition], compared: Sequence[Difference | None]) -> list[str]:
    """Returns how the comparison is to be read, as far as this one goes."""
    tested = [one for one in compared if one is not None and one.p is not None]
    untested = sum(bool(one.values) for one in ranked[1:]) - len(tested)
    notes = []
    if tested:
        fewest, most = min(one.seeds for one in tested), max(one.seeds for one in tested)
        seeds = str(fewest) if fewest == most else f"{fewest} to {most}"
        comparisons = count_of(len(tested), "comparison")
        notes.append(
            f"Δ is the mean difference to the best condition over the {seeds} seeds that both have. p is that of a "
            f"paired t-test of these differences, two-sided, corrected by the method of Holm for {comparisons}. "
            f"Below {LEVEL:.2f}, the condition is called worse."
        )
        if fewest < FEW_SEEDS:
            notes.append(
                f"{fewest} seeds are few. With {fewest} seeds and {comparisons}, a mean difference must be at least "
                f"{needed(fewest, len(tested)):.3g} times the standard deviation of the paired differences to be "
                "called worse. So “unclear” does not mean equal; and whether the differences are normal, as the test "
                "assumes, cannot be checked."
            )
        notes.append(
            "The best condition was chosen by the same scores that it is compared with, so its mean is somewhat too "
            "good. Other seeds would show by how much."
        )
    if untested > 0:
        notes.append(
            f"{count_of(untested, 'condition')} could not be tested against the best: fewer than two seeds in common "
            "with it, or differences that are all equal."
        )
    return notes


def needed(seeds: int, comparisons: int) -> float:
    """Returns the mean difference, in standard deviations of the paired differences, from which on the smallest of so
    many p-values is below the level."""
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, 1 - LEVEL / comparisons / 2)) / math.sqrt(seeds)
