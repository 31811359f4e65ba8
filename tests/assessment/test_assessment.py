"""Confidence intervals of scores, on data whose scores are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seqrnn.assessment.assessment import Estimate, Groups, assess, groups_of
from seqrnn.assessment.judged import Judged, mean_of
from seqrnn.errors import DataError
from seqrnn.forecasting import bootstrap
from seqrnn.metrics import classification, regression


def judged(errors: np.ndarray, baselines: Mapping[str, np.ndarray] | None = None, **changes: Any) -> Judged:
    """Errors (T, N) of a network whose targets are 0, and those of baselines."""
    times, numbers = np.nonzero(np.ones(errors.shape, bool))
    others = {name: values.reshape(-1, 1) for name, values in (baselines or {}).items()}
    zeros = np.zeros((errors.size, 1))
    made = Judged(times, numbers, zeros, errors.reshape(-1, 1), others, regression, "mae", "regression")
    return replace(made, **changes)


def mean_error(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    return {"mae": float(np.abs(outputs - targets).mean())}


def scored(made: Judged, confidence: float = 0.95) -> Mapping[str, Estimate]:
    return assess({"network": made}, confidence).networks["network"]


def autoregressive(count: int, rho: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = np.zeros(count)
    for t in range(1, count):
        values[t] = rho * values[t - 1] + rng.standard_normal()
    return values


def test_values_are_those_of_the_metrics_and_lie_within_their_intervals() -> None:
    errors = np.random.default_rng(0).standard_normal((300, 1))
    found = scored(judged(errors))
    expected = regression(errors, np.zeros_like(errors))
    assert next(iter(found)) == "mae"
    for name in ("mae", "rmse", "mse"):
        one = found[name]
        assert one.value == pytest.approx(expected[name])
        assert one.low < one.value < one.high
    assert found["mae"].high - found["mae"].low == pytest.approx(4 * 0.6 / 300**0.5, rel=0.3)


def test_ninety_percent_intervals_of_many_sequences_hold_the_truth_nine_times_of_ten() -> None:
    inside = 0
    for seed in range(30):
        levels = np.random.default_rng(seed).exponential(size=30)  # a sequence is as wrong at all of its timesteps
        one = scored(judged(np.tile(levels, (5, 1)), metrics=mean_error), 0.9)["mae"]
        inside += one.low <= 1 <= one.high
    assert 23 <= inside <= 30


def test_errors_that_depend_on_each_other_have_wider_intervals() -> None:
    dependent = autoregressive(600, 0.95, 0).reshape(-1, 1)
    shuffled = np.random.default_rng(0).permutation(dependent)
    assert groups_of(judged(dependent)).block > 2 * groups_of(judged(shuffled)).block
    wide, narrow = (scored(judged(errors))["mae"] for errors in (dependent, shuffled))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_steps_of_a_horizon_overlap_and_are_drawn_together() -> None:
    noise = np.random.default_rng(0).standard_normal((500, 1))
    assert groups_of(judged(noise, horizon=24)).block >= 48
    assert groups_of(judged(noise)).description == "500 timesteps in blocks of 8"


def test_many_sequences_are_drawn_one_by_one_and_few_in_time() -> None:
    noise = np.random.default_rng(0).standard_normal((10, 25))
    many = groups_of(judged(noise))
    assert (many.block, len(many.counts), many.description) == (1, 25, "25 sequences")
    assert len(groups_of(judged(noise[:, :3])).counts) == 10
    assert groups_of(judged(noise[:1, :3])).description == "3 sequences"


def test_the_unit_of_a_target_does_not_matter_for_what_is_drawn_together() -> None:
    both = np.concatenate([autoregressive(600, 0.95, 0), np.random.default_rng(0).standard_normal(600)])
    made = judged(both.reshape(2, -1).T[:, :1], network=both.reshape(2, 600).T, targets=np.zeros((600, 2)))
    for units in (np.array([1.0, 1e6]), np.array([1e6, 1.0])):
        assert groups_of(replace(made, network=made.network * units, units=units)).block == groups_of(made).block


def panel(seed: int, series: int = 25, days: int = 40) -> Judged:
    """Absolute errors of many series on the same days: 1, and what the day adds, the series, and both together."""
    rng = np.random.default_rng(seed)
    errors = 1 + 0.3 * rng.uniform(-1, 1, (days, 1)) + 0.2 * rng.uniform(-1, 1, series)
    errors = errors + 0.3 * rng.uniform(-1, 1, (days, series))
    return judged(errors, metrics=mean_error, share_time=True)


def test_of_many_series_that_share_their_days_both_are_drawn() -> None:
    made = panel(0)
    groups = groups_of(made)
    assert groups.description == "25 sequences and 40 timesteps in blocks of 4"
    for rows, total in islice(zip(groups.draws(), groups.drawn_sums(made.network), strict=True), 20):
        counts = np.bincount(rows, minlength=1000).reshape(40, 25)  # of each day and series
        days, series = counts.sum(axis=1), counts.sum(axis=0)
        np.testing.assert_array_equal(counts * counts.sum(), np.outer(days, series))  # each was drawn by itself
        np.testing.assert_allclose(total, made.network[rows].sum(axis=0))
    alone = groups_of(replace(made, share_time=False))
    assert alone.description == "25 sequences"
    for rows, total in islice(zip(alone.draws(), alone.drawn_sums(made.network), strict=True), 5):
        np.testing.assert_allclose(total, made.network[rows].sum(axis=0))
    assert groups_of(replace(made, times=np.arange(1000))).description == "25 sequences"  # no day has two of them


def test_intervals_hold_the_truth_where_days_and_series_both_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """90 % intervals of a mean error of 1, in 40 trials."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 199)
    held = {True: 0, False: 0}
    for seed in range(40):
        for share_time in held:
            one = scored(replace(panel(seed), share_time=share_time), 0.9)["mae"]
            held[share_time] += one.low <= 1 <= one.high
    assert held[True] >= 33
    assert held[False] <= 30


