"""Trials: equal seeds give equal losses, what helps is found, and what does not help is not recommended."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import windows_of
from runs import make_run

from seqrnn.clock import compiling
from seqrnn.diagnosis import trials
from seqrnn.diagnosis.budget import TooSlow
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import FIRST_SEED, HOPELESS, Pace, Training, Trials, changed
from seqrnn.strategies.plain import Plain

SMALL = (
    "task=sincos", "task.continuous=false", "task.train_pieces=24", "task.test_pieces=4", "task.points=8",
    "model=elman", "model.hidden_size=5", "optimizer=sgd", "optimizer.lr=0.0005",
    "schedule.streams=8", "schedule.window=4", "schedule.epochs=30",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("trials") / "run", *SMALL)


def of(run: Path, seconds: float = 1e6) -> Trials:
    return Trials(TrainedRun(run), seconds)


RATE = "optimizer.lr"


@pytest.mark.long
def test_the_loss_of_a_seed_is_the_same_in_whatever_company(run: Path) -> None:
    asked = [Training({RATE: rate}, 1.0, seed) for rate in (0.001, 0.1) for seed in (1, 2, 3)]
    together = of(run).losses(asked)
    backwards = of(run).losses(asked[::-1])[::-1]
    alone = of(run)
    one_by_one = [alone.losses([case])[0] for case in asked]
    assert together == backwards == one_by_one
    assert len(set(together)) == 6


def test_a_compilation_is_announced_and_takes_no_time_from_the_trials(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(self: Plain, announce: Callable[[str], None]) -> None:
        with compiling:
            announce("compiling")
            time.sleep(1.2)

    monkeypatch.setattr(Plain, "prepare", prepare)
    trained, announced = TrainedRun(run), []
    trained.announce = announced.append
    found = Trials(trained, 1.0)
    assert found.losses([Training({"kernel": "torch"}, 0.2, 1)])
    assert announced == ["compiling"]
    assert found.budget.remaining > 0


def test_no_training_is_made_twice(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Training] = []

    def train(self: Trials, training: Training) -> tuple[float, Pace]:
        made.append(training)
        return 1.0 + training.seed, Pace(0.0, 1e-6)

    monkeypatch.setattr(Trials, "_train", train)
    found = of(run)
    one, two, own = Training({RATE: 1.0}, 1.0, 7), Training({RATE: 1.0}, 2.0, 7), Training({}, 1.0, 7)
    assert found.losses([one, one, two]) == [8.0, 8.0, 8.0]
    assert found.losses([two, own]) == [8.0, 8.0]
    assert made == [one, two, own]
    known = {one.key: 3.0}
    later = Trials(TrainedRun(run), 1e6, known=known)
    assert later.losses([one, own]) == [3.0, 8.0]
    assert made == [one, two, own, own]
    assert known == {one.key: 3.0, own.key: 8.0}


def test_a_training_from_the_weights_of_the_run_starts_there(run: Path) -> None:
    found = of(run)
    still = {RATE: 1e-30}
    first, second = found.losses([Training(still, 0.1, seed, resumed=True) for seed in (1, 2)])
    assert first == pytest.approx(second)
    fresh = found.losses([Training(still, 0.1, seed) for seed in (1, 2)])
    assert fresh[0] != pytest.approx(fresh[1])


@pytest.mark.parametrize(
    "bad", [{RATE: 1e30, "schedule.clip_norm": None}, {"schedule.stride": 50}, {"schedule.streams": 4000}]
)
def test_what_diverges_or_cannot_be_trained_is_hopeless(bad: dict[str, Any], run: Path) -> None:
    assert of(run).losses([Training(bad, 0.1, 1)]) == [HOPELESS]
    assert of(run).pace(bad).timestep == math.inf or RATE in bad


def test_all_trainings_end_with_the_time_for_them(run: Path) -> None:
    found = of(run, seconds=0.0)
    assert found.finished_losses([Training({}, 1.0, 1), Training({}, 1.0, 2)]) == [None, None]
    with pytest.raises(TooSlow):
        found.losses([Training({}, 1.0, 1)])


def test_a_training_that_has_begun_ends_with_the_time(run: Path) -> None:
    """The clock jumps beyond the end after some looks at it."""
    found, looks = of(run), iter(range(10**6))
    found.budget.clock = lambda: 0.0 if next(looks) < 8 else 1e9
    found.budget.started = 0.0
    assert found.finished_losses([Training({}, 1.0, 1)]) == [None]
    assert next(looks) < 100


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


def test_what_counts_updates_is_shortened_with_them(run: Path) -> None:
    from seqrnn.components import build_components

    found = of(run)
    values = changed(found.original.values, {"schedule.warmup": 100, "schedule.lr_every": 40})
    for length, warmup, lr_every in ((0.25, 25, 10), (1.0, 100, 40), (4.0, 100, 40)):
        shortened = found._shortened(build_components(values), length)
        assert shortened is not None
        assert (shortened.schedule.warmup, shortened.schedule.lr_every) == (warmup, lr_every)


def test_the_best_evaluation_counts_where_the_schedule_keeps_it(run: Path) -> None:
    """A rate that throws the weights off later: the best evaluation is before that."""
    found = of(run)
    wild = {RATE: 2.0, "schedule.clip_norm": None}
    last, best = found.losses([Training({**wild, "schedule.keep": keep}, 1.0, 1) for keep in ("last", "best")])
    assert best <= last


def test_what_is_faster_is_trained_longer_by_a_power_of_two(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paces = {None: 8e-6, 1: 1e-6, 2: 0.9e-6, 3: 1e-5, 4: 1e-12, 5: math.inf}

    def train(self: Trials, training: Training) -> tuple[float, Pace]:
        return 1.0, Pace(0.1, paces[training.change.get("schedule.window")])

    monkeypatch.setattr(Trials, "_train", train)
    found = of(run)
    lengths = {name: found.length_in_same_time({"schedule.window": name, RATE: 3.0}) for name in paces if name}
    assert lengths == {1: 8, 2: 8, 3: 1, 4: trials.LONGEST_FACTOR, 5: 1}
    assert found.length_in_same_time({"optimizer.name": 1}) == 1  # no other structure: it only seems to be faster
    paces[None] = math.inf
    assert of(run).length_in_same_time({"schedule.window": 1}) == 1


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
    Trials(trained, 1e6).losses([Training({RATE: 0.1}, 1.0, FIRST_SEED), Training({}, 0.5, 3, resumed=True)])
    assert {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files
    assert list(tmp_path.iterdir()) == []
    assert json.dumps(trained.values) == values
    assert all(torch.equal(old, new) for old, new in zip(weights, trained.network.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == threads


def test_dropout_does_not_make_equal_seeds_differ(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *SMALL, "model.num_layers=2", "model.dropout=0.5")
    asked = [Training({RATE: 0.1}, 0.1, seed) for seed in (1, 2, 3)]
    assert of(run).losses(asked) == of(run).losses(asked[::-1])[::-1]


def test_a_change_reaches_its_key_and_nothing_else() -> None:
    values: dict[str, Any] = {"a": {"b": 1, "c": [2]}, "model": {"name": "elman", "bias": True}}
    found = changed(values, {"a.b": 5, "model": {"name": "gru"}})
    assert found == {"a": {"b": 5, "c": [2]}, "model": {"name": "gru"}}
    assert values == {"a": {"b": 1, "c": [2]}, "model": {"name": "elman", "bias": True}}
    found["a"]["c"].append(3)
    assert values["a"]["c"] == [2]
