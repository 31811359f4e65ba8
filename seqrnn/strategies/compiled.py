"""Computes whole updates in compiled code, many in one call, with neither Python nor autograd between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import Optimizer

from seqrnn.errors import DataError
from seqrnn.kernels import layout, recurrence
from seqrnn.kernels.specification import is_from_outside
from seqrnn.kernels.steps import STEPS
from seqrnn.kernels.update import apply_gradient
from seqrnn.losses import Loss, cross_entropy
from seqrnn.models.checks import check_twin
from seqrnn.models.network import Network
from seqrnn.models.protocol import State
from seqrnn.optimizers import light
from seqrnn.schedule import Schedule, split_updates
from seqrnn.strategies import strategy_state
from seqrnn.strategies.compiled_workspace import ThreadWorkspace
from seqrnn.strategies.data import Data, Sizes
from seqrnn.strategies.protocol import Numbers, UpdateStats, WindowRanges
from seqrnn.strategies.strategy_state import StrategyState
from seqrnn.tasks.checks import DataFormat

# Settings of a parameter group that an entry of STEPS need not name: the learning rate is given with each update.
OTHER_SETTINGS = {"params", "lr", *strategy_state.IMPLEMENTATION}
PORTION = 2**17  # input numbers that are read for one call of compiled code, or slightly more
Array = NDArray[Any]


class Compiled:
    """Computes updates in compiled code.

    Args:
        batch: the most streams, and the most timesteps, of a training batch.
        threads: how many threads share the streams of a batch, if there are as many streams.
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
        first = ThreadWorkspace(network, loss, schedule, (-(-streams // shares), timesteps))
        self.workspaces = [first, *(first.for_another_thread() for _ in range(shares - 1))]
        self.flat, self.gradient = first.flat, first.gradient
        self.numbers = np.zeros(layout.OPTIMIZER_FIELDS)
        self.step_kind = _step_kind(optimizer, network)
        if self.step_kind != layout.NO_STEP:
            STEPS[self.step_kind].describe(optimizer.param_groups[0], self.numbers)
        self.numbers[layout.CLIP_NORM] = schedule.clip_norm or 0.0
        first.flat.table[layout.STEP_KIND] = self.step_kind if shares == 1 else layout.NO_STEP
        self.views = first.flat.views(self.gradient)
        self.step_state = self._allocate_step_state()
        self.arrays = [flat.numpy() for flat in self.step_state.values()]
        self.arrays += [np.empty(0, first.dtype)] * (3 - len(self.arrays))  # compiled code never reads them
        inputs, outputs = int(first.flat.layers[0, layout.INPUTS]), int(first.flat.table[layout.OUTPUTS])
        sizes = Sizes(DataFormat(inputs, outputs, loss is cross_entropy), streams, timesteps)
        self.data = Data(first.dtype, shares, sizes)
        self.pool = ThreadPoolExecutor(shares - 1) if shares > 1 else None

    def prepare(self, announce: Callable[[str], None]) -> None:
        first = self.workspaces[0]
        dtype = first.flat.p.dtype
        is_checked = is_from_outside(self.network.cell.recurrence().specification.compiled)
        recurrence.ready(dtype, announce, gradients=is_checked)
        if is_checked:
            check_twin(self.network.cell, self.data.sizes.data_format.input_size, dtype)
        empty = tuple(np.empty(0, kind) for kind in (first.dtype, first.dtype, np.int64, np.uint8, np.uint8))
        nothing = np.empty(0, np.int64), empty, np.empty(0)
        self._train_updates = first.entry.ready(
            *first.arguments(self.arrays, self.numbers, *nothing), announce=announce
        )
        if self.pool:
            arguments = (self.flat.p.numpy(), self.gradient.numpy(), *self.arrays, self.flat.table, self.numbers)
            self._apply_gradient = apply_gradient.ready(*arguments, 0.0, 0, 0.0, announce=announce)
            self._apply_arguments = arguments

    def __call__(self, ranges: WindowRanges, factors: Numbers) -> UpdateStats:
        stats: list[UpdateStats] = []
        if self.pool is None and self.step_kind != layout.NO_STEP:
            for portion, begin, end in self._portions(ranges, len(factors)):
                ((table, data),) = self.data.of(portion, self.schedule)
                stats.append(self._compute(self.workspaces[0], table, data, self.rates[0] * factors[begin:end]))
                if stats[-1].diverged:
                    break
            return stats[0] if len(stats) == 1 else _joined(stats)
        threads = torch.get_num_threads()
        if self.pool:
            torch.set_num_threads(1)  # torch's own threads wait by spinning, on the cores that the shares need
        try:
            for update, factor in zip(split_updates(ranges, self.schedule.windows_per_update), factors, strict=False):
                stats.append(self._compute_shared(update, float(factor)))
                if stats[-1].diverged:
                    break
        finally:
            torch.set_num_threads(threads)
        return _joined(stats)

    def _portions(self, ranges: WindowRanges, updates: int) -> Iterator[tuple[WindowRanges, int, int]]:
        """Yields ranges whose data fits into the cache together, and the first and the last of their updates."""
        first, begin, end, numbers = 0, 0, 0, 0
        for index, each in enumerate(ranges) if self.schedule.windows_per_update == 1 else ():
            numbers += each.batch.streams * each.batch.timesteps * self.data.sizes.data_format.input_size
            end += each.count * each.epochs
            if numbers > PORTION and index + 1 < len(ranges):
                yield ranges[first : index + 1], begin, end
                first, begin, numbers = index + 1, end, 0
        yield ranges[first:], begin, updates

    def _compute(
        self, workspace: ThreadWorkspace, table: Array, data: tuple[Array, ...], rates: Numbers
    ) -> UpdateStats:
        """Makes updates in one thread, or only their gradients where ``layout.STEP_KIND`` is ``NO_STEP``."""
        arguments = workspace.arguments(self.arrays, self.numbers, table, data, rates)
        count = self._train_updates(*arguments)
        rates, epochs, timesteps, losses, targets, norms = (column[:count] for column in arguments[-6:])
        return UpdateStats(epochs, timesteps, losses, targets, norms, rates)

    def _compute_shared(self, update: WindowRanges, factor: float) -> UpdateStats:
        """Makes one update whose gradient several threads compute, or whose step torch takes, or both."""
        rates = np.array([self.rates[0] * factor])
        own, *others = self.data.of(update, self.schedule)
        futures = [
            self.pool.submit(self._compute, workspace, table, data, rates) if self.pool else None
            for workspace, (table, data) in zip(self.workspaces[1:], others, strict=True)
        ]
        shares = [self._compute(self.workspaces[0], *own, rates)]
        for future, workspace in zip(futures, self.workspaces[1:], strict=True):
            assert future is not None
            shares.append(future.result())
            self.gradient += workspace.gradient
        loss, targets = (np.sum([getattr(share, name) for share in shares]) for name in ("losses", "targets"))
        if self.step_kind == layout.NO_STEP:
            norm = self._step_of_torch(float(loss), int(targets), factor)
        else:
            self.flat.table[layout.STEP_KIND] = self.step_kind
            norm = self._apply_gradient(*self._apply_arguments, float(loss), int(targets), rates[0])
            self.flat.table[layout.STEP_KIND] = layout.NO_STEP
        timesteps = np.sum([share.timesteps for share in shares], axis=0)
        return UpdateStats(
            shares[0].epochs, timesteps, np.array([loss]), np.array([targets]), np.array([norm]), rates
        )

    def _step_of_torch(self, loss: float, targets: int, factor: float) -> float:
        """Makes the step of an optimizer that compiled code does not have; returns the norm of the gradient."""
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

    def state(self, streams: int, pending_carries: Sequence[int]) -> StrategyState:
        carried = {before: self._carried(streams, before) for before in pending_carries}
        settings = strategy_state.group_settings(self.optimizer)
        influence = self._influence(streams) if carried else {}
        if self.step_kind == layout.NO_STEP:
            made = strategy_state.optimizer_state(self.optimizer, self.network)
            return StrategyState(made, settings, carried, influence)
        steps = int(self.flat.table[layout.STEPS_MADE])
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        found: dict[str, strategy_state.ParameterState] = (
            {names[id(parameter)]: {} for parameter, _ in self.views} if steps else {}
        )
        for name, flat in self._step_state() if steps else ():
            for parameter, view in self.flat.views(flat):
                found[names[id(parameter)]][name] = strategy_state.cpu_copy(view)
        step = STEPS[self.step_kind]
        for stored in found.values() if step.counted else ():
            # As torch counts, exact up to 2²⁴; beyond, torch's own count stands still.
            stored["step"] = torch.tensor(float(steps), dtype=torch.float32 if steps <= 2**24 else torch.float64)
            for name, (place, _) in step.scalars.items():
                stored[name] = torch.tensor(self.numbers[place], dtype=torch.float32)
        parameters = {name: stored for name, stored in found.items() if stored}
        return StrategyState(parameters, settings, carried, influence)

    def restore(self, state: StrategyState) -> None:
        for workspace in self.workspaces:
            workspace.carried.fill(0)
        for before, parts in state.carried.items():
            self._load_carried(before, parts)
            self._load_influence(parts[0].shape[1], state.influence)
        if self.step_kind == layout.NO_STEP:
            strategy_state.load_optimizer_state(self.optimizer, self.network, state)
            return
        strategy_state.load_group_settings(self.optimizer, state)
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        for flat in self.step_state.values():
            flat.zero_()
        for name, flat in self._step_state():
            for parameter, view in self.flat.views(flat):
                stored = state.parameters.get(names[id(parameter)], {})
                strategy_state.check_shapes(names[id(parameter)], stored, parameter)
                if name in stored:
                    view.copy_(stored[name])
        counts = {float(stored.get("step", 1)) for stored in state.parameters.values()}
        if len(counts) > 1 or len(state.parameters) not in (0, len(self.views)):
            raise DataError(
                "the optimizer made a different number of steps for each parameter, which compiled code cannot "
                "continue; resume with kernel=torch"
            )
        self.flat.table[layout.STEPS_MADE] = int(max(counts, default=0))
        for name, (place, start) in STEPS[self.step_kind].scalars.items():
            values = [float(stored[name]) for stored in state.parameters.values() if name in stored]
            self.numbers[place] = values[0] if values else start

    def _allocate_step_state(self) -> dict[str, torch.Tensor]:
        """Returns the optimizer's state of all parameters, flat, by torch's names; parts that its settings leave out
        are empty."""
        if self.step_kind == layout.NO_STEP:
            return {}
        step = STEPS[self.step_kind]
        return {
            name: torch.zeros_like(self.flat.p) if step.remembers(name, self.numbers) else self.flat.p.new_empty(0)
            for name in step.tensors
        }

    def _step_state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Returns the parts of the optimizer's state that its settings use, flat, with torch's names."""
        return ((name, flat) for name, flat in self.step_state.items() if len(flat))

    def _carried(self, streams: int, before: int) -> State:
        """Returns the parts (L, B, H) of the carried state before a timestep."""
        shares = [
            workspace.slot_before(before)[:, :, : share.stop - share.start]
            for workspace, share in zip(self.workspaces, self.data.split(streams), strict=True)
        ]
        return tuple(torch.from_numpy(part.copy()) for part in np.concatenate(shares, axis=2).swapaxes(0, 1))

    def _load_carried(self, before: int, parts: State) -> None:
        """Sets the carried state before a timestep from its parts (L, B, H)."""
        streams = parts[0].shape[1]
        for workspace, share in zip(self.workspaces, self.data.split(streams), strict=True):
            slot = workspace.slot_before(before)  # (L, parts, B, H)
            for part, values in enumerate(parts):
                slot[:, part, : share.stop - share.start] = values[:, share].numpy()

    def _influence(self, streams: int) -> dict[str, torch.Tensor]:
        """Returns the influence on the carried state by the parameter's name; empty if there is none."""
        shares = list(zip(self.workspaces, self.data.split(streams), strict=True))
        found = [one.influence.by_name(share.stop - share.start) for one, share in shares if one.influence]
        return {name: torch.cat([share[name] for share in found]) for name in (found[0] if found else ())}

    def _load_influence(self, streams: int, stored: dict[str, torch.Tensor]) -> None:
        """Sets the influence on the carried state."""
        for workspace, share in zip(self.workspaces, self.data.split(streams), strict=True):
            if workspace.influence and workspace.form:
                workspace.form.check(stored, streams)
                workspace.influence.load({name: values[share] for name, values in stored.items()})

    def finish(self) -> None:
        for parameter, _ in self.views:  # torch can multiply by a transposed matrix as well, but rounds differently
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        if self.pool:
            self.pool.shutdown()


def _joined(stats: list[UpdateStats]) -> UpdateStats:
    """Returns the figures of consecutive updates as one."""
    names = [field.name for field in fields(UpdateStats)]
    return UpdateStats(**{name: np.concatenate([getattr(each, name) for each in stats]) for name in names})


def _step_kind(optimizer: Optimizer, network: Network) -> int:
    """Returns the place in ``STEPS`` of the step that an optimizer makes; ``NO_STEP`` if torch has to make it."""
    first, *others = optimizer.param_groups
    watched = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    if watched or others or len(first["params"]) < len(list(network.parameters())):
        return layout.NO_STEP
    for place, step in enumerate(STEPS):
        if type(optimizer) in (step.optimizer, light(step.optimizer)) and step.applies_to(first, OTHER_SETTINGS):
            return place
    return layout.NO_STEP
