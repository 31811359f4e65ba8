"""Autocorrelation of residuals, and resampling of dependent data."""

from __future__ import annotations

import numpy as np
import pytest

from seqrnn.forecasting import bootstrap
from seqrnn.forecasting.residuals import autocorrelation, ljung_box, white_noise_band

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same numbers, whichever ran before."""
    global RNG
    RNG = np.random.default_rng(0)


def autoregressive(count: int, rho: float) -> np.ndarray:
    values = np.zeros(count)
    noise = RNG.standard_normal(count)
    for t in range(1, count):
        values[t] = rho * values[t - 1] + noise[t]
    return values


def test_the_autocorrelation_is_its_definition() -> None:
    values = RNG.standard_normal(200)
    centred = values - values.mean()
    slow = [1.0, *((centred[lag:] @ centred[:-lag]) / (centred @ centred) for lag in range(1, 11))]
    np.testing.assert_allclose(autocorrelation(values, 10), slow, atol=1e-12)


def test_gaps_change_it_little_and_no_product_reaches_over_one() -> None:
    values = autoregressive(20_000, 0.8)
    holes = values.copy()
    holes[RNG.random(len(values)) < 0.3] = np.nan
    np.testing.assert_allclose(autocorrelation(holes, 5), autocorrelation(values, 5), atol=0.03)
    np.testing.assert_allclose(autocorrelation(values, 5), 0.8 ** np.arange(6), atol=0.05)


def test_nothing_is_known_of_constants_of_nothing_and_beyond_the_data() -> None:
    assert np.isnan(autocorrelation(np.ones(10), 3)).all()
    assert np.isnan(autocorrelation(np.full(10, np.nan), 3)).all()
    found = autocorrelation(np.array([1.0, -1.0, 2.0]), 5)
    assert np.isfinite(found[:3]).all()
    assert np.isnan(found[3:]).all()


def test_independent_residuals_stay_within_the_band_and_others_do_not() -> None:
    inside = np.abs(autocorrelation(RNG.standard_normal(5000), 200)[1:]) < white_noise_band(5000)
    assert 0.9 < inside.mean() < 0.99
    assert np.abs(autocorrelation(autoregressive(500, 0.5), 1)[1]) > white_noise_band(500)


def test_ljung_box_finds_dependence_and_is_uniform_without() -> None:
    assert ljung_box(autocorrelation(autoregressive(500, 0.3), 10), 500) < 1e-6
    found = [ljung_box(autocorrelation(RNG.standard_normal(400), 10), 400) for _ in range(300)]
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.1
    assert np.isnan(ljung_box(np.array([1.0]), 100))


def test_draws_are_blocks_of_neighbours() -> None:
    for drawn in bootstrap.draws(50, 7, resamples=20):
        assert len(drawn) == 50
        assert 0 <= drawn.min() <= drawn.max() < 50
        assert (np.diff(drawn[:49]).reshape(-1, 1)[np.arange(48) % 7 != 6] == 1).all()


def test_every_draw_repeats_with_the_seed() -> None:
    one, two = (list(bootstrap.draws(20, 3, resamples=3, seed=4)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("count", "horizon", "block"), [(1000, 1, 10), (1000, 24, 48), (30, 24, 10), (2, 1, 1)])
def test_blocks_hold_the_overlap_of_forecasts_and_leave_several(count: int, horizon: int, block: int) -> None:
    assert bootstrap.block_length(count, horizon) == block


def test_blocks_cover_the_mean_of_dependent_data_better_than_single_draws() -> None:
    """90 % intervals of the mean of an autoregressive series, in 100 trials."""
    covered = {1: 0, 20: 0}
    for trial in range(100):
        values = autoregressive(400, 0.8)
        for block in covered:
            means = np.array([values[drawn].mean() for drawn in bootstrap.draws(400, block, 200, trial)])
            low, high = bootstrap.interval(means, 0.9)
            covered[block] += int(low <= 0 <= high)
    assert covered[1] < 60
    assert covered[20] > 72
