"""All instruments: what one of them cannot measure is reported, and the others are run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import StubTask, make_network, random_batch
from runs import by_hand
from test_page import run_directory, words

from seqrnn import registry
from seqrnn.diagnosis import page, report
from seqrnn.diagnosis.budget import Budget, TooSlow
from seqrnn.diagnosis.diagnosis import Diagnosis, Verdict, read_diagnosis
from seqrnn.diagnosis.examination import examine
from seqrnn.diagnosis.findings import findings_of
from seqrnn.diagnosis.instrument import instruments
from seqrnn.diagnosis.instruments.forgetting import ForgettingInstrument
from seqrnn.diagnosis.instruments.noise import NoiseInstrument
from seqrnn.diagnosis.instruments.reach import Reach
from seqrnn.diagnosis.instruments.states import StatesInstrument
from seqrnn.diagnosis.memory_limit import limited_memory
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.errors import DataError
from seqrnn.plots.facts import Facts
from seqrnn.plugins import load_components


def small_run() -> TrainedRun:
    run = by_hand(make_network("gru").cell, StubTask([[random_batch(60, 20)]]))
    run.summary |= {"timesteps": 1200, "position": 1, "planned_updates": 1}
    return run


@pytest.mark.long
def test_an_instrument_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(self: Any, run: Any) -> object:
        raise DataError("there is no target")

    def overflows(self: Any, run: Any) -> object:
        return torch.linalg.eigvalsh(torch.full((3, 3), torch.inf))

    def takes_too_much(self: Any, run: Any) -> object:
        return torch.zeros(2**45)

    monkeypatch.setattr(NoiseInstrument, "measure", refuses)
    monkeypatch.setattr(StatesInstrument, "measure", overflows)
    monkeypatch.setattr(ForgettingInstrument, "measure", takes_too_much)
    found = examine(small_run())
    assert isinstance(found.get(Reach), Reach)
    assert {"noise", "states", "forgetting"} <= set(found.missing)
    assert set(found.results) | set(found.missing) == set(instruments())
    assert "no target" in found.missing["noise"]
    assert "too large" in found.missing["states"]
    assert "memory" in found.missing["forgetting"]


def test_without_time_every_instrument_is_missing_for_that_reason() -> None:
    found = examine(small_run(), seconds=0.0)
    assert not found.results
    for name, reason in found.missing.items():
        assert "longer than the 0 s" in reason, name


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_passes_end_when_another_one_would_not_fit() -> None:
    clock = Clock()

    def passes(seconds: float) -> Iterator[int]:
        for number in range(100):
            clock.now += seconds
            yield number

    assert list(Budget(10.0, clock).limited(passes(3.0), least=2)) == [0, 1, 2]
    with pytest.raises(TooSlow, match="longer than the 10 s"):
        list(Budget(10.0, clock).limited(passes(6.0), least=2))


def test_fewer_passes_are_made_where_they_are_slow() -> None:
    budget = Budget(10.0, Clock())
    assert budget.affordable(64, 0.1, least=8) == 64
    assert budget.affordable(64, 1.0, least=8) == 10
    with pytest.raises(TooSlow):
        budget.affordable(64, 2.0, least=8)
    assert budget.affordable(4, 2.0, least=8) == 4  # no more are wanted


def test_slow_networks_are_measured_on_fewer_streams_then_on_fewer_timesteps(monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run()
    run.budget = Budget(20.0, Clock())  # of which a half may be planned
    monkeypatch.setattr(run, "step_seconds", lambda streams, **how: streams / 1000)
    assert run.affordable(100, 64, least=(8, 4)) == (100, 64)
    assert run.affordable(400, 64, least=(8, 4)) == (400, 16)
    assert run.affordable(4000, 64, least=(8, 4)) == (2500, 4)
    with pytest.raises(TooSlow):
        run.affordable(4000, 64, least=(4000, 4))


def test_an_array_that_does_not_fit_is_an_error_and_the_limit_ends_with_the_block(tmp_path: Path) -> None:
    def take_memory() -> None:
        with limited_memory(tmp_path / "run", 2**27):
            torch.zeros(2**28)

    with pytest.raises(DataError, match=r"run: a network or data.*needs more than the 0\.1 GiB"):
        take_memory()
    assert len(torch.zeros(2**28, dtype=torch.int8)) == 2**28


@pytest.mark.long
def test_an_instrument_from_outside_the_package_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sparsity_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    instruments()  # registers those of the package, of which two are enough beside it
    known = registry._components["instrument"]
    monkeypatch.setitem(registry._components, "instrument", {name: known[name] for name in ("reach", "baselines")})
    load_components(["sparsity_plugin"])
    found = examine(small_run())
    assert found.results["sparsity"].model_dump()["zeros"]["value"] < 0.5
    assert "sparse" in [finding.name for finding in findings_of(found)]
    verdict = Verdict(
        headline="", solved=False, loss_ratio=None, causes=[], notes=[], other_trials=[], advice=None, command=None,
        trials_note="",
    )  # fmt: skip
    diagnosis = Diagnosis(
        task="t", model="m", schedule={}, level=0.95, seconds=1.0, verdict=verdict, results=found.results,
        missing=dict(found.missing),
    )  # fmt: skip
    assert "### Sparsity" in report.to_markdown(diagnosis)
    directory = run_directory(tmp_path / "run", diagnosis.model_dump())
    read = read_diagnosis(directory)
    assert read.results["sparsity"] == found.results["sparsity"]
    assert "Are weights zero?" in words(page.draw(read, Facts({}, {}), {}))
    registry._components["instrument"].pop("sparsity")
    assert "sparsity" not in read_diagnosis(directory).results  # a reader without the plugin leaves it out


PLUGIN = """
from seqrnn.diagnosis.instrument import Evidence, Finding, Picture
from seqrnn.diagnosis.intervals import Interval, of_mean
from seqrnn.diagnosis.record import Record
from seqrnn.registry import register


class Sparsity(Record):
    zeros: Interval


@register("instrument", "sparsity")
class SparsityInstrument:
    description = "counting weights that are zero"
    order = 100
    result_type = Sparsity

    def measure(self, run):
        return Sparsity(zeros=of_mean([float((p == 0).double().mean()) for p in run.network.parameters()]))

    def symptoms(self, result):
        evidence = [Evidence(quantity="share of zeros", interval=result.zeros)]
        yield Finding(name="sparse", title="Sparse", description="Zeros.", evidence=evidence, remedies=[])

    def pictures(self):
        return [Picture("Are weights zero?", lambda panel, result, found: panel.write_heading(str(result.zeros)))]
"""
