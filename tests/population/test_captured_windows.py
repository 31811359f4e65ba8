"""Windows of all members that are captured and repeated: the same bits as windows that are computed as usual."""

from __future__ import annotations

import copy
from typing import Any
from unittest import mock

import pytest
import torch
from helpers import CPU64, HEAD, StubTask, make_network, random_batch
from test_capture import Cell, Counting, count
from test_population import Runs, trained
from torch import Tensor

from seqrnn.losses import loss_of
from seqrnn.models.network import Network
from seqrnn.population import updates as population_updates
from seqrnn.population.captured import CapturedWindows
from seqrnn.population.joint import Carried, JointNetwork, joint_window
from seqrnn.population.reading import JointReader
from seqrnn.population.stack import Row, Stack
from seqrnn.population.steps import rule_of
from seqrnn.schedule import Window
from seqrnn.strategies.reading import WindowReader
from seqrnn.strategies.replay import Recording
from seqrnn.tasks.checks import DataFormat

SCHEDULES: dict[str, dict[str, Any]] = {
    "online": {"window": 1, "stride": 1},
    "tbptt": {"window": 8, "stride": 8},
    "fresh": {"window": 8, "stride": 8, "carry": False},
    "overlap, accumulated": {"window": 12, "stride": 4, "update_every": 12},
    "whole": {"window": None, "carry": False},
}


