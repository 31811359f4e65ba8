"""Trials: equal seeds give equal losses, what helps is found, and what does not help is not recommended."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import windows_of
from runs import make_run

from seqrnn.diagnosis import trials
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import FEWEST, FIRST_SEED, HOPELESS, Remedy, Trials, changed

SMALL = (
    "task=sincos", "task.continuous=false", "task.train_pieces=24", "task.test_pieces=4", "task.points=8",
    "model=elman", "model.hidden_size=5", "optimizer=sgd", "optimizer.lr=0.0005",
    "schedule.streams=8", "schedule.window=4", "schedule.epochs=30",
)  # fmt: skip
MADE = 30 * 3 * 2  # updates


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("trials") / "run", *SMALL)


@pytest.fixture(autouse=True)
def _few_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "CONFIRMED", 4)


def of(run: Path, seconds: float = 1e6) -> Trials:
    return Trials(TrainedRun(run), seconds)


RATE = "optimizer.lr"


@pytest.mark.long
def test_the_loss_of_a_seed_is_the_same_in_whatever_company(run: Path) -> None:
    asked: list[Any] = [({RATE: rate}, 1, seed) for rate in (0.001, 0.1) for seed in (1, 2, 3)]
    together = of(run).losses(asked)
    backwards = of(run).losses(asked[::-1])[::-1]
    alone = of(run)
    one_by_one = [alone.losses([case])[0] for case in asked]
    assert together == backwards == one_by_one
    assert len(set(together)) == 6


def test_no_training_is_made_twice(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def train(self: Trials, change: Any, length: int, seed: int, part: float = 1.0) -> tuple[float, float]:
        made.append((dict(change), length, seed))
        return 1.0 + seed, 1e-6

    monkeypatch.setattr(Trials, "_train", train)
    found = of(run)
    assert found.losses([({RATE: 1.0}, 1, 7), ({RATE: 1.0}, 1, 7), ({RATE: 1.0}, 2, 7)]) == [8.0, 8.0, 8.0]
    assert found.losses([({RATE: 1.0}, 2, 7), ({}, 1, 7)]) == [8.0, 8.0]
    assert made == [({RATE: 1.0}, 1, 7), ({RATE: 1.0}, 2, 7), ({}, 1, 7)]


def test_an_effect_is_of_pairs_on_seeds_that_nothing_was_chosen_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is 2^seed-of-this-trial, so that only pairs of equal seeds have a ratio without spread."""
    asked: list[Any] = []

    def losses(self: Trials, cases: Any) -> list[float]:
        asked.append(cases)
        factor = {None: 1.0, "lucky": 0.5, "good": 0.6}
        search = {"lucky": 0.1}  # only where it is chosen
        return [
            2.0 ** (seed - FIRST_SEED)
            * (search.get(change.get("x"), 0.6) if seed < FIRST_SEED + trials.SEARCHED else factor[change.get("x")])
            for change, _, seed in cases
        ]

    monkeypatch.setattr(Trials, "losses", losses)
    monkeypatch.setattr(Trials, "_length_in_same_time", lambda self, change: 1)
    (trial,) = of(run).run([Remedy("r", [{"x": "good"}, {"x": "lucky"}])])
    assert trial.change == {"x": "lucky"}
    assert trial.effect.value == pytest.approx(0.5)
    assert (trial.effect.low, trial.effect.high) == pytest.approx((0.5, 0.5))
    assert trial.helps
    searched = {seed for case in asked[0] for seed in [case[2]]}
    confirmed = {seed for cases in asked[1:] for seed in [case[2] for case in cases]}
    assert not searched & confirmed
    assert len(confirmed) == trial.seeds == trials.CONFIRMED


@pytest.mark.long
def test_a_remedy_that_helps_is_chosen_and_one_that_does_nothing_is_not_said_to(run: Path) -> None:
    found = of(run)
    larger = Remedy("larger steps", [{RATE: 0.0005}, {RATE: 0.1}])
    nothing = Remedy("nothing", [{"schedule.clip_norm": 1.0}])
    helps, useless = found.run([larger, nothing])
    assert helps.change == {RATE: 0.1}
    assert helps.helps
    assert helps.effect.high < 0.9
    assert not useless.helps
    assert useless.effect.low - 1e-9 <= 1 <= useless.effect.high + 1e-9
    assert useless.effect.value == pytest.approx(1.0)


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "bad", [{RATE: 1e30, "schedule.clip_norm": None}, {"schedule.stride": 50}, {"schedule.streams": 4000}]
)
def test_what_diverges_or_cannot_be_trained_is_not_chosen(bad: dict[str, Any], run: Path) -> None:
    found = of(run)
    for variants in ([bad, {RATE: 0.1}], [{RATE: 0.1}, bad]):
        (trial,) = found.run([Remedy("r", variants)])
        assert trial.change == {RATE: 0.1}
    (hopeless,) = found.run([Remedy("r", [bad])])
    assert not hopeless.helps
    assert hopeless.effect.value > 1e6


