"""Confidence intervals: they hold the truth as often as they say, and claim nothing where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from seqrnn.diagnosis.intervals import (
    Interval,
    bootstrapped,
    in_blocks,
    number,
    of_mean,
    of_ratio,
    percent,
    resampled,
    spread,
)

REPETITIONS = 400
FEWER = 120  # of what is slow


def holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize("cases", [2, 5, 40])
def test_the_interval_of_a_mean_holds_it_nineteen_times_out_of_twenty(cases: int) -> None:
    rng = np.random.default_rng(cases)
    held = sum(holds(of_mean(rng.normal(3.0, 2.0, cases)), 3.0) for _ in range(4 * REPETITIONS))
    assert stats.binomtest(held, 4 * REPETITIONS, 0.95).pvalue > 1e-3


def test_the_interval_of_a_mean_is_students() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = of_mean(values)
    assert (found.value, found.low, found.high) == pytest.approx((4.0, expected.low, expected.high))


def test_the_interval_of_a_ratio_holds_it_and_is_that_of_the_logarithms() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2 * REPETITIONS):
        others = rng.lognormal(0.0, 2.0, 6)  # pairs differ widely, their ratios do not
        held += holds(of_ratio(others * 0.7 * rng.lognormal(0.0, 0.1, 6), others), 0.7)
    assert stats.binomtest(held, 2 * REPETITIONS, 0.95).pvalue > 1e-3
    found = of_ratio([1.0, 8.0], [1.0, 2.0])
    assert found.value == pytest.approx(2.0)  # the geometric mean of 1 and 4
    assert found.low * found.high == pytest.approx(4.0)


@pytest.mark.long
@pytest.mark.parametrize("cases", [20, 60])
def test_the_bootstrap_holds_a_mean_of_skewed_cases_about_as_often(cases: int) -> None:
    rng = np.random.default_rng(cases)
    held = 0
    for _ in range(FEWER):
        values = rng.gamma(2.0, 1.0, cases)
        held += holds(bootstrapped(cases, lambda chosen, values=values: float(values[chosen].mean())), 2.0)
    assert 0.86 <= held / FEWER <= 0.98  # the percentile bootstrap of few skewed cases is a little too narrow


def test_the_bootstrap_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    values = np.random.default_rng(1).normal(0.0, 1.0, 200)
    found = bootstrapped(200, lambda chosen: float(values[chosen].mean()))
    error = values.std() / math.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found == bootstrapped(200, lambda chosen: float(values[chosen].mean()))  # the same each time


@pytest.mark.parametrize("values", [[], [5.0]])
def test_too_few_cases_have_no_bounds(values: list[float]) -> None:
    value = values[0] if values else math.nan
    for found in (
        of_mean(values),
        of_ratio(values, [1.0] * len(values)),
        bootstrapped(len(values), lambda chosen: value),
        spread(value, np.full(10, value), len(values)),
    ):
        assert found.value == pytest.approx(value, nan_ok=True)
        assert found.high == math.inf
    assert of_mean(values).low == -math.inf
    assert of_ratio(values, [1.0] * len(values)).low == 0.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[1.0, math.nan, 2.0], [1.0, math.inf], [math.inf, -math.inf]])
def test_what_is_no_number_has_no_bounds(values: list[float]) -> None:
    found = of_mean(values)
    assert not math.isfinite(found.value)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_a_ratio_of_what_is_no_number_has_no_bounds() -> None:
    found = of_ratio([1.0, math.nan, 1.0], [1.0, 1.0, 1.0])
    assert (found.low, found.high) == (0.0, math.inf)


def test_a_statistic_that_is_infinite_for_some_resamples_has_a_bound_that_is() -> None:
    values = np.array([0.0] * 3 + [1.0] * 3)

    def inverse(chosen: np.ndarray) -> float:
        mean = float(values[chosen].mean())
        return 1 / mean if mean > 0.2 else math.inf  # for 7 resamples of 64

    found = bootstrapped(6, inverse)
    assert found.value == pytest.approx(2.0)
    assert found.low == pytest.approx(1.2)  # six are 1 in 1 of 64, too few to count, and five in another 6
    assert found.high == math.inf
    always = bootstrapped(6, lambda chosen: math.inf)
    assert (always.value, always.low, always.high) == (math.inf, math.inf, math.inf)


def test_a_statistic_that_many_resamples_do_not_have_claims_nothing() -> None:
    found = bootstrapped(5, lambda chosen: math.nan)
    assert (found.low, found.high) == (-math.inf, math.inf)
    without_the_first = bootstrapped(5, lambda chosen: 1.0 if 0 in chosen else math.nan)  # a third has not
    assert (without_the_first.value, without_the_first.low, without_the_first.high) == (1.0, -math.inf, math.inf)


def test_a_statistic_that_hardly_any_resample_lacks_keeps_its_bounds() -> None:
    rare = bootstrapped(12, lambda chosen: float(chosen.mean()) if chosen.std() > 1.5 else math.nan)
    assert 0 < rare.low < rare.value < rare.high < 11


def test_blocks_are_means_of_neighbours() -> None:
    values = np.arange(11.0)
    assert in_blocks(values, 3).tolist() == [1.0, 4.0, 7.0]  # 9 and 10 do not fill a block
    assert in_blocks(values, 20).tolist() == values.tolist()
    table = np.stack([values, 10 * values], axis=1)
    assert in_blocks(table, 2).tolist() == [[2.0, 20.0], [7.0, 70.0]]


def test_blocks_of_dependent_values_hold_their_mean_where_the_values_by_themselves_would_not() -> None:
    rng = np.random.default_rng(0)
    blocks = values = 0
    for _ in range(REPETITIONS):
        walk = np.zeros(400)
        for step in range(1, 400):
            walk[step] = 0.8 * walk[step - 1] + rng.normal()
        blocks += holds(of_mean(in_blocks(walk, 20)), 0.0)
        values += holds(of_mean(walk), 0.0)
    assert 0.85 <= blocks / REPETITIONS <= 0.98
    assert values / REPETITIONS < 0.65


def test_resampled_sums_are_those_of_cases_drawn_with_repetition() -> None:
    cases = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    sums = resampled(cases, resamples=4000)
    assert sums.shape == (4000, 2)
    assert np.allclose(sums[:, 1], 10 * sums[:, 0])  # a case stays together
    possible = {a + b + c for a in (1, 2, 4) for b in (1, 2, 4) for c in (1, 2, 4)}
    assert set(sums[:, 0]) <= possible
    assert sums[:, 0].mean() == pytest.approx(7.0, rel=0.02)
    assert sums[:, 0].var() == pytest.approx(3 * np.var([1, 2, 4]), rel=0.1)


def test_the_spread_of_resampled_sums_is_what_the_bootstrap_gives() -> None:
    cases = np.random.default_rng(3).gamma(2.0, 1.0, (50, 2))

    def ratio(chosen: np.ndarray) -> float:
        above, below = cases[chosen].sum(axis=0)
        return float(above / below)

    sums = resampled(cases, resamples=4000)
    found = spread(ratio(np.arange(50)), sums[:, 0] / sums[:, 1], 50)
    expected = bootstrapped(50, ratio)
    assert found.value == expected.value
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.05)


def test_what_is_infinite_in_a_spread_is_large_and_not_left_out() -> None:
    samples = np.concatenate([np.linspace(1.0, 2.0, 900), np.full(100, math.inf)])
    found = spread(1.5, samples, 20)
    assert found.high == math.inf
    assert found.low == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1"), (-3.0, "-3"), (0.12345, "0.123"), (-0.5, "-0.500"), (12.345, "12.3"), (123.4, "123"),
        (12345.6, "12,346"), (1e5, "1e+05"), (0.00012345, "0.00012"), (0.001, "0.00100"), (math.nan, "unknown"),
        (math.inf, "∞"), (-math.inf, "−∞"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.5, 0.25, 0.75, "0.500 [0.250, 0.750]"),
        (0.5, 0.25, math.inf, "0.500 [0.250, ∞]"),
        (0.5, 0.0, math.inf, "0.500 (too few samples for an interval)"),
        (1.0, 1.0, 1.0, "1"),
        (0.1, -math.inf, math.inf, "0.100 (too few samples for an interval)"),
        (math.inf, 10.6, math.inf, "at least 10.6"),
        (math.nan, -math.inf, 3.0, "at most 3"),
        (math.inf, -math.inf, math.inf, "could not be measured"),
        (math.nan, math.nan, math.nan, "could not be measured"),
        (12345.6, 1e-9, 1e31, "12,346 [1e-09, 1e+31]"),
    ],
)
def test_an_interval_is_written_with_its_bounds(value: float, low: float, high: float, text: str) -> None:
    assert str(Interval(value, low, high)) == text


def test_a_bound_that_is_no_number_is_none() -> None:
    found = Interval(1.0, math.nan, math.nan)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_no_percent_are_not_less_than_none() -> None:
    assert percent(Interval(0.0, -0.001, 0.001)) == "0 % [0, 0]"
    assert percent(Interval(-0.163, -0.202, -0.121)) == "-16 % [-20, -12]"
