"""The verdict's first sentence: no more than what its interval says."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from seqrnn.diagnosis import report, verdict
from seqrnn.diagnosis.diagnosis import Cause, Diagnosis, TriedRemedy
from seqrnn.diagnosis.findings import findings_of
from seqrnn.diagnosis.instrument import Evidence, Examination, Finding
from seqrnn.diagnosis.instruments.baselines import Baseline, Baselines, what_is_learned
from seqrnn.diagnosis.instruments.losses import Losses
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.remedies import Remedy
from seqrnn.diagnosis.run_findings import RISEN
from seqrnn.diagnosis.search import WORTH, Search
from seqrnn.diagnosis.trials import Trial
from seqrnn.diagnosis.verdict import _headline


def measured(name: str, *remedies: str) -> Finding:
    return Finding(name=name, title=name, description=name, evidence=[], remedies=list(remedies))


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
    assert _headline(found, False, named, SimpleNamespace(), was_tried=True).startswith(says)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ratio", "knows"),
    [
        (Interval(1.06, 0.96, 1.2), "about as much as a trivial predictor knows, or less"),
        (Interval(1.2, 1.1, 1.3), "less than a trivial predictor knows"),
        (Interval(0.95, 0.92, 0.98), "hardly more than a trivial predictor knows"),
    ],
)
def test_what_is_like_the_best_trivial_predictor_is_not_said_to_be_worse(ratio: Interval, knows: str) -> None:
    assert what_is_learned(ratio, beats_a_constant=True) == knows


@pytest.mark.parametrize(
    ("finding", "was_tried", "says"),
    [
        (measured("vanishing", "gated cell"), True, "What holds it back, the largest cause first:"),
        (measured("vanishing", "gated cell"), False, "What holds it back is not known, as no remedy was tried; "
                                                     "measurements suggest:"),
        (measured("little_data").model_copy(update={"effect": Interval(0.6, 0.5, 0.7)}), False,
         "What holds it back, the largest cause first:"),
        (None, True, "No cause was found with confidence."),
        (None, False, "What holds it back is not known: no remedy was tried, and measurements suggest none."),
    ],
)  # fmt: skip
def test_without_trials_nothing_is_said_to_hold_it_back(finding: Finding | None, was_tried: bool, says: str) -> None:
    causes = [Cause(finding=finding, tried=[])] if finding else []
    run: Any = SimpleNamespace(summary={})
    assert _headline(Examination({}, {}), False, causes, run, was_tried=was_tried) == says


@pytest.mark.parametrize(
    ("by_constant", "is_constant", "knows"),
    [(0.656, True, "less than a trivial predictor knows"), (0.95, True, "nothing"), (0.656, False, "nothing")],
)
def test_what_is_better_than_a_constant_has_learned_something(
    by_constant: float, is_constant: bool, knows: str
) -> None:
    others = {"linear": (4.23, False), "mean": (by_constant, is_constant)}
    ratios = {name: Interval(ratio, 0.99 * ratio, 1.01 * ratio) for name, (ratio, _) in others.items()}
    baselines = Baselines(
        sequences=9, all_sequences=9, independent="9 sequences", loss=ratios["mean"], metric=1.0, metric_name="mae",
        baselines=[
            Baseline(name=name, loss=ratios[name], metric=1.0, ratio=ratios[name], is_constant=constant)
            for name, (_, constant) in others.items()
        ],
        best="linear", ratio=ratios["linear"],
    )  # fmt: skip
    found = Examination({"baselines": baselines}, {})
    headline = _headline(found, False, [], SimpleNamespace(), was_tried=True)  # type: ignore[arg-type]
    assert headline.startswith(f"It has learned {knows}: its loss is 4.23 [4.19, 4.27] of that of linear")
    assert [one.title for one in findings_of(found)] == [f"It has learned {knows}"]


def test_without_time_to_compare_the_headline_has_the_scores_of_the_summary() -> None:
    run: Any = SimpleNamespace(summary={
        "test": {"loss": 0.5},
        "baselines": {"mean": {"loss": 4.0}, "persistence": {"loss": 2.0}, "floor": {"loss": 0.1}},
    })  # fmt: skip
    assert _headline(Examination({}, {}), False, [], run, was_tried=True) == (
        "At its end, its test loss was 0.250 of that of persistence, the best trivial predictor. "
        "No cause was found with confidence."
    )
    unknown: list[Any] = [{}, {"baselines": {"mean": {"loss": 2.0}}}, {"test": {"loss": 1.0}}]
    for summary in unknown:
        run.summary = summary
        assert _headline(Examination({}, {}), False, [], run, was_tried=True) == "No cause was found with confidence."


def trial(name: str, effect: float, cost: float = 1.0, **change: Any) -> Trial:
    interval = Interval(effect, 0.8 * effect, 1.2 * effect)
    return Trial(name, change, 1.0, 1.0, interval, 0.1, 3, cost)


def first_causes(findings: list[Finding], *trials: Trial, of_run: list[Finding] | None = None) -> list[str]:
    run: Any = SimpleNamespace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdict, "_tried", lambda trial, run: tried(trial))
        merged = verdict._merged([*(of_run or []), *findings])
        causes = verdict._causes(merged, {trial.name: trial for trial in trials}, run, of_run or [])
    return [cause.finding.name for cause in causes]


def tried(trial: Trial) -> TriedRemedy:
    return TriedRemedy(
        remedy=trial.name, overrides=[], length=1.0, part=1.0, effect=trial.effect, loss=0.1, seeds=3, cost=1.0,
        helps=True,
    )  # fmt: skip


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


def test_what_stands_out_in_the_config_comes_before_what_helps_against_almost_everything() -> None:
    tight = measured("clipping", "looser clipping")
    both = trial("looser clipping", 0.1), trial("larger learning rate", 0.05, **RATE)
    assert first_causes([], *both, of_run=[tight]) == ["clipping", "small_steps"]
    assert first_causes([], *both) == ["small_steps", "clipping"]


def test_what_stands_out_is_not_the_first_cause_where_another_remedy_brings_much_more() -> None:
    small = measured("few_units", "more units")
    trials = trial("more units", 0.6), trial("larger learning rate", 0.01, **RATE)
    assert first_causes([], *trials, of_run=[small]) == ["small_steps", "few_units"]


def in_data(name: str, effect: float, *remedies: str) -> Finding:
    return measured(name, *remedies).model_copy(update={"effect": Interval(effect, 0.9 * effect, 1.1 * effect)})


def test_a_fault_of_the_data_is_a_cause_without_a_remedy() -> None:
    trials = trial("more units", 0.5), trial("longer window", 0.05)
    assert first_causes([in_data("input_scale", 0.3)], *trials) == ["window", "input_scale", "few_units"]
    assert first_causes([in_data("x", 0.3, "weight decay")], trial("weight decay", 0.99)) == ["x"]


def test_a_fault_of_the_data_whose_size_is_not_known_comes_last() -> None:
    unknown = in_data("label_noise", math.nan)
    assert first_causes([unknown], trial("more units", 0.7)) == ["few_units", "label_noise"]
    assert first_causes([unknown]) == ["label_noise"]


def test_a_setting_that_does_no_harm_is_no_cause() -> None:
    start = measured("initial_scale", "usual start", "orthogonal start")
    assert first_causes([], trial("usual start", 0.9), of_run=[start]) == []
    assert first_causes([], of_run=[start]) == []  # not tried


def test_what_stands_out_need_not_do_as_much_harm_to_be_a_cause() -> None:
    start, small = measured("initial_scale", "usual start"), Interval(0.85, 0.8, 0.9)
    certain = Trial("usual start", {}, 1.0, 1.0, small, 0.1, 3, 1.0)
    assert first_causes([], certain, of_run=[start]) == ["initial_scale"]
    assert first_causes([], certain) == []


def test_undoing_what_stands_out_may_take_longer() -> None:
    streams = measured("few_updates", "fewer streams")
    trials = trial("fewer streams", 0.1, cost=20.0), trial("larger learning rate", 0.1, **RATE)
    assert first_causes([], *trials, of_run=[streams])[0] == "few_updates"


def test_what_explains_the_failure_at_no_cost_comes_before_what_takes_longer() -> None:
    streams, start = measured("noise", "more streams"), measured("initial_scale", "usual start")
    trials = trial("more streams", 0.001, cost=8.0), trial("usual start", 0.2)
    assert first_causes([], *trials, of_run=[streams, start]) == ["initial_scale", "noise"]
    cheap = trial("more streams", 0.001)
    assert first_causes([], cheap, trials[1], of_run=[streams, start]) == ["noise", "initial_scale"]
    little = trial("usual start", 0.5)
    assert first_causes([], trials[0], little, of_run=[streams, start]) == ["noise", "initial_scale"]


def test_a_gap_to_the_training_loss_is_a_cause_where_a_remedy_helps_a_little() -> None:
    gap = measured("memorised", "best weights", "shorter training")
    assert first_causes([gap], trial("best weights", 0.8)) == ["memorised"]
    assert first_causes([gap], trial("best weights", 1.1)) == []
    assert first_causes([gap], trial("best weights", 0.8), trial("more units", 0.5)) == ["few_units", "memorised"]


def test_curves_that_show_learning_by_heart_need_no_large_effect() -> None:
    """Errors in the validation data hide most of what stopping early brings."""
    shown = Evidence(quantity=RISEN, interval=Interval(1.2, 1.2, 1.2))
    by_heart = measured("memorised", "best weights", "shorter training").model_copy(update={"evidence": [shown]})
    assert first_causes([], trial("best weights", 0.85), of_run=[by_heart]) == ["memorised"]
    assert first_causes([], of_run=[by_heart]) == ["memorised"]
    unsure = Trial("best weights", {}, 1.0, 1.0, Interval(0.85, 0.5, 1.4), 0.1, 3, 1.0)
    assert first_causes([], unsure, trial("more units", 0.72), of_run=[by_heart])[0] == "memorised"


def test_findings_of_one_name_are_merged_with_all_their_remedies() -> None:
    (merged,) = verdict._merged([measured("window", "longer window"), measured("window", "exact gradients")])
    assert list(merged.remedies) == ["longer window", "exact gradients"]
    assert merged.description == "window"


def test_what_helps_no_more_than_the_time_that_it_takes_is_no_cause() -> None:
    """Fewer streams in three times the time bring what a longer training brings."""
    trials = trial("fewer streams", 0.3, cost=3.0), trial("longer training", 0.2, cost=4.0)
    assert first_causes([], *trials) == ["underfit"]
    assert first_causes([], trials[0]) == ["few_updates"]
    assert first_causes([], trial("fewer streams", 0.05, cost=3.0), trials[1])[0] == "few_updates"


@pytest.mark.parametrize(
    ("by_run", "refuted", "suspects", "by_heart"),
    [
        (False, [], {"more units", "best weights", "weight decay"}, True),
        (False, ["best weights", "weight decay"], {"more units"}, False),
        (False, ["best weights"], {"more units", "weight decay"}, True),
        (True, ["best weights", "weight decay"], {"more units", "best weights", "weight decay"}, True),
    ],
)
def test_what_earlier_trials_refuted_is_no_suspect_unless_the_run_itself_shows_it(
    by_run: bool, refuted: list[str], suspects: set[str], by_heart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    heart = measured("memorised", "best weights", "weight decay")
    monkeypatch.setattr(verdict, "findings_of_run", lambda run: [heart] * by_run)
    monkeypatch.setattr(verdict, "findings_of", lambda found: [measured("few_units", "more units"), heart])
    monkeypatch.setattr(verdict, "remedies_for", lambda names, *_: [Remedy(n, [{}]) for n in dict.fromkeys(names)])
    monkeypatch.setattr(verdict, "Trials", lambda *_, **more: None)
    monkeypatch.setattr(Search, "search", lambda self, *given: asked.append(given))
    monkeypatch.setattr(verdict, "_tried", lambda trial, run: tried(trial))
    run: Any = SimpleNamespace(summary={})
    verdict.judge(Examination(), run, 10.0, refuted=refuted)
    ((remedies, found, memorised),) = asked
    assert (set(found), memorised) == (suspects, by_heart)
    assert {"best weights", "weight decay"} <= {remedy.name for remedy in remedies}  # tried with the others


def test_where_the_loss_is_low_a_rate_that_trainings_contradict_is_tried_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    found = [measured("large_steps", "smaller learning rate"), measured("window", "longer window")]
    monkeypatch.setattr(verdict, "is_solved", lambda found: True)
    monkeypatch.setattr(verdict, "findings_of_run", lambda run: [])
    monkeypatch.setattr(verdict, "findings_of", lambda _: found)
    monkeypatch.setattr(verdict, "remedies_for", lambda names, *_: [Remedy(n, [{}]) for n in dict.fromkeys(names)])
    monkeypatch.setattr(verdict, "Trials", lambda *_, **more: None)
    monkeypatch.setattr(Search, "search", lambda self, *given: asked.append(given))
    run: Any = SimpleNamespace(summary={})
    made, _ = verdict.judge(Examination(), run, 10.0)
    (((remedy,), _, _),) = asked
    assert remedy.name == "smaller learning rate"
    assert made.solved


@pytest.mark.parametrize("is_measured", [True, False])
def test_a_rate_that_is_too_large_is_tried_before_the_clipping_that_it_makes_tight(
    is_measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the time ends early, what is tried last is not tried; and where there was no time to try rates, one that
    is too large is not excluded."""
    asked: list[Any] = []
    rate = measured("large_steps", "smaller learning rate")
    found = [measured("window", "longer window"), *[rate] * is_measured]
    monkeypatch.setattr(verdict, "findings_of_run", lambda run: [measured("clipping", "looser clipping")])
    monkeypatch.setattr(verdict, "findings_of", lambda _: found)
    monkeypatch.setattr(verdict, "remedies_for", lambda names, *_: [Remedy(n, [{}]) for n in dict.fromkeys(names)])
    monkeypatch.setattr(verdict, "Trials", lambda *_, **more: None)
    monkeypatch.setattr(Search, "search", lambda self, *given: asked.append(given))
    run: Any = SimpleNamespace(summary={})
    monkeypatch.setattr(verdict, "_tried", lambda trial, run: tried(trial))
    verdict.judge(Examination(), run, 10.0)
    ((remedies, suspects, _),) = asked
    first = ["smaller learning rate", "looser clipping", "longer window"]
    assert list(dict.fromkeys(suspects)) == first
    assert [remedy.name for remedy in remedies[:3]] == first


