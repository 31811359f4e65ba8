"""Use of the units: hand-made activations, gates set by hand, and linear cells whose Jacobian is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import StubTask, make_network, make_task, random_batch
from numpy.typing import NDArray
from runs import Linear, by_hand
from torch import Tensor

from seqrnn.diagnosis import activations, jacobian
from seqrnn.diagnosis.budget import Budget
from seqrnn.diagnosis.instruments import states
from seqrnn.diagnosis.state_records import Gate, Units
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trajectories import Steps, independent_groups, sampled_steps
from seqrnn.kernels.specification import Activation

T, B = 60, 20
GROUPS = independent_groups(T, B)[0].flatten()


def units_of(name: str, h: Tensor, groups: Tensor, activation: Activation) -> Units:
    return activations.units_of(name, h, groups, activation, Budget(1e9))


def noise(units: int, seed: int = 0) -> Tensor:
    """Activations (N, units) without any relation, of standard deviation 0.2."""
    return 0.2 * torch.randn(T * B, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(count: int) -> NDArray[np.float64]:
    """Signals (N, count) without a mean, of length 1, at right angles to each other."""
    signals = noise(count).numpy()
    basis: NDArray[np.float64] = np.linalg.qr(signals - signals.mean(axis=0))[0]
    return basis


def test_dead_units_are_counted_and_small_ones_are_not_dead() -> None:
    h = noise(10)
    h[:, 0], h[:, 1] = 0.0, 0.7  # silent; constant
    h[:, 2] *= 1e-4  # hardly varies
    h[:, 3] *= 1e-2  # varies little
    found = units_of("layer 1", h, GROUPS, "tanh")
    assert found.dead.value == pytest.approx(0.3)
    assert (found.dead.low, found.dead.high) == (found.dead.value, found.dead.value)
    assert found.duplicate.value == 0


def test_a_rectified_unit_is_dead_when_it_is_always_zero_and_not_when_it_is_constant() -> None:
    h = noise(4).relu()
    h[:, 0], h[:, 1] = 0.0, 0.7
    found = units_of("layer 1", h, GROUPS, "relu")
    assert found.dead.value == pytest.approx(0.25)
    assert found.saturated is None
    assert found.always_saturated is None


def test_duplicates_are_counted_with_both_and_whatever_their_sign_and_scale() -> None:
    h = noise(10)
    h[:, 1] = -3 * h[:, 0] + 0.5
    h[:, 2] = h[:, 3] + 0.01 * noise(1, seed=1)[:, 0]
    h[:, 4] = h[:, 5] + 0.5 * noise(1, seed=2)[:, 0]  # alike, but no duplicate
    assert units_of("layer 1", h, GROUPS, "tanh").duplicate.value == pytest.approx(0.4)


def test_saturation_is_counted_by_pairs_and_by_units() -> None:
    h = noise(4).clamp(-0.9, 0.9)
    h[:, 0] = 0.99
    h[: T * B // 2, 1] = -0.97  # half of the time
    found = units_of("layer 1", h, GROUPS, "tanh")
    assert found.saturated is not None
    assert found.saturated.value == pytest.approx(0.375)
    assert found.saturated.low <= 0.375 <= found.saturated.high
    assert found.always_saturated is not None
    assert found.always_saturated.value == pytest.approx(0.25)


def test_a_clipped_unit_is_saturated_at_its_limits_alone() -> None:
    h = torch.tensor([0.0, 0.96, 1.0, 0.5], dtype=torch.float64).repeat(T * B, 1)
    found = units_of("layer 1", h, GROUPS, "clip")
    assert found.saturated is not None
    assert found.saturated.value == pytest.approx(0.5)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_ranks_of_orthogonal_signals_of_equal_strength_are_their_number(rank: int) -> None:
    signals = orthonormal(rank)
    mixed = torch.from_numpy(signals @ np.linalg.qr(noise(8)[:8].numpy())[0][:rank])
    found = units_of("layer 1", 5 + mixed, GROUPS, "tanh")
    assert found.effective_rank.value == pytest.approx(rank, abs=1e-3)
    assert found.participation_ratio.value == pytest.approx(rank, abs=1e-3)


def test_ranks_of_unequal_signals_follow_their_formulas() -> None:
    strengths = np.array([4.0, 2.0, 1.0])
    signals = orthonormal(3) * strengths
    found = units_of("layer 1", torch.from_numpy(signals), GROUPS, "tanh")
    shares = strengths / strengths.sum()
    assert found.effective_rank.value == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
    assert found.participation_ratio.value == pytest.approx(21**2 / (256 + 16 + 1), rel=1e-6)
    assert found.effective_rank.low < found.effective_rank.value < found.effective_rank.high


def test_what_never_varies_has_no_rank_and_is_dead() -> None:
    found = units_of("layer 1", torch.zeros(T * B, 3, dtype=torch.float64), GROUPS, "tanh")
    assert (found.effective_rank.value, found.participation_ratio.value, found.dead.value) == (0.0, 0.0, 1.0)


def test_few_sequences_are_cut_into_blocks_of_time() -> None:
    groups, independent = independent_groups(100, 2)
    assert independent == "16 blocks of time of 2 sequences"
    assert len(groups.unique()) == 16
    assert groups[:12, 0].unique().tolist() == [0]
    assert independent_groups(100, 20)[1] == "20 sequences"
    assert independent_groups(5, 1)[0].flatten().tolist() == [0, 1, 2, 3, 4]


# --- Gates


def gates(trained: TrainedRun) -> dict[tuple[int, str], Gate]:
    return {(gate.layer, gate.name): gate for gate in states.StatesInstrument().measure(trained).gates}


def test_gates_of_a_gru_whose_biases_were_set_by_hand() -> None:
    task = make_task("integral")
    network = make_network("gru", 1, 1, num_layers=2)
    for layer in (0, 1):
        for part in ("weight_ih", "weight_hh", "bias_hh"):
            getattr(network.cell.stack, f"{part}_l{layer}").data.zero_()
        bias = getattr(network.cell.stack, f"bias_ih_l{layer}").data
        bias[:4], bias[4:8], bias[8:] = -4.0, torch.tensor([4.0, 4.0, 0.0, 0.0]), 2.5
    found = gates(by_hand(network.cell, task))
    assert len(found) == 6
    for layer in (1, 2):
        reset, update, candidate = (found[layer, name] for name in ("reset", "update", "candidate"))
        assert reset.mean.value == pytest.approx(1 / (1 + math.exp(4)))
        assert (reset.below.value, reset.above.value) == (1.0, 0.0)
        assert update.mean.value == pytest.approx((0.5 + 1 / (1 + math.exp(-4))) / 2)
        assert (update.below.value, update.above.value) == (0.0, 0.5)
        assert candidate.mean.value == pytest.approx(math.tanh(2.5))
        assert candidate.above.value == 1.0


@pytest.mark.parametrize("name", ["gru", "lstm", "lnlstm", "minlstm"])
def test_gates_make_the_state_that_the_cell_makes(name: str) -> None:
    trained = by_hand(make_network(name, 1, 1, num_layers=2).cell, make_task("integral"))
    steps, cell = sampled_steps(trained), trained.network.cell
    below = steps.inputs
    for number, h in enumerate(steps.before[0]):
        values = activations.gate_values(cell, number, below, h)
        if name == "gru":
            made = (1 - values["update"]) * values["candidate"] + values["update"] * h
        elif name == "minlstm":
            candidate = (below @ cell.W[number] + cell.b[number])[:, -h.shape[1] :]
            made = values["forget"] * h + values["input"] * candidate
            torch.testing.assert_close(values["forget"] + values["input"], torch.ones_like(h))
        else:
            c = values["forget"] * steps.before[1][number] + values["input"] * values["candidate"]
            if name == "lnlstm":
                c = torch.nn.functional.layer_norm(c, c.shape[-1:], cell.alpha_c[number], cell.beta_c[number])
            made = values["output"] * torch.tanh(c)
        torch.testing.assert_close(made, steps.after[0][number])
        below = steps.after[0][number]


# --- The Jacobian


def task_of(inputs: int) -> StubTask:
    return StubTask([[random_batch(50, 20, valid=1.0, starts=0.02, sizes=(inputs, 2))]], input_size=inputs)


def test_the_jacobian_of_a_linear_cell_is_its_matrix() -> None:
    W = torch.tensor([[0.5, 0.3, 0.0], [-0.3, 0.5, 0.1], [0.0, 0.7, -0.9]], dtype=torch.float64)
    cell = Linear(W, torch.ones(3, 2))
    found = jacobian.jacobians(by_hand(cell, task_of(2)).network, noise(2)[:5], (torch.ones(1, 5, 3).double(),))
    np.testing.assert_allclose(found, np.broadcast_to(W.numpy(), (5, 3, 3)), atol=1e-12)


@pytest.mark.parametrize("radius", [0.5, 0.98, 1.2])
def test_the_spectral_radius_of_a_linear_cell(radius: float) -> None:
    turn = torch.tensor([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    shear = torch.tensor([[1.0, 2.0], [0.0, 1.0]])  # a matrix that is not normal: its norm is above its radius
    W = (radius * shear @ turn @ shear.inverse()).double()
    found = states.StatesInstrument().measure(by_hand(Linear(W, torch.eye(2)), task_of(2))).jacobian
    assert found is not None
    assert found.spectral_radius.value == pytest.approx(radius, rel=1e-6)
    assert found.spectral_radius.low == pytest.approx(found.spectral_radius.high)
    assert found.largest_singular_value.value == pytest.approx(float(torch.linalg.matrix_norm(W, 2)), rel=1e-6)
    assert found.share_above_one.value == float(radius > 1)
    assert np.hypot(*found.eigenvalues[0][0]) == pytest.approx(radius, rel=1e-6)


@pytest.mark.parametrize("name", ["elman", "gru", "lstm"])
def test_the_jacobian_of_a_cell_is_what_small_changes_of_its_state_make(name: str) -> None:
    trained = by_hand(make_network(name, 1, 1, num_layers=2).cell, make_task("integral"))
    steps = sampled_steps(trained)
    inputs, state = steps.inputs[:3], tuple(part[:, :3] for part in steps.before)
    sizes = [(part.shape[0], part.shape[2]) for part in state]

    def step(flat: Tensor) -> Tensor:
        pieces = flat.split([layers * units for layers, units in sizes])
        given = tuple(piece.reshape(-1, 1, size[1]) for piece, size in zip(pieces, sizes, strict=True))
        _, after = trained.network.cell(inputs[None, 2:], given)
        return torch.cat([part.flatten() for part in after])

    flat = torch.cat([part[:, 2].flatten() for part in state]).detach()
    nudge = 1e-6 * torch.eye(len(flat), dtype=torch.float64)
    columns = [(step(flat + one) - step(flat - one)) / 2e-6 for one in nudge]
    expected = torch.stack(columns, dim=1).detach().numpy()
    np.testing.assert_allclose(jacobian.jacobians(trained.network, inputs, state)[2], expected, atol=1e-7)


def test_the_points_of_the_jacobian_are_of_many_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 64 sequences of 50 timesteps and 50 points, every 64th step would be one of the same sequence."""

    class Scaled(Linear):
        def forward(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            outputs = inputs[:, :, :1] * state[0]  # (1, N, 1): the Jacobian is the input
            return outputs, (outputs[-1:],)

    streams = torch.arange(64, dtype=torch.float64).expand(50, 64)
    starts = torch.zeros(50, 64, dtype=torch.bool)
    starts[0] = True
    before = torch.ones(1, 50 * 64, 1, dtype=torch.float64)
    inputs = streams.reshape(-1, 1) / 32
    steps = Steps(inputs, (before,), (before,), before[0], streams.long().flatten(), starts.flatten(), "64 sequences")
    monkeypatch.setattr(jacobian, "POINTS", 50)
    network = by_hand(Scaled(torch.ones(1, 1), torch.ones(1, 1)), task_of(1)).network
    found = jacobian.along(network, steps)
    assert found is not None
    assert found.points == 50
    assert found.spectral_radius.value == pytest.approx(1, abs=0.25)
    assert 0.2 < found.share_above_one.low < 0.5 < found.share_above_one.high < 0.8


def test_the_interval_of_a_share_is_one_of_shares() -> None:
    trained = by_hand(make_network("elman", 2, 2).cell, task_of(2))
    steps = sampled_steps(trained)
    two = replace(steps, groups=torch.arange(len(steps.groups)) % 2)
    found = jacobian.along(trained.network, two)
    assert found is not None
    for one in (found.share_above_one, found.spectral_radius, found.largest_singular_value):
        assert 0 <= one.low <= one.value <= one.high
    assert found.share_above_one.high <= 1


def test_a_cell_that_forgets_everything_has_a_jacobian_of_zeros() -> None:
    class Forgetful(Linear):
        def forward(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            outputs = (inputs @ self.V.T).detach()
            return outputs, (outputs[-1:],)

    found = states.StatesInstrument().measure(by_hand(Forgetful(torch.eye(2), torch.eye(2)), task_of(2))).jacobian
    assert found is not None
    assert found.spectral_radius.value == 0
