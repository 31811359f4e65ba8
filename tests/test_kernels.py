"""Compiled kernels compared with torch, numpy and plain arithmetic."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import StubTask, make_monitor, make_network, make_schedule, random_batch

from seqrnn import loop
from seqrnn.errors import DataError
from seqrnn.kernels import compiler, layout, recurrence, specification, support
from seqrnn.kernels import network as network_module
from seqrnn.kernels.cache import CodeFile, Folder
from seqrnn.kernels.compiler import Entry
from seqrnn.kernels.functions import exp, sigmoid, tanh
from seqrnn.kernels.matmul import matmul, transpose
from seqrnn.kernels.simd import lanes_of, load, pointer, store
from seqrnn.kernels.specification import CellSpecification, GateSpecification
from seqrnn.kernels.steps import STEPS, Step, squared_norm
from seqrnn.losses import LOSSES
from seqrnn.models.protocol import State
from seqrnn.strategies.compiled import OTHER_SETTINGS, Compiled
from seqrnn.tasks.protocol import Stored

needs_compiler = pytest.mark.skipif(support.machine_obstacle() is not None, reason=str(support.machine_obstacle()))
pytestmark = needs_compiler
PRECISIONS = [np.float32, np.float64]


@Entry
def apply(which, values_, results_):
    values, results = pointer(values_), pointer(results_)
    for j in range(0, len(values_), lanes_of(values_)):
        remaining = len(values_) - j
        value = load(values, j, remaining)
        if which == 0:
            value = exp(value)
        elif which == 1:
            value = sigmoid(value)
        else:
            value = tanh(value)
        store(results, j, value, remaining)


@Entry
def multiply(M, N, K, A, a, a_row, a_column, B, b_row, C, c_row, adding):
    matmul(M, N, K, pointer(A), a, a_row, a_column, pointer(B), 0, b_row, pointer(C), 0, c_row, adding)


@Entry
def turn(M, N, A, a_row, C, c_row):
    transpose(M, N, pointer(A), 0, a_row, pointer(C), 0, c_row)


@Entry
def norm(values):
    return squared_norm(pointer(values), len(values))


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(
    ("which", "exact"),
    [(0, np.exp), (1, lambda x: 1 / (1 + np.exp(-x))), (2, np.tanh)],
    ids=["exp", "sigmoid", "tanh"],
)
def test_functions_are_exact_to_a_few_units_in_the_last_place(which: int, exact: Any, dtype: Any) -> None:
    values = np.concatenate([np.linspace(-60, 60, 10_001), np.logspace(-20, 1, 1001), -np.logspace(-20, 1, 1001)])
    values = values[values != 0].astype(dtype)
    found = np.empty_like(values)
    apply(which, values, found)
    expected = exact(values.astype(np.longdouble))
    assert np.max(np.abs((found - expected) / expected)) < 2 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_functions_return_nan_for_nan_and_limits_for_infinity(dtype: Any) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, -0.0], dtype)
    found = np.empty_like(values)
    for which, at_infinity in ((1, (1, 0)), (2, (1, -1))):
        apply(which, values, found)
        assert np.isnan(found[0])
        assert found[1:5] == pytest.approx([at_infinity[0], at_infinity[1]] * 2, abs=1e-37)
    assert np.signbit(found[6]), "tanh(-0) is -0"
    assert not np.signbit(found[5])


@pytest.mark.covering(1)
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("M", [1, 2, 3, 7, 8, 9, 31])
@pytest.mark.parametrize("N", [1, 7, 16, 17, 48, 49, 150, 200])
def test_a_product_equals_numpys_and_touches_nothing_else(M: int, N: int, dtype: Any) -> None:
    rng = np.random.default_rng(M * 1000 + N)
    precision = 1e-12 if dtype == np.float64 else 1e-4
    for K in (1, 2, 5, 50, 300):
        B = rng.normal(size=(K, N + 3)).astype(dtype)
        for turned in (False, True):
            A = rng.normal(size=(K, M) if turned else (M, K)).astype(dtype)
            product = (A.T if turned else A) @ B[:, :N]
            strides = (1, M) if turned else (K, 1)
            for adding in (0, 1):
                C = np.full((M, N + 5), 7, dtype)
                multiply(M, N, K, A.ravel(), 0, *strides, B.ravel(), N + 3, C.reshape(-1), N + 5, adding)
                assert C[:, :N] == pytest.approx(product + 7 * adding, rel=precision, abs=precision * K)
                assert (C[:, N:] == 7).all()


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_transpose_equals_numpys_and_touches_nothing_else(dtype: Any) -> None:
    for M in (1, 2, 8, 15, 16, 17, 50):
        for N in (1, 3, 16, 31, 150):
            A = np.random.default_rng(M * N).normal(size=(M, N + 2)).astype(dtype)
            C = np.full((N, M + 3), 7, dtype)
            turn(M, N, A.ravel(), N + 2, C.reshape(-1), M + 3)
            assert (C[:, :M] == A[:, :N].T).all()
            assert (C[:, M:] == 7).all()


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_norm_counts_each_number_once(dtype: Any) -> None:
    for count in (1, 15, 16, 17, 32, 33, 1000):
        values = np.random.default_rng(count).normal(size=count).astype(dtype)
        assert norm(values) == pytest.approx(float(np.sum(values.astype(np.float64) ** 2)), rel=1e-5)


CELLS = [
    ("elman", {"bias": True}),
    ("elman", {"bias": False}),
    ("rnn", {}),
    ("rnn", {"nonlinearity": "relu"}),
    ("gru", {}),
    ("lstm", {}),
    ("indrnn", {}),
    ("indrnn", {"activation": "tanh"}),
    ("indrnn", {"activation": "clip"}),
    ("mingru", {}),
    ("mingru", {"candidate": "positive"}),
    ("minlstm", {}),
    ("minlstm", {"candidate": "positive"}),
]
COMPILED = ["elman", "rnn", "gru", "lstm", "indrnn", "mingru", "minlstm"]
SHAPES = [(1, 1, 1, 1, 1), (7, 3, 2, 5, 2), (6, 4, 3, 16, 1), (13, 9, 17, 33, 1), (3, 40, 20, 50, 3)]  # T, B, I, H, L


def both_ways(name: str, changes: Any, shape: Sequence[int], dtype: torch.dtype) -> tuple[list[Any], list[Any]]:
    """Outputs, final state and all gradients of a cell, by torch and in compiled code."""
    T, B, inputs_size, H, L = shape
    cell = make_network(name, inputs_size, 2, hidden_size=H, num_layers=L, **changes).cell.to(dtype)
    torch.manual_seed(1)
    inputs = torch.randn(T, B, inputs_size, dtype=dtype, requires_grad=True)
    state: State = tuple(torch.randn_like(part, requires_grad=True) for part in cell.initial_state(B))
    weights = torch.randn(T, B, H, dtype=dtype)
    end_weights = [torch.randn_like(part) for part in state]
    found = []
    for compute in (cell, lambda x, s: recurrence.recur(cell.recurrence(), x, s, True)):
        outputs, end = compute(inputs, state)
        total = (outputs * weights).sum() + sum((a * b).sum() for a, b in zip(end, end_weights, strict=True))
        gradients = torch.autograd.grad(total, [inputs, *state, *cell.parameters()])
        found.append([value.detach() for value in (outputs, *end, *gradients)])
    return found[0], found[1]


@pytest.mark.covering(1)
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["f64", "f32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "changes"), CELLS, ids=str)
def test_a_recurrence_equals_its_torch_twin(
    name: str, changes: Any, shape: Sequence[int], dtype: torch.dtype, precision: float
) -> None:
    for by_torch, compiled in zip(*both_ways(name, changes, shape, dtype), strict=True):
        assert by_torch.shape == compiled.shape
        assert torch.linalg.norm(by_torch - compiled) <= precision * torch.linalg.norm(by_torch)


@pytest.mark.parametrize("name", COMPILED)
def test_gradcheck(name: str) -> None:
    cell = make_network(name, 2, 1, hidden_size=3, num_layers=2).cell
    state = tuple(torch.randn_like(part, requires_grad=True) for part in cell.initial_state(2))
    inputs = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)

    def compute(inputs: torch.Tensor, *rest: torch.Tensor) -> Any:
        outputs, end = recurrence.recur(cell.recurrence(), inputs, rest[: len(state)], True)
        return outputs, *end

    assert torch.autograd.gradcheck(compute, (inputs, *state, *cell.parameters()))


def test_a_second_backward_pass_gives_the_same_gradient() -> None:
    cell = make_network("gru", 2, 1).cell
    outputs, _ = recurrence.recur(cell.recurrence(), torch.ones(5, 3, 2).double(), cell.initial_state(3), True)
    first, second = (torch.autograd.grad(outputs.sum(), cell.parameters(), retain_graph=True) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_a_second_derivative_is_refused_with_the_remedy() -> None:
    cell = make_network("lstm", 2, 1).cell
    outputs, _ = recurrence.recur(cell.recurrence(), torch.ones(5, 3, 2).double(), cell.initial_state(3), True)
    with pytest.raises(RuntimeError, match=r"no second derivative; set kernel=torch"):
        torch.autograd.grad(outputs.sum(), cell.parameters(), create_graph=True)


def test_calls_that_are_under_way_do_not_share_memory() -> None:
    cell = make_network("gru", 2, 1).cell
    inputs = [torch.randn(5, 3, 2, dtype=torch.float64) for _ in range(3)]

    def gradients(order: Sequence[int], one_by_one: bool) -> list[torch.Tensor]:
        outputs, found = [], []
        for index in order:
            outputs.append(recurrence.recur(cell.recurrence(), inputs[index], cell.initial_state(3), True)[0])
            if one_by_one:
                found.append(torch.autograd.grad(outputs[-1].sum(), cell.parameters())[0])
        return found or [torch.autograd.grad(output.sum(), cell.parameters())[0] for output in outputs]

    for alone, together in zip(gradients(range(3), True), gradients(range(3), False), strict=True):
        assert (alone == together).all()


def test_without_gradients_a_long_sequence_comes_out_the_same() -> None:
    cell = make_network("lstm", 2, 1).cell
    inputs = torch.randn(3000, 5, 2, dtype=torch.float64)  # more than is computed at a time
    with torch.no_grad():
        expected, expected_end = cell(inputs, cell.initial_state(5))
        found, end = recurrence.recur(cell.recurrence(), inputs, cell.initial_state(5), False)
    assert torch.allclose(found, expected, rtol=0, atol=1e-13)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-13) for a, b in zip(end, expected_end, strict=True))


def test_the_state_that_is_given_is_not_changed() -> None:
    cell = make_network("gru", 2, 1).cell
    state = (torch.ones(1, 3, 4, dtype=torch.float64),)
    with torch.no_grad():
        recurrence.recur(cell.recurrence(), torch.ones(5, 3, 2).double(), state, False)
    assert (state[0] == 1).all()


@pytest.mark.parametrize(("kernel", "compiled"), [("auto", True), ("compiled", True), ("torch", False)])
def test_the_kernel_is_the_one_that_was_asked_for(kernel: str, compiled: bool, monkeypatch: Any) -> None:
    called = []
    original = recurrence.recur
    monkeypatch.setattr(recurrence, "recur", lambda *arguments: called.append(1) or original(*arguments))
    network = make_network("gru", kernel=kernel)
    network(torch.ones(2, 3, 2).double(), network.initial_state(3))
    assert bool(called) == compiled


SCRIPT = """
import sys, numpy as np
from seqrnn.kernels import compiler, layout, recurrence
import torch
printed = []
recurrence.ready(torch.float64, printed.append, gradients=False)
from seqrnn.models.rnn import RNN
torch.manual_seed(0)
cell = RNN(2, hidden_size=21, num_layers=1, dropout=0.0, nonlinearity="tanh").double()
x = torch.randn(9, 5, 2, dtype=torch.float64)
with torch.no_grad():
    found = recurrence.recur(cell.recurrence(), x, cell.initial_state(5), False)[0]
    exact = float((found - cell(x, cell.initial_state(5))[0]).abs().max()) < 1e-13
