"""How a schedule cuts sequences into windows and windows into updates, and which schedules it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any, NamedTuple

import pytest
from helpers import SCHEDULE, lengths, make_schedule, windows_of
from hypothesis import given
from hypothesis import strategies as st

from seqrnn import registry
from seqrnn.schedule import (
    Schedule,
    Window,
    WindowRange,
    WindowSampler,
    cut_windows,
    group_by_extent,
    split_updates,
)

TIMESTEPS = st.integers(1, 40)


class Sequences(NamedTuple):
    timesteps: int
    streams: int = 1


def batches_of(timesteps: Sequence[int]) -> list[Sequences]:
    return [Sequences(count) for count in timesteps]


def groups_of(schedule: Schedule, batches: Sequence[Sequences]) -> list[list[tuple[Sequences, Window]]]:
    """Returns the windows of each update of a run over such epochs."""
    ranges = WindowSampler(schedule, lambda epoch: batches).take(10**9)
    return [schedule.windows_of(update) for update in split_updates(ranges, schedule.windows_per_update)]


@given(cuts=lengths(12), timesteps=TIMESTEPS)
def test_the_fresh_parts_cover_every_timestep_once_and_in_order(cuts: dict[str, Any], timesteps: int) -> None:
    windows = list(cut_windows(timesteps, cuts["window"], cuts["stride"]))
    assert [t for window in windows for t in range(window.fresh, window.stop)] == list(range(timesteps))


@given(cuts=lengths(12), timesteps=TIMESTEPS)
def test_a_window_reaches_back_as_far_as_it_may_and_no_further(cuts: dict[str, Any], timesteps: int) -> None:
    move = cuts["stride"] or cuts["window"] or timesteps
    for number, window in enumerate(cut_windows(timesteps, cuts["window"], cuts["stride"])):
        end = (number + 1) * move
        assert window.fresh == number * move
        assert window.stop == min(end, timesteps)
        assert window.start == max(0, end - (cuts["window"] or end))
        assert cuts["window"] is None or window.stop - window.start <= cuts["window"]


@given(cuts=lengths(12), timesteps=TIMESTEPS)
def test_the_state_before_a_window_was_kept_by_exactly_one_earlier_window(
    cuts: dict[str, Any], timesteps: int
) -> None:
    windows = list(cut_windows(timesteps, cuts["window"], cuts["stride"]))
    for number, window in enumerate(windows):
        if window.start > 0:
            keepers = [earlier for earlier in windows[:number] if earlier.keep == window.start]
            assert len(keepers) == 1
            assert keepers[0].fresh < window.start <= keepers[0].stop


@given(cuts=lengths(12), timesteps=TIMESTEPS, skipped=st.integers(0, 5))
def test_windows_from_a_later_timestep_on_are_those_of_the_whole_sequence(
    cuts: dict[str, Any], timesteps: int, skipped: int
) -> None:
    window, stride = cuts["window"], cuts["stride"]
    first = skipped * (stride or window or timesteps)
    expected = [each[:3] for each in cut_windows(timesteps, window, stride) if each.fresh >= first]
    assert [each[:3] for each in cut_windows(timesteps, window, stride, first)] == expected


@given(
    cuts=lengths(),
    batches=st.lists(st.tuples(TIMESTEPS, st.integers(1, 4)), min_size=1, max_size=4),
    most=st.integers(1, 60),
)
def test_groups_hold_all_windows_in_order_with_equal_extents_and_within_the_limit(
    cuts: dict[str, Any], batches: list[tuple[int, int]], most: int
) -> None:
    schedule = make_schedule(**cuts)
    windows = [(Sequences(*sizes), each) for sizes in batches for each in windows_of(schedule, sizes[0])]
    groups = list(group_by_extent(windows, most))
    assert [each for group in groups for each in group] == windows
    for group in groups:
        assert len({(w.stop - w.start, w.fresh - w.start) for _, w in group}) == 1
        assert len(group) == 1 or sum(batch.streams * (w.stop - w.start) for batch, w in group) <= most


@given(cuts=lengths(), timesteps=st.lists(TIMESTEPS, min_size=1, max_size=5))
def test_updates_group_all_windows_in_order_and_only_the_last_group_may_be_small(
    cuts: dict[str, Any], timesteps: list[int]
) -> None:
    schedule, batches = make_schedule(**cuts), batches_of(timesteps)
    groups = groups_of(schedule, batches)
    passes = cuts["update_every"] // (cuts["stride"] or cuts["window"]) if cuts["update_every"] else 1
    assert {len(group) for group in groups[:-1]} <= {passes}
    assert 1 <= len(groups[-1]) <= passes
    expected = [(id(batch), window) for batch in batches for window in windows_of(schedule, batch.timesteps)]
    assert [(id(batch), window) for group in groups for batch, window in group] == expected


@given(
    cuts=lengths(),
    timesteps=st.lists(TIMESTEPS, min_size=1, max_size=5),
    epochs=st.integers(1, 3),
    max_updates=st.none() | st.integers(1, 50),
)
def test_counts_are_those_of_the_windows_and_updates(
    cuts: dict[str, Any], timesteps: list[int], epochs: int, max_updates: int | None
) -> None:
    schedule = make_schedule(**cuts, epochs=epochs, max_updates=max_updates)
    assert schedule.count_windows(timesteps[0]) == len(windows_of(schedule, timesteps[0]))
    updates = len(groups_of(schedule, batches_of(timesteps)))
    assert schedule.count_updates(batches_of(timesteps)) == min(updates, max_updates or updates)


@given(
    cuts=lengths(),
    timesteps=st.lists(TIMESTEPS, min_size=1, max_size=3),
    epochs=st.integers(1, 4),
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    changing=st.booleans(),
)
def test_a_sampler_reads_as_many_whole_updates_as_it_is_asked_for(
    cuts: dict[str, Any], timesteps: list[int], epochs: int, counts: list[int], changing: bool
) -> None:
    schedule = make_schedule(**cuts, epochs=epochs)
    kept = batches_of(timesteps)
    data = [batches_of(timesteps) if changing else kept for _ in range(epochs)]
    expected: list[tuple[int, list[tuple[int, Window]]]] = []
    for epoch, batches in enumerate(data):  # no update reaches from one epoch into the next
        windows = [(id(batch), window) for batch in batches for window in windows_of(schedule, batch.timesteps)]
        expected += [
            (epoch, windows[first : first + schedule.windows_per_update])
            for first in range(0, len(windows), schedule.windows_per_update)
        ]

    sampler, found, asked = WindowSampler(schedule, lambda epoch: data[epoch]), [], cycle(counts)
    while ranges := sampler.take(count := next(asked)):
        taken = list(split_updates(ranges, schedule.windows_per_update))
        assert len(taken) == min(count, len(expected) - len(found))
        for update in taken:
            assert len({each.epoch for each in update}) == 1
            found.append((update[0].epoch, [(id(batch), window) for batch, window in schedule.windows_of(update)]))
    assert found == expected


def test_an_epoch_that_is_repeated_unchanged_is_one_range() -> None:
    schedule = make_schedule(window=2, update_every=4, epochs=7)
    (batch,) = batches = batches_of([5])  # three windows, two updates
    sampler = WindowSampler(schedule, lambda epoch: batches)
    assert sampler.take(1) == [WindowRange(0, batch, 0, 2, False)]
    assert sampler.take(6) == [
        WindowRange(0, batch, 2, 1, True),
        WindowRange(1, batch, 0, 3, True, epochs=2),
        WindowRange(3, batch, 0, 2, False),
    ]
    assert sampler.take(100) == [WindowRange(3, batch, 2, 1, True), WindowRange(4, batch, 0, 3, True, epochs=3)]
    assert sampler.take(1) == []


@given(window=st.none() | st.integers(1, 12), timesteps=st.lists(TIMESTEPS, min_size=1, max_size=4))
def test_by_default_the_stride_is_a_window_and_an_update_is_a_stride(
    window: int | None, timesteps: list[int]
) -> None:
    batches = batches_of(timesteps)
    default = groups_of(make_schedule(window=window), batches)
    if window is None:
        assert [[(w.start, w.stop) for _, w in group] for group in default] == [[(0, T)] for T in timesteps]
    else:
        assert default == groups_of(make_schedule(window=window, stride=window, update_every=window), batches)


def test_a_known_schedule_cuts_known_windows() -> None:
    schedule = make_schedule(window=5, stride=2, update_every=4)
    found = [[window[:3] for _, window in group] for group in groups_of(schedule, batches_of([7, 3]))]
    assert found == [
        [(0, 0, 2), (0, 2, 4)],
        [(1, 4, 6), (3, 6, 7)],
        [(0, 0, 2), (0, 2, 3)],
    ]


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"window": 4, "stride": 5}, ["schedule.stride=5", "schedule.window=4", "at most window"]),
        ({"window": 4, "update_every": 10}, ["schedule.update_every=10", "stride of 4", "8"]),
        ({"window": 4, "update_every": 11}, ["schedule.update_every=11", "stride of 4", "12"]),
        ({"window": 9, "stride": 4, "update_every": 3}, ["schedule.update_every=3", "stride of 4", "nearest", "4"]),
        ({"window": None, "stride": 3, "update_every": 4}, ["schedule.update_every=4", "stride of 3", "3"]),
        ({"update_every": 4}, ["schedule.update_every=4", "schedule.window", "schedule.stride", "window=null"]),
    ],
)
def test_lengths_that_do_not_fit_together_are_refused_with_the_keys_and_a_remedy(
    changes: dict[str, Any], fragments: list[str]
) -> None:
    (problem,) = registry.problems_with(Schedule, {**SCHEDULE, **changes}, "schedule")
    assert all(fragment in problem for fragment in fragments)


@pytest.mark.parametrize(
    "key", ["epochs", "streams", "window", "stride", "update_every", "evaluate_every", "patience"]
)
@pytest.mark.parametrize(
    ("value", "shown", "reason"),
    [
        (0, "0", "greater than or equal to 1"),
        (-3, "-3", "greater than or equal to 1"),
        (True, "true", "valid integer"),
        (2.0, "2.0", "valid integer"),
        (2.5, "2.5", "valid integer"),
        ("2", "'2'", "valid integer"),
        (10**30, str(10**30), "less than or equal to"),
    ],
)
def test_a_count_is_a_positive_integer_and_nothing_like_one(key: str, value: Any, shown: str, reason: str) -> None:
    (problem,) = registry.problems_with(Schedule, {**SCHEDULE, key: value}, "schedule")
    assert problem.startswith(f"schedule.{key}={shown}: ")
    assert reason in problem


def test_all_lengths_that_do_not_fit_together_are_reported_at_once() -> None:
    changes = {"window": 5, "stride": 6, "update_every": 7, "warmup": 3, "lr_decay": "onecycle"}
    problems = registry.problems_with(Schedule, {**SCHEDULE, **changes}, "schedule")
    assert [problem.split("=")[0] for problem in problems] == [
        "schedule.stride", "schedule.update_every", "schedule.warmup",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("carry", 1, "valid boolean"),
        ("clip_norm", 0.0, "greater than 0"),
        ("clip_norm", float("inf"), "finite"),
        ("lr_final", 1.5, "less than or equal to 1"),
        ("lr_reduction", float("nan"), "finite"),
        ("warmup", -1, "greater than or equal to 0"),
        ("lr_decay", "cosin", "'cosine'"),
    ],
)
def test_other_settings_are_held_to_their_bounds(key: str, value: Any, reason: str) -> None:
    (problem,) = registry.problems_with(Schedule, {**SCHEDULE, key: value}, "schedule")
    assert problem.startswith(f"schedule.{key}={value}: ")
    assert reason in problem


@given(cuts=lengths(12))
def test_every_other_triple_of_lengths_is_accepted(cuts: dict[str, Any]) -> None:
    assert registry.problems_with(Schedule, {**SCHEDULE, **cuts}, "schedule") == []


@pytest.mark.parametrize(("clip_norm", "advised"), [(None, True), (5.0, True), (1.0, False), (0.1, False)])
def test_clipping_is_advised_only_where_gradients_are_not_clipped_so_far(
    clip_norm: float | None, advised: bool
) -> None:
    advice = make_schedule(clip_norm=clip_norm).divergence_advice
    assert advice == "a smaller optimizer.lr" + " or schedule.clip_norm=1" * advised
