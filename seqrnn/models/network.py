"""A network: a recurrent cell, and a head that reads outputs from it at every timestep."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from seqrnn.bounds import NonNegative, Size
from seqrnn.errors import ConfigError, did_you_mean
from seqrnn.kernels import support
from seqrnn.kernels.specification import Recurrence, recurrence_of
from seqrnn.models.protocol import State


class Network(nn.Module):
    """(inputs (T, B, I), state) -> (outputs (T, B, O), state).

    Args:
        cell: a ``seqrnn.models.protocol.Cell``.
        output_size: O.
        kernel: ``torch`` computes the recurrence by torch's operations, ``compiled`` in compiled code on the CPU;
            ``auto`` chooses compiled code where it applies and is faster.
        head: ``linear``, or ``mlp``: Linear(head_size), ReLU, Linear.
        head_size: hidden units of head=mlp.
        head_bias: whether the head has biases.
        recurrent_init: ``default`` leaves the cell's own initial values; ``orthogonal`` makes every recurrent matrix
            a random orthogonal one, which keeps the length of a linear state (Saxe et al. 2014); ``identity`` makes
            it the identity, which keeps the linear state itself (Le, Jaitly & Hinton 2015, arXiv:1504.00941).
        init_std: parameters by name (such as ``head.weight``) that start as N(0, std²) instead.
    """

    def __init__(
        self,
        cell: Any,
        output_size: int,
        kernel: Literal["auto", "torch", "compiled"] = "auto",
        *,
        head: Literal["linear", "mlp"],
        head_size: Size,
        head_bias: bool,
        recurrent_init: Literal["default", "orthogonal", "identity"],
        init_std: dict[str, NonNegative],
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.cell = cell
        self.head: nn.Module = nn.Linear(cell.output_size, output_size, head_bias)
        if head == "mlp":
            self.head = nn.Sequential(
                nn.Linear(cell.output_size, head_size, head_bias),
                nn.ReLU(),
                nn.Linear(head_size, output_size, head_bias),
            )
        if recurrent_init != "default":
            matrices = cell.recurrent_weights()
            if not matrices:
                raise ConfigError(
                    f"model.recurrent_init={recurrent_init}: this cell has no recurrent matrices (each unit receives "
                    "only itself from the state, or nothing); set model.recurrent_init=default"
                )
            for matrix in matrices:
                (nn.init.orthogonal_ if recurrent_init == "orthogonal" else nn.init.eye_)(matrix)
        parameters = dict(self.named_parameters())
        for name, std in init_std.items():
            if name not in parameters:
                raise ConfigError(
                    f"model.init_std.{name}: no such parameter{did_you_mean(name, parameters)} "
                    f"(there are: {', '.join(parameters)})"
                )
            if parameters[name].is_meta:  # no values; and torch would import its compiler to say so
                continue
            with torch.no_grad():
                parameters[name].normal_(0.0, std)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, state = self.recur(inputs, state)  # (T, B, H)
        return self.head(hidden), state  # (T, B, O)

    def recur(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Computes what the cell computes, by the chosen kernel."""
        device, recurrence = inputs.device, None
        if self.kernel != "torch" and not torch.is_autocast_enabled(device.type):
            recurrence = self.compiled_recurrence(device, inputs.dtype, inputs.shape[1], torch.is_grad_enabled())
        if recurrence is not None:
            from seqrnn.kernels.recurrence import recur  # late: it imports the compiler

            return recur(recurrence, inputs, state, self.training)
        found: tuple[Tensor, State] = self.cell(inputs, state)
        return found

    def compiled_recurrence(
        self, device: torch.device, dtype: torch.dtype, streams: int, gradients: bool
    ) -> Recurrence | None:
        """Returns the cell's recurrence if compiled code computes it; None if torch's operations do.

        Args:
            gradients: whether they will be needed.
        """
        if self.torch_reason(device, dtype, streams, gradients) is not None:
            return None
        return recurrence_of(self.cell)

    def torch_reason(self, device: torch.device, dtype: torch.dtype, streams: int, gradients: bool) -> str | None:
        """Returns why torch's operations compute the recurrence; None if compiled code does."""
        if self.kernel == "torch":
            return "kernel=torch"
        recurrence = recurrence_of(self.cell)
        obstacle = support.compiled_obstacle(recurrence, device, dtype)
        if recurrence is None or obstacle:
            return f"no compiled code: {obstacle}"
        if self.kernel == "compiled":
            return None
        return support.slower_reason(recurrence.specification, recurrence.size, streams, gradients)

    @property
    def has_compiled_head(self) -> bool:
        """Whether compiled code can compute the head: one linear layer, or Linear, ReLU, Linear."""
        head = list(self.head) if isinstance(self.head, nn.Sequential) else [self.head]
        return [type(module) for module in head] in ([nn.Linear], [nn.Linear, nn.ReLU, nn.Linear])

    def initial_state(self, streams: int) -> State:
        """Returns the state in which every sequence starts."""
        state: State = self.cell.initial_state(streams)
        return state
