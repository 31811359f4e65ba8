"""Whole updates in compiled code, many in one call: no Python and no autograd between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import Optimizer

from seqrnn.errors import DataError
from seqrnn.kernels import layout as layout
from seqrnn.kernels import recurrence
from seqrnn.kernels.network import FlatNetwork
from seqrnn.kernels.update import apply_gradient, train_updates
from seqrnn.losses import Loss, cross_entropy, half_mse, l1, mse
from seqrnn.models.network import Network
from seqrnn.models.protocol import State
from seqrnn.optimizers import light
from seqrnn.schedule import Schedule, WindowRange
from seqrnn.strategies import strategy_state
from seqrnn.strategies.data import Data, Sizes
from seqrnn.strategies.protocol import Numbers, UpdateStats, WindowRanges
from seqrnn.strategies.strategy_state import StrategyState
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Batch

LOSSES: dict[Loss, int] = {
    mse: layout.MSE,
    half_mse: layout.HALF_MSE,
    l1: layout.L1,
    cross_entropy: layout.CROSS_ENTROPY,
}
STEPS: dict[Any, int] = {
    torch.optim.SGD: layout.SGD,
    torch.optim.Adam: layout.ADAM,
    torch.optim.AdamW: layout.ADAM,
    torch.optim.NAdam: layout.NADAM,
    torch.optim.RAdam: layout.RADAM,
    torch.optim.RMSprop: layout.RMSPROP,
    torch.optim.Adagrad: layout.ADAGRAD,
}
# What a, b and m of ``seqrnn.kernels.steps`` are called there.
REMEMBERED: dict[int, tuple[str, ...]] = {
    layout.SGD: ("momentum_buffer",),
    layout.ADAM: ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    layout.NADAM: ("exp_avg", "exp_avg_sq"),
    layout.RADAM: ("exp_avg", "exp_avg_sq"),
    layout.RMSPROP: ("square_avg", "momentum_buffer", "grad_avg"),
    layout.ADAGRAD: ("sum",),
}
# Those of them that only some settings make.
OPTIONAL = {"max_exp_avg_sq": layout.AMSGRAD, "momentum_buffer": layout.MOMENTUM, "grad_avg": layout.CENTERED}
# Settings of them that compiled steps do not know; the optimizers of this project leave them alone.
USUAL = {
    "dampening": 0,
    "maximize": False,
    "lr_decay": 0,
    "initial_accumulator_value": 0,
    "momentum_decay": 4e-3,
}
# (timestep, column) pairs that are computed together: enough for large products, few enough for the cache.
ROWS = 2048
PORTION = 2**17  # numbers of inputs that are read in one call, or a little more
Array = NDArray[Any]


class Compiled:
    """Updates in compiled code.

    Args:
        batch: the most streams, and the most timesteps, of a training batch.
        threads: streams are shared out among so many, if there are as many.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        schedule: Schedule,
        batch: tuple[int, int],
        threads: int = 1,
    ) -> None:
        streams, timesteps = batch
        shares = min(threads, streams)
        self.network, self.schedule, self.optimizer = network, schedule, optimizer
        self.rates = [group["lr"] for group in optimizer.param_groups]
        first = Engine(network, loss, schedule, (-(-streams // shares), timesteps))
        self.engines = [first, *(first.beside() for _ in range(shares - 1))]
        self.flat, self.gradient = first.flat, first.gradient
        self.numbers = np.zeros(layout.OPTIMIZER_FIELDS)
        self.step_kind = _describe(optimizer, self.numbers)
        if len(optimizer.param_groups[0]["params"]) < len(list(network.parameters())):
            self.step_kind = layout.NONE
        self.numbers[layout.CLIP] = schedule.clip_norm or 0.0
        first.flat.table[layout.STEP_KIND] = self.step_kind if shares == 1 else layout.NONE
        self.views = first.flat.views(self.gradient)
        self.remembered = [torch.zeros_like(first.flat.p) for _ in range(3)]
        self.arrays = [flat.numpy() for flat in self.remembered]
        inputs, outputs = int(first.flat.layers[0, layout.INPUTS]), int(first.flat.table[layout.OUTPUTS])
        sizes = Sizes(DataFormat(inputs, outputs, loss is cross_entropy), streams, timesteps)
        self.data = Data(first.dtype, shares, sizes)
        self.pool = ThreadPoolExecutor(shares - 1) if shares > 1 else None

    def ready(self, announce: Callable[[str], None]) -> None:
        first = self.engines[0]
        recurrence.ready(first.flat.p.dtype, announce, gradients=False)
        empty = tuple(np.empty(0, kind) for kind in (first.dtype, first.dtype, np.int64, np.uint8, np.uint8))
        nothing = np.empty(0, np.int64), empty, np.empty(0)
        self._run = train_updates.ready(*first.arguments(self.arrays, self.numbers, *nothing), announce=announce)
        if self.pool:
            arguments = (self.flat.p.numpy(), self.gradient.numpy(), *self.arrays, self.flat.table, self.numbers)
            self._finish = apply_gradient.ready(*arguments, 0.0, 0, 0.0, announce=announce)
            self._finished = arguments

    def __call__(self, parts: WindowRanges, factors: Numbers) -> UpdateStats:
        made = []
        if self.pool is None and self.step_kind != layout.NONE:
            for portion, begin, end in self._portions(parts, len(factors)):
                ((table, data),) = self.data.of(portion, self.schedule)
                made.append(self._made(self.engines[0], table, data, self.rates[0] * factors[begin:end]))
                if not (np.isfinite(made[-1].losses[-1]) and np.isfinite(made[-1].norms[-1])):
                    break
            return made[0] if len(made) == 1 else _joined(made)
        threads = torch.get_num_threads()
        if self.pool:
            torch.set_num_threads(1)  # torch's own threads wait by spinning, on the cores that the shares run on
        try:
            for update, factor in zip(_single(parts, self.schedule.passes), factors, strict=False):
                made.append(self._one_by_one(update, float(factor)))
                if not (np.isfinite(made[-1].losses[0]) and np.isfinite(made[-1].norms[0])):
                    break
        finally:
            torch.set_num_threads(threads)
        return _joined(made)

    def _portions(self, parts: WindowRanges, updates: int) -> Iterator[tuple[WindowRanges, int, int]]:
        """Parts whose data still lies in the cache when it is read, and the first and the last of their updates."""
        first, begin, end, numbers = 0, 0, 0, 0
        for index, part in enumerate(parts) if self.schedule.passes == 1 else ():
            numbers += part.batch.streams * part.batch.timesteps * self.data.sizes.data_format.input_size
            end += part.count * part.epochs
            if numbers > PORTION and index + 1 < len(parts):
                yield parts[first : index + 1], begin, end
                first, begin, numbers = index + 1, end, 0
        yield parts[first:], begin, updates

    def _made(self, engine: Engine, table: Array, data: tuple[Array, ...], rates: Numbers) -> UpdateStats:
        arguments = engine.arguments(self.arrays, self.numbers, table, data, rates)
        made = self._run(*arguments)
        rates, epochs, timesteps, losses, targets, norms = (column[:made] for column in arguments[-6:])
        return UpdateStats(epochs, timesteps, losses, targets, norms, rates)

    def _one_by_one(self, update: WindowRanges, factor: float) -> UpdateStats:
        """One update whose gradient several threads compute, or whose step torch takes, or both."""
        rates = np.array([self.rates[0] * factor])
        own, *others = self.data.of(update, self.schedule)
        waiting = [
            self.pool.submit(self._made, engine, table, data, rates) if self.pool else None
            for engine, (table, data) in zip(self.engines[1:], others, strict=True)
        ]
        shares = [self._made(self.engines[0], *own, rates)]
        for future, engine in zip(waiting, self.engines[1:], strict=True):
            assert future is not None
            shares.append(future.result())
            self.gradient += engine.gradient
        loss, targets = (np.sum([getattr(share, name) for share in shares]) for name in ("losses", "targets"))
        if self.step_kind == layout.NONE:
            norm = self._step_of_torch(float(loss), int(targets), factor)
        else:
            self.flat.table[layout.STEP_KIND] = self.step_kind
            norm = self._finish(*self._finished, float(loss), int(targets), rates[0])
            self.flat.table[layout.STEP_KIND] = layout.NONE
        timesteps = np.sum([share.timesteps for share in shares], axis=0)
        return UpdateStats(
            shares[0].epochs, timesteps, np.array([loss]), np.array([targets]), np.array([norm]), rates
        )

    def _step_of_torch(self, loss: float, targets: int, factor: float) -> float:
        """A step of an optimizer that compiled code does not know; returns the norm of the gradient."""
        norm = float(torch.linalg.norm(self.gradient)) / max(1, targets)
        if targets and np.isfinite(loss) and np.isfinite(norm):
            clip = self.schedule.clip_norm or float("inf")
            self.gradient *= min(1.0, clip / (norm + 1e-6)) / targets
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
            for parameter, view in self.views:
                parameter.grad = view
            self.optimizer.step()
        return norm

    def memory(self, streams: int, pending_carries: Sequence[int]) -> StrategyState:
        carried = {before: self._carried(streams, before) for before in pending_carries}
        settings = strategy_state.settings_of(self.optimizer)
        if self.step_kind == layout.NONE:
            return StrategyState(strategy_state.optimizer_state(self.optimizer, self.network), settings, carried)
        made = int(self.flat.table[layout.STEPS_MADE])
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        found: dict[str, strategy_state.Remembered] = (
            {names[id(parameter)]: {} for parameter, _ in self.views} if made else {}
        )
        for name, flat in self._kept() if made else ():
            for parameter, view in self.flat.views(flat):
                found[names[id(parameter)]][name] = strategy_state.copied(view)
        for one in found.values() if self.step_kind != layout.SGD else ():
            # As torch counts, exact up to 2²⁴; beyond, torch's own count stands still.
            one["step"] = torch.tensor(float(made), dtype=torch.float32 if made <= 2**24 else torch.float64)
            if self.step_kind == layout.NADAM:
                one["mu_product"] = torch.tensor(self.numbers[layout.MU], dtype=torch.float32)
        return StrategyState({name: told for name, told in found.items() if told}, settings, carried)

    def restore(self, memory: StrategyState) -> None:
        for engine in self.engines:
            engine.carried.fill(0)
        for before, parts in memory.carried.items():
            self._carry(before, parts)
        if self.step_kind == layout.NONE:
            strategy_state.load_optimizer_state(self.optimizer, self.network, memory)
            return
        strategy_state.load_group_settings(self.optimizer, memory)
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        for flat in self.remembered:
            flat.zero_()
        for name, flat in self._kept():
            for parameter, view in self.flat.views(flat):
                told = memory.parameters.get(names[id(parameter)], {})
                strategy_state.check_shapes(names[id(parameter)], told, parameter)
                if name in told:
                    view.copy_(told[name])
        counts = {float(told.get("step", 1)) for told in memory.parameters.values()}
        if len(counts) > 1 or len(memory.parameters) not in (0, len(self.views)):
            raise DataError(
                "the optimizer made a different number of steps for each parameter, which compiled code does not; go "
                "on with kernel=torch"
            )
        self.flat.table[layout.STEPS_MADE] = int(max(counts, default=0))
        products = [float(told["mu_product"]) for told in memory.parameters.values() if "mu_product" in told]
        self.numbers[layout.MU] = products[0] if products else 1.0

    def _kept(self) -> Iterator[tuple[str, torch.Tensor]]:
        """What the optimizer remembers, by torch's names for it."""
        for name, flat in zip(REMEMBERED[self.step_kind], self.remembered, strict=False):
            if name not in OPTIONAL or self.numbers[OPTIONAL[name]] > 0:
                yield name, flat

    def _carried(self, streams: int, before: int) -> State:
        """The carried state before a timestep: its parts (L, B, H)."""
        shares = [
            engine.slot_before(before)[:, :, : which.stop - which.start]
            for engine, which in zip(self.engines, self.data.split(streams), strict=True)
        ]
        return tuple(torch.from_numpy(part.copy()) for part in np.concatenate(shares, axis=2).swapaxes(0, 1))

    def _carry(self, before: int, parts: State) -> None:
        """The opposite."""
        streams = parts[0].shape[1]
        for engine, which in zip(self.engines, self.data.split(streams), strict=True):
            slot = engine.slot_before(before)  # (L, parts, B, H)
            for part, values in enumerate(parts):
                slot[:, part, : which.stop - which.start] = values[:, which].numpy()

    def finish(self) -> None:
        for parameter, _ in self.views:  # torch multiplies by a turned matrix too, but rounds differently
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        if self.pool:
            self.pool.shutdown()


class Engine:
    """The tables and the memory with which one thread computes gradients."""

    def __init__(self, network: Network, loss: Loss, schedule: Schedule, batch: tuple[int, int]) -> None:
        cell = network.cell.recurrence()
        streams, timesteps = batch
        window = schedule.window or timesteps
        stride = schedule.stride or window
        one = min(window, timesteps) * streams
        self.most = max(min(ROWS, one * schedule.passes), one)
        self.flat = FlatNetwork(cell, network.head, self.most, self.most)
        table = self.flat.table
        table[layout.LOSS_KIND], table[layout.STEP_KIND], table[layout.STEPS_MADE] = LOSSES[loss], layout.NONE, 0
        table[layout.STREAMS], table[layout.ROWS], table[layout.PASSES] = streams, self.most, schedule.passes
        table[layout.WINDOW], table[layout.STRIDE] = schedule.window or 0, schedule.stride or schedule.window or 0
        slots = (window - stride) // stride + 1 if schedule.carry and schedule.window else 0
        table[layout.SLOTS] = min(slots, schedule.count_windows(timesteps))
        table[layout.OVERLAP], table[layout.KEPT] = window - stride, stride - (window - stride) % stride
        parts = 2 if cell.kind == "lstm" else 1
        self.shape = max(1, int(table[layout.SLOTS])), len(cell.layers), parts, streams, cell.size
        self._make_room()

    def beside(self) -> Engine:
        """The same, for another thread."""
        twin = copy(self)
        twin.flat = self.flat.beside(self.most, self.most)
        twin._make_room()
        return twin

    def _make_room(self) -> None:
        table, rows = self.flat.table, self.most
        self.gradient = torch.zeros_like(self.flat.p)
        self.arrays = self.flat.p.numpy(), self.gradient.numpy()
        self.places = self.flat.w, self.flat.layers.reshape(-1), table
        self.carried = np.zeros(self.shape, self.dtype)  # (slots, L, parts, B, H)
        self.scratch = (
            self.carried.reshape(-1),
            np.zeros((int(table[layout.PASSES]) + 1) * layout.WINDOW_FIELDS, np.int64),
            np.zeros(rows, np.uint8),
            np.zeros(rows, np.int64),
            np.zeros(rows, np.int64),
        )

    def slot_before(self, timestep: int) -> Array:
        """The carried state (L, parts, B, H) of the window that begins with a timestep."""
        table = self.flat.table
        number = int(timestep + table[layout.OVERLAP]) // int(table[layout.STRIDE])
        slot: Array = self.carried[number % int(table[layout.SLOTS])]
        return slot

    @property
    def dtype(self) -> Any:
        return self.flat.p.numpy().dtype

    def arguments(
        self, arrays: list[Array], numbers: Numbers, table: Array, data: tuple[Array, ...], rates: Numbers
    ) -> tuple[Any, ...]:
        """What ``run`` is called with; the last six get what it has made."""
        count = len(rates)
        return (
            *self.arrays,
            *arrays,
            *self.places,
            numbers,
            table,
            *data,
            *self.scratch,
            rates,
            np.empty(count, np.int64),
            np.empty(count, np.int64),
            np.empty(count),
            np.empty(count, np.int64),
            np.empty(count),
        )


def _joined(made: list[UpdateStats]) -> UpdateStats:
    names = [field.name for field in fields(UpdateStats)]
    return UpdateStats(**{name: np.concatenate([getattr(one, name) for one in made]) for name in names})


def _single(parts: WindowRanges, passes: int) -> Iterator[list[WindowRange[Batch]]]:
    """The parts of one update after another."""
    update: list[WindowRange[Batch]] = []
    pending = 0
    for part in parts:
        for epoch in range(part.epoch, part.epoch + part.epochs):
            first, end = part.first, part.first + part.count
            while first < end:
                count = min(end - first, passes - pending)
                last = part.last and first + count == end
                update.append(WindowRange(epoch, part.batch, first, count, last))
                first, pending = first + count, pending + count
                if pending == passes or last:
                    yield update
                    update, pending = [], 0


def _describe(optimizer: Optimizer, numbers: Numbers) -> int:
    """Writes an optimizer's settings into ``numbers``, and returns its kind."""
    group = optimizer.param_groups[0]
    numbers[layout.MU] = 1.0
    numbers[layout.EPS], numbers[layout.DECAY] = group.get("eps", 0.0), group.get("weight_decay", 0.0)
    numbers[layout.MOMENTUM], numbers[layout.NESTEROV] = group.get("momentum", 0.0), group.get("nesterov", False)
    numbers[layout.BETA1], numbers[layout.BETA2] = group.get("betas", (0.0, 0.0))
    numbers[layout.DECOUPLED] = group.get("decoupled_weight_decay", type(optimizer).__name__ == "AdamW")
    numbers[layout.AMSGRAD] = group.get("amsgrad", False)
    numbers[layout.ALPHA], numbers[layout.CENTERED] = group.get("alpha", 0.0), group.get("centered", False)
    kind = next((kind for torchs, kind in STEPS.items() if type(optimizer) in (torchs, light(torchs))), layout.NONE)
    usual = all(group.get(name, value) == value for name, value in USUAL.items())
    watched = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return kind if usual and not watched and len(optimizer.param_groups) == 1 else layout.NONE
