"""Cells against their equations, written out slowly in NumPy: one stream, one timestep and one layer at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_network
from numpy.typing import NDArray

from seqrnn.models.scan import linear_scan

Array = NDArray[Any]
Weights = dict[str, Array]  # of one layer, by name without the layer's number
State = list[Array]


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def candidate_of(x: Array, kind: str) -> Array:
    if kind == "linear":
        return x
    return np.array([v + 0.5 if v >= 0 else 1 / (1 + math.exp(-v)) for v in x])


def mingru(w: Weights, x: Array, state: State, candidate: str) -> tuple[Array, State]:
    z, n = np.split(x @ w["W"] + w["b"], 2)
    h = (1 - sigmoid(z)) * state[0] + sigmoid(z) * candidate_of(n, candidate)
    return h, [h]


def minlstm(w: Weights, x: Array, state: State, candidate: str) -> tuple[Array, State]:
    f, i, n = np.split(x @ w["W"] + w["b"], 3)
    share = sigmoid(f) + sigmoid(i)
    h = sigmoid(f) / share * state[0] + sigmoid(i) / share * candidate_of(n, candidate)
    return h, [h]


def lru(w: Weights, x: Array, state: State) -> tuple[Array, State]:
    u = normalised(x) * w["norms.weight"] + w["norms.bias"]
    H = len(x)
    rotation = np.exp(-np.exp(w["nu"]) + 1j * np.exp(w["theta"]))
    B = w["B"][:, :H] + 1j * w["B"][:, H:]
    C = w["C"][:H] - 1j * w["C"][H:]
    h = rotation * (state[0] + 1j * state[1]) + np.exp(w["log_gamma"]) * (u @ B)
    y = (h @ C).real + w["D"] * u
    erf = np.array([math.erf(v / math.sqrt(2)) for v in y])
    linear, gate = np.split(y * (1 + erf) / 2 @ w["W"] + w["b"], 2)
    return x + linear * sigmoid(gate), [h.real, h.imag]


def cornn(w: Weights, x: Array, state: State, dt: float, gamma: float, epsilon: float) -> tuple[Array, State]:
    y, z = state
    W_y, W_z = np.split(w["W"], 2)
    z = z + dt * (np.tanh(y @ W_y + z @ W_z + x @ w["V"] + w["b"]) - gamma * y - epsilon * z)
    y = y + dt * z
    return y, [y, z]


def normalised(v: Array) -> Array:
    return np.asarray((v - v.mean()) / np.sqrt(v.var() + 1e-5))


def lnlstm(w: Weights, x: Array, state: State) -> tuple[Array, State]:
    h, c = state
    from_inputs = w["alpha_x"] * normalised(w["W"] @ x + w["a"])
    i, f, g, o = np.split(from_inputs + w["alpha_h"] * normalised(w["U"] @ h) + w["b"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(w["alpha_c"] * normalised(c) + w["beta_c"])
    return h, [h, c]


def esn(
    w: Weights, x: Array, state: State, rho: float, scale: float, bias: float, leak: float
) -> tuple[Array, State]:
    (h,) = state
    h = (1 - leak) * h + leak * np.tanh(scale * x @ w["W_in"] + rho * h @ w["W"] + bias * w["b"])
    return h, [h]


CELLS: dict[str, tuple[str, dict[str, Any], Callable[..., tuple[Array, State]]]] = {
    "mingru": ("mingru", {}, lambda *a: mingru(*a, "linear")),
    "mingru positive": ("mingru", {"candidate": "positive"}, lambda *a: mingru(*a, "positive")),
    "minlstm": ("minlstm", {}, lambda *a: minlstm(*a, "linear")),
    "minlstm positive": ("minlstm", {"candidate": "positive"}, lambda *a: minlstm(*a, "positive")),
    "lru": ("lru", {}, lru),
    "cornn": ("cornn", {"dt": 0.3, "gamma": 1.5, "epsilon": 0.5}, lambda *a: cornn(*a, 0.3, 1.5, 0.5)),
    "lnlstm": ("lnlstm", {}, lnlstm),
    "esn": (
        "esn",
        {"spectral_radius": 0.7, "input_scale": 0.5, "bias_scale": 0.3, "leak": 0.6},
        lambda *a: esn(*a, 0.7, 0.5, 0.3, 0.6),
    ),
}


def layer_weights(cell: torch.nn.Module, layer: int) -> Weights:
    found = {}
    for name, value in cell.state_dict().items():
        for part in (f".{layer}", f"_{layer}"):
            if part in name:
                found[name.replace(part, "")] = value.numpy()
    return found


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("case", CELLS)
def test_a_cell_computes_its_equations(case: str, layers: int) -> None:
    name, changes, step = CELLS[case]
    cell = make_network(name, 3, num_layers=layers, **changes).cell
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(9, 2, 3))
    state = tuple(torch.from_numpy(rng.normal(size=part.shape)) for part in cell.initial_state(2))
    with torch.no_grad():
        found, end = cell(torch.from_numpy(inputs), state)
    for stream in range(2):
        x = inputs[:, stream]
        if name == "lru":
            x = x @ cell.encoder.weight.detach().numpy().T + cell.encoder.bias.detach().numpy()
        for layer in range(layers):
            w, h, outputs = layer_weights(cell, layer), [part[layer, stream].numpy() for part in state], []
            for values in x:
                output, h = step(w, values, h)
                outputs.append(output)
            x = np.array(outputs)
            for part, expected in zip(end, h, strict=True):
                np.testing.assert_allclose(part[layer, stream], expected, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(found[:, stream], x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("inputs", "layers", "size"), [(3, 1, 2), (4, 2, 3)])
def test_a_temporal_convolution_computes_its_equations(inputs: int, layers: int, size: int) -> None:
    cell = make_network("tcn", inputs, num_layers=layers, kernel_size=size).cell
    w = {name: value.numpy() for name, value in cell.state_dict().items()}
    sequence = np.random.default_rng(1).normal(size=(20, inputs))
    with torch.no_grad():
        found, _ = cell(torch.from_numpy(sequence)[:, None], cell.initial_state(1))

    def convolution(x: Array, number: int, dilation: int) -> Array:
        v = w[f"v.{number}"]
        taps = (w[f"g.{number}"] * v / np.sqrt((v**2).sum(axis=1, keepdims=True))).reshape(4, size, x.shape[1])
        out = np.tile(w[f"b.{number}"], (len(x), 1))
        for t in range(len(x)):
            for j in range(size):
                if t - j * dilation >= 0:  # before the sequence, there are zeros
                    out[t] += taps[:, size - 1 - j] @ x[t - j * dilation]
        return np.maximum(out, 0)

    x = sequence
    for block in range(layers):
        after = convolution(convolution(x, 2 * block, 2**block), 2 * block + 1, 2**block)
        if x.shape[1] != 4:
            x = x @ w["adapt.weight"].T + w["adapt.bias"]
        x = np.maximum(after + x, 0)
    np.testing.assert_allclose(found[:, 0], x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("layers", "size"), [(1, 2), (2, 3), (3, 2)])
def test_a_temporal_convolution_looks_back_as_far_as_it_says(layers: int, size: int) -> None:
    cell = make_network("tcn", 2, num_layers=layers, kernel_size=size).cell
    for parameter in cell.parameters():
        parameter.data.abs_()  # so that no relu is 0
    sequence = torch.ones(40, 1, 2, dtype=torch.float64, requires_grad=True)
    cell(sequence, cell.initial_state(1))[0][-1].sum().backward()
    assert sequence.grad is not None
    reached = sequence.grad.abs().sum(dim=(1, 2)).flip(0)  # by how many timesteps back
    assert (reached > 0).nonzero().max() + 1 == cell.receptive_field


@pytest.mark.parametrize("name", ["mingru", "minlstm", "lru", "cornn", "lnlstm", "tcn", "esn"])
def test_gradients_are_those_of_small_differences(name: str) -> None:
    cell = make_network(name, 2, num_layers=2, hidden_size=3).cell
    torch.manual_seed(1)
    state = tuple(torch.randn_like(part).requires_grad_() for part in cell.initial_state(1))
    names = [parameter for parameter, _ in cell.named_parameters()]
    inputs = torch.randn(3, 1, 2, dtype=torch.float64, requires_grad=True)

    def compute(inputs: torch.Tensor, *rest: torch.Tensor) -> Any:
        state, parameters = rest[: len(rest) - len(names)], rest[len(rest) - len(names) :]
        outputs, end = torch.func.functional_call(cell, dict(zip(names, parameters, strict=True)), (inputs, state))
        return outputs, *end

    # One random direction of the gradients, where all would take seconds.
    assert torch.autograd.gradcheck(compute, (inputs, *state, *cell.parameters()), fast_mode=True)


@pytest.mark.parametrize("timesteps", [1, 2, 3, 8, 100])
def test_a_scan_equals_the_loop_over_timesteps(timesteps: int) -> None:
    rng = torch.Generator().manual_seed(timesteps)
    factors = torch.rand(timesteps, 2, 3, generator=rng, dtype=torch.float64)
    terms = torch.randn(timesteps, 2, 3, generator=rng, dtype=torch.float64)
    h = start = torch.randn(2, 3, generator=rng, dtype=torch.float64)
    loop = []
    for a, b in zip(factors, terms, strict=True):
        h = a * h + b
        loop.append(h)
    torch.testing.assert_close(linear_scan(factors, terms, start), torch.stack(loop), rtol=1e-13, atol=1e-13)


def test_units_of_a_linear_recurrence_start_on_the_ring_asked_for() -> None:
    cell = make_network("lru", 1, hidden_size=500, radius_min=0.5, radius_max=0.9, phase_max=1.0).cell
    radius, phase = torch.exp(-cell.nu[0].exp()), cell.theta[0].exp()
    assert 0.5 - 1e-6 <= radius.min() < 0.52 < 0.89 < radius.max() <= 0.9 + 1e-6
    assert 0 < phase.min() < 0.02 < 0.98 < phase.max() <= 1.0 + 1e-6
    torch.testing.assert_close(cell.log_gamma[0].exp(), (1 - radius**2).sqrt(), rtol=1e-5, atol=1e-6)


def test_a_reservoir_has_the_spectral_radius_asked_for_and_no_parameters() -> None:
    cell = make_network("esn", hidden_size=60, spectral_radius=0.8).cell
    assert list(cell.parameters()) == []
    assert (0.8 * torch.linalg.eigvals(cell.get_buffer("W_0")).abs().max()).item() == pytest.approx(0.8, abs=1e-5)
