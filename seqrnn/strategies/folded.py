"""The gradient of an update in one batched pass, in which its windows are computed side by side.

Between two optimizer steps the weights do not change. So all windows of an update can be computed at once, each in
columns of its own, as soon as the states that they begin with are known. A forward pass without gradients finds
those.

T timesteps, B streams, I inputs, H hidden units; time comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seqrnn.device import DeviceContext
from seqrnn.kernels.specification import recurrence_of
from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, detached
from seqrnn.models.unroll import unroll
from seqrnn.schedule import group_by_extent
from seqrnn.strategies.plain import Windows
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Chunk

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
        self.context, self.data_format = context, data_format
        recurrence = recurrence_of(network.cell)
        self.outputs_are_states = (
            recurrence is not None and recurrence.specification.outputs_are_states and len(recurrence.layers) == 1
        )
        self.states: dict[int, State] = {}  # carried states by the timestep that they come before
        self.influence: dict[str, Tensor] = {}

    def __call__(self, windows: Windows) -> tuple[float, int]:
        total, count = 0.0, 0
        for group in group_by_extent(windows, PAIRS):
            loss, targets = self._fold(_read(group, self.context, self.data_format))
            total, count = total + loss, count + targets
        return total, count

    def _fold(self, columns: Sequence[Columns]) -> tuple[float, int]:
        states, last_round = self._initial_states(columns)
        lead, chunk = columns[0].lead, _side_by_side([column.chunk for column in columns])
        valid = chunk.valid[lead:]  # (T', B)
        with self.context.precision():
            hidden, carried = self._unroll(chunk.inputs, chunk.starts, states, columns[0].keep)
            outputs = self.network.head(hidden[lead:][valid])  # (targets, O): read only where there is a target
            losses = self.loss(outputs, chunk.targets[lead:][valid])  # (targets,)
            loss = losses.sum()
        width = sum(column.streams for column in last_round)
        self._store_carried(last_round, tuple(part[:, -width:] for part in carried))
        if len(losses):
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.item(), len(losses)

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
        inputs = torch.cat([torch.cat([c.chunk.inputs[:keep] for c in side], dim=1) for side in run])
        starts = torch.cat([torch.cat([c.chunk.starts[:keep] for c in side], dim=1) for side in run])
        with self.context.precision():
            outputs, state = self._unroll(inputs, starts, states)
        for number, side in enumerate(run, 1):
            self._store_carried(side, (outputs[number * keep - 1].unsqueeze(0),) if number < rounds else state)
        return rounds * width

    def _unroll(
        self, inputs: Tensor, starts: Tensor, states: Sequence[State], keep: int | None = None
    ) -> tuple[Tensor, State]:
        state = (
            states[0] if len(states) == 1 else tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))
        )
        return unroll(self.network.recur, self.network.initial_state, inputs, starts, state, keep)

    def _store_carried(self, columns: Sequence[Columns], state: State) -> None:
        """Stores the states that windows, side by side, have reached, for the windows that begin with them."""
        if self.carry:
            parts = [torch.split(part, [column.streams for column in columns], dim=1) for part in detached(state)]
            for column, *own in zip(columns, *parts, strict=True):
                self.states[column.start + column.keep] = tuple(own)


@dataclass(frozen=True)
class Columns:
    """A window with its data, which is computed in columns of its own; timesteps are counted from its start."""

    chunk: Chunk
    start: int  # timestep of its sequences
    lead: int  # timesteps before the fresh ones
    keep: int  # the state before this timestep is carried
    begins_batch: bool

    @property
    def streams(self) -> int:
        return self.chunk.inputs.shape[1]


def _read(windows: Windows, context: DeviceContext, data_format: DataFormat) -> list[Columns]:
    """Returns windows with their data, which is read once for consecutive windows of the same batch."""
    columns: list[Columns] = []
    first = 0
    for number, (batch, window) in enumerate(windows):
        if number + 1 < len(windows) and windows[number + 1][1].fresh > 0:
            continue
        origin = windows[first][1].start
        chunk = context(data_format.read(batch, origin, window.stop))
        columns += [
            Columns(
                chunk.between(one.start - origin, one.stop - origin),
                one.start,
                lead=one.fresh - one.start,
                keep=one.keep - one.start,
                begins_batch=one.fresh == 0,
            )
            for _, one in windows[first : number + 1]
        ]
        first = number + 1
    return columns


def _side_by_side(chunks: Sequence[Chunk]) -> Chunk:
    """Returns chunks of the same number of timesteps as one chunk of all their streams."""
    if len(chunks) == 1:
        return chunks[0]
    return Chunk(
        torch.cat([chunk.inputs for chunk in chunks], dim=1),
        torch.cat([chunk.targets for chunk in chunks], dim=1),
        torch.cat([chunk.valid for chunk in chunks], dim=1),
        torch.cat([chunk.starts for chunk in chunks], dim=1),
    )


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
