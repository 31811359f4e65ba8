"""The influence of a cell's parameters on its state, ∂s_t/∂θ: what of it is kept, and in how much memory.

S numbers of state (all parts and layers of a stream), P parameters of the cell, B streams.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seqrnn.device import DeviceContext, available_memory
from seqrnn.errors import ConfigError, DataError
from seqrnn.kernels.specification import Layer, Recurrence, recurrence_of
from seqrnn.models.network import Network
from seqrnn.schedule import Gradient

WORKING = 2  # matrices of one stream that are computed on the way


@dataclass(frozen=True)
class Influence:
    """What is kept of the influence of parameters on the state of one stream.

    Args:
        rows: S, or the parts of the state if ``own_unit``.
        parameters: those of the cell that are trained, by their names in the network.
        own_unit: whether each parameter has its influence on the state of its own unit alone: one number for each
            part of the state. That is all there is where units receive only themselves.
    """

    rows: int
    parameters: dict[str, nn.Parameter]
    own_unit: bool

    @property
    def columns(self) -> int:
        """P."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def by_name(self, values: Tensor) -> dict[str, Tensor]:
        """Returns an influence (B, rows, P) as (B, rows, …) for each parameter, on the CPU, copied."""
        sizes = [parameter.numel() for parameter in self.parameters.values()]
        return {
            name: part.reshape(*part.shape[:2], *parameter.shape).detach().to("cpu", copy=True).contiguous()
            for (name, parameter), part in zip(
                self.parameters.items(), torch.split(values, sizes, dim=2), strict=True
            )
        }

    def check(self, stored: dict[str, Tensor], streams: int) -> None:
        """Checks an influence by name, as another strategy has left it.

        Raises:
            DataError: it is not of these parameters, or not of so many streams.
        """
        shapes = {name: tuple(value.shape) for name, value in stored.items()}
        expected = {name: (streams, self.rows, *each.shape) for name, each in self.parameters.items()}
        if shapes != expected:
            raise DataError(f"influences of shapes {shapes}: should be {expected}")


def influence_of(network: Network, gradient: Gradient) -> Influence:
    """Returns what is kept to compute the gradient of a network forwards in time.

    Raises:
        ConfigError: the gradient is not defined for this cell.
    """
    recurrence = recurrence_of(network.cell)
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.cell.modules()):
        raise ConfigError(
            f"schedule.gradient={gradient}: this cell normalises over the streams, which then depend on each other; "
            "set schedule.gradient=bptt"
        )
    if gradient == "snap1" and (recurrence is None or len(recurrence.layers) > 1):
        reason = (
            "a cell must declare which parameters belong to which unit (it has no method recurrence: see "
            "seqrnn.models.protocol)"
            if recurrence is None
            else "a parameter of a lower layer has an influence on all units above it within the same timestep"
        )
        one_layer = "" if recurrence is None else " or model.num_layers=1"
        raise ConfigError(f"schedule.gradient=snap1: {reason}; set schedule.gradient=rtrl{one_layer}")
    own_unit = gradient == "snap1" or (
        recurrence is not None and recurrence.specification.has_diagonal_recurrence and len(recurrence.layers) == 1
    )
    state = network.initial_state(1)
    rows = len(state) if own_unit else sum(part.numel() for part in state)
    trained = {name: each for name, each in network.named_parameters() if each.requires_grad}
    of_cell = {id(parameter) for parameter in network.cell.parameters()}
    parameters = {name: each for name, each in trained.items() if id(each) in of_cell}
    if not parameters:
        raise ConfigError(
            f"schedule.gradient={gradient}: this cell has no parameters that are trained; set schedule.gradient=bptt"
        )
    return Influence(rows, parameters, own_unit)


def check_memory(network: Network, gradient: Gradient, streams: int, context: DeviceContext) -> None:
    """Checks, before anything is allocated, that there is memory for the influence of all parameters.

    Raises:
        ConfigError: there is not, or the gradient is not defined for this cell.
    """
    influence = influence_of(network, gradient)
    each = influence.rows * influence.columns * context.dtype.itemsize
    needed = (streams + WORKING) * each
    on_cuda = context.device.type == "cuda"
    available = torch.cuda.mem_get_info(context.device)[0] if on_cuda else available_memory()
    if available is None or needed <= available:
        return
    of = f"{influence.columns:,} parameters on {influence.rows:,} numbers of state, for each of {streams} streams"
    others = "" if influence.own_unit else ", or schedule.gradient=snap1 (one number for each parameter)"
    raise ConfigError(
        f"schedule.gradient={gradient}: the influence of {of}, takes {needed / 1e9:,.1f} GB, and "
        f"{available / 1e9:,.1f} GB are available; make model.hidden_size or schedule.streams smaller{others}"
    )


def units_of(recurrence: Recurrence, parameters: dict[str, nn.Parameter]) -> Tensor:
    """Returns the unit that each number of a single layer's parameters belongs to, (P,)."""
    (layer,) = recurrence.layers
    return torch.cat([_units(parameter, layer, recurrence.size).flatten() for parameter in parameters.values()])


def _units(parameter: nn.Parameter, layer: Layer, size: int) -> Tensor:
    """Returns the unit that each number of a parameter belongs to, in the parameter's shape: the columns of matrices,
    and the numbers of biases, are those of the units, block by block."""
    by_row = layer.transposed and parameter.dim() == 2
    columns = parameter.shape[0] if by_row else parameter.shape[-1]
    units = torch.arange(columns, device=parameter.device) % size
    return (units.unsqueeze(1) if by_row else units).expand(parameter.shape)
