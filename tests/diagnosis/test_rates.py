"""The range of learning rates finds rates that are far too small or too large."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqrnn.diagnosis.instruments.rates import ADAPTIVE, RATES, Rates, RatesInstrument, rates_around
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import Training, Trials
from seqrnn.errors import DataError

SINE = ("task=sine", "model=elman", "model.hidden_size=8", "schedule=tbptt", "schedule.epochs=40")


@pytest.mark.parametrize("own", [1e-7, 1e-5, 0.003, 0.0098, 1.0, 30.0])
def test_rates_span_five_decades_and_hold_the_own_one(own: float) -> None:
    rates = rates_around(own, ADAPTIVE, RATES)
    assert own in rates
    assert rates == sorted(set(rates))
    assert min(rates) <= 1.6e-5
    assert max(rates) >= 0.6
    assert all(later / earlier > 1.49 for earlier, later in pairwise(rates))


def measured(run: Path, monkeypatch: pytest.MonkeyPatch, best: float) -> Rates:
    """Returns the result where the loss is least at a rate."""

    def finished_losses(self: Trials, asked: list[Training]) -> list[float]:
        return [1.0 + abs(math.log10(one.change["optimizer.lr"] / best)) * (1 + one.seed % 3 / 10) for one in asked]

    monkeypatch.setattr(Trials, "finished_losses", finished_losses)
    monkeypatch.setattr(Trials, "seconds_of", lambda *arguments: 0.01)
    return RatesInstrument().measure(TrainedRun(run))


@pytest.mark.parametrize(
    ("best", "name"),
    [(0.1, "small_steps"), (0.01, None), (0.0032, None), (0.0001, "large_steps")],
)
def test_a_rate_far_from_the_best_is_a_finding(
    best: float, name: str | None, diagnosed_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = diagnosed_run("task=sincos", "model=elman", "smoke=true", "optimizer.lr=0.005")
    result = measured(run, monkeypatch, best)
    assert result.best == pytest.approx(best, rel=0.6)
    found = list(RatesInstrument().symptoms(result))
    assert [finding.name for finding in found] == ([name] if name else [])
    if name:
        remedy = "larger learning rate" if name == "small_steps" else "smaller learning rate"
        assert found[0].remedies == [remedy]


def test_a_difference_that_does_not_matter_is_none() -> None:
    flat = Rates(
        rates=[1e-4, 1e-2], losses=[Interval(1, 1, 1)] * 2, resumed_losses=[1.0, 1.0], own=1e-4, best=1e-2,
        ratio=Interval(1.1, 1.0, 1.2), updates=50, seeds=3,
    )  # fmt: skip
    assert list(RatesInstrument().symptoms(flat)) == []
    unsure = flat.model_copy(update={"ratio": Interval(2.0, 0.9, 4.0)})  # is tried, and not shown unless that helps
    assert [finding.evidence for finding in RatesInstrument().symptoms(unsure)] == [[]]
    unknown = flat.model_copy(update={"ratio": Interval(math.nan, 0.0, 1.0)})
    assert list(RatesInstrument().symptoms(unknown)) == []


def test_an_optimizer_without_a_rate_is_left_alone(diagnosed_run: Callable[..., Path]) -> None:
    trained = TrainedRun(diagnosed_run("task=sincos", "model=elman", "smoke=true"))
    trained.values["optimizer"] = {"name": "ridge", "ridge": 1e-6, "washout": 0}
    with pytest.raises(DataError, match="no learning rate"):
        RatesInstrument().measure(trained)


@pytest.mark.long
@pytest.mark.parametrize(("rate", "name"), [(1e-6, "small_steps"), (3.0, "large_steps")])
def test_planted_rates_are_found(
    rate: float, name: str, diagnosed_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: Any = TrainedRun(diagnosed_run(*SINE, "optimizer=adam", f"optimizer.lr={rate}"))
    result = RatesInstrument().measure(trained)
    assert [finding.name for finding in RatesInstrument().symptoms(result)] == [name]
    assert 1e-3 <= result.best <= 0.3
    assert np.isfinite(result.resumed_losses).all()
