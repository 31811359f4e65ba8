"""The gradient of an update in one batched pass, in which its windows are computed side by side.

Between two optimizer steps the weights do not change. So all windows of an update can be computed at once, each in
columns of its own, as soon as the states that they begin with are known. A forward pass without gradients finds
those.

T timesteps, B streams, I inputs, H hidden units; time comes first.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from seqrnn.device import DeviceContext
from seqrnn.kernels.specification import recurrence_of
from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State
from seqrnn.models.unroll import restarts_of, unroll_between
from seqrnn.schedule import Window, group_by_extent
from seqrnn.strategies.capture import inputs_layout, timesteps_layout
from seqrnn.strategies.plain import Windows
from seqrnn.strategies.reading import Flags, WindowReader, select, selected
from seqrnn.tasks.checks import DataFormat

PAIRS = 16384  # (timestep, stream) pairs in a group of more than one window, at most: they bound the memory


class Folded:
    """Computes the gradient that ``seqrnn.strategies.plain.WindowByWindow`` computes, of several windows at once.

    Consecutive windows of the same extent become columns of one batch. ``obstacle_to_folding`` names the networks for
    which this is not allowed.

    With carry, a window begins with the state that an earlier one has reached. The pass without gradients therefore
    computes the windows in rounds, each of which depends only on the round before. The states that the last round
    reaches, which windows of later updates begin with, are taken from the pass with gradients.
    """

    def __init__(
        self, network: Network, loss: Loss, carry: bool, context: DeviceContext, data_format: DataFormat
    ) -> None:
        self.network, self.loss, self.carry = network, loss, carry
        self.context = context
        recurrence = recurrence_of(network.cell)
        self.outputs_are_states = (
            recurrence is not None and recurrence.specification.outputs_are_states and len(recurrence.layers) == 1
        )
        self.reader = WindowReader(context, data_format)
        self.states: dict[int, State] = {}  # carried states by the timestep that they come before
        self.influence: dict[str, Tensor] = {}

    def __call__(self, inputs: Sequence[Columns]) -> tuple[list[Tensor], int]:
        losses, count = [], 0
        for group in group_by_extent([(each, each.window) for each in inputs], PAIRS):
            loss, targets = self._fold([column for column, _ in group])
            if loss is not None:
                losses.append(loss)
            count += targets
        return losses, count

    def _fold(self, columns: Sequence[Columns]) -> tuple[Tensor | None, int]:
        """Returns the loss of windows, None if none of their targets is valid, and how many are."""
        states, last_round = self._initial_states(columns)
        lead = columns[0].lead
        inputs = _side_by_side([column.inputs for column in columns])
        starts = np.concatenate([column.starts for column in columns], axis=1)
        with self.context.precision():
            hidden, carried = self._unroll(inputs, starts, states, columns[0].keep)
        width = sum(column.streams for column in last_round)
        self._store_carried(last_round, tuple(part[:, -width:] for part in carried))
        valid = np.concatenate([column.valid for column in columns], axis=1)[lead:]  # (T', B)
        selection, count = select(valid, hidden.device)
        if not count:
            return None, 0
        targets = _side_by_side([column.targets for column in columns])[lead:]
        with self.context.precision():
            outputs = self.network.head(selected(hidden[lead:], selection))  # (targets, O): only where there is one
            loss = self.loss(outputs, selected(targets, selection)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), count

    def read(self, windows: Windows) -> list[Columns]:
        columns = []
        for batch, window in windows:
            piece = self.reader.piece(batch, window.start, window.stop)
            at = slice(window.start - piece.start, window.stop - piece.start)
            columns.append(
                Columns(
                    piece.inputs[at],
                    piece.targets[at],
                    piece.valid[at],
                    piece.starts[at],
                    window,
                    piece.all_valid,
                    any(piece.has_starts[at]),
                )
            )
        return columns

    def _initial_states(self, columns: Sequence[Columns]) -> tuple[list[State], list[Columns]]:
        """Returns the states that windows begin with; and the windows of the last round, on which no other window
        among them depends."""
        states: list[State] = []
        computed = 0  # windows that the pass without gradients has computed
        for number, column in enumerate(columns):
            if column.begins_batch:
                self.states.clear()  # a batch begins: other sequences
                computed = number
            if self.carry and column.start and column.start not in self.states:
                computed += self._advance(columns[computed:], states[computed:])
            state = self.states.pop(column.start, None) or self.network.initial_state(column.streams)
            states.append(state)
        return states, list(columns[computed:])

    @torch.no_grad()
    def _advance(self, columns: Sequence[Columns], states: Sequence[State]) -> int:
        """Computes windows, side by side, up to where later windows begin; returns how many.

        Those are the windows whose states are known. Where the outputs of a cell are its states, later rounds of the
        same batch can be computed in the same call, but for the last of them.
        """
        width, keep, rounds = len(states), columns[0].keep, 1
        if self.outputs_are_states:
            following = next((n for n, column in enumerate(columns[1:], 1) if column.begins_batch), len(columns))
            rounds = (following - 1) // width
        run = [columns[begin : begin + width] for begin in range(0, rounds * width, width)]
        inputs = torch.cat([torch.cat([c.inputs[:keep] for c in side], dim=1) for side in run])
        starts = np.concatenate([np.concatenate([c.starts[:keep] for c in side], axis=1) for side in run])
        with self.context.precision():
            outputs, state = self._unroll(inputs, starts, states)
        for number, side in enumerate(run, 1):
            self._store_carried(side, (outputs[number * keep - 1].unsqueeze(0),) if number < rounds else state)
        return rounds * width

    def _unroll(
        self, inputs: Tensor, starts: Flags, states: Sequence[State], keep: int | None = None
    ) -> tuple[Tensor, State]:
        state = (
            states[0] if len(states) == 1 else tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))
        )
        initial_state = self.network.initial_state
        return unroll_between(self.network.recur, initial_state, inputs, restarts_of(starts), state, keep)

    def _store_carried(self, columns: Sequence[Columns], state: State) -> None:
        """Stores the states that windows, side by side, have reached, for the windows that begin with them."""
        if self.carry:
            parts = [
                torch.split(part, [column.streams for column in columns], dim=1)
                for part in self.context.carried(state)
            ]
            for column, *own in zip(columns, *parts, strict=True):
                self.states[column.start + column.keep] = tuple(own)


@dataclass(frozen=True, slots=True)
class Columns:
    """A window with its data (T, B, …), which is computed in columns of its own; timesteps are counted from its
    start. Flags are on the CPU."""

    inputs: Tensor
    targets: Tensor
    valid: Flags
    starts: Flags
    window: Window
    all_valid: bool  # where not, some flags of ``valid`` may be false
    has_starts: bool  # whether some flags of ``starts`` are true

    @property
    def streams(self) -> int:
        return self.inputs.shape[1]

    @property
    def timesteps(self) -> int:
        return self.inputs.shape[0]

    @property
    def start(self) -> int:
        """The timestep of its sequences at which it starts."""
        return self.window.start

    @property
    def lead(self) -> int:
        """Timesteps before the fresh ones."""
        return self.window.fresh - self.window.start

    @property
    def keep(self) -> int:
        """The state before this timestep is carried."""
        return self.window.keep - self.window.start

    @property
    def begins_batch(self) -> bool:
        return self.window.fresh == 0

    def layout(self, origin: int) -> Hashable:
        valid = None if self.all_valid else self.valid.tobytes()
        starts = self.starts.tobytes() if self.has_starts else None
        timesteps = timesteps_layout(self.window, origin)
        return timesteps, inputs_layout(self.inputs), self.targets.shape, valid, starts

    def tensors(self) -> list[Tensor]:
        return [self.inputs, self.targets]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Columns:
        inputs, targets = tensors
        return replace(self, inputs=inputs, targets=targets)


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Returns tensors (T, B, …) as one of all their streams."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


def obstacle_to_folding(network: Network, input_size: int, context: DeviceContext) -> str | None:
    """Returns why windows that are computed side by side would not give the same gradient; None: they would.

    A network that draws random numbers, as for dropout, would draw others in the pass without gradients. One that
    normalises over its batch would normalise over several windows.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            return "batch normalisation"
        if isinstance(module, nn.RNNBase) and module.dropout:
            return "dropout"  # cuDNN draws its numbers outside of torch's generators
    cuda = [context.device] if context.device.type == "cuda" else []
    with torch.random.fork_rng(cuda), torch.no_grad():
        before = _generator_states(context)
        inputs = torch.zeros(2, 1, input_size, device=context.device, dtype=context.dtype)
        network(inputs, network.initial_state(1))
        after = _generator_states(context)
    return None if all(map(torch.equal, before, after)) else "random numbers"


def _generator_states(context: DeviceContext) -> list[Tensor]:
    cuda = [torch.cuda.get_rng_state(context.device)] if context.device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]
