"""Naive forecasts. [t, n, h, k] is what is predicted at t for t + h + 1."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import values_ahead

from seqrnn.forecasting import naive
from seqrnn.forecasting.origins import last_known

NAN = np.nan


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float64).reshape(-1, 1, 1)


def test_the_last_known_value_stands_where_one_is_missing() -> None:
    found = last_known(column(NAN, 1, NAN, NAN, 2))[:, 0, 0]
    np.testing.assert_array_equal(found, [NAN, 1, 1, 1, 2])


def test_persistence_of_a_line_is_off_by_the_steps_of_the_horizon() -> None:
    line = np.arange(10.0).reshape(-1, 1, 1)
    error = np.moveaxis(values_ahead(line, 3), 1, 2) - naive.persistence(line, 3)
    np.testing.assert_array_equal(error[:7, 0, :, 0], np.tile([1, 2, 3], (7, 1)))


@pytest.mark.parametrize("period", [1, 4, 12])
@pytest.mark.parametrize("horizon", [1, 5, 30])
def test_repeating_the_season_of_a_seasonal_series_is_exact(period: int, horizon: int) -> None:
    series = np.random.default_rng(0).standard_normal((period, 2, 3))
    levels = np.tile(series, (100 // period, 1, 1))
    error = np.moveaxis(values_ahead(levels, horizon), 1, 2) - naive.seasonal_naive(levels, horizon, period)
    assert not np.nan_to_num(error[period:]).any()


def test_a_season_uses_nothing_from_after_the_origin() -> None:
    levels = np.random.default_rng(0).standard_normal((60, 1, 1))
    changed = levels.copy()
    changed[40:] += 100
    for horizon, period in ((1, 7), (10, 7), (20, 7)):
        before, after = (naive.seasonal_naive(values, horizon, period)[:40] for values in (levels, changed))
        np.testing.assert_array_equal(before, after)


def test_before_a_whole_season_is_known_persistence_stands() -> None:
    found = naive.seasonal_naive(column(3, 5, 9, 11), 2, 3)[:, 0, :, 0]
    np.testing.assert_array_equal(found, [[3, 3], [5, 3], [3, 5], [5, 9]])


def test_the_season_with_the_least_training_error_is_found() -> None:
    rng = np.random.default_rng(0)
    values = np.sin(2 * np.pi * np.arange(1000) / 24) + 0.1 * rng.standard_normal(1000)
    assert naive.best_period(values, [7, 24, 365]) == 24
    assert naive.best_period(values, [600]) is None
    assert naive.best_period(np.full(100, NAN), [7]) is None
