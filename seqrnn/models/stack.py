"""What cells of several layers have in common. T timesteps, B streams, I inputs, H hidden units, L layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqrnn.errors import ConfigError
from seqrnn.kernels.specification import Layer
from seqrnn.models.protocol import State, zeros


def check_dropout(dropout: float, num_layers: int) -> None:
    """Checks that there is more than one layer if there is dropout, which acts between layers.

    Raises:
        ConfigError: there is not.
    """
    if dropout and num_layers == 1:
        raise ConfigError(
            f"model.dropout={dropout}: acts between layers, and model.num_layers=1 has none; set model.dropout=0 "
            "or model.num_layers=2"
        )


def uniform(bound: float, *shape: int) -> nn.Parameter:
    """Returns a parameter that starts uniform in ±bound."""
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))


def add_constants(cell: nn.Module, **values: float) -> None:
    """Gives a cell numbers of its equations as tensors in its precision, which are not among its weights.

    ONNX programs of double precision would round plain numbers to single precision.
    """
    for name, value in values.items():
        cell.register_buffer(name, torch.tensor(value, dtype=torch.float64), persistent=False)


def run_layers(
    layer: Callable[[int, Tensor, State], tuple[Tensor, State]],
    inputs: Tensor,
    state: State,
    dropout: float = 0.0,
    training: bool = False,
) -> tuple[Tensor, State]:
    """Runs layers above one another, each over all timesteps, with dropout between them.

    Args:
        layer: maps the number of a layer, its inputs (T, B, I) and the parts of its state (B, H) to its outputs
            (T, B, H) and the parts of the state after them.
        inputs: of the lowest layer.
        state: parts (L, B, H).
    """
    if len(state[0]) == 1:
        outputs, end = layer(0, inputs, tuple(part.squeeze(0) for part in state))
        return outputs, tuple(part.unsqueeze(0) for part in end)
    ends = []
    for number in range(len(state[0])):
        if number:
            inputs = F.dropout(inputs, dropout, training)
        inputs, end = layer(number, inputs, tuple(part[number] for part in state))
        ends.append(end)
    return inputs, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


def gate_matrices(stack: nn.RNNBase) -> Sequence[Tensor]:
    """Returns the recurrent matrices (H, H) of every gate and layer, as views."""
    return [
        block
        for layer in range(stack.num_layers)
        for block in getattr(stack, f"weight_hh_l{layer}").data.split(stack.hidden_size)
    ]


def zero_state(stack: nn.RNNBase, streams: int) -> Tensor:
    """Returns a part of the state with which sequences start, zeros (L, B, H)."""
    weight: Any = stack.weight_ih_l0  # to look for the first parameter of a module takes longer than to make zeros
    return zeros(weight, stack.num_layers, streams, stack.hidden_size)


def layers_of(stack: nn.RNNBase) -> list[Layer]:
    """Returns the parameters, layer by layer."""
    return [
        Layer(
            inputs=stack.hidden_size if layer else stack.input_size,
            matrices=[getattr(stack, f"weight_{part}_l{layer}") for part in ("ih", "hh")],
            biases=[getattr(stack, f"bias_{part}_l{layer}") for part in ("ih", "hh")],
            transposed=True,
        )
        for layer in range(stack.num_layers)
    ]
