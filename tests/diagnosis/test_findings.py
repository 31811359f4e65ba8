"""Findings: each only where the whole interval lies on the wrong side of its threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from seqrnn.diagnosis import findings
from seqrnn.diagnosis.findings import findings_of, is_solved
from seqrnn.diagnosis.instrument import Examination, Finding
from seqrnn.diagnosis.instruments import baselines, drift, forgetting, reach, states
from seqrnn.diagnosis.instruments.baselines import Baseline, Baselines
from seqrnn.diagnosis.instruments.drift import Drift
from seqrnn.diagnosis.instruments.forgetting import Forgetting
from seqrnn.diagnosis.instruments.memory import Decoding, MemoryCapacity
from seqrnn.diagnosis.instruments.noise import Noise
from seqrnn.diagnosis.instruments.reach import Reach
from seqrnn.diagnosis.instruments.states import States, Units
from seqrnn.diagnosis.instruments.truncation import Truncation
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.record import Record

R = TypeVar("R", bound=Record)


def exact(value: float) -> Interval:
    return Interval(value, value, value)


ONE = exact(1.0)
BASELINES = Baselines(
    sequences=9, all_sequences=9, independent="9 sequences", loss=ONE, metric=1.0, metric_name="mae", baselines=[],
    best="constant", ratio=exact(0.3),
)  # fmt: skip
REACH = Reach(
    curve=[1.0] * 101, lags=[1, 10, 100], reach_at_lags=[ONE] * 3, half_life=exact(100.0), rate=ONE, window=5,
    reach_at_window=ONE, needed_lag=None, reach_at_needed_lag=None, segments=20, sequences=20,
)  # fmt: skip
CUT = Truncation(
    horizon=100, windows=[1, 5, 100], cosines=[ONE] * 3, ratios=[ONE] * 3, schedule_window=5, cosine=ONE, ratio=ONE,
    sufficient_window=5, excerpts=16,
)  # fmt: skip
FORGETTING = Forgetting(
    ages=[50], losses=[ONE], upcoming_loss=ONE, validation_loss=ONE, recency_gap=exact(0.0), validation_ratio=ONE,
    lr_factor=1.0, averaged_ratio=ONE, continued_ratio=ONE, continued_timesteps=1000, moments=20, update_ratios={},
)  # fmt: skip
NOISE = Noise(scale=exact(0.1), targets=10.0, consecutive=8, accumulation_efficiency=ONE, positions=32)
DRIFT = Drift(
    training_timesteps=50, timesteps=1000, streams=16, source="rollout", independent="16 streams", times=[],
    losses=[],
    first_loss=ONE, last_loss=ONE, growth=ONE,
)  # fmt: skip


def changed(result: R, **fields: Any) -> R:
    return result.model_copy(update=fields)


def examined(**changes: Any) -> Examination:
    """Returns the results of a network without a finding, and with some of them replaced."""
    healthy: dict[str, Any] = {
        "baselines": BASELINES, "reach": REACH, "truncation": CUT, "forgetting": FORGETTING, "noise": NOISE,
        "states": units(layer()), "drift": DRIFT,
    }  # fmt: skip
    return Examination({**healthy, **changes}, {})


def units(*layers: Units) -> States:
    return States(steps=9, independent="9 sequences", layers=list(layers), gates=[], state_size=9, jacobian=None)


def layer(saturated: Interval | None = None, dead: float = 0.0, duplicate: float = 0.0) -> Units:
    return Units(
        name="layer 1", units=10, saturated=exact(0.1) if saturated is None else saturated, always_saturated=None,
        dead=exact(dead), duplicate=exact(duplicate), effective_rank=ONE, participation_ratio=ONE,
    )  # fmt: skip


SLOW = changed(FORGETTING, lr_factor=0.0)
Make = Callable[[Interval], Examination]
# Name of the finding, its threshold, whether above it is wrong, and what is examined.
CASES: list[tuple[str, float, bool, Make]] = [
    ("nothing_learned", baselines.NOTHING, True,
     lambda i: examined(baselines=changed(BASELINES, ratio=i))),
    ("window", findings.BIASED, False, lambda i: examined(truncation=changed(CUT, cosine=i, sufficient_window=50))),
    ("noise", findings.NOISY, True,
     lambda i: examined(noise=changed(NOISE, scale=i), forgetting=changed(SLOW, averaged_ratio=exact(0.5)))),
    ("noise", forgetting.NOT_IMPROVED, False,
     lambda i: examined(noise=changed(NOISE, scale=exact(9.0)), forgetting=changed(SLOW, averaged_ratio=i))),
    ("large_steps", forgetting.NOT_IMPROVED, False,
     lambda i: examined(forgetting=changed(FORGETTING, averaged_ratio=i))),
    ("forgetting", forgetting.FORGETS, True, lambda i: examined(forgetting=changed(FORGETTING, recency_gap=i))),
    ("underfit", forgetting.STILL_LEARNING, False,
     lambda i: examined(forgetting=changed(FORGETTING, continued_ratio=i))),
    ("vanishing", reach.VANISHED, False, lambda i: examined(reach=changed(REACH, reach_at_window=i))),
    ("vanishing", reach.VANISHED, False,
     lambda i: examined(reach=changed(REACH, reach_at_window=exact(0.0), needed_lag=3, reach_at_needed_lag=i))),
    ("vanishing", reach.VANISHED, False,
     lambda i: examined(reach=changed(REACH, window=None, reach_at_window=None, reach_at_lags=[ONE, ONE, i]))),
    ("exploding", reach.EXPLODED, True,
     lambda i: examined(reach=changed(REACH, window=None, reach_at_window=None, reach_at_lags=[ONE, i, ONE]))),
    ("saturated", states.SATURATED, True, lambda i: examined(states=units(layer(), layer(i)))),
    ("memorised", forgetting.MEMORISED, True, lambda i: examined(forgetting=changed(FORGETTING, validation_ratio=i))),
    ("drift", drift.DRIFTS, True, lambda i: examined(drift=changed(DRIFT, growth=i))),
]  # fmt: skip


def names(found: Examination) -> list[str]:
    return [finding.name for finding in findings_of(found)]


def test_what_is_healthy_has_no_findings() -> None:
    assert names(examined()) == []
    assert names(Examination({}, {})) == []


@pytest.mark.parametrize(("name", "threshold", "above", "make"), CASES, ids=lambda value: str(value)[:20])
def test_a_finding_needs_the_whole_interval(name: str, threshold: float, above: bool, make: Make) -> None:
    bad, worse, good = (threshold * factor for factor in ((1.1, 1.2, 0.9) if above else (0.9, 0.8, 1.1)))
    assert name in names(make(Interval(bad, min(bad, worse), max(bad, worse))))
    straddling = Interval(bad, min(good, worse), max(good, worse))
    assert name not in names(make(straddling))
    assert name not in names(make(exact(good)))
    for unknown in (bad, math.nan):
        assert name not in names(make(Interval(unknown, -math.inf, math.inf)))
    assert name not in names(make(Interval(math.nan, math.nan, math.nan)))


@pytest.mark.parametrize(("name", "threshold", "above", "make"), CASES, ids=lambda value: str(value)[:20])
def test_a_finding_has_evidence_with_bounds(name: str, threshold: float, above: bool, make: Make) -> None:
    bad = threshold * (1.1 if above else 0.9)
    (finding,) = [one for one in findings_of(make(exact(bad))) if one.name == name]
    assert finding.evidence
    first = finding.evidence[0].interval
    assert math.isfinite(first.low)
    assert math.isfinite(first.high)
    assert finding.description.endswith(".")
    assert "nan" not in finding.description


def test_a_window_is_only_too_short_if_a_longer_one_would_do_better() -> None:
    assert "window" not in names(examined(truncation=changed(CUT, cosine=exact(0.1), sufficient_window=5)))
    assert "window" not in names(
        examined(truncation=changed(CUT, cosine=exact(0.1), sufficient_window=50, schedule_window=None))
    )


def test_windows_that_begin_with_nothing_are_to_be_carried_into() -> None:
    """Whatever their length: those of the curve are carried into."""
    fresh = changed(CUT, cosine=exact(0.1), sufficient_window=5, carry=False)
    (finding,) = findings_of(examined(truncation=fresh))
    assert finding.remedies[0] == "carried state"
    assert "schedule.carry=false" in finding.description
    carried = next(iter(findings_of(examined(truncation=changed(fresh, carry=True, sufficient_window=50)))))
    assert "carried state" not in carried.remedies
    assert names(examined(truncation=changed(fresh, cosine=ONE))) == []


def test_a_state_from_which_nothing_can_be_decoded_is_described_in_words() -> None:
    def found(reach: float) -> Finding:
        decoding = Decoding(
            quantity="targets", measure="r2", independent="9 sequences", lags=[0], scores=[exact(0.2)],
            autocorrelation=None, threshold=0.5, reach=exact(reach),
        )  # fmt: skip
        memory = MemoryCapacity(capacity=None, decoding=decoding, needed_timesteps=61)
        return findings_of(examined(memory=memory))[0]

    nothing, some = found(-1.0), found(8.0)
    assert nothing.description == (
        "Not even the present targets can be decoded from its state; the task depends on 61."
    )
    assert some.description == (
        "The targets can be decoded from its state up to 8 timesteps back; the task depends on 61."
    )
    # The verdict leaves out findings without evidence: they are mere settings.
    assert [(one.quantity, one.interval.value) for one in (*nothing.evidence, *some.evidence)] == [
        ("r2 of the present targets", 0.2), ("timesteps back that targets can be decoded", 8.0),
    ]  # fmt: skip


def test_a_network_with_dead_or_duplicate_units_is_reported() -> None:
    assert "unused" in names(examined(states=units(layer(), layer(dead=0.5))))
    assert "unused" in names(examined(states=units(layer(duplicate=0.5))))
    assert "unused" not in names(examined(states=units(layer(dead=0.2, duplicate=0.2))))


def test_steps_that_have_decayed_to_nothing_are_not_too_large() -> None:
    thrown = changed(FORGETTING, averaged_ratio=exact(0.5))
    assert "large_steps" in names(examined(forgetting=thrown))
    assert "large_steps" not in names(examined(forgetting=changed(thrown, lr_factor=0.01)))


def test_neighbours_that_are_alike_speak_for_streams() -> None:
    averaged = changed(FORGETTING, averaged_ratio=exact(0.5))
    alike = examined(noise=changed(NOISE, scale=exact(9.0), accumulation_efficiency=exact(0.2)), forgetting=averaged)
    different = examined(
        noise=changed(NOISE, scale=exact(9.0), accumulation_efficiency=exact(1.0)), forgetting=averaged
    )
    printed = [
        next(one.description for one in findings_of(found) if one.name == "noise") for found in (alike, different)
    ]
    assert "add streams rather than accumulate" in printed[0]
    assert "add streams" not in printed[1]


@pytest.mark.parametrize(
    ("ratio", "solved"),
    [(exact(0.019), True), (exact(0.021), False), (Interval(0.01, 0.005, 0.03), False), (None, False),
     (Interval(0.001, -math.inf, math.inf), False), (Interval(math.nan, math.nan, math.nan), False)],
)  # fmt: skip
def test_a_clean_bill_needs_the_whole_interval(ratio: Interval | None, solved: bool) -> None:
    assert is_solved(examined(baselines=changed(BASELINES, ratio=ratio))) == solved


@pytest.mark.parametrize(
    ("ratio", "solved"), [(exact(1.01), True), (exact(1.2), False), (Interval(1.1, 0.3, 2.0), False)]
)
def test_whoever_has_come_down_to_the_floor_is_as_good_as_can_be(ratio: Interval, solved: bool) -> None:
    floor = Baseline(name="floor (noise)", loss=ONE, metric=1.0, ratio=ratio)
    found = examined(baselines=changed(BASELINES, ratio=exact(0.5), baselines=[floor]))
    assert is_solved(found) == solved


def test_what_was_learned_by_heart_is_not_called_nothing() -> None:
    nothing = changed(BASELINES, ratio=exact(1.3))
    heart = changed(FORGETTING, validation_ratio=exact(4.0))
    assert "nothing_learned" in names(examined(baselines=nothing))
    found = examined(baselines=nothing, forgetting=heart)
    assert "nothing_learned" not in names(found)
    assert "memorised" in names(found)
    assert findings.has_learned_by_heart(found)
    assert not findings.has_learned_by_heart(examined(forgetting=heart))


def test_a_classifier_that_is_right_more_often_has_learned_something() -> None:
    wrong_loss = changed(BASELINES, ratio=exact(1.4))
    better = changed(wrong_loss, metric_gain=exact(0.14))
    assert "nothing_learned" in names(examined(baselines=wrong_loss))
    assert "nothing_learned" in names(examined(baselines=changed(wrong_loss, metric_gain=Interval(0.1, -0.1, 0.2))))
    assert "nothing_learned" not in names(examined(baselines=better))


def test_a_floor_that_holds_without_a_state_alone_is_a_cause() -> None:
    floor = Baseline(name="floor (fresh starts)", loss=ONE, metric=1.0, ratio=exact(1.001), is_conditional=True)
    found = examined(baselines=changed(BASELINES, baselines=[floor]))
    assert not is_solved(found)
    (finding,) = [one for one in findings_of(found) if one.name == "carry"]
    assert finding.remedies == ["carried state"]
    far = floor.model_copy(update={"ratio": exact(2.0)})
    assert "carry" not in names(examined(baselines=changed(BASELINES, baselines=[far])))
