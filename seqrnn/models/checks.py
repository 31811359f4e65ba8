"""Checks that a cell does what its protocol says, and that its compiled twin computes the same as the cell.

T timesteps, B streams, I inputs, H hidden units; time comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqrnn import registry
from seqrnn.errors import ConfigError
from seqrnn.kernels.specification import CellSpecification, recurrence_of

TIMESTEPS, STREAMS = 5, 3
# The largest distance of a twin's results from torch's, by the norm of torch's. Another order of additions is 1000
# times as near.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}
_agreeing: set[tuple[CellSpecification, int, int, torch.dtype]] = set()  # what check_twin has compared


def check_description(name: str, cell: Any, inputs: int) -> None:
    """Checks the initial state of a cell, and the parameters in its ``recurrence()``. Needs no values of tensors.

    Args:
        name: of the cell in the config.
        inputs: I.

    Raises:
        ConfigError: they do not have the shapes that they should have.
    """
    state = cell.initial_state(STREAMS)
    if not isinstance(state, tuple) or not all(isinstance(part, Tensor) for part in state):
        raise _problem(
            name, cell, f"initial_state() returns {_shapes(state)}; should be a tuple of tensors (L, B, H)"
        )
    wrong = [part for part in state if part.dim() < 2 or part.shape[1] != STREAMS]
    if wrong:
        raise _problem(
            name, cell, f"initial_state({STREAMS}) has shapes {_shapes(state)}; should be (L, {STREAMS}, H)"
        )
    recurrence = recurrence_of(cell)
    if recurrence is None:
        return
    try:
        recurrence.check_layers(inputs)
        recurrence.check_state(state, STREAMS)
    except ValueError as error:
        raise _problem(name, cell, f"its recurrence() does not fit: {error}") from None


def check_outputs(name: str, cell: Any, inputs: int) -> None:
    """Checks the shapes of what a cell returns for a few timesteps. The cell and torch's random numbers stay as they
    are.

    Raises:
        ConfigError: outputs or state do not have the shapes that they should have.
    """
    before, buffers = cell.initial_state(STREAMS), [(buffer, buffer.clone()) for buffer in cell.buffers()]
    was_training = cell.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        returned = cell.eval()(torch.zeros(TIMESTEPS, STREAMS, inputs), before)
        for buffer, value in buffers:
            buffer.copy_(value)
    cell.train(was_training)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise _problem(name, cell, f"returns {_shapes(returned)}; should be (outputs, state)")
    outputs, after = returned
    expected = (TIMESTEPS, STREAMS, cell.output_size)
    if not isinstance(outputs, Tensor) or outputs.shape != expected:
        raise _problem(
            name,
            cell,
            f"returns outputs of shape {_shapes(outputs)} for inputs {(TIMESTEPS, STREAMS, inputs)} (T, B, I); "
            f"should be {expected} (T, B, output_size)",
        )
    if not isinstance(after, tuple) or _shapes(after) != _shapes(before):
        raise _problem(
            name, cell, f"returns a state of shapes {_shapes(after)}; should be as initial_state(): {_shapes(before)}"
        )


def check_twin(cell: Any, inputs: int, dtype: torch.dtype) -> None:
    """Checks that the compiled twin of a cell computes the outputs, the state and the gradient that the cell computes
    with torch, on random inputs and with the weights of the cell. Of cells of one kind and size, one is checked.

    Raises:
        ConfigError: they differ.
    """
    from seqrnn.kernels.recurrence import recur  # late: it imports the compiler

    recurrence = recurrence_of(cell)
    assert recurrence is not None
    key = (recurrence.specification, recurrence.size, inputs, dtype)
    if key in _agreeing:
        return
    was_training = cell.training
    cell.eval()
    try:
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(TIMESTEPS, STREAMS, inputs, generator=generator, dtype=dtype)
        weights = torch.randn(TIMESTEPS, STREAMS, recurrence.size, generator=generator, dtype=dtype)
        by_torch = _results(cell, cell, values, weights)
        compiled = _results(cell, lambda x, state: recur(recurrence, x, state, False), values, weights)
    finally:
        cell.train(was_training)
    distances = {
        what: float((compiled[what] - expected).norm() / (expected.norm() + torch.finfo(dtype).tiny))
        for what, expected in by_torch.items()
    }
    wrong = [f"{what} by {far:.2g}" for what, far in distances.items() if not far <= TOLERANCE[dtype]]
    if wrong:
        raise ConfigError(
            f"{recurrence.specification.compiled}: this compiled twin does not compute what "
            f"{registry.describe(type(cell))} computes with torch; relative to the norm, these differ: "
            f"{', '.join(wrong)}; mend the twin, or set kernel=torch"
        )
    _agreeing.add(key)


def _results(cell: Any, compute: Any, values: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Returns outputs, final state, and the gradient of a weighted sum of both."""
    values = values.clone().requires_grad_()
    with torch.enable_grad():
        outputs, state = compute(values, cell.initial_state(STREAMS))
        loss = (outputs * weights).sum() + sum((part * weights[0]).sum() for part in state)
        parameters = {name: parameter for name, parameter in cell.named_parameters() if parameter.requires_grad}
        found = torch.autograd.grad(loss, [values, *parameters.values()], allow_unused=True)
    gradients = dict(zip(("the inputs", *parameters), found, strict=True))
    return {
        "outputs": outputs.detach(),
        **{f"part {number} of the state": part.detach() for number, part in enumerate(state)},
        **{
            f"the gradient by {name}": torch.zeros(1, dtype=values.dtype) if gradient is None else gradient
            for name, gradient in gradients.items()
        },
    }


def _shapes(value: Any) -> Any:
    """Returns the shape of a tensor, a list of those of several, or the name of another type."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_shapes(part) for part in value]
    return f"a {type(value).__name__}"


def _problem(name: str, cell: Any, text: str) -> ConfigError:
    return ConfigError(f"model.name={name}: {registry.describe(type(cell))} {text} (seqrnn.models.protocol.Cell)")
