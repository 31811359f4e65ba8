"""Findings: each only where the whole interval lies on the wrong side of its threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from seqrnn.diagnosis import findings
from seqrnn.diagnosis.examination import Examination
from seqrnn.diagnosis.findings import findings_of, is_solved
from seqrnn.diagnosis.forgetting import Forgetting
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.noise import Noise
from seqrnn.diagnosis.reach import Reach
from seqrnn.diagnosis.truncation import Truncation

NOBODY: Any = None  # findings need no subject


def at(value: float) -> Interval:
    return Interval(value, value, value)


ONE = at(1.0)
REACH = Reach([1.0] * 101, [1, 10, 100], [ONE] * 3, at(100.0), ONE, 5, ONE, None, None, 20, 20)
CUT = Truncation(100, [1, 5, 100], [ONE] * 3, [ONE] * 3, 5, ONE, ONE, 5, 16)
FORGETTING = Forgetting([50], [ONE], ONE, ONE, at(0.0), ONE, 1.0, ONE, ONE, 1000, 20, {})
NOISE = Noise(at(0.1), 10.0, 8, ONE, 32)


def examined(**changes: Any) -> Examination:
    healthy: dict[str, Any] = {
        "baselines": SimpleNamespace(ratio=at(0.3), best="constant", baselines=[]),
        "reach": REACH, "truncation": CUT, "forgetting": FORGETTING, "noise": NOISE,
        "states": SimpleNamespace(layers=[layer()]),
        "memory": None, "drift": SimpleNamespace(growth=ONE, timesteps=1000), "missing": {},
    }  # fmt: skip
    return Examination(**{**healthy, **changes})


def layer(saturated: Interval | None = None, dead: float = 0.0, duplicate: float = 0.0) -> Any:
    share = at(0.1) if saturated is None else saturated
    return SimpleNamespace(name="layer 1", units=10, saturated=share, dead=at(dead), duplicate=at(duplicate))


Make = Callable[[Interval], Examination]
# Name of the finding, its threshold, whether above it is wrong, and what is examined.
CASES: list[tuple[str, float, bool, Make]] = [
    ("nothing_learned", findings.NOTHING, True,
     lambda i: examined(baselines=SimpleNamespace(ratio=i, best="constant", baselines=[]))),
    ("window", findings.CUT, False, lambda i: examined(truncation=replace(CUT, cosine=i, faithful=50))),
    ("noise", findings.NOISY, True,
     lambda i: examined(noise=replace(NOISE, scale=i), forgetting=replace(FORGETTING, averaged=at(0.5), factor=0.0))),
    ("noise", findings.THROWN, False,
     lambda i: examined(noise=replace(NOISE, scale=at(9.0)), forgetting=replace(FORGETTING, averaged=i, factor=0.0))),
    ("large_steps", findings.THROWN, False, lambda i: examined(forgetting=replace(FORGETTING, averaged=i))),
    ("forgetting", findings.FORGETS, True, lambda i: examined(forgetting=replace(FORGETTING, gap=i))),
    ("underfit", findings.GOES_ON, False, lambda i: examined(forgetting=replace(FORGETTING, change=i))),
    ("vanishing", findings.VANISHED, False, lambda i: examined(reach=replace(REACH, at_window=i))),
    ("vanishing", findings.VANISHED, False,
     lambda i: examined(reach=replace(REACH, at_window=at(0.0), needed=3, at_needed=i))),
    ("vanishing", findings.VANISHED, False,
     lambda i: examined(reach=replace(REACH, window=None, at_window=None, at_lags=[ONE, ONE, i]))),
    ("exploding", findings.EXPLODED, True,
     lambda i: examined(reach=replace(REACH, window=None, at_window=None, at_lags=[ONE, i, ONE]))),
    ("saturated", findings.SATURATED, True, lambda i: examined(states=SimpleNamespace(layers=[layer(), layer(i)]))),
    ("memorised", findings.MEMORISED, True, lambda i: examined(forgetting=replace(FORGETTING, unseen_ratio=i))),
    ("drift", findings.DRIFTS, True, lambda i: examined(drift=SimpleNamespace(growth=i, timesteps=1000))),
]  # fmt: skip


def names(found: Examination) -> list[str]:
    return [finding.name for finding in findings_of(found, NOBODY)]


def test_what_is_healthy_has_no_findings() -> None:
    assert names(examined()) == []
    assert names(Examination(None, None, None, None, None, None, None, None, {})) == []


@pytest.mark.parametrize(("name", "threshold", "above", "make"), CASES, ids=lambda value: str(value)[:20])
def test_a_finding_needs_the_whole_interval(name: str, threshold: float, above: bool, make: Make) -> None:
    bad, worse, good = (threshold * factor for factor in ((1.1, 1.2, 0.9) if above else (0.9, 0.8, 1.1)))
    assert name in names(make(Interval(bad, min(bad, worse), max(bad, worse))))
    straddling = Interval(bad, min(good, worse), max(good, worse))
    assert name not in names(make(straddling))
    assert name not in names(make(at(good)))
    for unknown in (bad, math.nan):
        assert name not in names(make(Interval(unknown, -math.inf, math.inf)))
    assert name not in names(make(Interval(math.nan, math.nan, math.nan)))


@pytest.mark.parametrize(("name", "threshold", "above", "make"), CASES, ids=lambda value: str(value)[:20])
def test_a_finding_has_evidence_with_bounds(name: str, threshold: float, above: bool, make: Make) -> None:
    bad = threshold * (1.1 if above else 0.9)
    (finding,) = [one for one in findings_of(make(at(bad)), NOBODY) if one.name == name]
    assert finding.evidence
    first = finding.evidence[0].measured
    assert math.isfinite(first.low)
    assert math.isfinite(first.high)
    assert finding.says.endswith(".")
    assert "nan" not in finding.says


def test_a_window_is_only_too_short_if_a_longer_one_would_do_better() -> None:
    assert "window" not in names(examined(truncation=replace(CUT, cosine=at(0.1), faithful=5)))
    assert "window" not in names(examined(truncation=replace(CUT, cosine=at(0.1), faithful=50, schedule=None)))


def test_windows_that_begin_with_nothing_are_to_be_carried_into() -> None:
    """Whatever their length: those of the curve are carried into."""
    fresh = replace(CUT, cosine=at(0.1), faithful=5, carries=False)
    (finding,) = findings_of(examined(truncation=fresh), NOBODY)
    assert finding.remedies[0] == "carried state"
    assert "schedule.carry=false" in finding.says
    carried = next(iter(findings_of(examined(truncation=replace(fresh, carries=True, faithful=50)), NOBODY)))
    assert "carried state" not in carried.remedies
    assert names(examined(truncation=replace(fresh, cosine=ONE))) == []


def test_a_state_that_holds_nothing_does_not_hold_it_less_than_no_timesteps_back() -> None:
    def said(reach: float) -> str:
        memory: Any = SimpleNamespace(decoding=SimpleNamespace(of="targets", reach=at(reach)), needed=61)
        return findings_of(examined(memory=memory), NOBODY)[0].says

    assert said(-1.0).startswith("Not even the present targets can be told from its state; the task depends on 61")
    assert said(8.0).startswith(
        "The targets can be told from its state up to 8 timesteps back; the task depends on 61"
    )


def test_a_network_with_dead_or_duplicate_units_is_told() -> None:
    assert "unused" in names(examined(states=SimpleNamespace(layers=[layer(), layer(dead=0.5)])))
    assert "unused" in names(examined(states=SimpleNamespace(layers=[layer(duplicate=0.5)])))
    assert "unused" not in names(examined(states=SimpleNamespace(layers=[layer(dead=0.2, duplicate=0.2)])))


def test_steps_that_have_decayed_to_nothing_are_not_too_large() -> None:
    thrown = replace(FORGETTING, averaged=at(0.5))
    assert "large_steps" in names(examined(forgetting=thrown))
    assert "large_steps" not in names(examined(forgetting=replace(thrown, factor=0.01)))


def test_neighbours_that_are_alike_speak_for_streams() -> None:
    forgetting = replace(FORGETTING, averaged=at(0.5))
    alike = examined(noise=replace(NOISE, scale=at(9.0), worth=at(0.2)), forgetting=forgetting)
    different = examined(noise=replace(NOISE, scale=at(9.0), worth=at(1.0)), forgetting=forgetting)
    said = [
        next(one.says for one in findings_of(found, NOBODY) if one.name == "noise") for found in (alike, different)
    ]
    assert "add streams rather than accumulate" in said[0]
    assert "add streams" not in said[1]


@pytest.mark.parametrize(
    ("ratio", "solved"),
    [(at(0.019), True), (at(0.021), False), (Interval(0.01, 0.005, 0.03), False), (None, False),
     (Interval(0.001, -math.inf, math.inf), False), (Interval(math.nan, math.nan, math.nan), False)],
)  # fmt: skip
def test_a_clean_bill_needs_the_whole_interval(ratio: Interval | None, solved: bool) -> None:
    assert is_solved(examined(baselines=SimpleNamespace(ratio=ratio, best="constant", baselines=[]))) == solved


@pytest.mark.parametrize(("ratio", "solved"), [(at(1.01), True), (at(1.2), False), (Interval(1.1, 0.3, 2.0), False)])
def test_whoever_has_come_down_to_the_floor_is_as_good_as_can_be(ratio: Interval, solved: bool) -> None:
    floor = SimpleNamespace(name="floor (noise)", ratio=ratio)
    found = examined(baselines=SimpleNamespace(ratio=at(0.5), best="constant", baselines=[floor]))
    assert is_solved(found) == solved