def test_recordings_of_different_lengths_are_drawn_one_by_one() -> None:
    """Each of 18 has one class, at its last timestep."""
    lengths = 5 + np.arange(18) % 10
    labels, outputs = np.arange(18) % 2, np.random.default_rng(0).standard_normal((18, 2))
    made = Judged(lengths, np.arange(18), labels, outputs, {}, classification, "accuracy", "classification")
    groups = groups_of(made)
    assert (groups.block, groups.description) == (1, "18 sequences")
    assert groups.counts.tolist() == [1] * 18


def test_the_rows_of_groups_are_theirs_with_repetitions() -> None:
    groups = Groups(np.array([5, 6, 2, 9, 8, 7]), np.array([2, 1, 3]), 1, "")
    assert groups.rows(np.array([2, 0, 2, 1])).tolist() == [9, 8, 7, 5, 6, 9, 8, 7, 2]


def test_too_little_data_has_scores_without_intervals() -> None:
    one = scored(judged(np.ones((1, 1))))["mae"]
    assert one.value == 1
    assert np.isnan(one.low)
    assert np.isnan(one.high)


def test_the_difference_from_the_best_baseline_is_surer_than_the_scores() -> None:
    noise = np.random.default_rng(0).standard_normal((400, 1))
    baselines = {"bad": 3 * noise, "floor": 0 * noise, "nearly as good": 1.05 * noise}
    found = assess({"network": judged(noise, baselines=baselines)})
    difference, mine = found.differences["network"], found.networks["network"]["mae"]
    assert (difference.metric, difference.baseline) == ("mae", "nearly as good")
    assert difference.estimate.value == pytest.approx(-0.05 * mine.value)
    assert difference.estimate.high < 0  # although the intervals of the two overlap
    assert found.baselines["nearly as good"]["mae"].low < mine.high
    assert assess({"network": judged(noise)}).differences == {}
    assert assess({"network": judged(noise, baselines={"floor": 0 * noise})}).differences == {}


def test_several_networks_are_scored_as_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    made = {
        name: judged(rng.standard_normal((50, 1)), {"one": np.ones((50, 1))}, metrics=mean_error)
        for name in ("a", "b")
    }
    together = assess(made)
    assert together.networks["a"] == assess({"a": made["a"]}).networks["a"]
    assert together.networks["a"] != together.networks["b"]
    assert set(together.differences) == {"a", "b"}


def test_of_accuracies_the_best_baseline_has_the_highest() -> None:
    labels = np.arange(90) % 3
    outputs = np.eye(3)[labels]
    guesses = {"one": np.eye(3)[np.zeros(90, int)], "most": np.eye(3)[np.where(np.arange(90) < 60, labels, 0)]}
    count = np.arange(90)
    made = Judged(0 * count, count, labels, outputs, guesses, classification, "accuracy", "classification")
    found = assess({"network": made})
    assert found.differences["network"].baseline == "most"
    assert found.networks["network"]["accuracy"].value == 1


def test_metrics_that_some_draws_do_not_have_have_no_interval() -> None:
    errors = np.random.default_rng(0).standard_normal((60, 1))

    def metrics(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        scores = {"mae": float(np.abs(outputs).mean())}
        return scores | ({"rare": 1.0} if errors[0] in outputs else {})

    found = scored(judged(errors, metrics=metrics))
    assert np.isnan(found["rare"].low)
    assert np.isfinite(found["mae"].low)


def run(name: str, seed: int = 0) -> Any:
    return SimpleNamespace(run=SimpleNamespace(directory=name), seed=seed)


def test_an_ensemble_averages_outputs_and_of_classes_probabilities() -> None:
    one, two = judged(np.ones((4, 1))), judged(np.full((4, 1), 4.0))
    mean = mean_of([run("a"), run("b")], [one, two])
    assert mean.network.ravel().tolist() == [2.5] * 4
    logits = np.log([[0.9, 0.1]]), np.log([[0.2, 0.8]]) + 5.0
    labels = np.zeros(1, int)
    members = [
        Judged(labels, labels, labels, values, {}, classification, "accuracy", "classification") for values in logits
    ]
    mean = mean_of([run("a"), run("b")], members)
    np.testing.assert_allclose(np.exp(mean.network), [[0.55, 0.45]])


def test_an_ensemble_of_runs_with_other_data_is_refused() -> None:
    one, two = judged(np.ones((4, 1))), judged(np.ones((4, 1)))
    two = replace(two, targets=two.targets + 1)
    with pytest.raises(DataError, match=r"b is tested on other data than a: choose runs of the same data"):
        mean_of([run("a"), run("b")], [one, two])
    with pytest.raises(DataError, match="with seeds 0 and 1, the task holds out different sequences"):
        mean_of([run("a"), run("b", 1)], [one, two])
