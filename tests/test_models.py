"""Cells and the network around them. T timesteps, B streams, I inputs, H hidden units, L layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU64, LIVELY, make_network, make_task
from torch import Tensor

from seqrnn import evaluation, registry
from seqrnn.errors import ConfigError
from seqrnn.kernels import support
from seqrnn.models.network import Network

MODELS = registry.names("model")
WITH_DROPOUT = [name for name in MODELS if name != "esn"]
UNCOUPLED = ("indrnn", "lru", "mingru", "minlstm", "tcn")  # cells without recurrent matrices


def parameters_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def randomised(state: tuple[Tensor, ...], seed: int = 5) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(part.shape, generator=rng, dtype=part.dtype) for part in state)


def some_inputs(timesteps: int = 7, streams: int = 3, size: int = 2) -> Tensor:
    rng = torch.Generator().manual_seed(timesteps)
    return torch.randn(timesteps, streams, size, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_handwritten_elman_cell_computes_what_torchs_does(layers: int, bias: bool) -> None:
    torch.manual_seed(0)
    values = {"name": "elman", "hidden_size": 5, "num_layers": layers, "dropout": 0.0, "bias": bias}
    cell = registry.build("model", values, 3).double()
    theirs = torch.nn.RNN(3, 5, layers, bias=bias).double()
    matrices = [parameter for name, parameter in cell.named_parameters() if parameter.dim() == 2]
    biases = [parameter for name, parameter in cell.named_parameters() if parameter.dim() == 1]
    assert (len(matrices), len(biases)) == (layers, layers if bias else 0)
    with torch.no_grad():
        for layer, W in enumerate(matrices):
            getattr(theirs, f"weight_ih_l{layer}").copy_(W[:-5].T)
            getattr(theirs, f"weight_hh_l{layer}").copy_(W[-5:].T)
        for layer, b in enumerate(biases):
            getattr(theirs, f"bias_ih_l{layer}").copy_(b)
            getattr(theirs, f"bias_hh_l{layer}").zero_()

    inputs = some_inputs(size=3)
    (start,) = randomised(cell.initial_state(3))
    results = []
    for run in (lambda x, h: cell(x, (h,)), theirs):
        x, h = inputs.clone().requires_grad_(), start.clone().requires_grad_()
        outputs, final = run(x, h)
        final = final[0] if isinstance(final, tuple) else final
        (outputs.sin().sum() + final.cos().sum()).backward()
        results.append([outputs, final, x.grad, h.grad])
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)
    for layer, W in enumerate(matrices):
        parts = [getattr(theirs, f"weight_{kind}_l{layer}").grad.T for kind in ("ih", "hh")]
        torch.testing.assert_close(W.grad, torch.cat(parts), rtol=1e-12, atol=1e-12)
    for layer, b in enumerate(biases):
        torch.testing.assert_close(b.grad, getattr(theirs, f"bias_ih_l{layer}").grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_outputs_and_states_have_their_shapes_and_the_type_of_the_weights(
    model: str, layers: int, dtype: torch.dtype
) -> None:
    network = make_network(model, inputs=2, outputs=6, num_layers=layers).to(dtype)
    initial = network.initial_state(3)
    outputs, state = network(some_inputs(7, 3, 2).to(dtype), initial)
    assert outputs.shape == (7, 3, 6)
    assert [part.shape for part in state] == [part.shape for part in initial] != []
    if model == "tcn":
        assert [part.shape for part in initial] == [
            (1, 3, 2 * 2**block * size) for block in range(layers) for size in (4 if block else 2, 4)
        ]
    else:
        assert {part.shape for part in initial} == {(layers, 3, 4)}
    assert {part.dtype for part in (outputs, *initial, *state)} == {dtype}
    assert all(part.abs().sum() == 0 for part in initial)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("model", MODELS)
def test_running_in_pieces_and_stream_by_stream_equals_running_at_once(model: str, layers: int) -> None:
    network = make_network(model, num_layers=layers)
    inputs, state = some_inputs(), randomised(network.initial_state(3))
    outputs, final = network(inputs, state)

    first, between = network(inputs[:4], state)
    second, after = network(inputs[4:], between)
    torch.testing.assert_close(torch.cat([first, second]), outputs, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(after, final, rtol=1e-12, atol=1e-14)

    for stream in range(3):
        only = slice(stream, stream + 1)
        alone, last = network(inputs[:, only], tuple(part[:, only] for part in state))
        torch.testing.assert_close(alone, outputs[:, only], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(last, tuple(part[:, only] for part in final), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("model", MODELS)
def test_every_part_of_the_state_and_every_weight_matters(model: str) -> None:
    network = make_network(model, num_layers=2, **LIVELY.get(model, {}))
    state = tuple(part.requires_grad_() for part in randomised(network.initial_state(3)))
    outputs, _ = network(some_inputs(), state)
    outputs.square().sum().backward()
    assert all((part.grad.abs().sum(dim=2) > 0).all() for part in state)
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("model", MODELS)
def test_recurrent_weights_are_views_through_which_the_network_changes(model: str, layers: int) -> None:
    network = make_network(model, num_layers=layers)
    matrices = network.cell.recurrent_weights()
    assert len(matrices) % layers == 0
    assert bool(matrices) == (model not in UNCOUPLED)
    inputs, state = some_inputs(), randomised(network.initial_state(3))
    seen = [network(inputs, state)[0].detach()]
    from_inputs = [network(inputs[:1], network.initial_state(3))[0].detach()]
    for matrix in matrices:
        assert matrix.shape == (4, 4)
        matrix += 0.1
        seen.append(network(inputs, state)[0].detach())
        from_inputs.append(network(inputs[:1], network.initial_state(3))[0].detach())
    assert all(not torch.equal(one, other) for n, one in enumerate(seen) for other in seen[:n])
    assert all(torch.equal(outputs, from_inputs[0]) for outputs in from_inputs)  # they act on the state alone


@pytest.mark.parametrize("model", [name for name in MODELS if name not in UNCOUPLED])
def test_recurrent_matrices_start_orthogonal_or_as_the_identity_or_as_neither(model: str) -> None:
    one = torch.eye(16, dtype=torch.float64)
    for choice in ("orthogonal", "identity", "default"):
        network = make_network(model, num_layers=2, hidden_size=16, recurrent_init=choice)
        for matrix in network.cell.recurrent_weights():
            assert torch.allclose(matrix @ matrix.T, one, atol=1e-6) == (choice != "default")
            assert torch.equal(matrix, one) == (choice == "identity")


@pytest.mark.parametrize("model", MODELS)
def test_init_std_draws_the_named_parameters_and_no_others(model: str) -> None:
    plain = make_network(model, hidden_size=80, outputs=50)
    sizes = {name: weight.numel() for name, weight in parameters_of(plain.cell).items()}
    largest = {f"cell.{max(sizes, key=lambda name: sizes[name])}": 0.4} if sizes else {}
    named = {**largest, "head.weight": 2.0, "head.bias": 0}
    network = make_network(model, hidden_size=80, outputs=50, init_std=named)
    before, after = parameters_of(plain), parameters_of(network)
    for name in before:
        if name in named:
            assert after[name].std().item() == pytest.approx(named[name], rel=0.05)
            assert after[name].mean().item() == pytest.approx(0, abs=0.1 * named[name])
        else:
            assert torch.equal(before[name], after[name])


@pytest.mark.parametrize("model", MODELS)
def test_init_std_refuses_an_unknown_parameter_and_names_the_nearest(model: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_network(model, init_std={"head.wieght": 0.1})
    (problem,) = caught.value.problems
    assert problem.startswith("model.init_std.head.wieght: no such parameter; did you mean head.weight?")
    assert all(name in problem for name in parameters_of(make_network(model)))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
def test_the_forget_gates_biases_add_up_to_forget_bias_in_every_layer(value: float, layers: int) -> None:
    plain = parameters_of(make_network("lstm", num_layers=layers, forget_bias=None))
    set_to = parameters_of(make_network("lstm", num_layers=layers, forget_bias=value))
    for layer in range(layers):
        names = [f"cell.stack.bias_{kind}_l{layer}" for kind in ("ih", "hh")]
        assert torch.equal(sum(set_to[name][4:8] for name in names), torch.full((4,), value, dtype=torch.float64))
        assert sum(plain[name][4:8] for name in names).std() > 0
    forget = [name for name in plain if "bias" in name and "cell" in name]
    for name, weight in plain.items():
        same = [*range(4), *range(8, 16)] if name in forget else slice(None)  # the other three gates
        assert torch.equal(weight[same], set_to[name][same])


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_head_computes_what_its_name_says(head: str, bias: bool) -> None:
    network = make_network("gru", outputs=2, head=head, head_size=3, head_bias=bias)
    inputs, state = some_inputs(), network.initial_state(3)
    hidden, _ = network.cell(inputs, state)
    weights = [weight for name, weight in network.named_parameters() if name.startswith("head")]
    shapes = {"linear": [(2, 4), (2,)], "mlp": [(3, 4), (3,), (2, 3), (2,)]}[head]
    assert [tuple(weight.shape) for weight in weights] == [shape for shape in shapes if bias or len(shape) == 2]

    matrices, biases = weights[:: 2 if bias else 1], weights[1::2] if bias else [0.0, 0.0]
    expected = hidden @ matrices[0].T + biases[0]
    if head == "mlp":
        expected = expected.clamp(min=0) @ matrices[1].T + biases[1]
    torch.testing.assert_close(network(inputs, state)[0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("model", WITH_DROPOUT)
def test_dropout_acts_between_layers_in_training_only(model: str) -> None:
    network = make_network(model, num_layers=2, dropout=0.5, **LIVELY.get(model, {}))
    inputs, state = some_inputs(), network.initial_state(3)
    torch.manual_seed(1)
    one, (first, *_) = network(inputs, state)
    other, (second, *_) = network(inputs, state)
    assert not torch.equal(one, other)
    assert torch.equal(first[0], second[0])  # the layer below it sees none
    if model != "tcn":  # whose outputs are rectified
        assert (network.cell(inputs, state)[0] != 0).all()  # nor do the outputs
    network.eval()
    plain = make_network(model, num_layers=2, dropout=0.0, **LIVELY.get(model, {}))
    assert torch.equal(network(inputs, state)[0], plain(inputs, state)[0])


@pytest.mark.parametrize("model", WITH_DROPOUT)
def test_dropout_is_refused_where_there_is_one_layer_to_put_it_between(model: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.dropout=0\.5: .*model\.dropout=0 or model\.num_layers=2"):
        make_network(model, num_layers=1, dropout=0.5)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    ("activation", "activate"),
    [("relu", lambda y: max(y, 0.0)), ("tanh", math.tanh), ("clip", lambda y: min(max(y, 0.0), 1.0))],
    ids=["relu", "tanh", "clip"],
)
def test_independent_units_receive_only_themselves(activation: str, activate: Any, layers: int) -> None:
    """One unit and one timestep after another, in plain arithmetic."""
    network = make_network("indrnn", num_layers=layers, activation=activation)
    inputs, (start,) = some_inputs(), randomised(network.initial_state(3))
    found, (end,) = network.cell(inputs, (start,))
    layer_inputs = inputs.tolist()
    for layer in range(layers):
        W, u, b = (parameters_of(network.cell)[f"{name}.{layer}"].tolist() for name in ("W", "u", "b"))
        h = start[layer].tolist()  # [stream][unit]
        for t, streams in enumerate(layer_inputs):
            for stream, x in enumerate(streams):
                h[stream] = [
                    activate(sum(a * row[j] for a, row in zip(x, W, strict=True)) + u[j] * h[stream][j] + b[j])
                    for j in range(4)
                ]
            layer_inputs[t] = [list(units) for units in h]
        torch.testing.assert_close(end[layer], torch.tensor(h, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, torch.tensor(layer_inputs, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("least", "most", "timesteps"), [(0.0, 2.0, 50), (0.5, 2.0, 10), (1.0, 1.0, 7), (0.25, 0.5, 1)]
)
def test_a_gradient_through_independent_units_starts_between_its_limits(
    least: float, most: float, timesteps: int
) -> None:
    values = {"init_least": least, "init_most": most, "init_timesteps": timesteps}
    network = make_network("indrnn", hidden_size=400, num_layers=2, **values)
    for layer in range(2):
        kept = parameters_of(network.cell)[f"u.{layer}"] ** timesteps
        assert least - 1e-6 <= kept.min() <= least + 0.1 * (most - least)
        assert most - 0.1 * (most - least) <= kept.max() <= most + 1e-5
        assert (kept.std() > 0) == (least < most)


def one_unit(W: float, u: float, b: float, kernel: str) -> Network:
    """A single clipped unit behind a head that says its state."""
    network = make_network("indrnn", 1, 1, hidden_size=1, activation="clip", kernel=kernel)
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (W, u, b, 1.0, 0.0), strict=True):
            parameter.fill_(value)
    return network


BOTH_KERNELS = pytest.mark.parametrize(
    "kernel",
    [
        "torch",
        pytest.param("compiled", marks=pytest.mark.skipif(support.machine_obstacle() is not None, reason="none")),
    ],
)


@BOTH_KERNELS
def test_one_clipped_unit_is_the_saturating_integral(kernel: str) -> None:
    task = make_task("integral", test_timesteps=20_000)
    network = one_unit(task.gain, 1.0, -task.gain * task.offset, kernel)
    predictions = evaluation.predict(network, task.test(), CPU64)
    assert 0 == predictions.targets.min() < predictions.targets.max() == 1
    np.testing.assert_allclose(predictions.outputs, predictions.targets, rtol=0, atol=1e-14)


@BOTH_KERNELS
@pytest.mark.parametrize(
    ("inputs", "start", "by_hand"),
    [  # last state, and its gradient by W, u, b and the start, with W = 1, u = 1/2 and b = 0
        ((0.25, 0.25), 0.5, (0.5, 0.375, 0.75, 1.5, 0.25)),  # h is 1/2, then 1/2
        ((3.0, 0.25), 0.5, (0.75, 0.25, 1.0, 1.0, 0.0)),  # 1, then 3/4: nothing comes through what is clipped
        ((-3.0, 0.25), 0.5, (0.25, 0.25, 0.0, 1.0, 0.0)),  # 0, then 1/4
        ((1.0, 0.25), 0.0, (0.75, 0.25, 1.0, 1.0, 0.0)),  # at a limit, as beyond it
        ((-0.25, 0.25), 0.5, (0.25, 0.25, 0.0, 1.0, 0.0)),
        ((0.25, 3.0), 0.5, (1.0, 0.0, 0.0, 0.0, 0.0)),
    ],
    ids=str,
)
def test_the_gradient_of_a_clipped_unit_is_the_one_found_by_hand(
    inputs: tuple[float, ...], start: float, by_hand: tuple[float, ...], kernel: str
) -> None:
    network = one_unit(1.0, 0.5, 0.0, kernel)
    h = torch.full((1, 1, 1), start, dtype=torch.float64, requires_grad=True)
    outputs, _ = network.recur(torch.tensor(inputs, dtype=torch.float64).view(2, 1, 1), (h,))
    gradient = torch.autograd.grad(outputs[-1].sum(), [*network.cell.parameters(), h])
    assert (outputs[-1].item(), *(part.item() for part in gradient)) == by_hand


def test_relu_is_a_nonlinearity_of_rnn() -> None:
    network = make_network("rnn", nonlinearity="relu")
    hidden, _ = network.cell(100 * some_inputs(), network.initial_state(3))
    assert hidden.min() == 0
    assert hidden.max() > 1
