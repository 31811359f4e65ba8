"""What is found out about a cell of the user's before it is trained: shapes, descriptions, and its compiled twin."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_network
from torch import Tensor, nn

from seqrnn.errors import ConfigError
from seqrnn.kernels import dispatch, specification
from seqrnn.kernels.compiler import Entry
from seqrnn.kernels.specification import CellSpecification, GateSpecification, Layer, Recurrence
from seqrnn.models import checks

H, INPUTS = 4, 3
TWO_GATES = CellSpecification(gates=(GateSpecification("a", "sigmoid"), GateSpecification("b", "relu")))


class Cell(nn.Module):
    """A sound cell; ``changes`` replace what it returns."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.changes = changes
        self.output_size = changes.get("output_size", H)
        self.W, self.U = nn.Linear(INPUTS, H), nn.Linear(H, H, bias=False)
        self.noise = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs: Tensor, state: Any) -> Any:
        self.calls += 1
        h, outputs = state[0][0], []
        for x in self.noise(self.W(inputs)):
            h = torch.tanh(x + self.U(h))
            outputs.append(h)
        stacked, final = torch.stack(outputs), (h[None],)
        return self.changes.get("returns", lambda outputs, state: (outputs, state))(stacked, final)

    def initial_state(self, streams: int) -> Any:
        return self.changes.get("starts", lambda streams: (torch.zeros(1, streams, H),))(streams)

    def recurrence(self) -> Recurrence:
        layer = Layer(INPUTS, [self.W.weight, self.U.weight], [self.W.bias], transposed=True)
        layer = replace(layer, **self.changes.get("layer", {}))
        return Recurrence(self.changes.get("specification", CellSpecification()), H, [layer], 0.0)


def check(cell: Cell) -> None:
    checks.check_description("mine", cell, INPUTS)
    checks.check_outputs("mine", cell, INPUTS)


def test_a_sound_cell_passes_and_stays_as_it_was() -> None:
    cell, random = Cell(), torch.get_rng_state()
    check(cell)
    assert cell.training
    assert cell.noise.training
    assert not cell.calls
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_size": 7}, r"outputs of shape \(5, 3, 4\) for inputs \(5, 3, 3\).* \(5, 3, 7\)"),
        ({"returns": lambda outputs, state: (outputs.transpose(0, 1), state)}, r"outputs of shape \(3, 5, 4\)"),
        ({"returns": lambda outputs, state: (outputs, state[0])}, r"a state of shapes \(1, 3, 4\)"),
        ({"returns": lambda outputs, state: (outputs, (state[0][0],))}, r"a state of shapes \[\(3, 4\)\]"),
        ({"returns": lambda outputs, state: outputs}, r"returns \(5, 3, 4\); should be \(outputs, state\)"),
        ({"starts": lambda streams: torch.zeros(1, streams, H)}, "should be a tuple of tensors"),
        ({"starts": lambda streams: (torch.zeros(streams, 1, H),)}, r"has shapes \[\(3, 1, 4\)\]"),
        ({"layer": {"transposed": False}}, r"matrices of shapes \[\(4, 3\), \(4, 4\)\]; should be \[\(3, 4\)"),
        ({"layer": {"inputs": 5}}, "inputs=5; should be 3"),
        ({"layer": {"biases": [nn.Parameter(torch.zeros(3))]}}, r"biases of shapes \[\(3,\)\]"),
        ({"specification": TWO_GATES}, r"matrices of shapes .* should be \[\(8, 3\), \(8, 4\)\]"),
        ({"specification": CellSpecification(state=("h", "c"))}, r"a state of shapes .* should be 2 of"),
        ({"specification": CellSpecification(independent=True)}, r"should be \[\(4, 3\), \(4,\)\]"),
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_wrong_with_a_cell_is_named_before_training(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"model.name=mine: .*Cell .*{message}"):
        check(Cell(**changes))


@pytest.mark.parametrize("wrong", [{"activation": "sine"}, {"gates": GateSpecification("a", "tanh")}, {"state": "h"}])
def test_a_description_with_what_there_is_not_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        CellSpecification(**wrong)
    with pytest.raises(ValueError, match="must be one of sigmoid"):
        GateSpecification("a", "sine")  # type: ignore[arg-type]


def test_a_twin_that_computes_something_else_is_refused_with_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_agreeing", set())
    cell = make_network("gru", INPUTS, 1, hidden_size=H, num_layers=1).cell
    checks.check_twin(cell, INPUTS, torch.float64)
    checks._agreeing.clear()
    own = cell.recurrence

    def of_other_weights() -> Recurrence:
        layer = own().layers[0]
        inputs, state = layer.matrices
        return replace(own(), layers=[replace(layer, matrices=[inputs, nn.Parameter(-state.detach())])])

    cell.recurrence = of_other_weights
    with pytest.raises(
        ConfigError, match=r"compiled twin does not compute what .*GRU.* outputs by .*weight_hh_l0 by"
    ):
        checks.check_twin(cell, INPUTS, torch.float64)


TWIN = """
from seqrnn.kernels.compiler import kernel
from seqrnn.kernels.simd import load
@kernel
def forward({arguments}):
    {body}
@kernel
def backward(w, layer, row, rows, through_time):
    pass
"""


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a function that writes a twin into a module, and returns the name of the module."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(arguments: str = "p, w, layer, row, rows", body: str = "pass") -> str:
        name = f"twin_{abs(hash((tmp_path, arguments, body)))}"
        (tmp_path / f"{name}.py").write_text(TWIN.format(arguments=arguments, body=body))
        monkeypatch.setattr(specification, "_compiled", (*specification.compiled_modules(), name))
        return name

    return write


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("layer.nosuch", r"Unknown attribute .nosuch. of type .*\.py, line 6\)"),
        ("tahn(row)", "NameError: name 'tahn' is not defined"),
        ("load(w, row)", r"load\(\) missing 1 required positional argument: 'remaining'"),
        ("layer[0] = {1: row}", r"No implementation of function .*setitem.*\.py, line 6\)"),
    ],
    ids=range(4),
)
def test_a_kernel_of_a_twin_that_cannot_be_compiled_is_named_in_a_sentence(
    body: str, message: str, twin: Any
) -> None:
    name = twin(body=body)
    forward = importlib.import_module(name).forward

    def call(w, layer):  # type: ignore[no-untyped-def]
        forward(w, w, layer, 0, 1)

    with pytest.raises(
        ConfigError, match=rf"^{name}\.forward\(p: .*layer: .*row: int64.*cannot be compiled: {message}"
    ) as raised:
        Entry(call).ready(np.zeros(4, np.float32), np.zeros(9, np.int64))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_a_twin_whose_kernels_take_other_arguments_is_refused(twin: Any, tmp_path: Path) -> None:
    dispatch._twin(twin())
    with pytest.raises(
        ConfigError, match=r"has forward\(w, p, layer, row\); should be forward\(p, w, layer, row, rows\)"
    ):
        dispatch._twin(twin("w, p, layer, row"))
    (tmp_path / "no_kernel.py").write_text("def forward(p, w, layer, row, rows): ...\n")
    with pytest.raises(ConfigError, match=r"has a forward that is no kernel") as raised:
        dispatch._twin("no_kernel")
    assert "has no backward(w, layer, row, rows, through_time)" in str(raised.value)
