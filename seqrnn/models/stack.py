"""What the cells built on torch.nn's recurrent modules have in common."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from seqrnn.errors import ConfigError
from seqrnn.kernels.specification import Layer


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


def gate_matrices(stack: nn.RNNBase) -> Sequence[Tensor]:
    """Returns the recurrent matrices (H, H) of every gate and layer, as views."""
    return [
        block
        for layer in range(stack.num_layers)
        for block in getattr(stack, f"weight_hh_l{layer}").data.split(stack.hidden_size)
    ]


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
