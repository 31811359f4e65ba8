"""Whole updates in compiled code, many in one call: no Python and no autograd between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from seqrnn.kernels import layout as at
from seqrnn.kernels import recurrence
from seqrnn.kernels.network import FlatNetwork
from seqrnn.kernels.update import run
from seqrnn.loop import Place
from seqrnn.losses import Loss, cross_entropy, half_mse, l1, mse
from seqrnn.models.network import Network
from seqrnn.optimizers import light
from seqrnn.schedule import Part, Schedule
from seqrnn.strategies.protocol import Made, Numbers, Parts
from seqrnn.tasks.protocol import Batch

LOSSES: dict[Loss, int] = {mse: at.MSE, half_mse: at.HALF_MSE, l1: at.L1, cross_entropy: at.CROSS_ENTROPY}
STEPS: dict[Any, int] = {
    torch.optim.SGD: at.SGD,
    torch.optim.Adam: at.ADAM,
    torch.optim.AdamW: at.ADAM,
    torch.optim.NAdam: at.NADAM,
    torch.optim.RAdam: at.RADAM,
    torch.optim.RMSprop: at.RMSPROP,
    torch.optim.Adagrad: at.ADAGRAD,
}
# Settings of them that compiled steps do not know; the optimizers of this project leave them alone.
USUAL = {
    "dampening": 0,
    "maximize": False,
    "lr_decay": 0,
    "initial_accumulator_value": 0,
    "momentum_decay": 4e-3,
}
ROWS = (
    2048  # (timestep, column) pairs that are computed together: enough for large products, few enough for the cache
)
WHOLE = 65536  # (timestep, stream) pairs up to which a batch is read whole, and kept while it is in use
Array = NDArray[Any]


class Compiled:
    """Updates in compiled code.

    Args:
        batch: the most streams, and the most timesteps, of a training batch.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        schedule: Schedule,
        place: Place,
        batch: tuple[int, int],
    ) -> None:
        cell = network.cell.recurrence()
        streams, timesteps = batch
        window = schedule.window or timesteps
        stride = schedule.stride or window
        self.schedule, self.place, self.optimizer = schedule, place, optimizer
        self.rates = [group["lr"] for group in optimizer.param_groups]
        one = min(window, timesteps) * streams
        rows = max(min(ROWS, one * schedule.passes), one)
        columns = max(streams, rows)
        self.flat = FlatNetwork(network, cell, rows, columns)
        table = self.flat.table
        table[at.LOSS_KIND] = LOSSES[loss]
        table[at.STREAMS], table[at.ROWS] = streams, rows
        table[at.WINDOW], table[at.STRIDE] = schedule.window or 0, schedule.stride or schedule.window or 0
        slots = (window - stride) // stride + 1 if schedule.carry and schedule.window else 0
        table[at.PASSES], table[at.SLOTS] = schedule.passes, slots
        table[at.OVERLAP], table[at.KEPT] = window - stride, stride - (window - stride) % stride
        table[at.STEPS_MADE] = 0
        self.numbers = np.zeros(at.OPTIMIZER_FIELDS)
        table[at.STEP_KIND] = _describe(optimizer, self.numbers)
        if len(optimizer.param_groups[0]["params"]) < len(list(network.parameters())):
            table[at.STEP_KIND] = at.NONE
        self.numbers[at.CLIP] = schedule.clip_norm or 0.0
        self.gradient = torch.zeros_like(self.flat.p)
        self.views = self.flat.views(self.gradient)
        self.memory = [torch.zeros_like(self.flat.p) for _ in range(3)]
        parts = 2 if cell.kind == "lstm" else 1
        self.carried = np.zeros(max(1, slots) * len(cell.layers) * parts * streams * cell.size, self.dtype)
        self.windows = np.zeros((schedule.passes + 1) * at.WINDOW_FIELDS, np.int64)
        self.flags = np.zeros(rows, np.uint8)
        self.rows, self.where = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        self.data = Data(self.dtype)

    @property
    def dtype(self) -> Any:
        return self.flat.p.numpy().dtype

    def ready(self, announce: Callable[[str], None]) -> None:
        self._whole = (
            self.flat.p.numpy(),
            self.gradient.numpy(),
            *(memory.numpy() for memory in self.memory),
            self.flat.w,
            self.flat.layers.reshape(-1),
            self.flat.table,
            self.numbers,
        )
        self._scratch = (self.carried, self.windows, self.flags, self.rows, self.where)
        recurrence.ready(self.flat.p.dtype, announce, gradients=False)
        empty = tuple(np.empty(0, kind) for kind in (self.dtype, self.dtype, np.int64, np.uint8, np.uint8))
        self._run = run.ready(*self._arguments(np.empty(0, np.int64), empty, np.empty(0)), announce=announce)

    def __call__(self, parts: Parts, factors: Numbers) -> Made:
        if self.flat.table[at.STEP_KIND] != at.NONE:
            return self._updates(parts, factors)
        made = []
        for update, factor in zip(_single(parts, self.schedule.passes), factors, strict=False):
            made.append(self._step_of_torch(update, float(factor)))
            if not (np.isfinite(made[-1].losses[0]) and np.isfinite(made[-1].norms[0])):
                break
        names = [field.name for field in fields(Made)]
        return Made(**{name: np.concatenate([getattr(one, name) for one in made]) for name in names})

    def finish(self) -> None:
        for parameter, _ in self.views:  # torch multiplies by a turned matrix too, but rounds differently
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)

    def _step_of_torch(self, update: Parts, factor: float) -> Made:
        """One update by an optimizer that compiled code does not know: it is given the gradient, and steps."""
        made = self._updates(update, np.array([factor]))
        targets, norm = int(made.targets[0]), float(made.norms[0])
        if targets and np.isfinite(made.losses[0]) and np.isfinite(norm):
            clip = self.schedule.clip_norm or float("inf")
            self.gradient *= min(1.0, clip / (norm + 1e-6)) / targets
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
            for parameter, view in self.views:
                parameter.grad = view
            self.optimizer.step()
        return made

    def _updates(self, parts: Parts, factors: Numbers) -> Made:
        table, data = self.data.of(parts, self.schedule)
        arguments = self._arguments(table, data, self.rates[0] * factors)
        made = self._run(*arguments)
        rates, epochs, timesteps, losses, targets, norms = (column[:made] for column in arguments[-6:])
        return Made(epochs, timesteps, losses, targets, norms, rates)

    def _arguments(self, table: Array, data: tuple[Array, ...], rates: Numbers) -> tuple[Any, ...]:
        count = len(rates)
        return (
            *self._whole,
            table,
            *data,
            *self._scratch,
            rates,
            np.empty(count, np.int64),
            np.empty(count, np.int64),
            np.empty(count),
            np.empty(count, np.int64),
            np.empty(count),
        )


