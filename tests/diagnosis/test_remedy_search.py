"""The search for what helps: choices and effects on different seeds, growing lengths, and an end in time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqrnn.diagnosis.instrument import Examination
from seqrnn.diagnosis.remedies import Remedy
from seqrnn.diagnosis.search import CONFIRMED, Search
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import FIRST_SEED, HOPELESS, Change, Pace, Training, Trials

Losses = Callable[[Training], float]
RATE = "optimizer.lr"


@pytest.fixture
def searched(diagnosed_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Search]:
    """Searches where the loss of each training is known; ``seconds`` is how long a whole training takes."""
    run = TrainedRun(diagnosed_run("task=sincos", "model=elman", "smoke=true"))

    def search(
        loss: Losses,
        *remedies: Remedy,
        seconds: float = 1e-6,
        total: float = 100.0,
        pace: Callable[[Trials, Change], Pace] | None = None,
        **more: Any,
    ) -> Search:
        trials = Trials(run, total)
        trials.updates, trials.workers, spent = 10_000, 2, [0.0]

        def train(training: Training) -> float | None:
            spent[0] += training.length * seconds / trials.workers
            return loss(training) if spent[0] < total else None

        monkeypatch.setattr(trials, "_loss", train)
        monkeypatch.setattr(
            trials, "pace", lambda change: pace(trials, change) if pace else Pace(0.0, seconds / trials.timesteps)
        )
        trials.budget.clock = lambda: trials.budget.started + spent[0]
        made = Search(run, Examination(), trials)
        made.search(remedies, **more)
        return made

    return search


def of_change(table: dict[float | None, float]) -> Losses:
    return lambda training: table[training.change.get(RATE)] * (1 + training.seed % 5 / 1000)


def test_the_best_variant_is_chosen_and_what_does_nothing_is_not_said_to_help(
    searched: Callable[..., Search],
) -> None:
    loss = of_change({None: 1.0, 0.1: 0.5, 0.2: 0.7, 0.3: 1.0})
    found = searched(loss, Remedy("good", [{RATE: 0.2}, {RATE: 0.1}]), Remedy("nothing", [{RATE: 0.3}]))
    assert found.results["good"].change == {RATE: 0.1}
    assert found.results["good"].helps
    assert not found.results["nothing"].helps
    assert found.best is not None
    assert found.best.change == {RATE: 0.1}
    assert (found.best.part, found.best.effect.value) == (1.0, pytest.approx(0.5, rel=0.01))


def test_an_effect_is_of_seeds_that_nothing_was_chosen_on(searched: Callable[..., Search]) -> None:
    """A variant that is lucky on the first seed alone."""

    def loss(training: Training) -> float:
        rate = training.change.get(RATE)
        return {None: 1.0, 0.1: 0.6, 0.2: 0.1 if training.seed == FIRST_SEED else 0.8}[rate]

    found = searched(loss, Remedy("r", [{RATE: 0.1}, {RATE: 0.2}]))
    assert found.results["r"].effect.value == pytest.approx(0.8)
    assert found.results["r"].seeds >= CONFIRMED


def test_a_suspect_is_not_refuted_by_one_seed_where_seeds_differ_that_much(searched: Callable[..., Search]) -> None:
    def loss(training: Training) -> float:
        base = (0.2, 1.0, 5.0)[training.seed % 3]
        unlucky = 9.0 if training.seed == FIRST_SEED else 0.1
        return base * (unlucky if RATE in training.change else 1.0)

    remedy = Remedy("r", [{RATE: 0.1}])
    assert searched(loss, remedy).results["r"].seeds == 1
    found = searched(loss, remedy, suspects=["r"])
    assert found.results["r"].effect.value == pytest.approx(0.1)


def test_what_seeds_leave_open_about_a_suspect_is_measured_on_more_of_them(searched: Callable[..., Search]) -> None:
    def loss(training: Training) -> float:
        return 0.6 * (1 / 3 if training.seed % 2 else 3) if RATE in training.change else 1.0

    remedy = Remedy("r", [{RATE: 0.1}])
    plain, suspect = (searched(loss, remedy, suspects=names).results["r"] for names in ((), ("r",)))
    assert (plain.seeds, plain.helps) == (6, False)
    assert (suspect.seeds, suspect.helps) == (24, True)


def test_a_loss_that_is_rounded_to_zero_on_some_seeds_is_certain_to_be_less(searched: Callable[..., Search]) -> None:
    """As of a classifier that is sure of everything: the logarithm of such losses can have any value."""

    def loss(training: Training) -> float:
        return (1e-30, 4e-11, 1e-8)[training.seed % 3] if RATE in training.change else 0.7

    found = searched(loss, Remedy("r", [{RATE: 0.1}])).results["r"]
    assert found.helps
    assert 1e-9 <= found.effect.value < 1e-7


def test_what_diverges_is_no_advice(searched: Callable[..., Search]) -> None:
    found = searched(of_change({None: 1.0, 0.1: HOPELESS}), Remedy("r", [{RATE: 0.1}]))
    assert found.best is None


def test_where_nothing_helps_nothing_is_advised(searched: Callable[..., Search]) -> None:
    found = searched(of_change({None: 1.0, 0.1: 1.2, 0.2: 0.95}), *(Remedy(str(r), [{RATE: r}]) for r in (0.1, 0.2)))
    assert found.best is None
    assert set(found.results) == {"0.1", "0.2"}


def test_what_is_fast_and_bad_in_the_end_is_not_advised_where_there_is_time_to_see_it(
    searched: Callable[..., Search],
) -> None:
    """The fast one is four times better at a quarter of the length, and four times worse at the whole one."""

    def loss(training: Training) -> float:
        rate, noise = training.change.get(RATE), 1 + training.seed % 5 / 1000
        fast = 0.25 if training.length < 0.9 else 4.0
        return {0.9: fast, 0.1: 0.6}.get(rate, 1.0) * noise

    useless = Remedy("useless", [{RATE: rate} for rate in range(2, 8)])
    remedies = Remedy("fast", [{RATE: 0.9}]), Remedy("slow", [{RATE: 0.1}]), useless
    found = searched(loss, *remedies, seconds=80.0, total=800.0)
    assert found.results["fast"].part < 1
    assert found.best is not None
    assert (found.best.name, found.best.part) == ("slow", 1.0)


def test_without_the_time_the_length_of_the_trials_is_part_of_the_advice(searched: Callable[..., Search]) -> None:
    found = searched(of_change({None: 1.0, 0.1: 0.5}), Remedy("r", [{RATE: 0.1}]), seconds=40.0, total=60.0)
    assert found.best is not None
    assert found.best.part < 1


def test_time_that_is_over_ends_the_search_with_what_is_known(searched: Callable[..., Search]) -> None:
    remedies = [Remedy(str(rate), [{RATE: rate}]) for rate in range(1, 30)]
    found = searched(lambda training: 0.5 if training.change else 1.0, *remedies, seconds=1e4, total=10.0)
    assert set(found.results) | set(found.untried) == {remedy.name for remedy in remedies}
    assert found.untried


def test_remedies_that_add_to_each_other_are_combined(searched: Callable[..., Search]) -> None:
    def loss(training: Training) -> float:
        factor = 0.5 if training.change.get("schedule.window") == 9 else 1.0
        factor *= 0.6 if "schedule.lr_decay" in training.change else 1.0
        return factor * (1 + training.seed % 5 / 1000)

    found = searched(
        loss, Remedy("window", [{"schedule.window": 9}]), Remedy("decay", [{"schedule.lr_decay": "cosine"}])
    )
    assert found.best is not None
    assert found.best.name == "window + decay"
    assert found.best.effect.value == pytest.approx(0.3, rel=0.01)


def test_a_suspect_that_explains_the_failure_leaves_nothing_to_look_for(searched: Callable[..., Search]) -> None:
    loss = of_change({None: 1.0, 0.1: 0.2, 0.2: 0.01})
    remedies = Remedy("other", [{RATE: 0.2}]), Remedy("suspect", [{RATE: 0.1}])
    found = searched(loss, *remedies, suspects=["suspect"])
    assert set(found.results) == {"suspect"}
    assert found.best is not None
    assert found.best.name == "suspect"


def test_a_suspect_that_explains_little_does_not_end_the_search(searched: Callable[..., Search]) -> None:
    loss = of_change({None: 1.0, 0.1: 0.8, 0.2: 0.01})
    remedies = Remedy("other", [{RATE: 0.2}]), Remedy("suspect", [{RATE: 0.1}])
    found = searched(loss, *remedies, suspects=["suspect"])
    assert found.best is not None
    assert found.best.name == "other"


def test_suspects_are_tried_at_the_whole_length_where_others_are_not(searched: Callable[..., Search]) -> None:
    lengths: dict[float | None, set[float]] = {}

    def loss(training: Training) -> float:
        lengths.setdefault(training.change.get(RATE), set()).add(training.length)
        return 1.0

    others = [Remedy(str(rate), [{RATE: rate}]) for rate in range(2, 12)]
    searched(loss, *others, Remedy("suspect", [{RATE: 0.1}]), suspects=["suspect"], seconds=10.0, total=60.0)
    assert lengths[0.1] == {1.0}
    assert max(length for rate, found in lengths.items() if rate not in (None, 0.1) for length in found) < 1


def test_what_takes_the_whole_length_to_be_seen_is_tried_at_no_less(searched: Callable[..., Search]) -> None:
    lengths = set()

    def loss(training: Training) -> float:
        lengths.add(training.length)
        return 0.95 if training.change else 1.0

    found = searched(loss, Remedy("best weights", [{RATE: 0.1}]), Remedy("other", [{RATE: 0.2}]),
                     suspects=["best weights"], memorised=True, seconds=8.0, total=60.0)  # fmt: skip
    assert lengths == {1.0}
    assert found.best is not None
    assert found.best.effect.value == pytest.approx(0.95)


def test_without_the_time_for_the_whole_length_less_is_tried(searched: Callable[..., Search]) -> None:
    found = searched(lambda training: 0.5 if training.change.get(RATE) == 0.2 else 1.0,
                     Remedy("best weights", [{RATE: 0.1}]), Remedy("other", [{RATE: 0.2}]),
                     suspects=["best weights"], memorised=True, seconds=100.0, total=60.0)  # fmt: skip
    assert set(found.results) == {"best weights", "other"}
    assert found.untried == {}
    assert found.best is not None
    assert (found.best.name, found.best.part < 1) == ("other", True)


def test_a_training_that_is_better_for_being_longer_is_made_longer_as_long_as_that_helps(
    searched: Callable[..., Search],
) -> None:
    def loss(training: Training) -> float:
        return max(0.01, 1 / training.length) * (1 + training.seed % 5 / 1000)

    found = searched(loss, Remedy("longer training", [{}], 4.0))
    assert found.best is not None
    assert (found.best.name, found.best.length) == ("longer training", 256.0)
    assert searched(lambda one: 1 / min(one.length, 16), Remedy("longer training", [{}], 4.0)).best.length == 16  # type: ignore[union-attr]


def test_of_variants_that_are_alike_the_plainest_is_chosen(searched: Callable[..., Search]) -> None:
    found = searched(of_change({None: 1.0, 0.1: 0.50, 0.2: 0.48}), Remedy("r", [{RATE: 0.1}, {RATE: 0.2}]))
    assert found.results["r"].change == {RATE: 0.1}


@pytest.mark.parametrize(("effect", "chosen"), [(0.39, 0.2), (0.5, 0.1)])
def test_a_remedy_that_takes_more_time_has_to_bring_more(
    effect: float, chosen: float, searched: Callable[..., Search]
) -> None:
    loss = of_change({None: 1.0, 0.1: 0.22, 0.2: effect})
    found = searched(loss, Remedy("costly", [{RATE: 0.1}], length=4.0), Remedy("cheap", [{RATE: 0.2}]))
    assert found.best is not None
    assert found.best.change == {RATE: chosen}


def test_what_helps_too_little_does_not_take_the_place_of_what_is_recommended(
    searched: Callable[..., Search],
) -> None:
    """The little one is certain and costs nothing, and nothing is gained by both together."""

    def loss(training: Training) -> float:
        is_little, is_longer = RATE in training.change, training.length > 1
        return (0.93 if is_little else 0.7 if is_longer else 1.0) * (1 + training.seed % 5 / 1000)

    found = searched(loss, Remedy("longer training", [{}], 4.0), Remedy("little", [{RATE: 0.1}]))
    assert found.results["longer training"].helps
    assert found.best is not None
    assert found.best.name == "longer training"


def test_what_helps_no_longer_at_a_greater_length_is_not_said_to_help(searched: Callable[..., Search]) -> None:
    found = searched(
        lambda one: 0.5 if RATE in one.change and one.length < 1 else 1.0, Remedy("r", [{RATE: 0.1}]), seconds=20.0
    )
    assert found.best is None
    assert (found.faded, found.results["r"].part) == ({"r": 1.0}, 1.0)
    assert not found.results["r"].helps


def test_what_there_is_no_time_to_try_at_a_greater_length_stays(
    searched: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Search._recheck

    def over(search: Search) -> None:
        monkeypatch.setattr(search, "_measure", lambda *_: [])
        real(search)

    monkeypatch.setattr(Search, "_recheck", over)
    found = searched(of_change({None: 1.0, 0.1: 0.5}), Remedy("r", [{RATE: 0.1}]), seconds=20.0)
    assert found.best is not None
    assert found.best.part < 1


def test_a_training_that_is_better_for_being_shorter_is_made_shorter(searched: Callable[..., Search]) -> None:
    found = searched(lambda one: 1 + abs(one.length - 1 / 16), Remedy("shorter training", [{}], 0.25))
    assert found.best is not None
    assert (found.best.name, found.best.length) == ("shorter training", 0.25**2)
    shortest = searched(lambda one: one.length, Remedy("shorter training", [{}], 0.25)).best
    assert shortest is not None
    assert shortest.length == 1 / 64  # a quarter of it would be fewer updates than mean something


def test_a_remedy_may_need_more_timesteps_than_take_the_same_time(searched: Callable[..., Search]) -> None:
    streams = Remedy("more streams", [{RATE: 0.1}], least_length=16.0)
    found = searched(of_change({None: 1.0, 0.1: 0.5}), streams, suspects=["more streams"])
    assert found.best is not None
    assert (found.best.length, found.best.cost) == (16.0, 16.0)


@pytest.mark.parametrize(("seconds", "tried"), [(1.0, "exact gradients"), (50.0, "approximate gradients")])
def test_an_approximation_is_tried_where_the_exact_gradient_takes_too_long(
    searched: Callable[..., Search], seconds: float, tried: str
) -> None:
    def pace(trials: Trials, change: Change) -> Pace:
        return Pace(0.0, (seconds if change.get("schedule.gradient") == "rtrl" else 1.0) * 1e-6 / trials.timesteps)

    remedies = [Remedy("exact gradients", [{"schedule.gradient": "rtrl"}])]
    remedies += [Remedy("approximate gradients", [{"schedule.gradient": "snap1"}])]
    found = searched(lambda training: 0.1 if training.change else 1.0, *remedies, pace=pace)
    assert set(found.results) == {tried}
    assert set(found.untried) == {"exact gradients"} - {tried}