def test_a_suspect_that_was_tried_at_a_part_of_the_length_is_named() -> None:
    results = {"usual start": trial("usual start", 0.9), "more units": trial("more units", 0.9)}
    search: Any = SimpleNamespace(results=results, suspects={"usual start"}, untried={})
    assert "of the length alone" not in verdict._note(search, False, 9.0, True)
    search.results = {name: replace(one, part=0.25) for name, one in results.items()}
    assert "what stands out, usual start was tried at a part of the length alone" in verdict._note(
        search, False, 9.0, True
    )


@pytest.mark.parametrize(
    ("results", "faded", "says"),
    [
        ([], {}, ""),
        ([trial("longer training", 0.95)], {}, "Nothing that was tried brought the loss below 0.9 of what it was."),
        ([replace(trial("longer training", 0.93), effect=Interval(0.93, 0.91, 0.95))], {},
         "longer training helps, but leaves more than 0.9 of the loss, which is too little to be recommended."),
        ([replace(trial("longer training", 0.5), seeds=1)], {},
         "longer training lowered the loss in one trial, and was not repeated on other seeds."),
        ([trial("longer training", 0.95)], {"longer training": 0.5},
         "longer training helped at a smaller part of the length, and does not at 1/2 of the length."),
    ],
)  # fmt: skip
def test_a_diagnosis_without_a_line_says_why(results: list[Trial], faded: dict[str, float], says: str) -> None:
    search: Any = SimpleNamespace(results={one.name: one for one in results}, faded=faded, worth=WORTH)
    assert verdict._why_no_advice(search) == says