def weights_after(runs: Runs, updates: int, engine: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Trains a population whose windows this engine captures; returns the weights of each member."""
    monkeypatch.setattr(population_updates, "engine_on", lambda device: engine)
    found, _ = trained(runs, updates)
    return [{name: value.clone() for name, value in member.network.state_dict().items()} for member in found]


@pytest.mark.parametrize("model", ["elman", "gru", "lstm", "indrnn", "mingru", "cornn", "rnn", "tcn"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.covering(1, long=2)
def test_repeated_windows_give_the_same_bits(model: str, schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Counting()
    runs = [Runs(model, "sgd", captures=captures, **SCHEDULES[schedule]) for captures in (False, True)]
    for each in runs:  # all targets are valid, and no sequence starts in the middle, so that layouts repeat
        each.tasks = [StubTask([[random_batch(24, 2, seed=seed, valid=1.0, starts=0.0)]]) for seed in range(3)]
    updates = 40 if schedule == "online" else 20
    usual, repeated = (weights_after(each, updates, engine, monkeypatch) for each in runs)
    for one, other in zip(usual, repeated, strict=True):
        for name, value in one.items():
            assert torch.equal(value, other[name]), name
    assert engine.repeated > 4


def test_missing_targets_and_starts_are_part_of_the_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Counting()
    runs = [Runs("gru", "sgd", captures=captures, window=6, stride=6) for captures in (False, True)]
    usual, repeated = (weights_after(each, 36, engine, monkeypatch) for each in runs)
    for one, other in zip(usual, repeated, strict=True):
        for name, value in one.items():
            assert torch.equal(value, other[name]), name
    assert engine.captured > 2
    assert engine.repeated > 8


def joint(networks: list[Network]) -> JointNetwork:
    """Returns what computes windows of these networks together."""
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.1) for network in networks]
    rows = [Row(each, own, found) for each, own in zip(networks, optimizers, strict=True) if (found := rule_of(own))]
    return JointNetwork(networks[0], loss_of("mse", False), Stack(rows))


def test_a_member_that_begins_a_batch_is_computed_with_one_that_continues() -> None:
    """One of three begins with the initial state, and two with a carried one; in the last, sequences start."""
    windows = [Window(0, 0, 4, 4), Window(4, 4, 8, 8), Window(8, 8, 12, 12)]
    batches = [random_batch(16, 2, seed=seed, starts=0.0 if seed < 2 else 0.5) for seed in range(3)]
    networks = [make_network("rnn", seed=seed, kernel="torch") for seed in range(3)]
    generator = torch.Generator().manual_seed(0)
    carried_states = [
        tuple(torch.rand(part.shape, generator=generator, dtype=part.dtype) for part in network.initial_state(2))
        for network in networks
    ]

    def compute(numbers: list[int]) -> Any:
        form, sides = DataFormat(2, 2, classes=False), [(batches[n], windows[n]) for n in numbers]
        carried: list[Carried] = [{windows[n].start: carried_states[n]} for n in numbers]
        pieces = [WindowReader(CPU64, form).piece(batch, window.start, window.stop) for batch, window in sides]
        own = [windows[n] for n in numbers]
        window = joint_window(own, JointReader()(pieces, own), carried)
        return joint([copy.deepcopy(networks[n]) for n in numbers])(window)

    together = compute([0, 1, 2])
    for number in range(3):
        alone = compute([number])
        torch.testing.assert_close(together.losses[number], alone.losses[0], rtol=1e-12, atol=0)
        for one, other in zip(together.gradients, alone.gradients, strict=True):
            torch.testing.assert_close(one[number], other[0], rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(together.kept[0][number], alone.kept[0][0], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (lambda cell, h: 0.01 * count(cell), "keeps something in Python"),
        (lambda cell, h: 0.0 * count(cell), "keeps something in Python"),  # the same numbers
        (lambda cell, h: 0.0, None),
    ],
)
def test_a_cell_that_cannot_be_repeated_is_computed_as_usual(extra: Any, reason: str | None) -> None:
    torch.manual_seed(0)
    networks = [Network(Cell(extra), 2, "torch", **HEAD).double() for _ in range(2)]  # type: ignore[arg-type]
    usual, network = joint(copy.deepcopy(networks)), joint(networks)
    notes: list[str] = []
    engine = Counting()
    compute, side = CapturedWindows(network, engine, notes.append), Window(0, 0, 4, 4)
    calls = mock.Mock(side_effect=network)
    compute.network = calls
    calls.modules = network.modules
    for seed in range(10):
        batches = [random_batch(4, 2, seed=10 * seed + n, valid=1.0, starts=0.0) for n in range(2)]
        pieces = [WindowReader(CPU64, DataFormat(2, 2, classes=False)).piece(batch, 0, 4) for batch in batches]
        window = joint_window([side] * 2, JointReader()(pieces, [side] * 2), [{}, {}])
        found, expected = compute(window), usual(window)
        if reason is None:
            assert found.losses is not None
            assert expected.losses is not None
            assert torch.equal(found.losses, expected.losses)
    if reason is None:
        assert not notes
        assert (engine.repeated, calls.call_count) == (7, 4)  # two as usual, one captured, one both ways
    else:
        assert len(notes) == 1
        assert reason in notes[0]
        assert (engine.repeated, calls.call_count) == (1, 10)


def test_windows_of_much_memory_are_computed_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqrnn.strategies.replay.MOST_BYTES", 1000)
    network = joint([make_network("gru", seed=seed, kernel="torch") for seed in range(2)])
    notes: list[str] = []
    compute, side = CapturedWindows(network, Recording(), notes.append), Window(0, 0, 8, 8)
    batch = random_batch(8, 2, valid=1.0, starts=0.0)
    pieces = [WindowReader(CPU64, DataFormat(2, 2, classes=False)).piece(batch, 0, 8)] * 2
    window = joint_window([side] * 2, JointReader()(pieces, [side] * 2), [{}, {}])
    usual = network(window).losses
    assert usual is not None
    for _ in range(5):
        losses = compute(window).losses
        assert losses is not None
        assert torch.equal(losses, usual)
    assert len(notes) == 1
    assert "not be faster" in notes[0]


def test_a_reason_that_holds_for_several_layouts_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqrnn.strategies.replay.MOST_BYTES", 1000)
    network = joint([make_network("gru", seed=seed, kernel="torch") for seed in range(2)])
    notes: list[str] = []
    compute, batch = CapturedWindows(network, Recording(), notes.append), random_batch(8, 2, valid=1.0, starts=0.0)
    pieces = [WindowReader(CPU64, DataFormat(2, 2, classes=False)).piece(batch, 0, 8)] * 2
    for stop in (4, 8):
        sides = [Window(0, 0, stop, stop)] * 2
        for _ in range(4):
            compute(joint_window(sides, JointReader()(pieces, sides), [{}, {}]))
    assert len(notes) == 1


def test_recording_takes_what_is_made_in_the_shape_of_a_tensor_that_was_not_written() -> None:
    source = torch.arange(3.0)

    def function() -> list[torch.Tensor]:
        first = torch.empty(3)
        second, zeros = torch.empty_like(first), torch.zeros_like(first)
        torch.mul(source, 2, out=first)
        torch.add(first, 1, out=second)
        return [second + zeros]

    program = Recording().capture(function)
    for _ in range(2):
        source.add_(1)
        program()
        assert torch.equal(program.results[0], 2 * source + 1)
