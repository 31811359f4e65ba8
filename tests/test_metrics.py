"""Compares metrics and losses with values that were worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from seqrnn.losses import LOSSES, loss_of
from seqrnn.metrics import classification, regression


def column(*values: float, dtype: Any = np.float32) -> np.ndarray:
    return np.array(values, dtype)[:, None]


@pytest.mark.parametrize("loss", ["mse", "half_mse", "l1"])
def test_a_loss_of_known_targets_is_that_of_the_outputs_that_have_one(loss: str) -> None:
    nan = float("nan")
    outputs = torch.tensor([[1.0, 2.0, 5.0], [3.0, 1.0, 0.0]])
    targets = torch.tensor([[0.0, nan, 2.0], [nan, nan, 2.0]])
    found = loss_of(loss, missing_targets=True)(outputs, targets)
    expected = [LOSSES[loss](outputs[n, known], targets[n, known]) for n, known in enumerate(([0, 2], [2]))]
    assert found.tolist() == [float(one) for one in expected]
    outputs.requires_grad_()
    loss_of(loss, missing_targets=True)(outputs, targets).sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert outputs.grad[targets.isnan()].tolist() == [0.0, 0.0, 0.0]


def test_regression_metrics_have_their_known_values() -> None:
    found = regression(column(1, 2, 3), column(0, 4, 3))
    assert found == pytest.approx(
        {"mse": 5 / 3, "mae": 1.0, "rmse": math.sqrt(5 / 3), "max_error": 2.0, "r2": 1 - 5 / (26 / 3)}
    )


def test_r2_is_one_for_the_truth_and_zero_for_the_mean_of_each_output() -> None:
    targets = np.array([[1.0, 100.0], [2.0, 300.0], [6.0, 200.0]])
    assert regression(targets, targets)["r2"] == 1
    means = np.broadcast_to(targets.mean(axis=0), targets.shape)
    assert regression(means, targets)["r2"] == pytest.approx(0, abs=1e-12)


@hypothesis_settings(deadline=None)
@given(value=st.floats(-1e6, 1e6), count=st.integers(1, 50), dtype=st.sampled_from([np.float32, np.float64]))
@example(value=0.1, count=3, dtype=np.float64)
def test_r2_is_nan_where_the_targets_do_not_vary(value: float, count: int, dtype: Any) -> None:
    targets = np.full((count, 1), value, dtype)
    found = regression(targets + 1, targets)
    assert math.isnan(found["r2"])
    assert found["mae"] == pytest.approx(1, rel=0.1)


def test_metrics_of_float32_are_computed_in_float64() -> None:
    targets = np.repeat(column(16_777_216, 16_777_218), 50_000, axis=0)
    found = regression(targets + 2, targets)
    assert found["mse"] == 4
    assert found["r2"] == pytest.approx(1 - 4 / 1)


def test_accuracy_is_the_share_of_targets_with_the_largest_output() -> None:
    outputs = np.array([[0.1, 0.7, 0.2], [3.0, -1.0, 2.0], [0.0, 1.0, 2.0], [-5.0, -4.0, -6.0]])
    assert classification(outputs, np.array([1, 2, 2, 1])) == {"accuracy": 0.75}
    lost = np.where(np.arange(4)[:, None] == 0, np.nan, outputs)  # the class that it had predicted is none
    assert classification(lost, np.array([0, 2, 2, 1])) == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("mse", [2.5, 0.0]), ("half_mse", [1.25, 0.0]), ("l1", [1.5, 0.0])],
)
def test_regression_losses_are_one_number_per_target_averaged_over_its_outputs(loss: str, expected: Any) -> None:
    outputs = torch.tensor([[1.0, 2.0], [5.0, 6.0]], dtype=torch.float64)
    targets = torch.tensor([[2.0, 4.0], [5.0, 6.0]], dtype=torch.float64)
    assert LOSSES[loss](outputs, targets).tolist() == expected


def test_cross_entropy_is_in_nats_of_logits() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]], dtype=torch.float64)
    found = LOSSES["cross_entropy"](logits, torch.tensor([1, 0]))
    assert found.tolist() == pytest.approx([math.log(4 / 3), math.log(2)])