def _single(parts: Parts, passes: int) -> Iterator[list[Part[Batch]]]:
    """The parts of one update after another."""
    update: list[Part[Batch]] = []
    pending = 0
    for part in parts:
        for epoch in range(part.epoch, part.epoch + part.epochs):
            first, end = part.first, part.first + part.count
            while first < end:
                count = min(end - first, passes - pending)
                last = part.last and first + count == end
                update.append(Part(epoch, part.batch, first, count, last))
                first, pending = first + count, pending + count
                if pending == passes or last:
                    yield update
                    update, pending = [], 0


@dataclass(eq=False)
class Piece:
    """Timesteps ``start`` to ``stop`` of a batch, as flat arrays: inputs, targets, labels, valid, starts."""

    batch: Batch
    start: int
    stop: int
    arrays: tuple[Array, ...]

    def holds(self, batch: Batch, start: int, stop: int) -> bool:
        """Whether those timesteps of a batch are among its own."""
        return self.batch is batch and self.start <= start and stop <= self.stop


class Data:
    """Reads what parts need. Pieces stay while they are in use, so a batch that comes again is read once."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.nothing, self.no_labels = np.zeros(0, dtype), np.zeros(0, np.int64)
        self.pieces: list[Piece] = []
        self.joined: tuple[Array, ...] = ()

    def of(self, parts: Parts, schedule: Schedule) -> tuple[Array, tuple[Array, ...]]:
        """The table of the parts, and their inputs, targets, labels, valid and starts, joined."""
        table: list[tuple[int, ...]] = []
        pieces: list[Piece] = []
        begins: list[int] = []
        fresh = False
        for part in parts:
            batch, timesteps, streams = part.batch, part.batch.timesteps, part.batch.streams
            start, stop = 0, timesteps
            if streams * timesteps > WHOLE:
                start = schedule.window_at(timesteps, part.first).start
                stop = schedule.window_at(timesteps, part.first + part.count - 1).stop
            if not (pieces and pieces[-1].holds(batch, start, stop)):
                piece, new = self._piece(batch, start, stop)
                fresh |= new
                begins.append(begins[-1] + len(pieces[-1].arrays[3]) if pieces else 0)
                pieces.append(piece)
            piece = pieces[-1]
            place = (piece.start, begins[-1])
            table.append((streams, timesteps, part.first, part.count, part.last, *place, part.epoch, part.epochs))
        if fresh or pieces != self.pieces:
            self.pieces = pieces
            self.joined = tuple(
                np.concatenate(columns) if len(columns) > 1 else columns[0]
                for columns in zip(*(piece.arrays for piece in pieces), strict=True)
            )
        return np.array(table, np.int64).reshape(-1), self.joined

    def _flat(self, values: Tensor) -> Array:
        return values.numpy().astype(self.dtype, order="C", copy=False).reshape(-1)

    def _piece(self, batch: Batch, start: int, stop: int) -> tuple[Piece, bool]:
        for piece in self.pieces:
            if piece.holds(batch, start, stop):
                return piece, False
        chunk = batch.read(start, stop)
        floating = chunk.targets.is_floating_point()
        arrays = (
            self._flat(chunk.inputs),
            self._flat(chunk.targets) if floating else self.nothing,
            self.no_labels if floating else chunk.targets.numpy().reshape(-1),
            chunk.valid.numpy().reshape(-1).view(np.uint8),
            chunk.starts.numpy().reshape(-1).view(np.uint8),
        )
        return Piece(batch, start, stop, arrays), True


def _describe(optimizer: Optimizer, numbers: Numbers) -> int:
    """Writes an optimizer's settings into ``numbers``, and returns its kind."""
    group = optimizer.param_groups[0]
    numbers[at.MU] = 1.0
    numbers[at.EPS], numbers[at.DECAY] = group.get("eps", 0.0), group.get("weight_decay", 0.0)
    numbers[at.MOMENTUM], numbers[at.NESTEROV] = group.get("momentum", 0.0), group.get("nesterov", False)
    numbers[at.BETA1], numbers[at.BETA2] = group.get("betas", (0.0, 0.0))
    numbers[at.DECOUPLED] = group.get("decoupled_weight_decay", type(optimizer).__name__ == "AdamW")
    numbers[at.AMSGRAD] = group.get("amsgrad", False)
    numbers[at.ALPHA], numbers[at.CENTERED] = group.get("alpha", 0.0), group.get("centered", False)
    kind = next((kind for torchs, kind in STEPS.items() if type(optimizer) in (torchs, light(torchs))), at.NONE)
    usual = all(group.get(name, value) == value for name, value in USUAL.items())
    watched = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return kind if usual and not watched and len(optimizer.param_groups) == 1 else at.NONE
