"""Compares the training loop with a slow reference that shares no code with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    CPU64,
    LIVELY,
    NOT_COMPILED,
    MakeStrategy,
    StubTask,
    folded,
    lengths,
    make_monitor,
    make_network,
    make_schedule,
    make_task,
    model_settings,
    plain,
    random_batch,
)
from hypothesis import given, reject
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from seqrnn import device, evaluation, loop, registry
from seqrnn.components import build_network
from seqrnn.errors import DataError, Diverged
from seqrnn.losses import LOSSES
from seqrnn.models.unroll import unroll
from seqrnn.monitor import Pace
from seqrnn.schedule import WindowSampler
from seqrnn.strategies.plain import Plain
from seqrnn.strategies.reading import WindowReader
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Stored, stored

MODELS = registry.names("model")
Weights = dict[str, Tensor]

# --- The reference: one timestep at a time. A cell's step maps an input (B, I) and the parts of one layer's state
# --- (B, H) to the new parts, the first of which is the layer's output.


def elman_step(w: Weights, layer: int, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    return [torch.tanh(torch.cat([x, state[0]], dim=1) @ w[f"cell.W.{layer}"] + w.get(f"cell.b.{layer}", 0.0))]


def gates(w: Weights, layer: int, x: Tensor, h: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields what the input and what the state contribute to each gate, in torch's order."""
    from_input = x @ w[f"cell.stack.weight_ih_l{layer}"].T + w[f"cell.stack.bias_ih_l{layer}"]
    from_state = h @ w[f"cell.stack.weight_hh_l{layer}"].T + w[f"cell.stack.bias_hh_l{layer}"]
    size = h.shape[1]
    return zip(from_input.split(size, dim=1), from_state.split(size, dim=1), strict=True)