def test_another_loss_is_followed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Losses(loss="mse", share=Interval(0.8, 0.7, 0.9), effect=Interval(0.6, 0.5, 0.7), part=1.0, seeds=3)
    outliers = measured("loss").model_copy(update={"effect": losses.effect})
    monkeypatch.setattr(verdict, "findings_of_run", lambda run: [])
    monkeypatch.setattr(verdict, "findings_of", lambda found: [outliers])
    monkeypatch.setattr(verdict, "_tried", lambda trial, run: tried(trial))
    monkeypatch.setattr(verdict, "lengthened", lambda change, length, run: change)
    monkeypatch.setattr(verdict, "command", lambda change, run: f"{dict(change)}")
    monkeypatch.setattr(verdict, "Trials", lambda *_, **more: None)
    run: Any = SimpleNamespace(summary={})
    found, followed = verdict.judge(Examination({"losses": losses}, {}), run, 0.0)
    assert found.command == "{'task.loss': 'l1'}"
    assert [one.change for one in followed] == [{"task.loss": "l1"}]


def test_a_cause_of_which_no_remedy_was_tried_is_named_as_not_confirmed() -> None:
    untried = Cause(finding=measured("vanishing", "gated cell"), tried=[])
    made = verdict.Verdict(
        headline="It has learned a part.", solved=False, loss_ratio=None, causes=[untried], notes=[],
        other_trials=[tried(trial("longer training", 0.5))], advice=None, command=None, trials_note="Trials.",
        no_advice="longer training was not repeated.",
    )  # fmt: skip
    assert "1. **vanishing.** vanishing\n    - not confirmed: no remedy for it was tried" in report.summary(made)
    nothing = made.model_copy(update={"other_trials": []})  # the headline says that nothing was tried
    assert "not confirmed" not in report.summary(nothing)
    page = Diagnosis(task="t", model="m", schedule={}, level=0.95, seconds=1.0, verdict=made, results={}, missing={})
    assert "No line to run next was found. longer training was not repeated." in report.to_markdown(page)
