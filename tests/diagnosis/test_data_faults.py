"""Faults that lie in the data are found, and healthy data is not blamed."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from runs import Dated, by_hand, delay_line
from torch import nn

from seqrnn import metrics, registry
from seqrnn.diagnosis import altered_data
from seqrnn.diagnosis.altered_data import Compared, LessData, compare, delayed, standardised
from seqrnn.diagnosis.budget import TooSlow
from seqrnn.diagnosis.instruments.data_size import DataSizeInstrument
from seqrnn.diagnosis.instruments.future import FutureInstrument
from seqrnn.diagnosis.instruments.inputs import InputsInstrument, far_from_standardised, moments
from seqrnn.diagnosis.instruments.labels import Labels, LabelsInstrument, line, separated
from seqrnn.diagnosis.instruments.left_out import LeftOutInstrument
from seqrnn.diagnosis.instruments.losses import Losses, LossesInstrument, as_trial, share_of_outliers
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.errors import DataError
from seqrnn.tasks.protocol import Batch, Chunk, Stored, stored

UNITS, TIMESTEPS, STREAMS = 4, 60, 32


class Given:
    """A task whose data is given: all splits are the same, unless ``training`` says otherwise."""

    def __init__(self, inputs: Any, targets: Any, valid: Any = None, training: Batch | None = None) -> None:
        is_number = targets.is_floating_point()
        self.input_size, self.output_size = inputs.shape[-1], targets.shape[-1] if is_number else 2
        self.kind = "regression" if is_number else "classification"
        self.loss = "mse" if is_number else "cross_entropy"
        self.metrics = metrics.regression if is_number else metrics.classification
        self.data = stored(inputs, targets, valid)
        self.training = training or self.data

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        return [self.training]

    def validation(self) -> Sequence[Batch]:
        return [self.data]

    test = validation

    def baselines(self) -> dict[str, Any]:
        return {}


def drawn(seed: int = 0, size: int = 1) -> torch.Tensor:
    """Returns random inputs (T, B, I)."""
    return torch.randn(TIMESTEPS, STREAMS, size, generator=torch.Generator().manual_seed(seed)).double()


def earlier(values: torch.Tensor, delay: int) -> torch.Tensor:
    return torch.cat([torch.zeros_like(values[:delay]), values[: len(values) - delay]]) if delay else values


def run_of(task: Any, weights: Sequence[float] = (0.0, 1.0, 0.0, 0.0), **more: Any) -> TrainedRun:
    """Returns a run whose network answers with its latest inputs, the present one first, times the weights."""
    head = nn.Linear(UNITS, task.output_size)
    head.weight.data[:] = 0.0
    head.weight.data[-1] = torch.tensor(weights)
    head.bias.data[:] = 0.0
    run = by_hand(delay_line(UNITS), task, head=head.double())
    run.values = {**run.values, **more}
    return run


def trials_come_to(monkeypatch: pytest.MonkeyPatch, effect: float | None) -> list[Any]:
    """Every trial comes to this effect; with None, there is no time for any. Returns the list of what is tried."""
    asked: list[Any] = []

    def compared(run: Any, altered: Any, *arguments: Any, **options: Any) -> dict[str, Compared]:
        asked.append((altered, options))
        if effect is None:
            raise TooSlow("the time was over")
        return {name: Compared(Interval(effect, 0.9 * effect, 1.1 * effect), 1.0, 0.1, 3) for name in altered}

    monkeypatch.setattr(altered_data, "compare", compared)
    return asked


def names(found: Any) -> list[str]:
    return [finding.name for finding in found]


# --- Altered data


def test_inputs_of_a_usual_size_are_not_far() -> None:
    rng = np.random.default_rng(0)
    rare = (rng.random(4000) < 0.002).astype(float)  # one of many classes
    columns = {
        "usual": rng.normal(0.5, 0.3, 4000), "constant": np.full(4000, 1e5), "rare": rare, "yes": rare * 0 + 1,
        "small": rng.normal(0, 1e-3, 4000), "large": rng.normal(0, 50, 4000), "off": rng.normal(2010, 2, 4000),
        "small class": 0.01 * rare,
    }  # fmt: skip
    means, scales = moments(np.stack(list(columns.values()), axis=1))
    found = [list(columns)[place] for place in far_from_standardised(means, scales)]
    assert found == ["small", "large", "off", "small class"]
    assert scales[1] == 0
    assert scales[2] == 0.5


@pytest.mark.parametrize(("effect", "name"), [(0.2, ["input_scale"]), (0.9, []), (1.5, []), (None, ["input_scale"])])
def test_far_inputs_are_a_fault_where_standardised_ones_help(
    effect: float | None, name: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials_come_to(monkeypatch, effect)
    inputs = 1000 + 100 * drawn()
    result = InputsInstrument().measure(run_of(Given(inputs, inputs)))
    findings = list(InputsInstrument().symptoms(result))
    assert names(findings) == name
    if name:
        value = findings[0].effect.value if findings[0].effect else 1.0
        assert value == effect if effect else math.isnan(value)
        assert "input 1 (mean 1,00" in findings[0].description
    trials = trials_come_to(monkeypatch, 0.1)
    assert names(InputsInstrument().symptoms(InputsInstrument().measure(run_of(Given(drawn(), drawn()))))) == []
    assert not trials


def test_standardised_inputs_have_mean_0_and_scale_1() -> None:
    inputs = 5 + 20 * drawn(size=2)
    means, scales = moments(inputs.reshape(-1, 2).numpy())
    task = standardised(torch.from_numpy(means), torch.from_numpy(scales))(Given(inputs, inputs))
    found = task.validation()[0].read(0, TIMESTEPS).inputs.reshape(-1, 2)
    assert torch.allclose(found.mean(dim=0), torch.zeros(2).double(), atol=1e-9)
    assert torch.allclose(found.std(dim=0, correction=0), torch.ones(2).double())
    assert torch.equal(task.train(0, 2)[0].read(3, 9).inputs, task.train(0, 2)[0].read(0, TIMESTEPS).inputs[3:9])


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_delayed_targets_are_the_same_ones_later(delay: int) -> None:
    timesteps, among = 9, 2
    inputs = torch.arange(2.0 * timesteps).reshape(timesteps, 2, 1)
    starts = torch.zeros(timesteps, 2, dtype=torch.bool)
    starts[0] = starts[4, 1] = True
    valid = torch.ones(timesteps, 2, dtype=torch.bool)
    valid[1, 0] = False
    batch = Stored(Chunk(inputs, inputs.clone(), valid, starts))
    task: Any = SimpleNamespace(validation=lambda: [batch])
    altered = delayed(delay, among)(task).validation()[0]
    for start, stop in ((0, timesteps), (0, 3), (2, 5), (5, 9), (8, 9)):
        chunk = altered.read(start, stop)
        for time in range(start, stop):
            for stream in range(2):
                own = time - delay
                follows = own >= 0 and own + among < timesteps and not starts[own + 1 : own + among + 1, stream].any()
                counts = bool(follows and valid[own, stream])
                assert bool(chunk.valid[time - start, stream]) is counts
                if counts:
                    assert chunk.targets[time - start, stream] == inputs[own, stream]
        assert torch.equal(chunk.inputs, inputs[start:stop])


def test_less_data_has_as_many_batches_of_fewer_sequences() -> None:
    inputs = torch.arange(8.0).reshape(1, 8, 1).expand(3, 8, 1).clone()
    halves = [stored(inputs[:, :5], inputs[:, :5]), stored(inputs[:, 5:], inputs[:, 5:])]
    task: Any = SimpleNamespace(train=lambda epoch, streams: halves, loss="mse")
    less = LessData(task, 0.5, 5)
    seen = set()
    for epoch in range(3):
        batches = less.train(epoch, 5)
        assert [batch.streams for batch in batches] == [5, 3]
        epoch_sees = [float(one) for batch in batches for one in batch.read(0, 3).inputs[0, :, 0]]
        seen |= set(epoch_sees)
        assert max(epoch_sees.count(one) for one in seen) == 2
    assert len(seen) == 4
    assert less.loss == "mse"
    single: Any = SimpleNamespace(train=lambda epoch, streams: [stored(inputs[:, :1] * 0 + times, inputs[:, :1])])
    times = torch.arange(3.0)[:, None, None]
    chunk = LessData(single, 0.67, 1).train(0, 1)[0].read(0, 3)
    assert chunk.inputs.flatten().tolist() == [0, 1, 0]
    assert chunk.starts.flatten().tolist() == [True, False, True]


# --- Targets that depend on the future


FUTURES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], list[str]]] = {
    "a product of the next input": (lambda x: x.roll(-1, 0) * x + 0.1 * x, ["shifted_target"]),
    "a sum with the input in two timesteps": (lambda x: x.roll(-2, 0) + 2 * earlier(x, 1), ["shifted_target"]),
    "a product of the past": (lambda x: x * earlier(x, 1), []),
    "noise": (lambda x: drawn(7), []),
}


@pytest.mark.parametrize("kind", [pytest.param(one, marks=[pytest.mark.long] * ("two" in one)) for one in FUTURES])
def test_targets_of_the_future_are_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, name = FUTURES[kind]
    trials = trials_come_to(monkeypatch, 0.3)
    inputs = drawn()
    result = FutureInstrument().measure(run_of(Given(inputs, make(inputs))))
    assert names(FutureInstrument().symptoms(result)) == name
    assert bool(trials) is bool(name)
    if name:
        assert result.delay == (2 if "two" in kind else 1)
        trials_come_to(monkeypatch, 0.9)  # answers that come later are no better
        assert not list(FutureInstrument().symptoms(FutureInstrument().measure(run_of(Given(inputs, make(inputs))))))


@pytest.mark.parametrize(
    "ahead", [1, pytest.param(4, marks=pytest.mark.long), pytest.param(20, marks=pytest.mark.long)]
)
def test_a_forecast_is_no_fault(ahead: int) -> None:
    walk = drawn().cumsum(dim=0)
    for task in (Given(walk, walk.roll(-ahead, 0)), Given(walk, walk.roll(-ahead, 0) - walk)):
        task.data.chunk.valid[-ahead:] = False
        with pytest.raises(DataError, match="taken for a forecast"):
            FutureInstrument().measure(run_of(task))
    declared: Any = Given(drawn(), drawn(1))
    declared.is_forecast = True
    with pytest.raises(DataError, match="by design"):
        FutureInstrument().measure(run_of(declared))


@pytest.mark.parametrize("effect", [0.3, 0.9])
def test_targets_of_two_timesteps_later_may_be_shifted_ones_of_the_next(
    effect: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some outputs never change, and are copies of nothing."""
    trials, inputs = trials_come_to(monkeypatch, effect), drawn()
    task: Any = Given(inputs, torch.cat([3 * inputs.roll(-2, 0) + 1, torch.ones_like(inputs)], dim=-1))
    task.data.chunk.valid[-2:] = False
    run = run_of(task)
    result = FutureInstrument().measure(run)
    assert (result.horizon, result.delay, len(trials)) == (2, 1, 1)
    findings = list(FutureInstrument().symptoms(result))
    assert names(findings) == ["shifted_target"] * (effect < 0.75)
    assert all("inputs of 2 timesteps later" in one.description for one in findings)
    task.is_forecast = True
    with pytest.raises(DataError, match="by design"):
        FutureInstrument().measure(run)