def rnn_step(w: Weights, layer: int, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    ((a, b),) = gates(w, layer, x, state[0])
    return [torch.tanh(a + b)]


def relu_step(w: Weights, layer: int, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    ((a, b),) = gates(w, layer, x, state[0])
    return [(a + b).clamp(min=0)]


def gru_step(w: Weights, layer: int, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    h = state[0]
    (ra, rb), (za, zb), (na, nb) = gates(w, layer, x, h)
    r, z = torch.sigmoid(ra + rb), torch.sigmoid(za + zb)
    return [(1 - z) * torch.tanh(na + r * nb) + z * h]


def lstm_step(w: Weights, layer: int, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    h, c = state
    i, f, g, o = (a + b for a, b in gates(w, layer, x, h))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(c), c]


def independent_step(w: Weights, layer: int, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    W, u, b = (w[f"cell.{name}.{layer}"] for name in ("W", "u", "b"))
    return [(x @ W + u * state[0] + b).clamp(min=0)]


def clipped_step(w: Weights, layer: int, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    return [independent_step(w, layer, x, state)[0].clamp(max=1)]


STEPS = {
    "elman": (elman_step, 1), "rnn": (rnn_step, 1), "relu": (relu_step, 1), "gru": (gru_step, 1),
    "lstm": (lstm_step, 2), "indrnn": (independent_step, 1), "clip": (clipped_step, 1),
}  # fmt: skip


def head(w: Weights, x: Tensor) -> Tensor:
    if "head.weight" in w:
        return x @ w["head.weight"].T + w.get("head.bias", 0.0)
    hidden = x @ w["head.0.weight"].T + w.get("head.0.bias", 0.0)
    return hidden.clamp(min=0) @ w["head.2.weight"].T + w.get("head.2.bias", 0.0)


REFERENCE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of one target
    "mse": lambda output, target: ((output - target) ** 2).sum() / len(output),
    "half_mse": lambda output, target: ((output - target) ** 2).sum() / (2 * len(output)),
    "l1": lambda output, target: (output - target).abs().sum() / len(output),
    "cross_entropy": lambda output, target: torch.logsumexp(output, 0) - output[target],
}


def reference_training(
    weights: Weights,
    cell: str,
    layers: int,
    hidden: int,
    epochs: Sequence[Sequence[Stored]],
    loss: str,
    optimizer: torch.optim.Optimizer,
    *,
    window: int | None,
    stride: int | None,
    update_every: int | None,
    carry: bool,
    clip_norm: float | None,
) -> list[list[Tensor]]:
    """Trains ``weights`` in place; returns the gradient of each optimizer step."""
    step_cell, parts = STEPS[cell]
    history: list[list[Tensor]] = []

    def timestep(x: Tensor, state: list[list[Tensor]]) -> tuple[Tensor, list[list[Tensor]]]:
        after = []
        for layer in range(layers):
            after.append(step_cell(weights, layer, x, state[layer]))
            x = after[-1][0]
        return head(weights, x), after

    for batches in epochs:
        gradient = [torch.zeros_like(weight) for weight in weights.values()]
        targets_in_update, timesteps_in_update = 0, 0

        def update() -> None:
            nonlocal gradient, targets_in_update, timesteps_in_update
            if targets_in_update:
                mean = [part / targets_in_update for part in gradient]
                norm = math.sqrt(sum(float((part**2).sum()) for part in mean))
                if clip_norm is not None and norm > clip_norm:
                    mean = [part * (clip_norm / (norm + 1e-6)) for part in mean]  # as torch's clip_grad_norm_
                for weight, part in zip(weights.values(), mean, strict=True):
                    weight.grad = part.clone()
                optimizer.step()
                history.append(mean)
            gradient = [torch.zeros_like(weight) for weight in weights.values()]
            targets_in_update, timesteps_in_update = 0, 0

        for batch in batches:
            data, T, B = batch.chunk, batch.timesteps, batch.streams
            move = stride or window or T  # timesteps from one backward pass to the next
            zero = [[torch.zeros(B, hidden, dtype=torch.float64) for _ in range(parts)] for _ in range(layers)]
            before = {0: zero}  # the state before a timestep, as it was when the timestep before was first seen
            first_new = 0
            for now in range(T):
                if (now + 1) % move and now + 1 < T:
                    continue  # no backward pass after this timestep
                nominal_end = first_new + move  # beyond the sequence, for a short last window
                reach = 0 if window is None else max(0, nominal_end - window)
                state = before[reach] if carry else zero
                total = torch.zeros((), dtype=torch.float64)
                new_targets = 0
                for t in range(reach, now + 1):
                    going_on = (~data.starts[t]).double().unsqueeze(1)  # (B, 1): 0 where a sequence begins
                    state = [[part * going_on for part in layer] for layer in state]
                    output, state = timestep(data.inputs[t], state)
                    if t < first_new:
                        continue  # run again only to bring the state up to date
                    before[t + 1] = [[part.detach() for part in layer] for layer in state]
                    for b in range(B):
                        if data.valid[t, b]:
                            total = total + REFERENCE_LOSSES[loss](output[b], data.targets[t, b])
                            new_targets += 1
                if new_targets:
                    added = torch.autograd.grad(total, list(weights.values()))
                    gradient = [old + new for old, new in zip(gradient, added, strict=True)]
                targets_in_update += new_targets
                timesteps_in_update += move  # a short last window counts as a whole one
                first_new = now + 1
                if timesteps_in_update >= (update_every or move):
                    update()
        if timesteps_in_update:
            update()  # what is left at the end of an epoch
    return history


class SGD(torch.optim.SGD):
    """An optimizer of a type that compiled code does not have: torch takes its steps."""


def assert_trains_like_the_reference(
    make_strategy: MakeStrategy,
    cell: str,
    layers: int,
    epochs: Sequence[Sequence[Stored]],
    loss: str = "mse",
    changes: Mapping[str, Any] = MappingProxyType({}),
    **cuts: Any,
) -> list[list[Tensor]]:
    """Compares the gradient of every step and the final weights with the reference; returns those gradients."""
    others = {"relu": ("rnn", {"nonlinearity": "relu"}), "clip": ("indrnn", {"activation": "clip"})}
    model, changes = others.get(cell, (cell, changes))
    network = make_network(model, num_layers=layers, hidden_size=3, **changes)
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in network.named_parameters()}
    slow = torch.optim.SGD(weights.values(), lr=0.05, momentum=0.9)
    expected = reference_training(weights, cell, layers, 3, epochs, loss, slow, **cuts)

    schedule = make_schedule(epochs=len(epochs), **cuts)
    task = StubTask(epochs, loss)
    found: list[list[Tensor]] = []
    for kind in (SGD, torch.optim.SGD):
        network = make_network(model, num_layers=layers, hidden_size=3, **changes)
        fast = kind(network.parameters(), lr=0.05, momentum=0.9)
        if kind is SGD:
            fast.register_step_pre_hook(
                lambda *_, network=network: found.append([weight.grad.clone() for weight in network.parameters()])
            )
        monitor = make_monitor(task, schedule)
        loop.train(task, schedule, make_strategy(network, task, fast, schedule), monitor)

        assert len(expected) == monitor.progress.updates
        torch.testing.assert_close(
            [weight.detach() for weight in network.parameters()],
            [weight.detach() for weight in weights.values()],
            rtol=1e-10,
            atol=1e-12,
        )
    assert len(found) == len(expected)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    return expected


def two_epochs(**options: Any) -> list[list[Stored]]:
    """Returns batches of different lengths and streams, in another order in each epoch; one has no valid target."""
    return [
        [
            random_batch(11, 3, seed=1, **options),
            random_batch(4, 2, seed=2, **{**options, "valid": 0.0}),
            random_batch(7, 1, seed=3, **options),
        ],
        [
            random_batch(7, 2, seed=4, **options),
            random_batch(11, 1, seed=5, **options),
            random_batch(4, 3, seed=6, **options),
        ],
    ]


CUTS = [  # window, stride, update_every
    (None, None, None),
    (None, 2, None),
    (None, 3, 6),
    (None, 20, 40),
    (1, None, None),
    (4, None, None),
    (3, None, 9),
    (4, 2, None),
    (5, 2, 2),
    (5, 3, 6),
    (6, 1, 3),
    (7, 5, 10),
    (30, None, 60),
    (30, 4, 8),
    (3, None, 300),
]


@pytest.mark.covering(1, 2)
@pytest.mark.parametrize("carry", [True, False], ids=["carry", "no_carry"])
@pytest.mark.parametrize(("window", "stride", "update_every"), CUTS)
@pytest.mark.parametrize(
    ("cell", "layers"), [("elman", 1), ("elman", 2), ("rnn", 2), ("gru", 1), ("gru", 2), ("lstm", 2), ("indrnn", 2)]
)
def test_training_makes_the_steps_of_the_slow_reference(
    make_strategy: MakeStrategy,
    cell: str,
    layers: int,
    window: int | None,
    stride: int | None,
    update_every: int | None,
    carry: bool,
) -> None:
    assert_trains_like_the_reference(
        make_strategy,
        cell,
        layers,
        two_epochs(),
        window=window,
        stride=stride,
        update_every=update_every,
        carry=carry,
        clip_norm=None,
    )


ANY_TRAINING = {
    "cuts": lengths(),
    "carry": st.booleans(),
    "clip_norm": st.sampled_from([None, 0.05]),
    "cell": st.sampled_from(["elman", "gru", "clip"]),
    "shapes": st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=4),
    "seed": st.integers(0, 1000),
}


def assert_any_training_is_the_references(
    make_strategy: MakeStrategy,
    cuts: dict[str, Any],
    carry: bool,
    clip_norm: float | None,
    cell: str,
    shapes: list[tuple[int, int]],
    seed: int,
) -> None:
    epochs = [
        [random_batch(*shape, seed=seed + 10 * epoch + number) for number, shape in enumerate(shapes)]
        for epoch in range(2)
    ]
    assert_trains_like_the_reference(make_strategy, cell, 1, epochs, carry=carry, clip_norm=clip_norm, **cuts)


@pytest.mark.first(2)
@given(**ANY_TRAINING)
@hypothesis_settings(max_examples=20)
def test_training_makes_the_steps_of_the_slow_reference_for_any_schedule_and_data(
    make_strategy: MakeStrategy, **training: Any
) -> None:
    assert_any_training_is_the_references(make_strategy, **training)


@pytest.mark.long
@given(**ANY_TRAINING)
@hypothesis_settings(max_examples=150)
def test_training_makes_the_steps_of_the_slow_reference_for_many_schedules_and_data(
    make_strategy: MakeStrategy, **training: Any
) -> None:
    assert_any_training_is_the_references(make_strategy, **training)


@pytest.mark.first(4)
@pytest.mark.parametrize("loss", ["half_mse", "l1", "cross_entropy"])
def test_training_makes_the_steps_of_the_slow_reference_for_other_losses_and_clips(
    make_strategy: MakeStrategy, loss: str
) -> None:
    epochs = two_epochs(classes=loss == "cross_entropy")
    cuts = {"window": 5, "stride": 2, "update_every": 4, "carry": True}
    free = assert_trains_like_the_reference(make_strategy, "gru", 1, epochs, loss, clip_norm=None, **cuts)
    assert max(torch.cat([part.flatten() for part in step]).norm() for step in free) > 0.1
    clipped = assert_trains_like_the_reference(make_strategy, "gru", 1, epochs, loss, clip_norm=0.1, **cuts)
    assert max(torch.cat([part.flatten() for part in step]).norm() for step in clipped) <= 0.1


@pytest.mark.first(5)
@pytest.mark.parametrize(
    ("cell", "changes"),
    [
        ("elman", {"bias": False, "head_bias": False}),
        ("relu", {}),
        ("clip", {}),
        ("gru", {"head": "mlp"}),
        ("lstm", {"head": "mlp", "head_bias": False}),
    ],
    ids=str,
)
def test_training_makes_the_steps_of_the_slow_reference_for_other_networks(
    make_strategy: MakeStrategy, cell: str, changes: dict[str, Any]
) -> None:
    for layers in (1, 3):
        cuts = {"window": 5, "stride": 2, "update_every": 4, "carry": True, "clip_norm": None}
        assert_trains_like_the_reference(make_strategy, cell, layers, two_epochs(), changes=changes, **cuts)


def test_an_update_without_a_valid_target_makes_no_step(make_strategy: MakeStrategy) -> None:
    batches = [random_batch(5, 2, valid=share, seed=seed) for seed, share in enumerate((1.0, 0.0, 1.0, 0.0))]
    expected = assert_trains_like_the_reference(
        make_strategy,
        "elman",
        1,
        [batches],
        window=None,
        stride=None,
        update_every=None,
        carry=True,
        clip_norm=1.0,
    )
    assert len(expected) == 2


# --- Equivalences


def forward(network: Any, batch: Stored) -> Tensor:
    """Returns the outputs of whole sequences, whose state is reset where ``starts`` is set."""
    outputs, state = [], network.initial_state(batch.streams)
    for t in range(batch.timesteps):
        fresh = network.initial_state(batch.streams)
        flags = batch.chunk.starts[t].unsqueeze(1)
        state = tuple(torch.where(flags, new, old) for new, old in zip(fresh, state, strict=True))
        output, state = network(batch.chunk.inputs[t : t + 1], state)
        outputs.append(output)
    return torch.cat(outputs)


@pytest.mark.parametrize("model", MODELS)
def test_one_window_over_the_whole_sequence_is_plain_backpropagation_through_time(
    model: str, make_strategy: MakeStrategy
) -> None:
    network = make_network(model, num_layers=2)
    batch = random_batch(9, 3, starts=0.0)
    data = batch.chunk
    outputs, _ = network(data.inputs, network.initial_state(3))
    mean = (outputs - data.targets)[data.valid].square().mean()
    expected = torch.autograd.grad(mean, list(network.parameters()))

    schedule = make_schedule(window=None)
    optimizer = SGD(network.parameters(), lr=1e-3)
    task = StubTask([[batch]])
    loop.train(task, schedule, make_strategy(network, task, optimizer, schedule), make_monitor(task, schedule))
    torch.testing.assert_close(
        [parameter.grad for parameter in network.parameters()], list(expected), rtol=1e-10, atol=1e-14
    )


@pytest.mark.first(1)
@given(cuts=lengths(), timesteps=st.integers(1, 20), model=st.sampled_from(MODELS))
@hypothesis_settings(max_examples=40)
def test_every_valid_target_counts_exactly_once_and_with_the_loss_of_the_unwindowed_forward(
    make_strategy: MakeStrategy, cuts: dict[str, Any], timesteps: int, model: str
) -> None:
    if model in NOT_COMPILED and make_strategy not in (plain, folded):
        reject()
    network = make_network(model, num_layers=2)
    batch = random_batch(timesteps, 3)
    schedule, task = make_schedule(**cuts), StubTask([[batch]])
    strategy = make_strategy(network, task, torch.optim.SGD(network.parameters(), lr=0.0), schedule)
    made = strategy(WindowSampler(schedule, lambda epoch: [batch]).take(1000), np.ones(1000))

    valid = batch.chunk.valid
    expected = (forward(network, batch) - batch.chunk.targets)[valid].square().mean(dim=1).sum().item()
    assert made.targets.sum() == valid.sum()
    assert made.losses.sum() == pytest.approx(expected, rel=1e-12)
    assert made.timesteps.sum() == 3 * timesteps


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_a_windowed_forward_that_carries_its_state_equals_the_unwindowed_one(model: str, layers: int) -> None:
    network = make_network(model, num_layers=layers)
    batch = random_batch(17, 3)
    state, pieces = network.initial_state(3), []
    for begin in range(0, 17, 5):
        chunk = batch.read(begin, begin + 5)
        outputs, state = unroll(network, network.initial_state, chunk.inputs, chunk.starts, state)
        pieces.append(outputs)
    torch.testing.assert_close(torch.cat(pieces), forward(network, batch), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("model", MODELS)
def test_the_kept_state_is_the_one_before_that_timestep(model: str) -> None:
    network = make_network(model, num_layers=2)
    data = random_batch(6, 3, starts=0.4).chunk
    initial = network.initial_state(3)
    for keep in range(1, 8):
        outputs, kept = unroll(network, network.initial_state, data.inputs, data.starts, initial, keep)
        alone, final = unroll(network, network.initial_state, data.inputs[:keep], data.starts[:keep], initial)
        torch.testing.assert_close(kept, final, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(outputs[:keep], alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("model", MODELS)
def test_a_start_resets_exactly_the_flagged_streams_and_cuts_their_gradients(model: str) -> None:
    network = make_network(model, num_layers=2, **LIVELY.get(model, {}))
    inputs = random_batch(8, 3).chunk.inputs.requires_grad_()
    starts = torch.zeros(8, 3, dtype=torch.bool)
    starts[5, 1] = True
    nonzero = tuple(torch.ones_like(part) for part in network.initial_state(3))

    outputs, _ = unroll(network, network.initial_state, inputs, starts, nonzero)
    straight, _ = network(inputs, nonzero)
    anew, _ = network(inputs[5:, 1:2], network.initial_state(1))
    torch.testing.assert_close(outputs[:, [0, 2]], straight[:, [0, 2]], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(outputs[5:, 1:2], anew, rtol=1e-12, atol=1e-14)

    (gradient,) = torch.autograd.grad(outputs[5:].sum(), inputs)
    reached = gradient.abs().sum(dim=2) > 0  # (T, B)
    assert reached[:, [0, 2]].all()
    assert reached[:, 1].tolist() == [False] * 5 + [True] * 3


# --- Prediction and scores


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("model", MODELS)
def test_predicting_in_chunks_equals_one_forward_without_dropout(
    model: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "EVALUATION_CHUNK", chunk)
    network = make_network(model, num_layers=2, **({} if model == "esn" else {"dropout": 0.5}))
    batches = [random_batch(10, 3, seed=1), random_batch(10, 2, seed=2)]
    predictions = evaluation.predict(network, batches, CPU64)
    assert network.training

    network.eval()
    for name in ("inputs", "targets", "valid", "starts"):
        expected = torch.cat([getattr(batch.chunk, name) for batch in batches], dim=1)
        assert torch.equal(torch.from_numpy(getattr(predictions, name)), expected)
    with torch.no_grad():
        expected = torch.cat([forward(network, batch) for batch in batches], dim=1)
    torch.testing.assert_close(torch.from_numpy(predictions.outputs), expected, rtol=1e-12, atol=1e-14)
    evaluation.predict(network, batches, CPU64)
    assert not network.training


def test_scores_are_means_over_valid_targets_for_the_network_and_for_the_baselines() -> None:
    targets = torch.tensor([1.0, 2.0, 100.0, 4.0]).reshape(4, 1, 1)
    valid = torch.tensor([True, True, False, True]).reshape(4, 1)
    predictions = evaluation.predict(Constant(3.0), [stored(targets * 0, targets, valid)], CPU64)
    task = StubTask([[]])
    assert evaluation.score(predictions, task, LOSSES["mse"])["loss"] == pytest.approx((4 + 1 + 1) / 3)
    zero = evaluation.score_baselines(predictions, task, LOSSES["mse"])["zero"]
    assert zero["loss"] == zero["mse"] == pytest.approx((1 + 4 + 16) / 3)
    assert zero["max_error"] == 4


class Constant(torch.nn.Module):
    """A network whose outputs do not depend on its inputs."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, inputs: Tensor, state: tuple[Tensor]) -> tuple[Tensor, tuple[Tensor]]:
        return torch.full_like(inputs, self.value), state

    def initial_state(self, streams: int) -> tuple[Tensor]:
        return (torch.zeros(1, streams, 1),)


# --- Repeatability


def weights_after_a_run(
    make_strategy: MakeStrategy,
    model: str = "gru",
    seed: int = 0,
    evaluate_every: int = 5,
    carry: bool = True,
) -> list[Tensor]:
    """Returns the weights after a short run in float32, with dropout where the strategy allows it."""
    torch.manual_seed(seed)
    task = make_task("integral", seed, train_timesteps=180, sequence_length=60, validation_timesteps=20)
    dropout = {"dropout": 0.5} if make_strategy is plain and model != "esn" else {}
    network = build_network(model_settings(model, num_layers=2, **dropout), 1, 1)
    context = device.DeviceContext(torch.device("cpu"), torch.float32)
    schedule = make_schedule(window=10, stride=5, carry=carry, epochs=2, evaluate_every=evaluate_every)
    monitor = make_monitor(
        task,
        schedule,
        lambda: evaluation.score(evaluation.predict(network, task.validation(), context), task, LOSSES["l1"]),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    loop.train(task, schedule, make_strategy(network, task, optimizer, schedule, context), monitor)
    return [parameter.detach() for parameter in network.parameters()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.first(5)
@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_does_not(
    model: str, make_strategy: MakeStrategy
) -> None:
    first = weights_after_a_run(make_strategy, model)
    assert equal(first, weights_after_a_run(make_strategy, model))
    assert not equal(first, weights_after_a_run(make_strategy, model, seed=1))


@pytest.mark.first(2)
@pytest.mark.parametrize("carry", [True, False])
def test_evaluating_more_often_does_not_disturb_training(carry: bool, make_strategy: MakeStrategy) -> None:
    often, never = (weights_after_a_run(make_strategy, evaluate_every=every, carry=carry) for every in (1, 1000))
    assert equal(often, never)


# --- When a run is over, and what it writes down


class Scripted:
    """Gradients with known losses: each update gets the next (summed loss, targets, gradient)."""

    def __init__(self, parameters: Any, script: Sequence[tuple[float, int, float]]) -> None:
        self.parameters, self.script = list(parameters), script
        self.reader = WindowReader(CPU64, DataFormat(1, 1, False))
        self.states = {0: (torch.tensor(0),)}  # how many updates have been made
        self.influence: dict[str, torch.Tensor] = {}

    def read(self, windows: Any) -> Any:
        return windows

    def __call__(self, inputs: Any) -> tuple[list[torch.Tensor], int]:
        (made,) = self.states[0]
        self.states[0] = (made + 1,)
        loss, targets, gradient = self.script[int(made)]
        for parameter in self.parameters:
            parameter.grad = torch.full_like(parameter, gradient)
        return [torch.tensor(loss, dtype=torch.float64)], targets


def run_script(
    script: Sequence[tuple[float, int, float]], evaluations: Any = None, **changes: Any
) -> tuple[torch.nn.Linear, list[dict[str, Any]], list[int]]:
    """Trains one weight of 1.0 with learning rate 1, one update per batch of 3 timesteps and 2 streams.

    Returns:
        The network; the rows of metrics; how many steps had been made at each evaluation.
    """
    network = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    torch.nn.init.ones_(network.weight)
    log_every = changes.pop("log_every", 1)
    schedule = make_schedule(**changes)
    task = StubTask([[random_batch(3, 2)] * (len(script) // schedule.epochs)])
    rows: list[dict[str, Any]] = []
    evaluated_at: list[int] = []
    losses = iter(evaluations) if evaluations else None

    def evaluate() -> dict[str, float]:
        evaluated_at.append(monitor.progress.updates)
        return {"loss": next(losses) if losses else 1.0}

    monitor = make_monitor(task, schedule, evaluate, log_every=log_every, record=rows.append)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    try:
        strategy = Plain(network, optimizer, schedule, Scripted(network.parameters(), script))  # type: ignore[arg-type]
        loop.train(task, schedule, strategy, monitor)
    except Diverged as error:
        error.weight = network.weight.item()  # type: ignore[attr-defined]
        raise
    return network, rows, evaluated_at


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("culprit", ["training loss", "gradient"])
def test_a_divergence_is_raised_before_it_reaches_the_weights_and_says_when(
    culprit: str, bad: float, clip_norm: float | None
) -> None:
    good = (2.0, 2, 0.5)  # a step of 0.25 each
    diverging = (bad, 2, 0.5) if culprit == "training loss" else (2.0, 2, bad)
    with pytest.raises(Diverged, match=f"{culprit} became {bad} at update 3 .*optimizer.lr") as caught:
        run_script([good, good, diverging, good], clip_norm=clip_norm)
    assert caught.value.weight == 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize("good_updates", [0, 1, 20, 29])
@pytest.mark.parametrize("log_every", [1, 4])
def test_the_updates_before_a_divergence_are_counted_and_written_whatever_the_size_of_blocks(
    good_updates: int, log_every: int
) -> None:
    script = [(2.0, 2, 0.01)] * good_updates + [(math.nan, 2, 0.01)] + [(2.0, 2, 0.01)] * 20
    batches = [random_batch(3, 2, seed=seed) for seed in range(len(script))]
    ends = []
    for seconds in (0.0, 1e9):  # blocks of one update; blocks of 1, 8, 64, … updates
        network, rows = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64), []
        torch.nn.init.ones_(network.weight)
        task, schedule = StubTask([batches]), make_schedule(evaluate_every=1000)
        monitor = make_monitor(task, schedule, log_every=log_every, record=rows.append, pace=Pace(seconds))
        gradients = Scripted(network.parameters(), script)
        strategy = Plain(network, torch.optim.SGD(network.parameters(), lr=1.0), schedule, gradients)  # type: ignore[arg-type]
        cursor = loop.TrainingCursor(task, schedule, monitor.progress.planned_updates)
        with pytest.raises(Diverged, match=f"at update {good_updates + 1} ") as caught:
            loop.train(task, schedule, strategy, monitor, cursor)
        progress = monitor.progress
        assert progress.position == progress.updates == good_updates
        assert progress.timesteps == 6 * good_updates
        assert network.weight.item() == pytest.approx(1 - 0.005 * good_updates)
        assert [row["updates"] for row in rows] == [*range(0, good_updates + 1, log_every)] + [good_updates] * bool(
            good_updates % log_every
        )
        (following,) = cursor.sampler.take(1)
        assert following.batch is batches[good_updates]  # the one that diverged
        ends.append((str(caught.value), [{**row, "seconds": None} for row in rows]))
    assert ends[0] == ends[1]


def test_a_nan_in_the_data_is_named_and_leaves_the_weights_finite(make_strategy: MakeStrategy) -> None:
    batches = [random_batch(6, 2, seed=seed) for seed in range(4)]
    batches[2].chunk.inputs[3] = math.nan
    network = make_network("gru")
    schedule, task = make_schedule(window=3), StubTask([batches])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with pytest.raises(DataError, match="input 0 of stream 0 at timestep 3 is nan"):
        loop.train(task, schedule, make_strategy(network, task, optimizer, schedule), make_monitor(task, schedule))
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_an_evaluation_that_is_nan_is_a_divergence() -> None:
    with pytest.raises(Diverged, match="evaluation loss became nan after update 2"):
        run_script([(1.0, 1, 0.0)] * 4, [1.0, 1.0, math.nan], evaluate_every=1)


@pytest.mark.parametrize(
    ("updates", "changes", "expected"),
    [
        (7, {"evaluate_every": 3}, [0, 3, 6, 7]),
        (6, {"evaluate_every": 3}, [0, 3, 6]),
        (6, {"evaluate_every": 3, "epochs": 2}, [0, 3, 6]),
        (6, {"evaluate_every": 100}, [0, 6]),
        (6, {"evaluate_every": 2, "max_updates": 5}, [0, 2, 4, 5]),
        (6, {"evaluate_every": 2, "max_updates": 100}, [0, 2, 4, 6]),
        (6, {"evaluate_every": 2, "max_updates": 1}, [0, 1]),
        (40, {}, list(range(0, 41, 2))),
        (3, {}, [0, 1, 2, 3]),
    ],
)
def test_evaluations_come_first_when_due_and_last_and_max_updates_is_exact(
    updates: int, changes: dict[str, Any], expected: list[int]
) -> None:
    network, rows, evaluated_at = run_script([(1.0, 1, 0.25)] * updates, **changes)
    assert evaluated_at == expected
    assert rows[-1]["updates"] == expected[-1]
    assert network.weight.item() == 1 - 0.25 * expected[-1]


@pytest.mark.parametrize(
    ("changes", "positions"),
    [({}, range(0, 201, 10)), ({"evaluate_every": 40}, range(0, 201, 40)), ({"max_updates": 20}, range(21))],
)
def test_evaluations_count_updates_without_a_valid_target(changes: dict[str, Any], positions: range) -> None:
    script = [(1.0, 1, 0.0), *[(0.0, 0, 0.0)] * 3] * 50  # as mnist gives with windows of a quarter of an image
    _, rows, evaluated_at = run_script(script, log_every=1000, **changes)
    assert evaluated_at == [math.ceil(position / 4) for position in positions]
    assert [row["timesteps"] for row in rows] == [6 * position for position in positions]


def test_an_evaluation_comes_last_also_where_later_epochs_are_shorter() -> None:
    short, long = random_batch(2, 1), random_batch(6, 1)
    network = make_network("elman")
    schedule, task = make_schedule(window=2, epochs=2, evaluate_every=100), StubTask([[long], [short]])
    evaluated_at = []

    def evaluate() -> dict[str, float]:
        evaluated_at.append(monitor.progress.position)
        return {"loss": 1.0}

    monitor = make_monitor(task, schedule, evaluate)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    loop.train(task, schedule, plain(network, task, optimizer, schedule), monitor)
    assert evaluated_at == [0, 4]


@pytest.mark.parametrize(
    ("evaluations", "patience", "stops_after"),
    [
        ([5, 4, 4, 4, 3, 3, 3], 2, 3),
        ([5, 4, 4.5, 3, 3.5, 3, 2], 2, 5),
        ([5, 6, 7, 8, 9, 10, 11], 1, 1),
        ([5, 6, 7, 8, 9, 10, 11], None, 6),
        ([7, 6, 5, 4, 3, 2, 1], 1, 6),
    ],
)
def test_patience_stops_a_run_after_so_many_evaluations_in_a_row_without_improvement(
    evaluations: list[float], patience: int | None, stops_after: int
) -> None:
    network, _, evaluated_at = run_script([(1.0, 1, 0.25)] * 6, evaluations, evaluate_every=1, patience=patience)
    assert evaluated_at == list(range(stops_after + 1))
    assert network.weight.item() == 1 - 0.25 * stops_after


def test_a_row_holds_the_mean_over_the_valid_targets_since_the_row_before() -> None:
    first, empty, last = (
        [(6.0, 3, 0.0), (1.0, 1, 0.5)],
        [(0.0, 0, 0.0)] * 3,
        [(1.0, 8, 0.0), (0.0, 0, 0.0), (5.0, 2, 3.0)],
    )
    _, rows, _ = run_script([*first, *empty, *last], log_every=2, evaluate_every=100, clip_norm=0.1)
    assert [row["train_loss"] for row in rows] == [None, 7 / 4, None, 1 / 8, 5 / 2]
    assert [row["updates"] for row in rows] == [0, 2, 2, 3, 4]
    assert [row["timesteps"] for row in rows] == [0, 12, 24, 36, 48]
    assert [row["gradient_norm"] for row in rows] == [None, 0.5, 0.5, 0.0, 1.5]  # before it was clipped
    assert ["eval_loss" in row for row in rows] == [True, False, False, False, True]
    assert all(list(row)[: len(rows[1])] == list(rows[1]) for row in rows)


def test_the_learning_rate_decays_over_the_updates_that_will_really_be_made() -> None:
    _, rows, _ = run_script(
        [(1.0, 1, 0.0)] * 9, lr_decay="cosine", lr_final=0.25, warmup=2, max_updates=7, evaluate_every=1
    )
    rates = [row["lr"] for row in rows[1:]]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[-1] == 0.25
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_a_plateau_of_the_evaluations_lowers_the_learning_rate() -> None:
    _, rows, _ = run_script(
        [(1.0, 1, 0.0)] * 6,
        [5.0, 4.0, 4.0, 4.5, 3.0, 3.0, 3.0],
        lr_decay="plateau",
        lr_patience=2,
        lr_reduction=0.1,
        evaluate_every=1,
    )
    assert [row["lr"] for row in rows[1:]] == pytest.approx([1.0, 1.0, 1.0, 0.1, 0.1, 0.1])
