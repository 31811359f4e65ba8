"""What a strategy remembers besides the weights, in a form that is the same for all of them.

One may go on where another stopped: a run that was trained on a GPU, on a CPU in compiled code, say. Optimizers are
told in the words of ``torch.optim``, and states by the timestep that they come before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from seqrnn.errors import DataError
from seqrnn.models.protocol import State

Remembered = dict[str, Any]  # of one parameter: step, exp_avg, …
# Settings of a parameter group that say how torch computes a step, not what: they are this machine's own.
HOW = {"foreach", "fused", "capturable", "differentiable"}


@dataclass(frozen=True)
class StrategyState:
    """What a strategy remembers between two updates; nothing in it is shared with what goes on.

    Args:
        parameters: what the optimizer remembers of each, by name; nothing before its first step. Tensors lie on the
            CPU, in the parameter's shape.
        groups: the settings of the optimizer's parameter groups.
        carried: the states that later windows begin with, by the timestep that they come before, on the CPU.
    """

    parameters: Mapping[str, Remembered]
    groups: Sequence[Mapping[str, Any]]
    carried: Mapping[int, State]


def copied(value: Any) -> Any:
    """A tensor as one of its own, on the CPU; anything else as it is."""
    return value.detach().to("cpu", copy=True).contiguous() if isinstance(value, Tensor) else value


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The settings of the parameter groups, without the learning rate, which is set anew for each update."""
    left_out = HOW | {"params", "lr"}
    return [{key: value for key, value in group.items() if key not in left_out} for group in optimizer.param_groups]


def optimizer_state(optimizer: Optimizer, network: nn.Module) -> dict[str, Remembered]:
    """What an optimizer of torch's kind remembers of each parameter of a network."""
    return {
        name: {key: copied(value) for key, value in optimizer.state[parameter].items() if value is not None}
        for name, parameter in network.named_parameters()
        if optimizer.state.get(parameter)
    }


def load_optimizer_state(optimizer: Optimizer, network: nn.Module, memory: StrategyState) -> None:
    """Gives an optimizer of torch's kind what another one remembered.

    Raises:
        DataError: it is not about this network.
    """
    load_group_settings(optimizer, memory)
    for name, parameter in network.named_parameters():
        optimizer.state.pop(parameter, None)
        told = memory.parameters.get(name)
        if told:
            check_shapes(name, told, parameter)
            optimizer.state[parameter] = {key: _beside(value, parameter) for key, value in told.items()}


def load_group_settings(optimizer: Optimizer, memory: StrategyState) -> None:
    """The same for the settings alone."""
    if len(memory.groups) != len(optimizer.param_groups):
        raise DataError(
            f"the optimizer has {len(optimizer.param_groups)} groups of parameters, not {len(memory.groups)}"
        )
    for group, told in zip(optimizer.param_groups, memory.groups, strict=True):
        group.update({key: tuple(value) if isinstance(value, list) else value for key, value in told.items()})


def check_shapes(name: str, told: Remembered, parameter: Tensor) -> None:
    """
    Raises:
        DataError: what is remembered of a parameter is neither a number nor of its shape.
    """
    for key, value in told.items():
        if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
            raise DataError(
                f"the optimizer's {key} of {name} has the shape {tuple(value.shape)}, where the parameter has "
                f"{tuple(parameter.shape)}"
            )


def _beside(value: Any, parameter: Tensor) -> Any:
    """A value as torch's optimizers keep it: numbers on the CPU, tensors as the parameter lies in memory."""
    if not isinstance(value, Tensor):
        return value
    if value.shape != parameter.shape or not value.dim():
        return value.clone()
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value).requires_grad_(False)
