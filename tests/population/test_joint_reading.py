"""The data of members' windows side by side: what each member reads alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU64, make_network, make_schedule, random_batch
from test_captured_windows import joint

from seqrnn.population.joint import joint_window
from seqrnn.population.plans import planned
from seqrnn.population.reading import JointReader
from seqrnn.schedule import Window, WindowSampler, split_updates
from seqrnn.strategies.reading import WindowReader
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Stored

FORM = DataFormat(2, 2, classes=False)
VALID: dict[str, tuple[float, ...]] = {"all": (1.0,) * 3, "none": (0.0,) * 3, "some": (0.6, 0.3, 0.8),
                                       "of one": (0.0, 1.0, 0.0), "all and some": (1.0, 0.5, 1.0)}  # fmt: skip


def with_nan(batch: Stored) -> Stored:
    """Makes targets that are not valid NaN, as a task may."""
    targets = batch.chunk.targets.clone()
    targets[~batch.chunk.valid] = np.nan
    return Stored(replace(batch.chunk, targets=targets))


@pytest.mark.parametrize("timesteps", ["the same", "others"])
@pytest.mark.parametrize("valid", VALID)
@pytest.mark.parametrize("starts", [0.0, 0.3])
def test_joint_data_is_what_each_member_reads(valid: str, starts: float, timesteps: str) -> None:
    batches = [
        with_nan(random_batch(16, 2, seed=n, valid=share, starts=starts)) for n, share in enumerate(VALID[valid])
    ]
    readers = [WindowReader(CPU64, FORM) for _ in batches]
    joint_reader = JointReader()
    for begin in (0, 4, 8, 0):
        offsets = (0, 0, 0) if timesteps == "the same" else (0, 2, 4)
        windows = [Window(begin + more, begin + more + 1, begin + more + 4, begin + more + 4) for more in offsets]
        alone = [WindowReader(CPU64, FORM)(batch, window) for batch, window in zip(batches, windows, strict=True)]
        ends = (0, 16) if timesteps == "the same" else None
        pieces = [
            reader.piece(batch, *(ends or (window.start, window.stop)))
            for reader, batch, window in zip(readers, batches, windows, strict=True)
        ]
        data = joint_reader(pieces, windows)
        assert data.counts == [each.count for each in alone]
        for number, each in enumerate(alone):
            assert torch.equal(data.inputs[number], each.inputs)
            restarts = {step: streams[number] for step, streams in data.restarts.items() if streams[number].any()}
            assert restarts.keys() == {step for step, _ in each.restarts}
            assert all(torch.equal(restarts[step], streams) for step, streams in each.restarts)
            if data.targets is None:
                assert not any(data.counts)
                continue
            own = data.targets[number] if data.is_real is None else data.targets[number][data.is_real[number]]
            assert torch.equal(own, each.targets)
            assert data.targets.isfinite().all()


def test_targets_that_are_not_valid_leave_no_trace_in_losses_and_gradients() -> None:
    """One member has fewer valid targets than the other; those that are not valid are NaN, or zero."""
    window = Window(0, 0, 8, 8)
    batches = [random_batch(8, 2, seed=n, valid=share) for n, share in enumerate((0.9, 0.4))]
    found = []
    for own in (batches, [with_nan(batch) for batch in batches]):
        pieces = [WindowReader(CPU64, FORM).piece(batch, 0, 8) for batch in own]
        network = joint([make_network("gru", seed=seed, kernel="torch") for seed in range(2)])
        found.append(network(joint_window([window] * 2, JointReader()(pieces, [window] * 2), [{}, {}])))
    assert found[0].losses is not None
    assert found[1].losses is not None
    assert torch.equal(found[0].losses, found[1].losses)
    for one, other in zip(found[0].gradients, found[1].gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"window": 4, "stride": 4},
        {"window": 6, "stride": 3, "update_every": 6},
        {"window": None, "carry": False},
        {"window": 5, "stride": 5, "update_every": 10, "max_updates": 7},
    ],
)
def test_plans_hold_the_windows_of_the_schedule(changes: dict[str, Any]) -> None:
    schedule = make_schedule(**changes, epochs=3)
    epochs = [[random_batch(length, 2, seed=length) for length in (23, 12, 23)], [random_batch(9, 3, seed=0)]]
    sampler = WindowSampler(schedule, lambda epoch: epochs[epoch % 2])
    for count in (1, 4, 2, 100):
        ranges = sampler.take(count)
        batches, plan = planned(ranges, schedule)
        updates = list(split_updates(ranges, schedule.windows_per_update))
        assert len(plan.updates) == len(updates)
        for update, own in zip(plan.updates, updates, strict=True):
            expected = schedule.windows_of(own)
            assert [(id(batches[at.number]), window) for at, window in update.windows] == [
                (id(batch), window) for batch, window in expected
            ]
            assert update.epoch == own[0].epoch
            assert update.timesteps == sum(batch.streams * (each.stop - each.fresh) for batch, each in expected)
    assert all(one is not other for one, other in pairwise(batches))