compiled = sum("compiling" in line for line in printed)
print("compiled", compiled, "exact", exact, "kept", compiler.code_folder().path is not None)
"""


def run_script(directory: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "SEQRNN_CACHE_DIR": str(directory), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.long  # processes that compile
def test_processes_that_start_together_compile_once_and_later_ones_not_at_all(tmp_path: Path) -> None:
    together = [run_script(tmp_path / "cache") for _ in range(3)]
    outputs = sorted(process.communicate()[0].strip() for process in together)
    assert outputs == ["compiled 0 exact True kept True"] * 2 + ["compiled 1 exact True kept True"]
    assert run_script(tmp_path / "cache").communicate()[0].strip() == "compiled 0 exact True kept True"


@pytest.mark.long  # processes that compile
def test_where_nothing_can_be_kept_it_is_compiled_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run_script(tmp_path / "file").communicate()[0].strip() == "compiled 1 exact True kept False"


@pytest.mark.long  # processes that compile
def test_others_cannot_put_code_into_the_cache(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    assert run_script(tmp_path / "open").communicate()[0].strip() == "compiled 1 exact True kept False"


@pytest.mark.parametrize(
    ("inputs", "state", "message"),
    [
        (torch.ones(4, 3, 1), torch.zeros(1, 3, 4), r"inputs of shape \(4, 3, 1\): should be \(T, B, 2\)"),
        (torch.ones(0, 3, 2), torch.zeros(1, 3, 4), "at least 1"),
        (torch.ones(4, 3, 2), torch.zeros(1, 2, 4), r"a state of shapes \[\(1, 2, 4\)\]: should be 1 of \(1, 3, 4\)"),
        (torch.ones(4, 3, 2).float(), torch.zeros(1, 3, 4), "should all be float32, or all float64"),
    ],
)
def test_sizes_that_do_not_go_together_are_named(inputs: torch.Tensor, state: torch.Tensor, message: str) -> None:
    cell = make_network("gru", 2, 1).cell
    inputs = inputs if "float32" in message else inputs.double()
    with pytest.raises(ValueError, match=message):
        recurrence.recur(cell.recurrence(), inputs, (state.double(),), False)


def broken(part: str, value: Any, classes: bool = False) -> list[list[Any]]:
    """Two epochs, the second with one thing wrong."""
    sound = random_batch(6, 3, classes=classes)
    return [[sound], [Stored(replace(sound.chunk, **{part: value}))]]


@pytest.mark.first(3)
@pytest.mark.parametrize(
    ("epochs", "message"),
    [
        ([[random_batch(6, 3)], [random_batch(6, 4)]], "4 streams and 6 timesteps, where those"),
        ([[random_batch(6, 3)], [random_batch(7, 3)]], "3 streams and 7 timesteps, where those"),
        (broken("inputs", torch.ones(6, 3, 5)), r"inputs of shape \(6, 3, 5\) instead of \(6, 3, 2\)"),
        (broken("targets", torch.ones(6, 3, 1)), r"targets of shape \(6, 3, 1\) instead of \(6, 3, 2\)"),
        (broken("valid", torch.ones(5, 3).bool()), r"valid of shape \(5, 3\) instead of \(6, 3\)"),
        (broken("targets", torch.full((6, 3), 2), classes=True), "class 2, and classes go from 0 to 1"),
        (broken("targets", torch.full((6, 3), -1), classes=True), "class -1, and classes go from 0 to 1"),
        (broken("targets", torch.ones(6, 3), classes=True), "cross_entropy wants int64 class indices"),
    ],
    ids=range(8),
)
def test_later_training_data_of_another_size_or_type_is_an_error_and_no_crash(epochs: Any, message: str) -> None:
    classes = not epochs[0][0].chunk.targets.is_floating_point()
    task = StubTask(epochs, loss="cross_entropy" if classes else "mse")
    schedule = make_schedule(window=2, epochs=2, streams=3)
    network = make_network("gru")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    strategy = Compiled(network, LOSSES[task.loss], optimizer, schedule, (3, 6))
    strategy.prepare(lambda text: None)
    with pytest.raises(DataError, match=message):
        loop.train(task, schedule, strategy, make_monitor(task, schedule))


def test_only_one_process_compiles_at_a_time_even_without_announcement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    @contextmanager
    def noted(*arguments: Any) -> Iterator[None]:
        held.append(1)
        yield

    monkeypatch.setattr(compiler, "code_folder", lambda: Folder(tmp_path))
    monkeypatch.setattr(CodeFile, "locked", noted)
    function = Entry(norm.function)
    function(np.ones(3))
    function(np.ones(4))
    assert len(held) == 1


@pytest.mark.long
def test_a_cell_from_outside_the_package_is_trained_by_its_compiled_twin() -> None:
    plugins = Path(__file__).parent / "plugins"
    path = os.pathsep.join([str(plugins), str(plugins.parent)])
    result = subprocess.run(
        [sys.executable, str(plugins / "train_momentum_rnn.py")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["Plain", "True", "Compiled", "True", "True"]


def test_a_twin_that_is_registered_too_late_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    specification.compiled_modules()
    monkeypatch.setattr(specification, "_registered", set())
    assert "is not registered" in str(specification.obstacle_to_compiling("late"))
    assert specification.register_compiled("late") == "late"
    assert "late was registered after compiled" in str(specification.obstacle_to_compiling("late"))
    assert "late" not in specification.compiled_modules()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gates": (GateSpecification("a", "tanh", "b"), GateSpecification("b", "sigmoid"))}, "no gate before it"),
        (
            {"gates": (GateSpecification("a", "sigmoid"), GateSpecification("b", "tanh", "a"),
                       GateSpecification("c", "tanh"))},
            "before the gates that have a state_scale",
        ),
        ({"saved": 0}, "saved=0: must be at least 1"),
    ],
    ids=range(3),
)  # fmt: skip
def test_a_specification_that_contradicts_itself_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CellSpecification(**changes)


@pytest.mark.parametrize("name", COMPILED)
def test_a_cell_has_the_blocks_and_the_state_that_its_specification_declares(name: str) -> None:
    cell = make_network(name, 3, 1, hidden_size=4, num_layers=2).cell
    recurrence = cell.recurrence()
    state = cell.initial_state(5)
    recurrence.check_state(state, 5)
    assert all((part == 0).all() for part in state)
    for layer in recurrence.layers:
        rows = layer.inputs + {"indrnn": 1, "mingru": 0, "minlstm": 0}.get(name, 4)
        assert sum(matrix.numel() for matrix in layer.matrices) == rows * recurrence.specification.blocks * 4
        assert all(bias.numel() == recurrence.specification.blocks * 4 for bias in layer.biases)
        assert all(isinstance(matrix, torch.nn.Parameter) for matrix in layer.matrices)


def test_work_space_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "available_memory", lambda: 1000)
    network = make_network("gru")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with pytest.raises(MemoryError, match=r"compiled code needs 0\.0 GB of work space, and 0\.0 GB are available"):
        Compiled(network, LOSSES["mse"], optimizer, make_schedule(window=2, streams=3), (3, 6))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.optimizer.__name__)
def test_an_entry_of_the_table_of_steps_names_what_torch_remembers(step: Step) -> None:
    """With every setting on that makes torch remember more, and with none of them."""
    optional = {setting for setting in step.tensors.values() if setting}
    for settings in ({}, {name: 0.5 if name == "momentum" else True for name in optional}):
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = step.optimizer([weight], lr=0.1, **settings)
        weight.grad = torch.ones(3)
        optimizer.step()
        numbers = np.zeros(layout.OPTIMIZER_FIELDS)
        step.describe(optimizer.param_groups[0], numbers)
        names = {name for name in step.tensors if step.remembers(name, numbers)} | set(step.scalars)
        remembered = {name for name, value in optimizer.state[weight].items() if value is not None}
        assert remembered == names | ({"step"} if step.counted else set())


def test_a_step_applies_only_to_settings_that_its_entry_knows() -> None:
    (adam,) = (step for step in STEPS if step.optimizer is torch.optim.Adam)
    group = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=0.1).param_groups[0]
    assert adam.applies_to(group, OTHER_SETTINGS)
    assert not adam.applies_to({**group, "maximize": True}, OTHER_SETTINGS)
    assert not adam.applies_to({**group, "of_a_later_torch": 1}, OTHER_SETTINGS)
