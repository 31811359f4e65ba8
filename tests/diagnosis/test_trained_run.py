"""A run made again from its directory: its data in order, excerpts of it, and segments of evaluation sequences."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import StubTask, make_network, make_schedule, make_task, random_batch, windows_of
from runs import by_hand, make_run

from seqrnn.diagnosis.trained_run import SETTLE, TrainedRun
from seqrnn.errors import DataError
from seqrnn.models.unroll import unroll

# --- The timeline: one batch after another, epoch after epoch


def all_timesteps(task: Any, streams: int, epochs: int) -> list[tuple[Any, int]]:
    return [
        (batch, at)
        for epoch in range(epochs)
        for batch in task.train(epoch, streams)
        for at in range(batch.timesteps)
    ]


def test_every_timestep_of_a_timeline_is_found() -> None:
    epochs = [
        [random_batch(length, 2, seed=10 * epoch + n) for n, length in enumerate((5, 1, 8))] for epoch in (0, 1)
    ]
    task = StubTask(epochs)
    timeline = by_hand(make_network("gru").cell, task).data
    assert timeline.epoch_timesteps == 14
    for order in (range(40), reversed(range(40)), [3, 39, 0, 20, 13, 14]):
        expected = all_timesteps(task, 2, 3)
        for timestep in order:
            batch, at = timeline.find(timestep)
            assert batch is expected[timestep][0]
            assert at == expected[timestep][1]


# --- The position that a run ended at


@pytest.mark.first(2)
@pytest.mark.parametrize(
    "overrides",
    [
        ("task=integral", "task.train_timesteps=3000", "schedule.streams=4", "schedule.window=50"),
        ("task=integral", "task.train_timesteps=3000", "schedule.streams=4", "schedule.max_updates=7"),
        ("task=integral", "task.train_timesteps=300", "schedule.streams=3", "schedule.epochs=3",
         "schedule.window=7", "schedule.max_updates=33"),
        ("task=sincos", "task.continuous=false", "task.train_pieces=10", "schedule=minibatch", "schedule.streams=4",
         "schedule.epochs=3", "schedule.max_updates=8"),
        ("task=sine", "schedule=online", "schedule.epochs=2", "schedule.max_updates=33"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_position_is_the_number_of_timesteps_that_training_read(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    trained = TrainedRun(make_run(tmp_path / "run", *overrides))
    schedule, task = trained.components.schedule, trained.components.task
    made, steps = trained.summary["position"], 0  # count windows by hand
    for epoch in range(schedule.epochs):
        windows = [w for batch in task.train(epoch, schedule.streams) for w in windows_of(schedule, batch.timesteps)]
        for first in range(0, len(windows), schedule.windows_per_update):
            if made:
                made -= 1
                steps += sum(
                    window.stop - window.fresh for window in windows[first : first + schedule.windows_per_update]
                )
    assert trained.position == steps
    assert trained.updates_made == trained.summary["position"]


# --- Stretches


@pytest.mark.parametrize("starts", [0.0, 0.02])
def test_a_stretch_is_data_and_the_state_in_which_the_network_comes_to_it(starts: float) -> None:
    batch = random_batch(3 * SETTLE, 3, starts=starts)
    trained = by_hand(make_network("gru").cell, StubTask([[batch]]))
    excerpt = trained.excerpt(2 * SETTLE, 50, streams=2)
    whole = batch.read(0, batch.timesteps)
    assert torch.equal(excerpt.chunk.inputs, whole.inputs[2 * SETTLE : 2 * SETTLE + 50, :2])
    assert torch.equal(excerpt.chunk.valid, whole.valid[2 * SETTLE : 2 * SETTLE + 50, :2])
    first = SETTLE
    with torch.no_grad():
        _, state = unroll(
            trained.network.recur,
            trained.network.initial_state,
            whole.inputs[first : 2 * SETTLE, :2],
            whole.starts[first : 2 * SETTLE, :2],
            trained.network.initial_state(2),
        )
    for own, expected in zip(excerpt.state, state, strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-12)


def test_a_stretch_near_the_end_of_a_batch_is_its_end_and_one_of_a_short_batch_all_of_it() -> None:
    long, short = random_batch(200, 2, seed=1), random_batch(90, 2, seed=2)
    trained = by_hand(make_network("gru").cell, StubTask([[long, short]]))
    near = trained.excerpt(190, 50)
    assert torch.equal(near.chunk.inputs, long.chunk.inputs[150:])
    all_of_it = trained.excerpt(200 + 80, 50)
    assert torch.equal(all_of_it.chunk.inputs, short.chunk.inputs)
    assert all(not part.any() for part in all_of_it.state)


def test_stretches_ahead_lie_behind_what_was_trained_on_and_have_one_length() -> None:
    epochs = [[random_batch(1000, 2, seed=epoch), random_batch(60, 2, seed=100 + epoch)] for epoch in range(8)]
    task = StubTask(epochs)
    trained = by_hand(make_network("gru").cell, task)
    trained.summary = {"timesteps": 2 * 1060, "position": 1060, "planned_updates": 1060}
    found = list(trained.upcoming(10, 100))
    assert {len(excerpt.chunk.inputs) for excerpt in found} == {100}
    assert len(found) >= 8
    trained = epochs[0][0].chunk.inputs
    places = []
    for excerpt in found:
        for epoch, (batch, _) in enumerate(epochs):
            for first in range(901):
                if torch.equal(batch.chunk.inputs[first : first + 100], excerpt.chunk.inputs):
                    places.append(1060 * epoch + first)
        assert not any(torch.equal(trained[at : at + 100], excerpt.chunk.inputs) for at in range(901))
    assert len(places) == len(found)
    assert all(later > earlier for earlier, later in itertools.pairwise(places))


# --- Segments


@pytest.mark.parametrize(
    ("timesteps", "streams", "starts", "valid"),
    [
        (60, 20, 0.0, 1.0),
        (60, 20, 0.05, 0.3),
        (60, 3, 0.05, 0.3),
        (61, 1, 0.0, 0.5),
        (1, 20, 0.0, 1.0),
        (9, 40, 0.4, 0.2),
    ],
)
def test_segments_end_at_targets_and_never_cross_a_start(
    timesteps: int, streams: int, starts: float, valid: float
) -> None:
    batch = random_batch(timesteps, streams, starts=starts, valid=valid)
    trained = by_hand(make_network("lstm").cell, StubTask([[batch]]))
    segments, chunk = trained.segments(), trained.validation
    length, cases = segments.inputs.shape[:2]
    assert cases <= 64
    states = dict(enumerate(zip(*trained.states, strict=True)))
    for case in range(cases):
        places = [
            (first, stream)
            for stream in range(chunk.valid.shape[1])
            for first in range(timesteps - length + 1)
            if torch.equal(chunk.inputs[first : first + length, stream], segments.inputs[:, case])
        ]
        ((first, stream),) = places
        end = first + length - 1
        assert chunk.valid[end, stream]
        assert torch.equal(chunk.targets[end, stream], segments.targets[case])
        assert not chunk.starts[first + 1 : end + 1, stream].any()
        for own, part in zip(segments.state, states[first], strict=True):
            assert torch.equal(own[:, case], part[:, stream])
    assert 1 <= segments.sequences <= min(cases, streams)


def test_segments_of_sequences_that_are_many_and_whole_are_whole() -> None:
    trained = by_hand(make_network("gru").cell, StubTask([[random_batch(30, 16, starts=0.0, valid=1.0)]]))
    assert trained.segments().inputs.shape == (30, 16, 2)
    assert trained.segments(longest=10, count=5).inputs.shape == (10, 5, 2)
    few = by_hand(make_network("gru").cell, StubTask([[random_batch(30, 2, starts=0.0, valid=1.0)]]))
    assert few.segments().inputs.shape[0] == 15


def test_without_a_valid_target_there_are_no_segments() -> None:
    trained = by_hand(make_network("gru").cell, StubTask([[random_batch(30, 4, valid=0.0)]]))
    with pytest.raises(DataError, match="no valid target"):
        trained.segments()


def test_states_are_those_before_each_timestep() -> None:
    batch = random_batch(20, 3, starts=0.2, valid=1.0)
    trained = by_hand(make_network("lstm", num_layers=2).cell, StubTask([[batch]]))
    for timestep in (0, 1, 7, 19):
        chunk = batch.read(0, timestep + 1)
        state = trained.network.initial_state(3)
        if timestep:
            _, state = unroll(
                trained.network.recur, trained.network.initial_state, chunk.inputs[:-1], chunk.starts[:-1], state
            )
        fresh = chunk.starts[timestep]
        for own, expected in zip(trained.states, state, strict=True):
            torch.testing.assert_close(own[timestep][:, ~fresh], expected[:, ~fresh])
            assert not own[timestep][:, fresh].any()


def test_training_data_of_any_length_is_found_by_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task("integral", train_timesteps=10**12, sequence_length=1000)
    monkeypatch.setattr(type(task.train(0, 4)), "__iter__", lambda self: pytest.fail("walks through all batches"))
    run = by_hand(make_network("gru", 1, 1).cell, task, make_schedule(streams=4))
    assert run.data.epoch_timesteps == 10**12 // 4
    assert run.data.all_timesteps == 10**12
    assert run.data.steps_per_stream(4 * (10**11 + 7)) == 10**11 + 7
    batch, first = run.data.find(10**11 + 7)
    assert (batch.timesteps, first) == (1000, 7)


def test_excerpts_of_long_streams_are_near_each_other() -> None:
    """Generated data is generated from its start, so an excerpt far ahead would take as long as a training."""
    task = make_task("integral", train_timesteps=10**12)
    run = by_hand(make_network("gru", 1, 1).cell, task, make_schedule(streams=2))
    run.summary |= {"timesteps": 2000, "position": 1, "planned_updates": 1}
    assert len(list(run.upcoming(3, 20))) == 3
