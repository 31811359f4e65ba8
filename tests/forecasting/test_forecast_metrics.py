"""Metrics of forecasts against known answers and the definitions, computed the slow way."""

from __future__ import annotations

import numpy as np
import pytest

from seqrnn.forecasting import metrics

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same numbers, whichever ran before."""
    global RNG
    RNG = np.random.default_rng(0)


def test_errors_of_a_forecast_that_can_be_checked_by_hand() -> None:
    actual, forecast = np.array([1.0, 2.0, np.nan, 4.0]), np.array([2.0, 2.0, 5.0, 1.0])
    assert metrics.mae(actual, forecast) == pytest.approx(4 / 3)
    assert metrics.rmse(actual, forecast) == pytest.approx(np.sqrt(10 / 3))
    assert metrics.smape(actual, forecast) == pytest.approx((200 / 3 + 0 + 120) / 3)
    assert metrics.mase(actual, forecast, 0.5) == pytest.approx(8 / 3)


def test_errors_by_step_of_the_horizon() -> None:
    actual = np.zeros((5, 2, 3, 1))
    forecast = np.broadcast_to(np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1), actual.shape)
    assert metrics.mae(actual, forecast, (0, 1)).ravel().tolist() == [1, 2, 3]
    assert metrics.rmse(actual, forecast, (0, 1)).ravel().tolist() == [1, 2, 3]


def test_a_score_of_nothing_is_not_a_number() -> None:
    assert np.isnan(metrics.mae([np.nan], [1.0]))
    assert np.isnan(metrics.mase([1.0], [2.0], 0.0))


def test_a_forecast_that_is_missing_is_no_good_forecast() -> None:
    for score in (metrics.mae, metrics.rmse, metrics.smape):
        assert np.isnan(score([1.0, 2.0], [1.0, np.nan]))
        assert score([1.0, np.nan], [1.0, np.nan]) == 0
    assert np.isnan(metrics.mase([1.0, 2.0], [1.0, np.nan], [1.0, 1.0]))
    assert metrics.mase([1.0, 2.0], [2.0, 9.0], [1.0, 0.0]) == 1


def test_zero_for_zero_is_no_percentage_error() -> None:
    assert metrics.smape([0.0, 1.0], [0.0, 0.0]) == 100


def test_the_scale_is_the_error_of_the_naive_forecast_in_training() -> None:
    training = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0], [7.0, np.nan]])
    assert metrics.naive_scale(training).tolist() == [pytest.approx(8 / 3), 0]
    assert metrics.naive_scale(training, 2).tolist() == [pytest.approx(2.5), 0]


def test_persistence_within_the_training_data_has_a_scaled_error_of_one() -> None:
    walk = np.cumsum(RNG.standard_normal(500))
    assert metrics.mase(walk[1:], walk[:-1], metrics.naive_scale(walk)) == pytest.approx(1)


def test_crps_is_its_definition_and_twice_the_mean_pinball_loss() -> None:
    actual, forecast = RNG.standard_normal((7, 2, 3)), RNG.standard_normal((7, 2, 3))
    residuals = RNG.standard_normal((40, 2, 3))
    residuals[::7, 1] = np.nan
    found = metrics.crps(actual, forecast, residuals)
    for place in np.ndindex(found.shape):
        drawn = residuals[:, place[1], place[2]]
        drawn = forecast[place] + drawn[~np.isnan(drawn)]
        spread = np.abs(drawn[:, None] - drawn).mean() / 2
        assert found[place] == pytest.approx(np.abs(drawn - actual[place]).mean() - spread)
    many = np.sort(RNG.standard_normal(2000)).reshape(-1, 1, 1)
    levels = (np.arange(2000) + 0.5) / 2000
    above = 0.3 - many.ravel()
    by_pinball = 2 * np.mean(np.maximum(levels * above, (levels - 1) * above))
    assert metrics.crps([[0.3]], [[0.0]], many).item() == pytest.approx(by_pinball, rel=1e-9)


def test_crps_of_a_forecast_without_residual_spread_is_the_absolute_error() -> None:
    assert metrics.crps([[3.0]], [[1.0]], np.zeros((5, 1, 1))).item() == 2
    assert np.isnan(metrics.crps([[3.0]], [[1.0]], np.full((5, 1, 1), np.nan))).all()
