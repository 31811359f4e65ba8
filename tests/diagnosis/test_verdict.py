"""The verdict's first sentence: no more than what its interval says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from seqrnn.diagnosis import verdict
from seqrnn.diagnosis.diagnosis import TriedRemedy
from seqrnn.diagnosis.instrument import Examination, Finding
from seqrnn.diagnosis.instruments.baselines import Baselines
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.trials import Trial
from seqrnn.diagnosis.verdict import _headline


@pytest.mark.parametrize(
    ("ratio", "causes", "says"),
    [
        (Interval(1.32, 0.893, 1.81), [], "It is not certain that it has learned anything: its loss is 1.32 [0.893"),
        (Interval(0.5, 0.4, 0.6), [], "It has learned a part: its loss is 0.500"),
        (Interval(1.01, 1.0, 1.02), ["nothing_learned"], "It has learned nothing: its loss is 1.01"),
        (Interval(0.937, 0.929, 0.945), ["nothing_learned"], "It has learned next to nothing: its loss is 0.937"),
    ],
)
def test_a_headline_is_as_sure_as_its_interval(ratio: Interval, causes: list[str], says: str) -> None:
    baselines = Baselines(
        sequences=9, all_sequences=9, independent="9 sequences", loss=ratio, metric=1.0, metric_name="mae",
        baselines=[], best="persistence", ratio=ratio,
    )  # fmt: skip
    found = Examination({"baselines": baselines}, {})
    named: Any = [SimpleNamespace(finding=SimpleNamespace(name=name)) for name in causes]
    assert _headline(found, False, named).startswith(says)


def trial(name: str, effect: float, cost: float = 1.0, **change: Any) -> Trial:
    interval = Interval(effect, 0.8 * effect, 1.2 * effect)
    return Trial(name, change, 1.0, 1.0, interval, 0.1, 3, cost)


def first_causes(findings: list[Finding], *trials: Trial) -> list[str]:
    run: Any = SimpleNamespace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdict, "_tried", lambda trial, run: tried(trial))
        causes = verdict._causes(findings, {trial.name: trial for trial in trials}, run)
    return [cause.finding.name for cause in causes]


def tried(trial: Trial) -> TriedRemedy:
    return TriedRemedy(
        remedy=trial.name, overrides=[], length=1.0, part=1.0, effect=trial.effect, loss=0.1, seeds=3, cost=1.0,
        helps=True,
    )  # fmt: skip


def measured(name: str, *remedies: str) -> Finding:
    return Finding(name=name, title=name, description=name, evidence=[], remedies=list(remedies))


RATE = {"optimizer.lr": 0.1}


def test_a_rate_that_is_far_too_small_comes_before_what_it_causes() -> None:
    """A longer window with the better rate helps no more than that rate alone."""
    causes = first_causes(
        [measured("vanishing", "gated cell"), measured("window", "longer window")],
        trial("larger learning rate", 0.02, **RATE), trial("longer window", 0.019, **RATE), trial("gated cell", 0.99),
    )  # fmt: skip
    assert causes == ["small_steps"]


def test_causes_are_ordered_by_what_undoing_them_brings() -> None:
    trials = trial("more units", 0.5), trial("longer window", 0.1), trial("decaying rate", 0.6)
    assert first_causes([], *trials) == ["window", "few_units", "large_steps"]


def test_what_takes_longer_ranks_lower() -> None:
    trials = trial("fewer streams", 0.25, cost=9.0), trial("no warm-up", 0.5)
    assert first_causes([], *trials) == ["warmup", "few_updates"]


def test_what_trials_do_not_confirm_is_no_cause_and_what_was_not_tried_is_one() -> None:
    found = [measured("noise", "more streams"), measured("exploding", "clipped gradients"), measured("unused")]
    assert first_causes(found, trial("more streams", 0.95)) == ["exploding"]
    assert first_causes(found) == ["noise", "exploding"]


def test_a_large_effect_that_is_not_certain_refutes_nothing() -> None:
    unsure = Trial("longer window", {}, 1.0, 1.0, Interval(0.46, 0.16, 1.3), 0.1, 3, 1.0)
    assert first_causes([measured("window", "longer window")], unsure) == ["window"]
