"""Mistakes in a task's data: each is an error that names the split, the place and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from helpers import CPU64, StubTask, folded, make_monitor, make_network, make_schedule, plain, random_batch

from seqrnn import evaluation, loop
from seqrnn.errors import DataError, Diverged
from seqrnn.tasks import checks
from seqrnn.tasks.protocol import Chunk, Stored

SOUND = random_batch(6, 3)
CLASSES = random_batch(6, 3, classes=True)


def changed(batch: Stored, **fields: Any) -> Stored:
    return Stored(replace(batch.chunk, **fields))


def with_value(batch: Stored, name: str, place: tuple[int, ...], value: float) -> Stored:
    """The batch with one input or target replaced, whose target is valid."""
    values, valid = getattr(batch.chunk, name).clone(), batch.chunk.valid.clone()
    values[place], valid[place[:2]] = value, True
    return changed(batch, **{name: values, "valid": valid})


@dataclass
class Splits(StubTask):
    """A task with validation and test data of its own."""

    validating: Any = (SOUND,)
    testing: Any = (SOUND,)

    def validation(self) -> Any:
        return self.validating

    def test(self) -> Any:
        return self.testing


def check(task: Any, dtype: torch.dtype = torch.float32) -> None:
    checks.check_data(task, 3, dtype)


def splits(batch: Any, split: str, sound: Stored = SOUND, **fields: Any) -> Splits:
    """A task whose data is sound but for one split, which is this batch, or these batches."""
    data = dict.fromkeys(("training", "validation", "test"), (sound,))
    data[split] = batch if isinstance(batch, list | tuple) else (batch,)
    return Splits([data["training"]], validating=data["validation"], testing=data["test"], **fields)


NOWHERE = torch.zeros(6, 3, dtype=torch.bool)
MISTAKES: dict[str, tuple[Any, str]] = {
    "no batch": ([], "the task gave no batch at all"),
    "batches of no timesteps": (random_batch(0, 3), "0 timesteps; it needs at least one"),
    "no target": (changed(SOUND, valid=NOWHERE), "valid"),
    "something else than a batch": ([torch.zeros(6, 3, 2)], "has no streams and no timesteps and no read"),
    "NaN in the inputs": (
        with_value(SOUND, "inputs", (4, 2, 1), math.nan),
        "input 1 of stream 2 at timestep 4 is nan; fill in what is missing$",
    ),
    "infinite targets": (
        with_value(SOUND, "targets", (5, 0, 0), -math.inf),
        "target 0 of stream 0 at timestep 5 is -inf; .*make `valid` false there$",
    ),
    "numbers too large": (
        with_value(SOUND, "inputs", (0, 1, 0), 1e300),
        r"is 1e\+300, which is too large for float32; scale the data, or set precision=float64$",
    ),
    "inputs of another width": (
        changed(SOUND, inputs=torch.ones(6, 3, 5)),
        r"inputs of shape \(6, 3, 5\) instead of \(6, 3, 2\) \(timesteps, streams, input_size\)",
    ),
    "targets without a last dimension": (
        changed(SOUND, targets=torch.ones(6, 3)),
        r"targets of shape \(6, 3\) instead of \(6, 3, 2\) \(timesteps, streams, output_size\)",
    ),
    "integer inputs": (
        changed(SOUND, inputs=torch.ones(6, 3, 2, dtype=torch.int64)),
        r"inputs are torch.int64.*float",
    ),
    "classes for a regression": (changed(SOUND, targets=torch.ones(6, 3, 2).long()), "targets are torch.int64"),
    "valid as numbers": (changed(SOUND, valid=torch.ones(6, 3)), r"valid is torch.float32, and should be bool"),
    "NumPy arrays": (changed(SOUND, starts=NOWHERE.numpy()), "starts should be a tensor, not ndarray"),
}


@pytest.mark.parametrize("split", ["training", "validation", "test"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_any_split_is_named_before_training(mistake: str, split: str) -> None:
    data, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=f"^{split} data.*{message}"):
        check(splits(data, split))


@pytest.mark.parametrize("split", ["training", "validation", "test"])
@pytest.mark.parametrize("number", [2, -1])
def test_a_class_that_does_not_exist_is_named(number: int, split: str) -> None:
    bad = with_value(CLASSES, "targets", (1, 1), number)
    with pytest.raises(DataError, match=f"^{split} data.* class {number}, and classes go from 0 to 1 "):
        check(splits(bad, split, CLASSES, loss="cross_entropy"))


def test_classes_are_whole_numbers() -> None:
    with pytest.raises(DataError, match=r"targets are torch.float64, and cross_entropy wants int64 .*targets.long"):
        check(splits(changed(CLASSES, targets=torch.ones(6, 3).double()), "test", CLASSES, loss="cross_entropy"))


def test_what_is_wrong_with_each_split_is_reported_at_once() -> None:
    wrong = with_value(SOUND, "inputs", (0, 0, 0), math.nan)
    with pytest.raises(DataError) as caught:
        check(Splits([[]], validating=[SOUND, wrong], testing=iter([SOUND])))
    training, validation, test = caught.value.problems
    assert training.startswith("training data: the task gave no batch")
    assert validation.startswith("validation data, batch 1: input 0 of stream 0 at timestep 0 is nan")
    assert test.startswith("test data: the task gave list_iterator, and should give a sequence of batches")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_batches_of_different_lengths_are_refused_where_they_are_evaluated(split: str) -> None:
    mixed = [random_batch(6, 3), random_batch(7, 3)]
    check(splits(mixed, "training"))
    with pytest.raises(DataError, match=f"{split} data: one batch has 6 timesteps and another 7, .*pad"):
        check(splits(mixed, split))


def test_timesteps_without_a_target_may_have_any_target() -> None:
    """For example NaN where a value is missing, or class -1 after the end of a sequence."""
    first = torch.ones(6, 3, dtype=torch.bool)
    first[3:] = False
    missing = SOUND.chunk.targets.clone()
    missing[3:] = math.nan
    padded = CLASSES.chunk.targets.clone()
    padded[3:] = -1
    check(splits(changed(SOUND, targets=missing, valid=first), "test"))
    check(splits(changed(CLASSES, targets=padded, valid=first), "test", CLASSES, loss="cross_entropy"))


def test_large_numbers_are_sound_in_double_precision() -> None:
    check(splits(with_value(SOUND, "inputs", (0, 1, 0), 1e300), "test"), torch.float64)


def test_long_sequences_are_checked_to_their_end_with_the_timestep_counted_from_their_beginning() -> None:
    batch = with_value(random_batch(2 * checks.CHUNK + 5, 2), "inputs", (2 * checks.CHUNK + 3, 1, 0), math.nan)
    with pytest.raises(DataError, match=f"stream 1 at timestep {2 * checks.CHUNK + 3} is nan"):
        check(splits(batch, "validation"))


@dataclass(frozen=True)
class Endless:
    """A batch without a valid target that counts what is read of it."""

    log: list[int]
    timesteps: int = 10**15
    streams: int = 3

    def read(self, start: int, stop: int) -> Chunk:
        self.log.append(stop - start)
        extent = stop - start, 3
        flags = torch.zeros(extent, dtype=torch.bool)
        return Chunk(torch.zeros(*extent, 2), torch.zeros(*extent, 2), flags, flags)


def test_the_search_for_a_valid_target_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SEARCHED", 10_000)
    batch = Endless([])
    check(splits(batch, "training"))
    assert 10_000 <= 3 * sum(batch.log) < 20_000
    with pytest.raises(DataError, match="training data: none of the 3,000 targets of the first epoch is valid"):
        check(splits(replace(batch, timesteps=1000), "training"))


# --- While training


def train(batches: Sequence[Sequence[Stored]], way: Any, loss: str = "mse", **cuts: Any) -> None:
    task = StubTask(batches, loss=loss)
    schedule = make_schedule(**{"window": 2, "streams": 3, "epochs": len(batches), **cuts})
    network = make_network("gru")
    strategy = way(network, task, torch.optim.SGD(network.parameters(), lr=0.1), schedule)
    loop.train(task, schedule, strategy, make_monitor(task, schedule))


@pytest.mark.parametrize("way", [plain, folded])
@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            changed(SOUND, targets=torch.ones(6, 3, 1).double()),
            r"targets of shape \(2, 3, 1\) instead of \(2, 3, 2\)",
        ),
        (changed(SOUND, inputs=torch.ones(6, 3, 4).double()), r"inputs of shape \(2, 3, 4\)"),
        (changed(CLASSES, targets=torch.full((6, 3), -100)), "a target is class -100, and classes go from 0 to 1"),
        (changed(CLASSES, targets=torch.full((6, 3), 2)), "a target is class 2, and classes go from 0 to 1"),
    ],
    ids=["targets", "inputs", "class to be ignored", "class beyond"],
)
def test_later_training_data_of_another_shape_or_class_is_an_error_in_every_strategy(
    batch: Stored, message: str, way: Any
) -> None:
    sound = SOUND if batch.chunk.targets.is_floating_point() else CLASSES
    with pytest.raises(DataError, match=f"training data, timesteps 0 to 1: {message}"):
        train([[sound], [batch]], way, "mse" if sound is SOUND else "cross_entropy")


@pytest.mark.parametrize("way", [plain, folded])
@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_training_data_that_is_not_finite_is_named_as_the_cause_of_a_loss_that_is_not(name: str, way: Any) -> None:
    bad = with_value(SOUND, name, (3, 1, 0), math.nan)
    with pytest.raises(DataError, match=f"training data of epoch 1: {name[:-1]} 0 of stream 1 at timestep 3 is nan"):
        train([[SOUND], [bad]], way)


def test_the_cause_is_found_where_it_reached_the_loss_by_the_carried_state() -> None:
    """NaN among inputs without a target shows in the loss of a later window."""
    valid, starts = torch.ones(6, 3, dtype=torch.bool), torch.zeros(6, 3, dtype=torch.bool)
    valid[:4] = False
    bad = changed(with_value(SOUND, "inputs", (0, 2, 1), math.nan), valid=valid, starts=starts)
    with pytest.raises(DataError, match="training data of epoch 0: input 1 of stream 2 at timestep 0 is nan"):
        train([[bad]], plain)


def test_a_training_that_diverges_on_sound_data_has_diverged() -> None:
    large = changed(SOUND, targets=SOUND.chunk.targets * 1e200)
    with pytest.raises(Diverged):
        train([[large]], plain)


# --- Data that was first read in an evaluation


class Keeping:
    """A batch that keeps what it has read, as a task may that computes its data."""

    def __init__(self, batch: Stored) -> None:
        self.batch, self.streams, self.timesteps = batch, batch.streams, batch.timesteps
        self.kept: dict[tuple[int, int], Chunk] = {}

    def read(self, start: int, stop: int) -> Chunk:
        if (start, stop) not in self.kept:
            chunk = self.batch.read(start, stop)
            self.kept[start, stop] = replace(chunk, inputs=chunk.inputs * 2, valid=chunk.valid.clone())
        return self.kept[start, stop]


def test_data_that_was_first_read_in_an_evaluation_can_be_trained_on() -> None:
    batch: Any = Keeping(SOUND)
    network, task, schedule = make_network("gru", kernel="torch"), StubTask([[batch]]), make_schedule(streams=3)
    evaluation.predict(network, [batch], CPU64)
    strategy = plain(network, task, torch.optim.SGD(network.parameters(), lr=0.1), schedule)
    loop.train(task, schedule, strategy, make_monitor(task, schedule))
