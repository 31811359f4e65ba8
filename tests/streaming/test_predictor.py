"""A network that is fed one timestep at a time. T timesteps, I inputs, L layers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import LIVELY, NOT_COMPILED, make_network
from numpy.typing import NDArray
from torch import Tensor, nn

import seqrnn
from seqrnn import registry
from seqrnn.checkpoints import file
from seqrnn.errors import DataError
from seqrnn.kernels import support
from seqrnn.models.network import Network
from seqrnn.settings import Kernel
from seqrnn.streaming.predictor import StreamPredictor

MODELS = registry.names("model")
compiled_code = pytest.mark.skipif(support.machine_obstacle() is not None, reason=str(support.machine_obstacle()))


def sequence(timesteps: int = 200, size: int = 3, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((timesteps, size)).astype(np.float32)


def forward(network: Network, inputs: NDArray[np.float32]) -> NDArray[Any]:
    """The outputs for the whole sequence at once, (T, O)."""
    with torch.inference_mode():
        outputs, _ = network(torch.from_numpy(inputs)[:, None], network.initial_state(1))
    return outputs[:, 0].numpy()


def streaming(network: Network, size: int = 3) -> StreamPredictor:
    return StreamPredictor(network.float().eval(), size, {"task": "stub", "model": "stub"})


def streamed(predictor: StreamPredictor, inputs: NDArray[np.float32]) -> NDArray[Any]:
    return np.array([predictor(values) for values in inputs])


def same(outputs: NDArray[Any], expected: NDArray[Any], tolerance: float = 1e-6) -> None:
    """Within ``tolerance`` of the largest output."""
    assert outputs.shape == expected.shape
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.covering(2)
@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kernel", ["auto", "torch"])
@pytest.mark.parametrize("model", MODELS)
def test_streamed_outputs_are_those_of_the_whole_sequence(model: str, kernel: Kernel, layers: int, head: str) -> None:
    changes = {**LIVELY.get(model, {}), "hidden_size": 21, "num_layers": layers, "head": head}
    network = make_network(model, 3, 2, kernel=kernel, **changes).float().eval()
    inputs = sequence()
    expected = forward(network, inputs)
    predictor = streaming(network)
    outputs = streamed(predictor, inputs)
    assert outputs.dtype == np.float32
    # Layer normalisation divides by small deviations, and so enlarges the rounding of single precision.
    same(outputs, expected, 3e-6 if model == "lnlstm" else 1e-6)
    is_compiled = kernel == "auto" and support.machine_obstacle() is None and model not in NOT_COMPILED
    assert type(predictor._timestep).__name__ == ("Timestep" if is_compiled else "_TorchTimestep")


class Leaky(nn.Module):
    """A cell with no more than the protocol demands: h = (h + W x) / 2, from an initial state of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.W, self.output_size = nn.Parameter(torch.randn(3, 4)), 4

    def forward(self, inputs: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, steps = state[0][0], []
        for x in inputs:
            h = (h + x @ self.W) / 2
            steps.append(h)
        return torch.stack(steps), (h[None],)

    def initial_state(self, streams: int) -> tuple[Tensor, ...]:
        return (torch.ones(1, streams, 4),)

    def recurrent_weights(self) -> list[Tensor]:
        return []


def test_any_cell_can_be_streamed_and_begins_with_its_own_initial_state() -> None:
    network = Network(
        Leaky(), 2, head="linear", head_size=1, head_bias=True, recurrent_init="default", init_std={}
    ).eval()
    predictor, inputs = streaming(network), sequence()
    expected = forward(network, inputs)
    same(streamed(predictor, inputs), expected)
    predictor.reset()
    same(streamed(predictor, inputs), expected)


@pytest.mark.parametrize("kernel", ["auto", "torch"])
@pytest.mark.parametrize("model", ["lstm", "indrnn"])
def test_a_state_is_held_reset_saved_and_restored(model: str, kernel: Kernel, tmp_path: Path) -> None:
    network = make_network(model, 3, 2, kernel=kernel, num_layers=2, **LIVELY.get(model, {}))
    predictor, inputs = streaming(network), sequence(60)
    whole = streamed(predictor, inputs)
    predictor.reset()
    assert np.array_equal(streamed(predictor, inputs[:40]), whole[:40])
    predictor.save(tmp_path / "state.safetensors")
    state = predictor.state
    streamed(predictor, inputs[:7])

    other = streaming(make_network(model, 3, 2, kernel=kernel, num_layers=2, **LIVELY.get(model, {})))
    other.restore(tmp_path / "state.safetensors")
    assert other.timesteps == 40
    assert np.array_equal(streamed(other, inputs[40:]), whole[40:])
    other.state = state
    assert np.array_equal(streamed(other, inputs[40:]), whole[40:])


def test_compiled_code_continues_from_a_state_of_torch(tmp_path: Path) -> None:
    networks = [make_network("lstm", 3, 2, kernel=kernel, num_layers=2) for kernel in ("torch", "auto")]
    inputs = sequence(60)
    expected = forward(networks[0].float(), inputs)
    first, second = map(streaming, networks)
    streamed(first, inputs[:40])
    first.save(tmp_path / "state")
    second.restore(tmp_path / "state")
    same(streamed(second, inputs[40:]), expected[40:])


def test_the_state_of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    predictor = StreamPredictor(make_network("gru").float().eval(), 2, {"task": "sine", "model": "gru"})
    predictor.save(tmp_path / "state")
    other = StreamPredictor(make_network("lstm").float().eval(), 2, {"task": "sine", "model": "lstm"})
    with pytest.raises(DataError, match=r"state: the state of another network: model is lstm, and was gru; weights"):
        other.restore(tmp_path / "state")
    trained = StreamPredictor(make_network("gru", seed=1).float().eval(), 2, {"task": "sine", "model": "gru"})
    with pytest.raises(DataError, match=r"another network: weights is \w{16}, and was \w{16}$"):
        trained.restore(tmp_path / "state")


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    predictor = streaming(make_network("gru"), 2)
    with pytest.raises(DataError, match="missing: cannot be read"):
        predictor.restore(tmp_path / "missing")
    file.write(tmp_path / "checkpoint", {"model": {"W": torch.zeros(3)}})
    with pytest.raises(DataError, match="holds no state of a stream"):
        predictor.restore(tmp_path / "checkpoint")
    predictor.save(tmp_path / "state")
    content = bytearray((tmp_path / "state").read_bytes())
    content[-1] ^= 1
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(DataError, match="damaged: its checksum"):
        predictor.restore(tmp_path / "state")
    tree = {"content": "state of a stream", "network": predictor.identity, "timesteps": 1}
    file.write(tmp_path / "wide", {**tree, "state": [torch.zeros(1, 1, 9)]})
    with pytest.raises(DataError, match=r"wide: a state of shapes \[\(1, 1, 9\)\]: should be \[\(1, 1, 4\)\]"):
        predictor.restore(tmp_path / "wide")
    file.write(tmp_path / "nan", {**tree, "state": [torch.full((1, 1, 4), np.nan)]})
    with pytest.raises(DataError, match="nan: a state that is not finite"):
        predictor.restore(tmp_path / "nan")


@pytest.mark.parametrize("kernel", ["auto", "torch"])
@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ([1.0], r"inputs of shape \(1,\): should be \(2,\)"),
        (0.5, r"inputs of shape \(\): should be \(2,\)"),
        ([[1.0, 2.0]], r"inputs of shape \(1, 2\)"),
        ([1.0, np.nan], "input 1 is nan"),
        ([1e300, 1.0], "input 0 is inf"),
        (["a", "b"], r"inputs \['a', 'b'\]: should be 2 numbers"),
        ([[1.0], [1.0, 2.0]], "should be 2 numbers"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_wrong_inputs_are_refused_and_leave_the_state_as_it_was(inputs: Any, problem: str, kernel: Kernel) -> None:
    predictor = streaming(make_network("gru", kernel=kernel), 2)
    predictor([1.0, 2.0])
    before = predictor.state
    with pytest.raises(DataError, match=problem):
        predictor(inputs)
    assert predictor.timesteps == 1
    assert all(torch.equal(now, was) for now, was in zip(predictor.state, before, strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_new_weights_are_taken_over(model: str) -> None:
    changes = {**LIVELY.get(model, {}), "num_layers": 2}
    first, second = (make_network(model, 3, 2, seed=seed, **changes).float().eval() for seed in (0, 1))
    inputs = sequence(30)
    expected = forward(second, inputs)
    weights = {name: value.clone() for name, value in second.state_dict().items()}
    predictor = streaming(first)
    predictor.network.load_state_dict(weights)
    predictor.refresh()
    same(streamed(predictor, inputs), expected)


@compiled_code
def test_a_gru_of_50_units_is_fast() -> None:
    """20,000 timesteps a second are required of an idle core; on a busy one, the best of several tries counts."""
    predictor = streaming(make_network("gru", 1, 1, hidden_size=50), 1)
    inputs = list(sequence(2000, 1))
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        for values in inputs:
            predictor(values)
        seconds.append(time.perf_counter() - began)
    assert 2000 / min(seconds) > 20_000


def test_a_run_is_streamed_as_it_was_tested(tmp_path: Path) -> None:
    run = seqrnn.run(
        ["task=integral", "model=lstm", "model.head=mlp", "smoke=true", "plots.draw=false", "device=cpu",
         f"hydra.run.dir={tmp_path / 'run'}"],
        quiet=True,
    )  # fmt: skip
    predictor = run.stream()
    same(streamed(predictor, run.predictions["inputs"][:, 0]), run.predictions["outputs"][:, 0])
    with pytest.raises(ValueError, match="network\\('worst'\\)"):
        run.stream("worst")  # type: ignore[arg-type]
