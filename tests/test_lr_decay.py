"""Compares the learning rate of each update with torch.optim.lr_scheduler, where that has the shape."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from seqrnn.lr_decay import LRDecay

RATE = 0.2


def sgd() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)


def make_decay(updates: int, shape: Any, **changes: Any) -> LRDecay:
    values = {"warmup": 0, "final": 0.1, "reduction": 0.5, "every": 7, "patience": 7, **changes}
    return LRDecay(updates, shape, **values)


def rates(updates: int, shape: str, **changes: Any) -> list[float]:
    """Returns the rate of every update."""
    decay = make_decay(updates, shape, **changes)
    return [RATE * decay.factor(update) for update in range(updates)]


def torch_rates(updates: int, scheduler: Any) -> list[float]:
    found = []
    for _ in range(updates):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_cosine_is_torchs_annealing_with_the_last_update_at_its_lowest_point() -> None:
    expected = torch_rates(50, lr_scheduler.CosineAnnealingLR(sgd(), 49, eta_min=0.1 * RATE))
    assert rates(50, "cosine") == pytest.approx(expected, rel=1e-12)


def test_step_is_torchs_step() -> None:
    expected = torch_rates(50, lr_scheduler.StepLR(sgd(), 7, gamma=0.5))
    assert rates(50, "step") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("updates", [40, 400, 4000])
def test_onecycle_is_torchs_one_cycle_up_to_the_rounding_of_its_peak_to_an_update(updates: int) -> None:
    scheduler = lr_scheduler.OneCycleLR(
        sgd(), RATE, updates, pct_start=0.3, cycle_momentum=False, div_factor=25, final_div_factor=1 / (25 * 0.1)
    )
    found, expected = rates(updates, "onecycle"), torch_rates(updates, scheduler)
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    assert found[-1] == pytest.approx(expected[-1], rel=1e-12)
    one_update = max(abs(a - b) for a, b in pairwise(expected))
    assert found == pytest.approx(expected, abs=one_update)


@hypothesis_settings(deadline=None)
@given(losses=st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0]), min_size=1, max_size=30), patience=st.integers(1, 4))
def test_plateau_reduces_when_torchs_does(losses: list[float], patience: int) -> None:
    theirs = sgd()
    decay = make_decay(1000, "plateau", patience=patience)
    scheduler = lr_scheduler.ReduceLROnPlateau(theirs, factor=0.5, patience=patience - 1, threshold=0, eps=0)
    for update, loss in enumerate(losses):
        decay.evaluated(loss)
        scheduler.step(loss)
        assert RATE * decay.factor(update) == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)


@pytest.mark.parametrize("shape", ["constant", "cosine", "onecycle", "step"])
@hypothesis_settings(deadline=None)
@given(warmup=st.integers(1, 20), updates=st.integers(1, 60))
def test_warmup_rises_in_equal_steps_to_the_full_rate_and_the_shape_is_laid_over_the_rest(
    shape: str, warmup: int, updates: int
) -> None:
    found = rates(updates, shape, warmup=warmup)
    rising = [RATE * (update + 1) / warmup for update in range(min(warmup, updates))]
    assert found[:warmup] == pytest.approx(rising, rel=1e-12)
    if updates > warmup:
        assert found[warmup:] == rates(updates - warmup, shape)


@pytest.mark.parametrize("shape", ["cosine", "onecycle"])
@hypothesis_settings(deadline=None)
@given(updates=st.integers(2, 200), warmup=st.integers(0, 20), final=st.floats(0, 1))
def test_the_last_update_has_exactly_the_final_rate(shape: str, updates: int, warmup: int, final: float) -> None:
    found = rates(warmup + updates, shape, warmup=warmup, final=final)
    assert found[-1] == pytest.approx(RATE * final, rel=1e-12, abs=1e-15)
    assert all(rate <= RATE * (1 + 1e-12) for rate in found)


def test_only_plateau_depends_on_evaluations() -> None:
    assert rates(20, "constant") == [RATE] * 20
    for shape in ("constant", "cosine", "onecycle", "step"):
        decay = make_decay(20, shape, every=1, patience=1)
        before = decay.factor(3)
        for loss in (1.0, 2.0, 3.0):
            decay.evaluated(loss)
        assert decay.factor(3) == before


@pytest.mark.parametrize("shape", ["constant", "cosine", "onecycle", "step", "plateau"])
@hypothesis_settings(deadline=None)
@given(first=st.integers(0, 40), count=st.integers(0, 20), warmup=st.integers(0, 20))
def test_the_factors_of_updates_in_a_row_are_those_of_each(shape: str, first: int, count: int, warmup: int) -> None:
    decay = make_decay(50, shape, warmup=warmup, every=1, patience=1)
    for loss in (1.0, 2.0):
        decay.evaluated(loss)
    factors = decay.factors(first, count)
    assert factors.dtype == np.float64
    assert factors.tolist() == [decay.factor(update) for update in range(first, first + count)]
