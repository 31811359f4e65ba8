"""The line to paste composes to exactly the config that was tried."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from test_configs import GROUPS, composed

from seqrnn.components import build_components, problems_of
from seqrnn.diagnosis import command_line
from seqrnn.diagnosis.command_line import command, lengthened, overrides_of, unknown_config_files
from seqrnn.diagnosis.instrument import Examination
from seqrnn.diagnosis.instruments.rates import Rates
from seqrnn.diagnosis.instruments.truncation import Truncation
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.remedies import remedies_for
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.training_data import TrainingData
from seqrnn.diagnosis.trials import changed
from seqrnn.plugins import load_components

SURE = Interval(0.5, 0.4, 0.6)
NAMES = (
    "longer window", "more streams", "wider batch", "longer accumulation", "decaying rate", "smaller learning rate",
    "larger learning rate", "longer training", "orthogonal start", "gated cell", "clipped gradients", "weight decay",
    "carried state", "fewer streams", "shorter accumulation", "exact gradients", "more units", "fewer units",
    "best weights", "dropout", "looser clipping", "usual start", "no warm-up", "more blocks",
)  # fmt: skip
SETTLED = ("plots.draw=false", "device=cpu")


def found_with(sufficient: int) -> Examination:
    cut = Truncation(
        horizon=100, windows=[1, 10], cosines=[SURE, SURE], ratios=[SURE, SURE], schedule_window=1, cosine=SURE,
        ratio=SURE, sufficient_window=sufficient, excerpts=16,
    )  # fmt: skip
    rates = Rates(
        rates=[1e-3, 1e-2], losses=[SURE, SURE], resumed_losses=[1.0, 1.0], own=1e-3, best=1e-2, ratio=SURE,
        updates=50, seeds=3,
    )  # fmt: skip
    return Examination({"truncation": cut, "rates": rates}, {})


def run_of(*overrides: str) -> TrainedRun:
    """Returns a run whose config was composed, and which was not trained."""
    load_components()
    trained = object.__new__(TrainedRun)
    trained.values = composed(*overrides, *SETTLED)
    trained.overrides = [*overrides, *SETTLED]
    trained.components = build_components(trained.values)
    trained.data = TrainingData(trained.components)
    trained.__dict__["updates_made"], trained.metrics = 1000, {}
    return trained


def recomposed(line: str) -> dict[str, Any]:
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "seqrnn.train"]
    return composed(*words[3:])


RUNS = [
    (),
    ("task=integral", "model=elman", "schedule=online"),
    ("experiment=sine_online", "model.hidden_size=9", "model.head_bias=true", "model.bias=true"),
    ("experiment=integral_forgetting", "model=rnn", "model.head=linear", "model.nonlinearity=relu"),
    ("task=sincos", "model=lstm", "schedule=accumulate", "schedule.update_every=20", "schedule.window=10"),
    ("experiment=integral_forgetting",),
    ("experiment=integral_accumulated", "schedule.max_updates=500"),
    ("experiment=sine_online",),
    ("experiment=sincos_lstm_carry", "model.num_layers=2", "model.dropout=0.1"),
    ("task=integral", "model=rnn", "model.nonlinearity=relu", "model.head=mlp", "model.hidden_size=7",
     "+model.init_std={head.0.weight: 0.2}", "optimizer=sgd", "optimizer.lr=0.3"),
    ("task=sine", "model=elman", "model.bias=false", "optimizer=adamw", "optimizer.lr=1e-5",
     "schedule.clip_norm=null"),
]  # fmt: skip


@pytest.mark.first(1)
@pytest.mark.parametrize("overrides", RUNS, ids=" ".join)
def test_each_remedy_is_pasted_as_it_was_tried(overrides: tuple[str, ...]) -> None:
    trained = run_of(*overrides)
    offered = remedies_for(NAMES, found_with(20), trained)
    assert len(offered) >= 4
    for remedy in offered:
        for variant in remedy.variants:
            change = lengthened(variant, remedy.length, trained)
            values = changed(trained.values, change)
            assert problems_of(values) == [], remedy.name
            assert recomposed(command(change, trained)) == values, remedy.name


@pytest.mark.first(3)
@pytest.mark.parametrize("overrides", RUNS, ids=" ".join)
def test_every_remedy_changes_something(overrides: tuple[str, ...]) -> None:
    trained = run_of(*overrides)
    for remedy in remedies_for(NAMES, found_with(20), trained):
        for variant in remedy.variants:
            change = lengthened(variant, remedy.length, trained)
            assert overrides_of(change, trained), remedy.name
            assert changed(trained.values, change) != trained.values


@pytest.mark.first(2)
@pytest.mark.parametrize("model", sorted(GROUPS["model"], key=lambda name: name not in ("lnlstm", "lru")))
def test_every_remedy_exists_for_the_cell(model: str) -> None:
    trained = run_of("task=integral", f"model={model}", *(["optimizer=ridge"] if model == "esn" else []))
    offered = remedies_for(NAMES, found_with(40), trained)
    assert offered
    for remedy in offered:
        for variant in remedy.variants:
            assert problems_of(changed(trained.values, variant)) == [], remedy.name
    has_gates = model in ("gru", "lnlstm", "lstm", "mingru", "minlstm")
    assert ("gated cell" in [remedy.name for remedy in offered]) == (not has_gates and model != "esn")


def test_without_a_change_the_line_is_that_of_the_run_itself() -> None:
    trained = run_of("task=sincos", "seed=3")
    assert command({}, trained) == "python -m seqrnn.train task=sincos seed=3 plots.draw=false device=cpu"


def test_what_a_change_overrides_is_not_said_twice_and_where_results_went_is_dropped() -> None:
    trained = run_of("task=sincos", "optimizer.lr=0.1", "++schedule.window=5", "schedule=tbptt")
    trained.overrides += ["hydra.run.dir=/somewhere/else", "+hydra.x=1", "hydra/launcher=joblib", "hydra.job.num=2"]
    line = command({"optimizer.lr": 0.2, "schedule.window": 7}, trained)
    assert "hydra" not in line
    assert shlex.split(line)[3:] == [
        "task=sincos", "schedule=tbptt", "plots.draw=false", "device=cpu", "optimizer.lr=0.2", "schedule.window=7",
    ]  # fmt: skip


def test_a_key_that_was_added_is_added_in_the_line_as_well() -> None:
    trained = run_of("task=sine")
    trained.values["task"]["seen"] = False
    trained.overrides += ["+task.seen=false"]
    assert shlex.split(command({"task.seen": True, "optimizer.lr": 0.2}, trained))[-2:] == [
        "+task.seen=true", "optimizer.lr=0.2",
    ]  # fmt: skip


def test_a_line_says_what_it_needs_that_is_unknown_config_files() -> None:
    assert unknown_config_files("python -m seqrnn.train 'plugins=[blink]' task=blink model=gru seed=3") == [
        "task/blink.yaml"
    ]
    assert (
        unknown_config_files("python -m seqrnn.train experiment=integral_forgetting optimizer=sgd optimizer.lr=0.1")
        == []
    )


def test_what_a_shell_would_take_apart_is_quoted() -> None:
    trained = run_of("task=sine", "+model.init_std={head.weight: 0.3, head.bias: 0.1}", "plugins=[]")
    line = command({"optimizer.lr": 0.5}, trained)
    assert "'+model.init_std={head.weight: 0.3, head.bias: 0.1}'" in line
    assert recomposed(line)["model"]["init_std"] == {"head.weight": 0.3, "head.bias": 0.1}


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (5, "5"), (0.1, "0.1"), (1e-05, "1e-05"), (1e-4 / 3, "3.33333e-05"), ("cosine", "cosine"),
     (True, "true"), (False, "false"), (1234567.0, "1.23457e+06")],
)  # fmt: skip
def test_values_are_written_as_they_are_typed(value: Any, text: str) -> None:
    assert command_line._as_typed(value) == text


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("schedule.epochs=3",), {"schedule.epochs": 12}),
        (("schedule.epochs=3", "schedule.max_updates=7"), {"schedule.epochs": 12, "schedule.max_updates": 28}),
    ],
)
def test_a_longer_training_is_longer_in_epochs_and_in_updates(
    overrides: tuple[str, ...], expected: dict[str, Any]
) -> None:
    trained = run_of("task=sincos", *overrides)
    assert lengthened({"seed": 1}, 4, trained) == {"seed": 1, **expected}
    assert lengthened({"seed": 1}, 1, trained) == {"seed": 1}


@pytest.mark.parametrize(
    ("sufficient", "windows"), [(1, {8, 16}), (2, {8, 16}), (5, {5, 10}), (100, {100, 250}), (250, {250})]
)
def test_a_longer_window_is_one_that_is_sufficient_or_twice_that_or_whole_sequences(
    sufficient: int, windows: set[int]
) -> None:
    trained = run_of("task=integral", "schedule.window=2")
    trained.components.task.reach = None  # type: ignore[attr-defined]
    offered = {remedy.name: remedy for remedy in remedies_for(["longer window"], found_with(sufficient), trained)}
    assert {variant["schedule.window"] for variant in offered["longer window"].variants} == windows


def test_a_task_that_says_what_it_needs_is_given_a_window_that_sees_it() -> None:
    trained = run_of("task=integral", "schedule.window=2")
    trained.components.task.reach = 10  # type: ignore[attr-defined]
    (remedy,) = remedies_for(["longer window"], found_with(5), trained)
    assert {variant["schedule.window"] for variant in remedy.variants} == {10, 20}
    (remedy,) = remedies_for(["longer window"], found_with(50), trained)
    assert {variant["schedule.window"] for variant in remedy.variants} == {50, 100}


def test_a_remedy_that_is_none_here_is_not_offered() -> None:
    trained = run_of("task=sine", "model=gru", "schedule=full", "optimizer=sgd",
                         "model.recurrent_init=orthogonal",
                         "schedule.lr_decay=cosine", "schedule.clip_norm=0.5")  # fmt: skip
    names = [remedy.name for remedy in remedies_for([*NAMES, "longer window", "nonsense"], Examination(), trained)]
    assert not {"longer window", "decaying rate", "orthogonal start", "gated cell", "clipped gradients",
                "nonsense", "longer accumulation"} & set(names)  # fmt: skip
    assert len(names) == len(set(names))


def test_sequences_that_could_continue_each_other_are_offered_a_carried_state() -> None:
    trained = run_of("experiment=sincos_lstm")
    (remedy,) = remedies_for(["carried state"], Examination(), trained)
    carried = {"task.continuous": True, "schedule.carry": True, "schedule.window": 10}
    assert remedy.variants[0] == carried
    assert recomposed(command(remedy.variants[0], trained)) == changed(trained.values, carried)
    assert remedies_for(["carried state"], Examination(), run_of("experiment=sincos_lstm_carry")) == []


def test_updates_are_counted_anew_where_the_schedule_changes() -> None:
    trained = run_of("task=sincos", "schedule.max_updates=40", "schedule.streams=1")
    change = lengthened({"schedule.streams": 4}, 1.0, trained)
    assert change == {"schedule.streams": 4, "schedule.max_updates": 10}


@pytest.mark.parametrize(("needed", "blocks"), [(20, 4), (200, 6), (None, 4)])
def test_blocks_are_added_until_a_convolution_looks_back_as_far_as_the_task_needs(
    needed: int | None, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four blocks with a kernel of 3 look back 61 timesteps, five 125, and six 253."""
    trained = run_of("task=integral", "model=tcn", "schedule.window=60")
    monkeypatch.setattr(type(trained.components.task), "reach", needed, raising=False)
    trained.components.task.__dict__.pop("reach", None)
    offered = remedies_for(["more blocks"], Examination(), trained)
    assert [list(remedy.variants) for remedy in offered] == [[{"model.num_layers": blocks}]] * (blocks > 4)
    assert remedies_for(["more blocks"], Examination(), run_of("task=integral", "model=gru")) == []


def test_clipping_that_decides_about_most_steps_can_be_tried_looser() -> None:
    trained = run_of("task=integral", "schedule.clip_norm=1")
    assert remedies_for(["looser clipping"], Examination(), trained) == []
    trained.metrics = {"gradient_norm": [9.0, 8.0, 7.0]}
    (remedy,) = remedies_for(["looser clipping"], Examination(), trained)
    assert remedy.variants == [{"schedule.clip_norm": 10.0}]
