"""The gradient of an update in one batched pass: its windows side by side.

Between two optimizer steps the weights do not change, so all windows of an update can run at once, each in columns of
its own, as soon as the states that they begin with are known. Those are found in a forward pass without gradients.

T timesteps, B streams, I inputs, H hidden units; time comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seqrnn.device import DeviceContext
from seqrnn.losses import Loss
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, detached
from seqrnn.models.unroll import unroll
from seqrnn.schedule import Window
from seqrnn.strategies.plain import Windows
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Chunk

PAIRS = 16384  # (timestep, stream) pairs that are folded at a time, beyond a single window: they bound the memory


class Folded:
    """The gradient that ``seqrnn.strategies.plain.WindowByWindow`` gives, of windows run side by side, as long as
    those that follow each other have the same extent. What ``obstacle_to_folding`` names is not to be folded.

    With carry, a window begins with the state that an earlier one has reached: the pass without gradients goes
    through them in rounds of those that do not wait for each other. The state that the last round reaches, for
    windows of later updates, is taken from the pass with gradients.
    """

    def __init__(
        self, network: Network, loss: Loss, carry: bool, context: DeviceContext, data_format: DataFormat
    ) -> None:
        self.network, self.loss, self.carry, self.context, self.data_format = (
            network,
            loss,
            carry,
            context,
            data_format,
        )
        recurrence = getattr(network.cell, "recurrence", None)
        told = recurrence() if recurrence else None
        self.outputs_are_states = told is not None and told.kind != "lstm" and len(told.layers) == 1
        self.states: dict[int, State] = {}  # of the latest sequences, by the timestep that they come before

    def __call__(self, windows: Windows) -> tuple[float, int]:
        total, count = 0.0, 0
        for group in _groups(windows):
            loss, targets = self._fold(_read(group, self.context, self.data_format))
            total, count = total + loss, count + targets
        return total, count

    def _fold(self, columns: Sequence[Columns]) -> tuple[float, int]:
        states, waiting = self._states(columns)
        lead, chunk = columns[0].lead, _side_by_side([column.chunk for column in columns])
        valid = chunk.valid[lead:]  # (T', B)
        with self.context.precision():
            hidden, kept = self._unroll(chunk.inputs, chunk.starts, states, columns[0].keep)
            outputs = self.network.head(hidden[lead:][valid])  # (targets, O): read only where there is a target
            losses = self.loss(outputs, chunk.targets[lead:][valid])  # (targets,)
            loss = losses.sum()
        width = sum(column.streams for column in waiting)
        self._keep(waiting, tuple(part[:, -width:] for part in kept))
        if len(losses):
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.item(), len(losses)

    def _states(self, columns: Sequence[Columns]) -> tuple[list[State], list[Columns]]:
        """The states that windows begin with; and the last windows, from which no other among them goes on."""
        states: list[State] = []
        first = 0  # of those that have not been run yet
        for number, column in enumerate(columns):
            if column.is_first:
                self.states.clear()  # other sequences begin
                first = number
            if self.carry and column.start and column.start not in self.states:
                first += self._recur(columns[first:], states[first:])
            state = self.states.pop(column.start, None) or self.network.initial_state(column.streams)
            states.append(state)
        return states, list(columns[first:])

    @torch.no_grad()
    def _recur(self, columns: Sequence[Columns], states: Sequence[State]) -> int:
        """Runs windows up to where later ones begin: those with a state, side by side; and where a cell's outputs
        tell its states, those that go on from them as well, but for the last. Returns how many."""
        width, keep, rounds = len(states), columns[0].keep, 1
        if self.outputs_are_states:
            following = next((n for n, column in enumerate(columns[1:], 1) if column.is_first), len(columns))
            rounds = (following - 1) // width
        run = [columns[begin : begin + width] for begin in range(0, rounds * width, width)]
        inputs = torch.cat([torch.cat([c.chunk.inputs[:keep] for c in side], dim=1) for side in run])
        starts = torch.cat([torch.cat([c.chunk.starts[:keep] for c in side], dim=1) for side in run])
        with self.context.precision():
            outputs, state = self._unroll(inputs, starts, states)
        for number, side in enumerate(run, 1):
            self._keep(side, (outputs[number * keep - 1].unsqueeze(0),) if number < rounds else state)
        return rounds * width

    def _unroll(
        self, inputs: Tensor, starts: Tensor, states: Sequence[State], keep: int | None = None
    ) -> tuple[Tensor, State]:
        state = (
            states[0] if len(states) == 1 else tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))
        )
        return unroll(self.network.recur, self.network.initial_state, inputs, starts, state, keep)

    def _keep(self, columns: Sequence[Columns], state: State) -> None:
        """Keeps what windows have reached, side by side in ``state``, where later ones begin."""
        if self.carry:
            parts = [torch.split(part, [column.streams for column in columns], dim=1) for part in detached(state)]
            for column, *own in zip(columns, *parts, strict=True):
                self.states[column.start + column.keep] = tuple(own)


@dataclass(frozen=True)
class Columns:
    """A window, which is run in columns of its own; timesteps are counted from its start."""

    chunk: Chunk
    start: int  # in its sequences
    lead: int  # timesteps before the fresh ones
    keep: int  # the state before this timestep is kept
    is_first: bool  # whether its sequences begin with it

    @property
    def streams(self) -> int:
        return self.chunk.inputs.shape[1]


def _groups(windows: Windows) -> Iterator[Windows]:
    """Windows in a row that have the same extent and are, together, not too large."""
    first, pairs = 0, 0
    for number, (batch, window) in enumerate(windows):
        size = batch.streams * (window.stop - window.start)
        if number > first and (_extent(window) != _extent(windows[first][1]) or pairs + size > PAIRS):
            yield windows[first:number]
            first, pairs = number, 0
        pairs += size
    yield windows[first:]


def _extent(window: Window) -> tuple[int, int]:
    return window.stop - window.start, window.fresh - window.start


def _read(windows: Windows, context: DeviceContext, data_format: DataFormat) -> list[Columns]:
    """The windows with their timesteps, which are read once for all windows in a row of the same sequences."""
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
                one.fresh - one.start,
                one.keep - one.start,
                one.fresh == 0,
            )
            for _, one in windows[first : number + 1]
        ]
        first = number + 1
    return columns


def _side_by_side(chunks: Sequence[Chunk]) -> Chunk:
    """Chunks of equally many timesteps, as columns of one."""
    if len(chunks) == 1:
        return chunks[0]
    return Chunk(
        torch.cat([chunk.inputs for chunk in chunks], dim=1),
        torch.cat([chunk.targets for chunk in chunks], dim=1),
        torch.cat([chunk.valid for chunk in chunks], dim=1),
        torch.cat([chunk.starts for chunk in chunks], dim=1),
    )


def obstacle_to_folding(network: Network, input_size: int, context: DeviceContext) -> str | None:
    """Why windows that are run side by side would not give the same gradient; None: they would.

    A network that draws random numbers, as for dropout, draws others in the pass without gradients; one that
    normalises over its batch would do so over several windows.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            return "batch normalisation"
        if isinstance(module, nn.RNNBase) and module.dropout:
            return "dropout"  # cuDNN draws its numbers by itself
    cuda = [context.device] if context.device.type == "cuda" else []
    with torch.random.fork_rng(cuda), torch.no_grad():
        before = _generators(context)
        inputs = torch.zeros(2, 1, input_size, device=context.device, dtype=context.dtype)
        network(inputs, network.initial_state(1))
        after = _generators(context)
    return None if all(map(torch.equal, before, after)) else "random numbers"


def _generators(context: DeviceContext) -> list[Tensor]:
    cuda = [torch.cuda.get_rng_state(context.device)] if context.device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]
