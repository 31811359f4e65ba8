"""The ridge autoregression against least squares, leave-one-out cross-validation, and series with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from seqrnn.forecasting import autoregression
from seqrnn.forecasting.autoregression import Sequences, default_lags, fit

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same numbers, whichever ran before."""
    global RNG
    RNG = np.random.default_rng(0)


def sequences(inputs: np.ndarray, targets: np.ndarray, valid: np.ndarray | None = None) -> Sequences:
    starts = np.zeros(inputs.shape[:2], bool)
    starts[0] = True
    return Sequences(inputs, targets, np.ones(inputs.shape[:2], bool) if valid is None else valid, starts)


def autoregressive(timesteps: int, series: int = 1, noise: float = 1.0) -> Sequences:
    """y[t] = 0.6 y[t − 1] − 0.3 y[t − 2] + 5 + noise, one step ahead."""
    values = np.zeros((timesteps + 1, series, 1))
    for t in range(2, timesteps + 1):
        values[t] = 5 + 0.6 * values[t - 1] - 0.3 * values[t - 2] + noise * RNG.standard_normal((series, 1))
    return sequences(values[:-1], values[1:])


def test_the_coefficients_of_an_autoregressive_series_are_found() -> None:
    model = fit([autoregressive(20_000)], 4)
    assert model is not None
    np.testing.assert_allclose(model.coefficients[:, 0], [0.6, -0.3, 0, 0], atol=0.03)
    assert model.intercept[0] == pytest.approx(5, abs=0.3)
    assert model.rows == 20_000 - 3


def test_it_is_the_ridge_regression_of_the_lagged_inputs() -> None:
    inputs, targets = 100 + RNG.standard_normal((300, 1, 2)), RNG.standard_normal((300, 1, 3))
    targets[..., 0] += inputs[..., 1]
    model = fit([sequences(inputs, targets)], 3)
    assert model is not None
    x = np.stack([inputs[2:, 0], inputs[1:-1, 0], inputs[:-2, 0]], axis=1).reshape(298, 6)
    y = targets[2:, 0]
    centred = x - x.mean(axis=0)
    for output, strength in enumerate(model.strengths):
        slow = np.linalg.solve(centred.T @ centred + strength * np.eye(6), centred.T @ (y - y.mean(axis=0)))
        np.testing.assert_allclose(model.coefficients[:, output], slow[:, output], atol=1e-10)
    made = model(inputs, sequences(inputs, targets).starts)
    np.testing.assert_allclose(made[2:, 0], x @ model.coefficients + model.intercept, atol=1e-10)


def test_the_strength_has_the_least_generalised_cross_validation_error() -> None:
    inputs, targets = RNG.standard_normal((60, 1, 10)), RNG.standard_normal((60, 1, 1))
    targets += inputs.sum(axis=-1, keepdims=True) / 3
    model = fit([sequences(inputs, targets)], 1)
    assert model is not None
    x, y = inputs[:, 0] - inputs[:, 0].mean(axis=0), targets[:, 0] - targets[:, 0].mean()
    gram = x.T @ x
    strengths = autoregression.STRENGTHS * np.trace(gram) / 10
    errors = []
    for strength in strengths:
        hat = x @ np.linalg.inv(gram + strength * np.eye(10)) @ x.T
        errors.append((((y - hat @ y) ** 2).sum()) / (59 - np.trace(hat)) ** 2)
    assert model.strengths[0] == pytest.approx(strengths[np.argmin(errors)])
    assert 0 < np.argmin(errors) < len(strengths) - 1


def test_noise_is_predicted_by_its_mean() -> None:
    inputs, targets = RNG.standard_normal((400, 1, 3)), 7 + RNG.standard_normal((400, 1, 1))
    model = fit([sequences(inputs, targets)], 10)
    assert model is not None
    made = model(inputs, sequences(inputs, targets).starts)
    assert made.std() < 0.25
    assert made.mean() == pytest.approx(7, abs=0.2)


def test_cutting_the_data_into_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = autoregressive(500, series=3)
    whole = fit([data], 5)
    monkeypatch.setattr(autoregression, "MOST_BLOCK", 100)
    cut = fit([data], 5)
    assert whole is not None
    assert cut is not None
    np.testing.assert_allclose(cut.coefficients, whole.coefficients, rtol=1e-9)
    np.testing.assert_allclose(cut(data.inputs, data.starts), whole(data.inputs, data.starts), rtol=1e-9)


def test_lags_do_not_reach_into_the_sequence_before() -> None:
    data = autoregressive(200)
    joined = Sequences(*(np.concatenate([values, values]) for values in data))
    apart, together = fit([data, data], 4), fit([joined], 4)
    assert apart is not None
    assert together is not None
    np.testing.assert_allclose(together.coefficients, apart.coefficients, rtol=1e-9)
    assert together.rows == apart.rows == 2 * 197
    np.testing.assert_allclose(
        together(joined.inputs, joined.starts)[200:], apart(data.inputs, data.starts), rtol=1e-9
    )


def test_rows_that_are_invalid_or_missing_do_not_count() -> None:
    data = autoregressive(300)
    valid = data.valid.copy()
    valid[::3] = False
    spoilt = np.where(valid[..., None], data.targets, 1e9)
    model = fit([sequences(data.inputs, spoilt, valid)], 2)
    missing = fit([sequences(data.inputs, np.where(valid[..., None], data.targets, np.nan))], 2)
    assert model is not None
    assert missing is not None
    assert model.rows == missing.rows < 250
    np.testing.assert_allclose(model.coefficients, missing.coefficients)
    assert np.abs(model.coefficients).max() < 2


def test_too_little_data_has_no_model() -> None:
    assert fit([autoregressive(5)], 10) is None
    assert fit([], 1) is None


def test_constant_data_is_predicted_by_its_value() -> None:
    constant = np.full((50, 1, 1), 3.0)
    model = fit([sequences(constant, constant)], 4)
    assert model is not None
    np.testing.assert_allclose(model(constant, sequences(constant, constant).starts), constant)


@pytest.mark.parametrize(
    ("inputs", "rows", "lags"), [(1, 3000, 32), (1, 50, 10), (40, 43_000, 12), (600, 43_000, 1), (1, 2, 1)]
)
def test_the_lags_fit_the_data(inputs: int, rows: int, lags: int) -> None:
    assert default_lags(inputs, rows) == lags


def test_with_missing_targets_each_output_is_fitted_to_the_rows_of_its_own() -> None:
    inputs, targets = RNG.standard_normal((200, 1, 2)), RNG.standard_normal((200, 1, 3))
    missing = RNG.random(targets.shape) < 0.5
    missing[..., 2] = False
    holed = np.where(missing, np.nan, targets)
    model = fit([sequences(inputs, holed)], 3, missing_targets=True)
    assert model is not None
    for output in range(3):
        alone = fit([sequences(inputs, targets[..., [output]], ~missing[..., output])], 3)
        assert alone is not None
        np.testing.assert_allclose(model.coefficients[:, output], alone.coefficients[:, 0], rtol=1e-12)
    assert model.rows < 120
    whole = fit([sequences(inputs, targets)], 3, missing_targets=True)
    same = fit([sequences(inputs, targets)], 3)
    assert whole is not None
    assert same is not None
    np.testing.assert_allclose(whole.coefficients, same.coefficients, rtol=1e-9)