def test_where_the_run_as_it_is_diverges_trials_still_say_something(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = TrainedRun(run)
    trained.values["optimizer"]["lr"], trained.values["schedule"]["clip_norm"] = 1e30, None
    (trial,) = Trials(trained, 1e6).run([Remedy("smaller steps", [{RATE: 0.01}])])
    assert trial.helps
    assert trial.effect.value < 1e-6


@pytest.mark.parametrize(
    ("seconds", "spent", "timesteps", "obstacle"),
    [(60.0, 0.5, 1.0, None), (60.0, 1.0, 1.0, None), (60.0, 2.0, 0.5, None), (60.0, 1000.0, None, "allow more")],
)
def test_trials_are_length_in_same_time_as_there_is_time_for(
    seconds: float, spent: float, timesteps: float | None, obstacle: str | None, run: Path
) -> None:
    trained = TrainedRun(run)
    trained.summary["train_seconds"] = spent * 60 * trials.SHARE
    found = Trials(trained, seconds)
    if timesteps is not None:
        assert found.timesteps == pytest.approx(
            timesteps * trained.summary["timesteps"], rel=0.2 if timesteps < 1 else 0
        )
        assert found.whole == (timesteps == 1.0)
    if timesteps == 1.0:
        assert found.obstacle is None
    if obstacle:
        assert found.obstacle is not None
        assert obstacle in found.obstacle
        enough = int(found.obstacle.rpartition("--seconds ")[2])
        assert Trials(trained, enough).obstacle is None


@pytest.mark.parametrize("length", [0.1, 1, 4])
@pytest.mark.parametrize(
    "change",
    [{}, {"schedule.streams": 4}, {"schedule.window": 2}, {"schedule.update_every": 8}, {"schedule.epochs": 1}],
)
def test_a_trial_is_of_as_many_timesteps_whatever_is_changed(
    change: dict[str, Any], length: float, run: Path
) -> None:
    from seqrnn.components import build_components

    found = of(run)
    values = changed(found.original.values, {**change, "seed": 1})
    shortened = found._shortened(build_components(values), length)
    assert shortened is not None
    schedule, task = shortened.schedule, shortened.task
    batches = task.train(0, schedule.streams)
    planned = schedule.count_updates(batches)
    assert planned == schedule.max_updates  # there are epochs enough
    windows = [
        (batch, w) for _ in range(schedule.epochs) for batch in batches for w in windows_of(schedule, batch.timesteps)
    ]
    assert len(windows) >= planned * schedule.windows_per_update or schedule.windows_per_update > 1
    per_update = sum(batch.streams * batch.timesteps for batch in batches) / (
        schedule.model_copy(update={"epochs": 1, "max_updates": None}).count_updates(batches)
    )
    assert planned * per_update == pytest.approx(length * found.timesteps, abs=per_update)
    assert schedule.patience is None


def test_what_is_faster_is_trained_longer_by_a_power_of_two(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paces = {None: 8e-6, 1: 1e-6, 2: 0.9e-6, 3: 1e-5, 4: 1e-12, 5: math.inf}

    def train(self: Trials, change: Any, length: int, seed: int, part: float = 1.0) -> tuple[float, float]:
        return 1.0, paces[change.get("schedule.window", change.get("optimizer.name"))]

    monkeypatch.setattr(Trials, "_train", train)
    found = of(run)
    lengths = {name: found._length_in_same_time({"schedule.window": name, RATE: 3.0}) for name in paces if name}
    assert lengths == {1: 8, 2: 8, 3: 1, 4: 1024, 5: 1}
    assert found._length_in_same_time({"optimizer.name": 1}) == 1  # no other structure: it only seems to be faster
    paces[None] = math.inf
    assert of(run)._length_in_same_time({"schedule.window": 1}) == 1


def test_nothing_is_written_and_the_run_stays_as_it_was(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    trained = TrainedRun(run)
    values, weights = json.dumps(trained.values), [p.detach().clone() for p in trained.network.parameters()]
    torch.manual_seed(5)
    torch.set_num_threads(1)
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    Trials(trained, 1e6).run([Remedy("r", [{RATE: 0.1}])])
    assert {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files
    assert list(tmp_path.iterdir()) == []
    assert json.dumps(trained.values) == values
    assert all(torch.equal(old, new) for old, new in zip(weights, trained.network.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == threads


def test_dropout_does_not_make_equal_seeds_differ(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *SMALL, "model.num_layers=2", "model.dropout=0.5")
    asked: list[Any] = [({RATE: 0.1}, 1, seed) for seed in (1, 2, 3)]
    assert of(run).losses(asked) == of(run).losses(asked[::-1])[::-1]


def test_a_change_reaches_its_key_and_nothing_else() -> None:
    values: dict[str, Any] = {"a": {"b": 1, "c": [2]}, "model": {"name": "elman", "bias": True}}
    found = changed(values, {"a.b": 5, "model": {"name": "gru"}})
    assert found == {"a": {"b": 5, "c": [2]}, "model": {"name": "gru"}}
    assert values == {"a": {"b": 1, "c": [2]}, "model": {"name": "elman", "bias": True}}
    found["a"]["c"].append(3)
    assert values["a"]["c"] == [2]


def test_few_updates_are_enough_if_the_run_had_no_more(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *SMALL, "schedule.max_updates=1")
    found = of(run)
    assert found.obstacle is None
    assert FEWEST > 1
    (trial,) = found.run([Remedy("r", [{RATE: 0.1}])])
    assert 0 < trial.effect.value < HOPELESS
    assert np.isfinite(trial.loss)
