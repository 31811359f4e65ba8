"""Exported networks compute what their networks compute: in one call, in pieces, one timestep at a time."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import HEAD, LIVELY, NOT_COMPILED, make_network
from torch import Tensor, nn

from seqrnn import registry
from seqrnn.errors import ConfigError, DataError
from seqrnn.exporting import verification
from seqrnn.exporting.description import names_of
from seqrnn.exporting.formats import FORMATS, METADATA, Function
from seqrnn.exporting.programs import Timesteps, Units, trace
from seqrnn.exporting.verification import Sequences, verify
from seqrnn.kernels.support import machine_obstacle
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, zeros

VARIANTS: dict[str, dict[str, Any]] = {
    "one layer": {"num_layers": 1},
    "two layers": {"num_layers": 2},
    "mlp head": {"num_layers": 1, "head": "mlp"},
    "orthogonal": {"num_layers": 1, "recurrent_init": "orthogonal"},
}
CELLS = [*registry.names("model"), "momentum"]


class Momentum(nn.Module):
    """v_t = v_{t−1} / 2 + W x_t + U h_{t−1}, h_t = tanh(v_t): a cell that offers the protocol and no more."""

    def __init__(self, input_size: int, hidden_size: int, layers: int) -> None:
        super().__init__()
        self.output_size, sizes = hidden_size, [input_size] + [hidden_size] * (layers - 1)
        self.W = nn.ParameterList(nn.Parameter(torch.randn(hidden_size, size) / 2) for size in sizes)
        self.U = nn.ParameterList(nn.Parameter(torch.randn(hidden_size, hidden_size) / 2) for _ in sizes)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        ends = []
        for layer, (W, U) in enumerate(zip(self.W, self.U, strict=True)):
            h, v = (part[layer] for part in state)
            outputs = []
            for x in inputs:
                v = 0.5 * v + x @ W.T + h @ U.T
                h = torch.tanh(v)
                outputs.append(h)
            inputs = torch.stack(outputs)
            ends.append((h, v))
        return inputs, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))

    def initial_state(self, streams: int) -> State:
        h = zeros(self.W[0], len(self.W), streams, self.output_size)
        return h, h.clone()

    def recurrent_weights(self) -> list[Tensor]:
        return [U.data for U in self.U]


def network_of(cell: str, dtype: torch.dtype, **changes: Any) -> Network:
    """A network of 2 inputs and 3 outputs, computed in compiled code where that is possible."""
    kernel: Any = "compiled" if machine_obstacle() is None and cell not in NOT_COMPILED else "torch"
    if cell == "momentum":
        torch.manual_seed(0)
        own = {key: value for key, value in changes.items() if key != "num_layers"}
        return Network(Momentum(2, 4, changes["num_layers"]), 3, **{**HEAD, **own}).to(dtype).eval()
    return make_network(cell, 2, 3, kernel=kernel, **LIVELY.get(cell, {}), **changes).to(dtype).eval()


def exported(network: Network, path: Path, format: str, timesteps: Timesteps = "any") -> Function:
    kind = FORMATS[format]
    path = path / f"model{kind.suffix}"
    kind.write(trace(network, 2, Units(), timesteps), names_of(network), timesteps, "{}", path)
    return kind.load(path)


def distance(found: tuple[Tensor, State], expected: tuple[Tensor, State]) -> float:
    pairs = zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True)
    return max(float((one - other).abs().max()) for one, other in pairs)


@pytest.mark.covering(0, 2)  # an export takes seconds
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("cell", CELLS)
def test_an_export_computes_what_its_network_computes(
    cell: str, format: str, dtype: torch.dtype, variant: str, tmp_path: Path
) -> None:
    if variant == "orthogonal" and cell in ("indrnn", "lru", "mingru", "minlstm", "tcn"):
        pytest.skip("it has no recurrent matrices")
    if (cell, dtype, format) == ("lru", torch.float64, "onnx"):
        with pytest.raises(ConfigError, match=r"onnxruntime cannot compute this network: .* Erf"):
            exported(network_of(cell, dtype, **VARIANTS[variant]), tmp_path, format)
        return
    network = network_of(cell, dtype, **VARIANTS[variant])
    run, tolerance = exported(network, tmp_path, format), 1e-5 if dtype == torch.float32 else 1e-12
    if (cell, format) == ("lnlstm", "onnx"):
        tolerance = max(tolerance, 1e-9)  # ONNX has the epsilon of a normalisation in single precision
    with torch.inference_mode():
        for timesteps, streams in ((1, 1), (1, 4), (30, 1), (12, 5)):
            inputs = torch.randn(timesteps, streams, 2, dtype=dtype)
            state = tuple(torch.randn_like(part) for part in network.initial_state(streams))
            expected = network(inputs, state)
            assert distance(run(inputs, state), expected) < tolerance
            parts = []
            for x in inputs:
                part, state = run(x[None], state)
                parts.append(part)
            assert distance((torch.cat(parts), state), expected) < tolerance


@pytest.mark.long
@pytest.mark.first(1)
@pytest.mark.parametrize("format", FORMATS)
def test_names_and_axes_and_metadata_are_in_the_file(format: str, tmp_path: Path) -> None:
    network = network_of("lstm", torch.float32)
    kind, names = FORMATS[format], names_of(network)
    path = tmp_path / f"model{kind.suffix}"
    kind.write(trace(network, 2, Units(), "any"), names, "any", json.dumps({"a": "ü"}), path)
    content = path.read_bytes()
    assert str(Path(__file__).parent.parent.parent).encode() not in content  # nothing of this machine
    if format == "torch":
        files = {METADATA: ""}
        program = torch.export.load(path, extra_files=files)
        assert json.loads(files[METADATA]) == {"a": "ü"}
        assert program.graph_signature.user_inputs == ("inputs", "state_0", "state_1")
        return
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: json.loads(entry.value) for entry in model.metadata_props} == {METADATA: {"a": "ü"}}
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "inputs": ["timesteps", "streams", 2],
        "state_h": [1, "streams", 4],
        "state_c": [1, "streams", 4],
        "outputs": ["timesteps", "streams", 3],
        "next_state_h": [1, "streams", 4],
        "next_state_c": [1, "streams", 4],
    }


def test_tracing_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network = make_network("gru", kernel="auto").train()
    trace(network, 2, Units(), "one")
    assert network.kernel == "auto"
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


class Halves(nn.Module):
    """A unit that begins at one half, and is added to the input at every timestep."""

    output_size = 1

    def __init__(self, initial: str = "half") -> None:
        super().__init__()
        self.weight, self.initial = nn.Parameter(torch.ones(2, 1)), initial

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        h, steps = state[0][0], []
        for x in inputs:
            h = torch.tanh(h + x @ self.weight)
            steps.append(h)
        return torch.stack(steps), (h[None],)

    def initial_state(self, streams: int) -> State:
        return (torch.full((1, streams, 1), 0.5) if self.initial == "half" else torch.rand(1, streams, 1),)

    def recurrent_weights(self) -> list[Tensor]:
        return []


def test_a_state_that_differs_from_stream_to_stream_is_not_exported() -> None:
    assert names_of(Network(Halves(), 1, **HEAD)).arguments == ["inputs", "state_0"]
    with pytest.raises(ConfigError, match="the same for every stream"):
        names_of(Network(Halves("random"), 1, **HEAD))


# Verification


def test_verification_measures_differences_of_outputs_and_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PIECE", 7)
    network = Network(Halves(), 1, **{**HEAD, "init_std": {"head.weight": 0, "head.bias": 0}}).eval()
    inputs = torch.randn(40, 3, 2)
    data = Sequences(inputs.double(), inputs, torch.rand(40, 3) < 0.1)

    def wrong(by: float, where: str) -> Function:
        def run(given: Tensor, state: State) -> tuple[Tensor, State]:
            outputs, (after,) = network(given.float(), state)
            return outputs + by * (where == "outputs"), (after + by * (where == "state"),)

        return run

    assert verify(wrong(0, ""), network, nn.Identity(), data, "any").difference == 0
    found = verify(wrong(5e-6, "outputs"), network, nn.Identity(), data, "one")
    assert found.difference == pytest.approx(5e-6, rel=0.01)
    assert (found.timesteps, found.sequences) == (40, 3)
    rounded = verify(wrong(1e-4, "state"), network, nn.Identity(), data, "any")
    assert 1e-5 < rounded.difference < verification.STATE_TOLERANCE
    for where, least in (("outputs", 1e-4), ("state", 1e-2)):
        for by in (least, np.nan):
            with pytest.raises(
                DataError, match="differs from the run by " + ("nan" if np.isnan(by) else f".* in its {where}")
            ):
                verify(wrong(by, where), network, nn.Identity(), data, "any")


def test_verification_notices_an_export_that_is_wrong_one_timestep_at_a_time() -> None:
    network = Network(Halves(), 1, **HEAD).eval()
    inputs = torch.randn(10, 1, 2)
    data = Sequences(inputs, inputs, torch.arange(10)[:, None] == 0)

    def run(given: Tensor, state: State) -> tuple[Tensor, State]:
        return network(given, state if len(given) > 1 else network.initial_state(1))

    with pytest.raises(DataError, match="differs"):
        verify(run, network, nn.Identity(), data, "any")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    network = network_of("elman", torch.float32, num_layers=1)
    path = tmp_path / "model.pt2"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        FORMATS["torch"].write(trace(network, 2, Units(), "one"), names_of(network), "one", "{}", path)


def test_what_onnxruntime_cannot_compute_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(
        ConfigError, match=r"^--format onnx: onnxruntime cannot compute this network: .*; .* --format torch$"
    ):
        FORMATS["onnx"].load(tmp_path / "model.onnx")


def test_onnxruntime_is_imported_with_its_reports_to_its_makers_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    (tmp_path / "onnxruntime.py").write_text("import os\nraise OSError(os.environ['ORT_DISABLE_TELEMETRY'])\n")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OSError, match=r"^1$"):
        FORMATS["onnx"].load(tmp_path / "model.onnx")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