# --- Wrong targets


def labels_of(task: Given, weights: Sequence[float] = (0.0, 1.0, 0.0, 0.0)) -> Labels:
    return LabelsInstrument().measure(run_of(task, weights))


def swapped(targets: torch.Tensor, share: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    flat = targets.flatten(0, 1)
    others = flat[torch.randperm(len(flat), generator=generator)]
    hit = torch.rand(len(flat), generator=generator) < share
    return torch.where(hit.reshape(-1, *[1] * (flat.ndim - 1)), others, flat).reshape(targets.shape)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_wrong_numbers_are_counted(share: float) -> None:
    inputs = drawn()
    right = earlier(inputs, 1) + 0.03 * drawn(3)
    result = labels_of(Given(inputs, swapped(right, share)))
    assert names(LabelsInstrument().symptoms(result)) == ["label_noise"]
    assert result.contradicted.value == pytest.approx(share, rel=0.25)
    assert result.worst_timesteps


@pytest.mark.parametrize(("high", "found"), [(0.49, ["label_noise"]), (0.51, [])])
def test_no_more_than_half_of_the_targets_are_wrong(high: float, found: list[str]) -> None:
    """Two thirds of the targets of task=xor are random bits, which no network can have learned."""
    result = labels_of(Given(inputs := drawn(), swapped(earlier(inputs, 1), 0.2)))
    result = result.model_copy(update={"contradicted": Interval(high - 0.02, high - 0.04, high)})
    assert names(LabelsInstrument().symptoms(result)) == found


def test_noise_outliers_and_hard_places_are_not_wrong_numbers() -> None:
    inputs, past = drawn(), earlier(drawn(), 1)
    heavy = torch.from_numpy(np.random.default_rng(0).standard_t(2.5, past.shape))
    far = torch.from_numpy(np.random.default_rng(1).random(past.shape) < 0.1).double()
    hard = (inputs > 1).double()  # where the target is anything, as the network can tell
    noisy = [past + 0.3 * drawn(3), past + 0.1 * heavy, past + 10 * far, (1 - hard) * past + hard * drawn(5)]
    for targets in (past, drawn(9), *noisy):
        assert not list(LabelsInstrument().symptoms(labels_of(Given(inputs, targets))))


def test_wrong_classes_are_distinguished_from_hard_ones() -> None:
    inputs = drawn()
    classes = (earlier(inputs, 1)[..., 0] > 0).long()
    weights = (0.0, 4.0, 0.0, 0.0)  # sure where the input was far from 0
    wrong = labels_of(Given(inputs, swapped(classes, 0.2)), weights)
    assert names(LabelsInstrument().symptoms(wrong)) == ["label_noise"]
    assert wrong.contradicted.value == pytest.approx(0.1, rel=0.2)
    assert not list(LabelsInstrument().symptoms(labels_of(Given(inputs, classes), weights)))
    hard = (earlier(inputs, 1)[..., 0] + 0.6 * drawn(4)[..., 0] > 0).long()  # the same, seen through a noise
    assert not list(LabelsInstrument().symptoms(labels_of(Given(inputs, hard), weights)))


def test_wrong_classes_are_found_where_a_part_is_not_learned_yet() -> None:
    """Of the targets, 60 % are 0 by their place, and the network knows nothing about the others."""
    inputs = drawn()
    is_known = (torch.arange(TIMESTEPS) % 5 < 3)[:, None].expand(TIMESTEPS, STREAMS)
    given = torch.where(is_known[..., None], -3 - inputs.abs(), 0.1 * inputs)
    classes = torch.where(is_known, 0, (drawn(8)[..., 0] > 0).long())
    weights = (4.0, 0.0, 0.0, 0.0)
    result = labels_of(Given(given, swapped(classes, 0.4)), weights)
    assert names(LabelsInstrument().symptoms(result)) == ["label_noise"]
    assert result.judged == 0.5
    assert result.contradicted.value == pytest.approx(0.4 * 0.2, rel=0.25)  # one in five targets is a 1
    right = labels_of(Given(given, classes), weights)
    assert (right.judged, names(LabelsInstrument().symptoms(right))) == (1.0, [])


def test_a_line_is_not_moved_by_wrong_targets() -> None:
    outputs = np.linspace(-1, 1, 400)
    targets = 2 * outputs + 0.5
    targets[::4] = 9.0
    assert line(outputs, targets) == pytest.approx(2 * outputs + 0.5, abs=0.02)
    right = np.random.default_rng(0).normal(size=(2000, 2)) @ np.array([[1.0, 0.9], [0.0, 0.1]])  # all alike
    assert abs(separated(0.05 * right, np.random.default_rng(1).normal(size=(2000, 2)))[1]) < 0.01


# --- Inputs that are left out, little data, the loss


@pytest.mark.parametrize(("weight", "name"), [(1.0, ["missing_input"]), (0.0, [])])
def test_an_input_that_is_left_out_is_found(weight: float, name: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, driver = drawn(), drawn(2)
    targets = earlier(inputs, 1) + 0.2 * drawn(3) + weight * earlier(driver, 1)
    task: Any = Given(inputs, targets)
    with pytest.raises(DataError, match="nothing is known"):
        LeftOutInstrument().measure(run_of(task))
    task.all_inputs = {"inputs": "auto"}
    everything = Given(torch.cat([inputs, driver], dim=-1), targets)
    run = run_of(task)
    monkeypatch.setattr(registry, "build", lambda kind, settings, seed: everything)
    result = LeftOutInstrument().measure(run)
    findings = list(LeftOutInstrument().symptoms(result))
    assert names(findings) == name
    assert all(finding.remedies == ["all inputs"] for finding in findings)


def test_the_gap_is_as_uncertain_as_dates_differ_that_all_sequences_share() -> None:
    inputs = drawn()
    noise = torch.randn(TIMESTEPS, 1, 1, generator=torch.Generator().manual_seed(4)).double().expand(-1, STREAMS, -1)
    task = Given(inputs, earlier(inputs, 1) + noise, training=stored(inputs, earlier(inputs, 1) + 0.1 * drawn(5)))
    gaps = []
    for batch in (task.data, Dated(task.data.chunk)):
        task.data = batch
        gaps.append(DataSizeInstrument().measure(run_of(task)).gap)
    narrow, wide = gaps
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


@pytest.mark.parametrize(
    ("effect", "name"), [(1.6, ["little_data"]), (1.05, []), pytest.param(None, [], marks=pytest.mark.long)]
)
def test_little_data_is_distinguished_from_a_training_that_is_too_long(
    effect: float | None, name: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = drawn()
    noisy = Given(inputs, earlier(inputs, 1) + drawn(4), training=stored(inputs, earlier(inputs, 1) + 0.1 * drawn(5)))
    trials = trials_come_to(monkeypatch, effect)
    result = DataSizeInstrument().measure(run_of(noisy))
    assert result.gap.value == pytest.approx(100, rel=0.2)
    findings = list(DataSizeInstrument().symptoms(result))
    assert names(findings) == name
    if name:
        assert findings[0].effect is not None
        assert findings[0].effect.value == pytest.approx(1 / 1.6)  # no farther than was measured
    assert [options["shared"] for _, options in trials] == [{"schedule.keep": "best"}]
    same = trials_come_to(monkeypatch, 3.0)
    assert not list(DataSizeInstrument().symptoms(DataSizeInstrument().measure(run_of(Given(inputs, drawn(4))))))
    assert not same


def test_the_share_of_outliers_is_that_of_targets_far_from_all_others() -> None:
    rng = np.random.default_rng(0)
    targets, groups = rng.normal(size=(2000, 1)), np.arange(2000) // 100
    heavy = rng.standard_t(4, size=(2000, 1))
    assert share_of_outliers(0 * targets, targets, groups).high < 0.1
    assert share_of_outliers(targets + heavy, targets, groups).high < 0.1  # large errors, usual targets
    targets[::20] += 10
    assert share_of_outliers(0 * targets, targets, groups).low > 0.7


def test_outliers_are_a_fault_where_absolute_errors_help() -> None:
    unsure = Losses(loss="mse", share=Interval(0.8, 0.7, 0.9), effect=Interval(0.6, 0.3, 1.2), part=1.0, seeds=3)
    result = unsure.model_copy(update={"effect": Interval(0.6, 0.5, 0.7)})
    (found,) = LossesInstrument().symptoms(result)
    assert (found.name, found.effect) == ("loss", result.effect)
    assert as_trial(result).change == {"task.loss": "l1"}
    for other in (unsure, unsure.model_copy(update={"effect": None})):
        assert not list(LossesInstrument().symptoms(other))


# --- From end to end


@pytest.mark.long
def test_a_small_scale_is_found_in_a_real_run(diagnosed_run: Callable[..., Path]) -> None:
    importlib.import_module("studies.doctor.planted")
    run = diagnosed_run(
        "plugins=[studies.doctor.planted]", "task=memory_capacity", "task.name=planted_memory_capacity",
        "+task.input_scale=0.01", "model=gru", "model.hidden_size=16", "task.train_sequences=160",
        "schedule.epochs=4", "task.delays=4", "optimizer.lr=0.01", "schedule.window=20", "threads=1",
    )  # fmt: skip
    trained = TrainedRun(run, ["studies.doctor.planted"])
    trained.begin(60)
    (found,) = InputsInstrument().symptoms(InputsInstrument().measure(trained))
    assert found.effect is not None
    assert found.effect.value < 0.5
    assert not math.isnan(compare(trained, {"same": (lambda task: task, {})})["same"].effect.value)
