"""The comparison with the best condition, against scipy and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from seqrnn.reports.significance import differences, holm, needed, notes_of, paired_p
from seqrnn.sweeping.comparison import Condition, Result
from seqrnn.sweeping.directory import Job, Outcome


def condition(scores: dict[int, float]) -> Condition:
    """A condition with a finished run for each seed."""
    results = []
    for seed, score in scores.items():
        job = Job(name=str(seed), number=seed, identity={}, overrides=[], values={})
        summary = {"headline": "mse", "test": {"mse": score}}
        results.append(Result(job, Outcome(status="finished"), {}, summary, seed, Path(str(seed))))
    return Condition("sine", "mse", {}, results)


def test_p_is_that_of_the_paired_test_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for count in (2, 3, 5, 20):
        one, other = rng.normal(size=count), rng.normal(0.5, 2, size=count)
        assert paired_p(list(other - one)) == pytest.approx(stats.ttest_rel(other, one).pvalue, rel=1e-9)


def test_no_test_is_made_where_the_spread_is_unknown() -> None:
    assert paired_p([0.5]) is None
    assert paired_p([0.0, 0.0, 0.0]) is None
    assert paired_p([0.1, 0.1]) is None


def test_p_values_are_corrected_by_holm() -> None:
    # Holm (1979): 0.01 · 4, 0.013 · 3, 0.03 · 2, 0.2 · 1, never smaller than the one before.
    assert holm([0.03, 0.01, 0.2, 0.013]) == pytest.approx([0.06, 0.04, 0.2, 0.04])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_only_seeds_that_both_have_are_compared() -> None:
    best, other, alone = (
        condition({0: 1.0, 1: 2.0, 2: 3.0}),
        condition({1: 4.0, 2: 6.0, 7: 100.0}),
        condition({9: 5.0}),
    )
    first, second, third = differences([best, other, alone])
    assert first is None
    assert third is None
    assert second is not None
    assert (second.seeds, second.mean) == (2, 2.5)
    assert second.p == pytest.approx(stats.ttest_rel([4.0, 6.0], [2.0, 3.0]).pvalue)


def test_what_few_seeds_can_tell_is_what_the_test_can() -> None:
    """A difference of ``needed`` deviations has the largest p-value that counts, with all comparisons."""
    for seeds, comparisons in ((2, 1), (3, 5), (5, 40)):
        spread = np.linspace(-1, 1, seeds)
        values = spread / spread.std(ddof=1) + needed(seeds, comparisons)
        p = paired_p(list(values))
        assert p is not None
        assert p * comparisons == pytest.approx(0.05, rel=1e-6)


def test_the_notes_are_honest_about_few_seeds() -> None:
    ranked = [condition({0: 1.0, 1: 1.1}), condition({0: 2.0, 1: 2.3}), condition({5: 9.0})]
    text = " ".join(notes_of(ranked, differences(ranked)))
    assert "2 seeds are few" in text
    assert f"{math.floor(needed(2, 1) * 100) / 100:.3g}"[:3] in text
    assert "does not mean equal" in text
    assert "1 condition could not be tested" in text
    many = [condition({seed: shift + 0.1 * seed**2 for seed in range(8)}) for shift in (0.0, 1.0)]
    many[1].results[0].summary["test"]["mse"] += 0.5
    assert "are few" not in " ".join(notes_of(many, differences(many)))
