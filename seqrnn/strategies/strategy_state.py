"""Everything besides the weights that later updates depend on, in a form that all strategies share.

One strategy may continue where another stopped: a run that was trained on a GPU may be resumed on a CPU in compiled
code. The state of optimizers has the names of ``torch.optim``; carried states are keyed by timestep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from seqrnn.errors import DataError
from seqrnn.models.protocol import State

ParameterState = dict[str, Any]  # an optimizer's state of one parameter: step, exp_avg, …
# Settings of a parameter group that choose how torch computes a step, not what: they depend on the machine.
IMPLEMENTATION = {"foreach", "fused", "capturable", "differentiable"}


@dataclass(frozen=True)
class StrategyState:
    """The state of a strategy between two updates. It shares no memory with the strategy.

    Args:
        parameters: the optimizer's state of each parameter, by the parameter's name; empty before the first step.
            Tensors are on the CPU, in the parameter's shape.
        groups: the settings of the optimizer's parameter groups.
        carried: the states that later windows begin with, by the timestep that they come before, on the CPU.
        influence: that of each parameter of the cell on the carried state, by the parameter's name, on the CPU (see
            ``seqrnn.strategies.influence``); empty for gradients that are computed backwards.
    """

    parameters: Mapping[str, ParameterState]
    groups: Sequence[Mapping[str, Any]]
    carried: Mapping[int, State]
    influence: dict[str, Tensor] = field(default_factory=dict)


def cpu_copy(value: Any) -> Any:
    """Returns a copy of a tensor on the CPU, and any other value as it is."""
    return value.detach().to("cpu", copy=True).contiguous() if isinstance(value, Tensor) else value


def cpu_states(states: Mapping[int, State], pending_carries: Sequence[int]) -> dict[int, State]:
    """Returns copies on the CPU of those carried states that later windows need."""
    return {before: tuple(map(cpu_copy, states[before])) for before in pending_carries}


def load_states(states: dict[int, State], state: StrategyState, device: torch.device) -> None:
    """Puts the carried states of another strategy in the place of ``states``."""
    states.clear()
    states.update({before: tuple(part.to(device) for part in parts) for before, parts in state.carried.items()})


def group_settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Returns the settings of the parameter groups, without the learning rate, which is set for each update."""
    left_out = IMPLEMENTATION | {"params", "lr"}
    return [{key: value for key, value in group.items() if key not in left_out} for group in optimizer.param_groups]


def optimizer_state(optimizer: Optimizer, network: nn.Module) -> dict[str, ParameterState]:
    """Returns the state of one of torch's optimizers for each parameter of a network that has one."""
    return {
        name: {key: cpu_copy(value) for key, value in optimizer.state[parameter].items() if value is not None}
        for name, parameter in network.named_parameters()
        if optimizer.state.get(parameter)
    }


def load_optimizer_state(optimizer: Optimizer, network: nn.Module, state: StrategyState) -> None:
    """Gives one of torch's optimizers the state of another.

    Raises:
        DataError: the state is not of this network.
    """
    load_group_settings(optimizer, state)
    for name, parameter in network.named_parameters():
        optimizer.state.pop(parameter, None)
        stored = state.parameters.get(name)
        if stored:
            check_shapes(name, stored, parameter)
            optimizer.state[parameter] = {key: _like_torch(value, parameter) for key, value in stored.items()}


def load_group_settings(optimizer: Optimizer, state: StrategyState) -> None:
    """Gives an optimizer the settings of another's parameter groups.

    Raises:
        DataError: the other one had more or fewer groups.
    """
    if len(state.groups) != len(optimizer.param_groups):
        raise DataError(
            f"the optimizer has {len(optimizer.param_groups)} groups of parameters, not {len(state.groups)}"
        )
    for group, stored in zip(optimizer.param_groups, state.groups, strict=True):
        group.update({key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()})


def check_shapes(name: str, stored: ParameterState, parameter: Tensor) -> None:
    """Checks an optimizer's state of a parameter.

    Raises:
        DataError: a value in it is neither a number nor of the parameter's shape.
    """
    for key, value in stored.items():
        if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
            raise DataError(
                f"the optimizer's {key} of {name} has the shape {tuple(value.shape)}, where the parameter has "
                f"{tuple(parameter.shape)}"
            )


def _like_torch(value: Any, parameter: Tensor) -> Any:
    """Returns a value as torch's optimizers keep it: scalars on the CPU, tensors with the parameter's device and
    memory layout."""
    if not isinstance(value, Tensor):
        return value
    if value.shape != parameter.shape or not value.dim():
        return value.clone()
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value).requires_grad_(False)
