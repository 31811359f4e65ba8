"""Gradients that are computed forwards in time: real-time recurrent learning, and its sparse one-step approximation.

T timesteps, B streams, H hidden units, S numbers of state of a stream, P parameters of the cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqrnn.device import DeviceContext
from seqrnn.kernels.specification import recurrence_of
from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, detached, restarted
from seqrnn.schedule import Gradient, Window
from seqrnn.strategies.influence import Influence, influence_of, units_of
from seqrnn.strategies.plain import Windows
from seqrnn.strategies.reading import WindowReader
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Batch, Chunk


class RTRL:
    """Computes the gradient of windows forwards in time, by torch's operations: the reference for compiled code.

    Williams & Zipser (1989), "A learning algorithm for continually running fully recurrent neural networks". Each
    timestep computes s_t = f(x_t, s_{t−1}, θ) and, of each stream, the influence of the parameters on the state

        J_t = ∂s_t/∂s_{t−1} J_{t−1} + ∂f/∂θ        (S, P), zero where a sequence starts

    so that ∂L_t/∂θ = ∂L_t/∂s_{t−1} J_{t−1} + ∂L_t/∂θ, where the last term is that of the timestep alone. With weights
    that stay the same, this is the gradient of full backpropagation through time since the last start. When weights
    move, J_t keeps the terms that earlier weights gave, as in that paper.

    ``gradient=snap1`` (Menick et al. 2021, arXiv:2006.07232) sets to zero in J_t what is not the influence of a
    parameter on its own unit: ∂L_t/∂θ = ∂L_t/∂s_t J_t with one number for each parameter and part of the state. That
    is exact for a single layer of units that each receive only themselves, and is what ``rtrl`` computes there.

    A cell that draws random numbers, as for dropout, draws them once for each stream and timestep.
    """

    def __init__(
        self, network: Network, loss: Loss, gradient: Gradient, context: DeviceContext, data_format: DataFormat
    ) -> None:
        self.network, self.loss, self.context = network, loss, context
        self.reader = WindowReader(context, data_format)
        self.kept = influence_of(network, gradient)
        self.states: dict[int, State] = {}  # the state by the timestep that it comes before
        self._values: Tensor | None = None  # (B, rows, P), before the same timestep
        self._cell_parameters = list(self.kept.parameters.values())
        of_cell = set(map(id, self._cell_parameters))
        self._others = [each for each in network.parameters() if each.requires_grad and id(each) not in of_cell]
        self._own = OwnUnit(network, self.kept) if self.kept.own_unit else None

    @property
    def influence(self) -> dict[str, Tensor]:
        return {} if self._values is None else self.kept.by_name(self._values)

    @influence.setter
    def influence(self, stored: dict[str, Tensor]) -> None:
        self._values = None
        if self.states:
            ((state, *_),) = self.states.values()
            self.kept.check(stored, state.shape[1])
            like = self._cell_parameters[0]
            parts = [stored[name].flatten(2) for name in self.kept.parameters]
            self._values = torch.cat(parts, dim=2).to(like.device, like.dtype)

    def read(self, windows: Windows) -> Windows:
        return windows  # each timestep is read by itself

    def __call__(self, inputs: Windows) -> tuple[list[Tensor], int]:
        found = [self._pass(batch, window) for batch, window in inputs]
        return [loss for loss, _ in found], sum(targets for _, targets in found)

    def _pass(self, batch: Batch, window: Window) -> tuple[Tensor, int]:
        state = None if window.fresh == 0 else self.states.get(window.start)
        self.states.clear()
        if state is None:
            state = self.network.initial_state(batch.streams)
            self.begin(batch.streams)
        chunk = self.reader.chunk(batch, window.start, window.stop)
        total = self._cell_parameters[0].new_zeros((), dtype=torch.float64)
        for timestep in range(window.stop - window.start):
            loss, state = self.timestep(chunk.between(timestep, timestep + 1), detached(state))
            total = total + loss
        if window.stop < batch.timesteps:
            self.states[window.stop] = state
        return total, int(chunk.valid.numpy().sum())

    def begin(self, streams: int) -> None:
        """Sets the influence to the one with which sequences begin."""
        self._values = self._initial_influence().expand(streams, -1, -1).clone()

    def timestep(self, chunk: Chunk, state: State) -> tuple[Tensor, State]:
        """Computes one timestep, and adds the gradient of its summed loss to the parameters' ``.grad``; returns that
        loss and the state after it."""
        assert self._values is not None
        starts, valid = chunk.starts[0], chunk.valid[0]
        if starts.numpy().any():
            state = detached(restarted(state, starts, self.network.initial_state(len(starts))))
            self._values[starts] = self._initial_influence()
        before = [tuple(part[:, b : b + 1].requires_grad_() for part in state) for b in range(len(starts))]
        # cuDNN computes no derivatives of one-hot rows side by side.
        with torch.backends.cudnn.flags(enabled=False), self.context.precision():
            passes = [self.network.cell(chunk.inputs[:, b : b + 1], parts) for b, parts in enumerate(before)]
            hidden = torch.cat([outputs[0] for outputs, _ in passes])  # (B, H)
            losses = self.loss(self.network.head(hidden[valid]), chunk.targets[0][valid])
            loss = losses.sum()
        after = [parts for _, parts in passes]
        if self._own is not None:
            found = self._gradient(loss, hidden) if len(losses) else None
            self._values = torch.stack(
                [
                    self._own.advance(value, *self._jacobian(old, new))
                    for value, old, new in zip(self._values, before, after, strict=True)
                ]
            )
            if found is not None:
                self._add(self._own.weighted(found, self._values))
        else:
            if len(losses):
                found = self._gradient(loss, *(part for parts in before for part in parts), direct=True)
                self._add(torch.einsum("bs,bsp->p", found.reshape(len(before), -1), self._values))
            for value, old, new in zip(self._values, before, after, strict=True):
                transition, direct = self._jacobian(old, new)
                value.copy_(direct.addmm_(transition, value))
        return loss.detach().double(), tuple(torch.cat(parts, dim=1).detach() for parts in zip(*after, strict=True))

    def _gradient(self, loss: Tensor, *wanted: Tensor, direct: bool = False) -> Tensor:
        """Returns the gradient by ``wanted``, one after another; adds that by the parameters to their ``.grad``, that
        by the cell's only if ``direct``."""
        parameters = [*self._others, *(self._cell_parameters if direct else ())]
        found = torch.autograd.grad(loss, [*parameters, *wanted], retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(parameters, found, strict=False):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return _flat(found[len(parameters) :], wanted, self._cell_parameters[0].dtype)

    def _add(self, gradient: Tensor) -> None:
        """Adds a gradient (P,) to the ``.grad`` of the cell's parameters."""
        sizes = [parameter.numel() for parameter in self._cell_parameters]
        for parameter, part in zip(self._cell_parameters, torch.split(gradient, sizes), strict=True):
            part = part.view(parameter.shape)
            parameter.grad = part.clone() if parameter.grad is None else parameter.grad + part

    def _jacobian(self, before: State, after: State) -> tuple[Tensor, Tensor]:
        """Returns ∂s_t/∂s_{t−1} (S, S) and ∂f/∂θ (S, P) of one stream."""
        state = torch.cat([part.flatten() for part in after])  # (S,)
        transition, direct = _rows(state, before), _rows(state, self._cell_parameters)
        return transition, direct

    def _initial_influence(self) -> Tensor:
        """Returns the influence on the initial state, (rows, P), which is zero but for cells that learn it."""
        like = self._cell_parameters[0]
        with torch.enable_grad():
            state = torch.cat([part.flatten() for part in self.network.initial_state(1)])
        if state.requires_grad and self._own is None:
            return _rows(state, self._cell_parameters)
        return torch.zeros(self.kept.rows, self.kept.columns, dtype=like.dtype, device=like.device)


class OwnUnit:
    """Computes with the influence of each parameter of a single layer on its own unit: (parts, P) of each stream."""

    def __init__(self, network: Network, kept: Influence) -> None:
        recurrence = recurrence_of(network.cell)
        assert recurrence is not None
        units = units_of(recurrence, kept.parameters)  # (P,)
        self.rows = torch.stack([part * recurrence.size + units for part in range(kept.rows)])  # (parts, P): of the S
        self.units, self.columns = units, torch.arange(len(units), device=units.device)

    def advance(self, values: Tensor, transition: Tensor, direct: Tensor) -> Tensor:
        """Returns the influence (parts, P) after a timestep from the one before it, ∂s_t/∂s_{t−1} and ∂f/∂θ."""
        own = transition[self.rows.unsqueeze(1), self.rows.unsqueeze(0)]  # (parts, parts, P)
        return torch.einsum("klp,lp->kp", own, values) + direct[self.rows, self.columns]

    def weighted(self, gradient: Tensor, values: Tensor) -> Tensor:
        """Returns the gradient by the parameters (P,) from that by the outputs, (B · H,) of all streams."""
        by_output = gradient.reshape(len(values), -1)[:, self.units]  # (B, P)
        return (by_output * values[:, 0]).sum(dim=0)


def _rows(of: Tensor, by: Sequence[Tensor]) -> Tensor:
    """Returns the derivatives (N, ·) of a vector (N,) by tensors, one after another."""
    one_hot = torch.eye(len(of), dtype=of.dtype, device=of.device)
    found = torch.autograd.grad(of, by, one_hot, retain_graph=True, allow_unused=True, is_grads_batched=True)
    columns = [
        torch.zeros(len(of), part.numel(), device=of.device) if each is None else each.flatten(1)
        for each, part in zip(found, by, strict=True)
    ]
    return torch.cat([each.to(by[0].dtype) for each in columns], dim=1)


def _flat(found: Sequence[Tensor | None], like: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Returns gradients one after another; those that do not exist are zero."""
    return torch.cat(
        [
            (torch.zeros_like(one) if each is None else each).flatten().to(dtype)
            for each, one in zip(found, like, strict=True)
        ]
    )
