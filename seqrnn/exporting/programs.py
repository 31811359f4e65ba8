"""A network as a program of torch.export, for one timestep or for any number of them.

T timesteps, B streams, I inputs, O outputs; parts of the state are (L, B, H).
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from seqrnn.models.network import Network
from seqrnn.models.protocol import State

Timesteps = Literal["any", "one"]
Step = Callable[..., tuple[Tensor, ...]]
TRACED = 5, 3  # timesteps and streams of the examples that are traced; other numbers than 0 and 1, which are special


@dataclass(frozen=True)
class Units:
    """What stands around the network in the program.

    Args:
        inputs: maps what the program is given, (T, B, I), to the inputs of the network.
        outputs: maps the outputs of the network (T, B, O) to those of the program.
        dtype: of what the program is given; None: that of the network.
    """

    inputs: nn.Module = field(default_factory=nn.Identity)
    outputs: nn.Module = field(default_factory=nn.Identity)
    dtype: torch.dtype | None = None


def trace(network: Network, inputs: int, units: Units, timesteps: Timesteps) -> ExportedProgram:
    """Traces (inputs, *state) -> (outputs, *state after them) of a network in evaluation mode, for any number of
    streams. The network itself stays as it is, whatever its kernel.

    One timestep is traced by torch, whatever the cell is. For any number of timesteps, this step becomes the body of
    torch's ``scan``.

    Args:
        inputs: I.
        timesteps: that the program computes in a call.

    Raises:
        Exception: of many kinds, where torch cannot trace the cell.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    network.kernel = "torch"  # compiled code cannot be traced
    parameter = next(network.parameters())
    state = network.initial_state(TRACED[1])
    example = torch.zeros(1, TRACED[1], inputs, dtype=parameter.dtype)
    with quiet():
        step = _traced(_Step(network), example, state, "one").run_decompositions().module(check_guards=False)
        length = TRACED[0] if timesteps == "any" else 1
        example = torch.ones(length, TRACED[1], inputs, dtype=units.dtype or parameter.dtype)
        body = _Scan(step) if timesteps == "any" else step
        program = _traced(_Whole(units, body), example, state, timesteps)
    _forget_sources(program.graph_module)
    return program


class _Step(nn.Module):
    """One timestep (1, B, I) of a network, with the parts of the state as arguments of their own."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        outputs, after = self.network(inputs, state)
        return outputs, *after


class _Scan(nn.Module):
    """A step, once for each timestep of (T, B, I)."""

    def __init__(self, step: GraphModule) -> None:
        super().__init__()
        self.step = step

    def forward(self, inputs: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        from torch._higher_order_ops.scan import scan

        def combine(before: list[Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
            output, *after = self.step(x[None], *before)
            outcome = [part.clone(memory_format=torch.contiguous_format) for part in (*after, output[0])]
            return outcome[:-1], outcome[-1]  # scan takes no views, and no other layout than the first state has

        after, outputs = scan(combine, list(state), inputs)
        return outputs, *after


class _Whole(nn.Module):
    """A step or a scan, with the conversion of units around it."""

    def __init__(self, units: Units, body: nn.Module) -> None:
        super().__init__()
        self.units_in, self.body, self.units_out = units.inputs, body, units.outputs

    def forward(self, inputs: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        outputs, *after = self.body(self.units_in(inputs), *state)
        return self.units_out(outputs), *after


def _traced(module: nn.Module, inputs: Tensor, state: State, timesteps: Timesteps) -> ExportedProgram:
    streams = Dim("streams", min=1)
    axes: dict[int, Any] = {0: Dim("timesteps", min=1), 1: streams} if timesteps == "any" else {1: streams}
    shapes = {"inputs": axes, "state": tuple({1: streams} for _ in state)}
    return torch.export.export(module, (inputs, *state), dynamic_shapes=shapes, strict=False)


def _forget_sources(module: nn.Module) -> None:
    """Removes the lines of source code, with the paths of this machine, that torch notes down for each operation."""
    for part in module.modules():
        if isinstance(part, GraphModule):
            for node in part.graph.nodes:
                node.meta.pop("stack_trace", None)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences what torch's exporters print of their own parts within the block, which is many pages where a cell
    cannot be traced."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
