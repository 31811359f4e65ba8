"""What each process does in an update: the gradient of its own streams, and the sum over all processes.

T timesteps, B streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seqrnn import components, device
from seqrnn.components import Components
from seqrnn.errors import ConfigError
from seqrnn.models.network import Network
from seqrnn.processes.group import Group, shards_of, use_gpu
from seqrnn.schedule import Schedule
from seqrnn.strategies.choice import torch_gradients
from seqrnn.strategies.folded import obstacle_to_folding
from seqrnn.strategies.plain import Gradients, Plain, Windows
from seqrnn.strategies.protocol import Numbers, UpdateStats, WindowRanges
from seqrnn.strategies.strategy_state import StrategyState
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Batch, Chunk


def check_shareable(values: dict[str, Any], size: int) -> None:
    """Checks that several processes can share a run.

    Args:
        values: a sound config.

    Raises:
        ConfigError: everything for which they cannot.
    """
    schedule, problems = Schedule(**values["schedule"]), []
    if schedule.streams < size:
        streams = f"{schedule.streams} stream{'s' * (schedule.streams > 1)}"
        problems.append(
            f"schedule.streams={schedule.streams}: {size} processes share out the streams, and {streams} cannot be "
            f"shared out; use at most {schedule.streams} process{'es' * (schedule.streams > 1)}, or more streams"
        )
    if schedule.is_forward:
        problems.append(
            f"schedule.gradient={schedule.gradient}: several processes share out only gradients by backpropagation; "
            "use one process, or schedule.gradient=bptt"
        )
    if values["optimizer"]["name"] == "ridge":
        problems.append("optimizer=ridge: is not shared out over several processes; use one process")
    if problems:
        raise ConfigError(*problems)


def build_components(values: dict[str, Any], group: Group) -> Components:
    """Builds the objects of a run, of which this process computes a share of the streams.

    Raises:
        ConfigError: everything for which several processes cannot share it.
    """
    check_shareable(values, group.size)
    if device.uses_gpu(values["device"]):
        use_gpu(group.environment)
    run = components.build_components(values)
    own = shards_of(run.schedule.streams, group.size)[0]
    work = values["model"].get("hidden_size", 0) * (own.stop - own.start)
    cores = max(1, device.available_cores() // group.environment.local_size)
    torch.set_num_threads(device.threads_for(run.settings.threads, work, cores))
    obstacle = obstacle_to_folding(run.network, run.task.input_size, run.context)
    if obstacle:
        raise ConfigError(
            f"model={values['model']['name']}: has {obstacle}, with which {group.size} processes would not give the "
            "numbers of one; use one process, or a model without"
        )
    return replace(run, processes=group.size)


@dataclass(frozen=True)
class StreamShard:
    """The streams of a batch that one process computes; a batch itself."""

    batch: Batch
    which: slice
    data_format: DataFormat

    @property
    def streams(self) -> int:
        return int(self.which.stop - self.which.start)

    @property
    def timesteps(self) -> int:
        return self.batch.timesteps

    def read(self, start: int, stop: int) -> Chunk:
        """Returns timesteps ``start`` to ``stop`` − 1. The whole batch is checked, so that all processes find the
        same problems."""
        chunk = self.data_format.read(self.batch, start, stop)
        values = (getattr(chunk, name)[:, self.which] for name in ("inputs", "targets", "valid", "starts"))
        return Chunk(*(value.contiguous() for value in values))


class SummedGradients:
    """Computes the gradient of this process's streams, and adds those of all the others.

    Losses and gradients are sums over valid targets, in this process as over all of them. So the gradient of the
    update is exact however many streams, timesteps or valid targets each process has.
    """

    def __init__(self, gradients: Gradients, network: Network, group: Group) -> None:
        self.gradients, self.group = gradients, group
        self.reader, self.states = gradients.reader, gradients.states
        self.influence: dict[str, Tensor] = {}  # there is none: gradients are computed backwards
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.like = self.parameters[0]
        self._error: Exception | None = None  # of reading the data of an update

    def read(self, windows: Windows) -> Sequence[Any]:
        """Returns the windows with the data of this process's streams. An error is raised by ``__call__``."""
        self._error = None
        own = [each for each in windows if each[0].streams]
        try:
            return self.gradients.read(own) if own else []
        except Exception as error:
            self.group.report(error)
            self._error = error
            return []

    def __call__(self, inputs: Sequence[Any]) -> tuple[list[Tensor], int]:
        losses, count, error = self._own(inputs)
        with_gradient = [parameter.grad is not None for parameter in self.parameters]
        counts = torch.tensor([count, error is not None, *with_gradient])
        self.group.sum(counts)
        count, failed, *with_gradient = counts.tolist()
        if failed:
            raise error or self.group.failure()
        if not count:
            return [], 0
        loss = torch.stack(losses).sum() if losses else self.like.new_zeros(())
        moved = [parameter for parameter, has in zip(self.parameters, with_gradient, strict=True) if has]
        numbers = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in moved]
        flat = torch.cat([loss.detach().to(self.like.dtype).reshape(1), *(each.flatten() for each in numbers)])
        self.group.sum(flat)
        summed = torch.split(flat[1:], [parameter.numel() for parameter in moved])
        for parameter, gradient in zip(moved, summed, strict=True):
            parameter.grad = gradient.view(parameter.shape)
        return [flat[0]], count

    def _own(self, inputs: Sequence[Any]) -> tuple[list[Tensor], int, Exception | None]:
        """Computes the gradient of this process's streams. An error waits until the others know of it, since they
        would wait for this process."""
        if self._error is not None:
            return [], 0, self._error
        try:
            losses, count = self.gradients(inputs) if inputs else ([], 0)
        except Exception as error:
            self.group.report(error)
            return [], 0, error
        return losses, count, None


class ShardUpdates:
    """Computes the updates of this process's streams."""

    def __init__(self, run: Components, group: Group) -> None:
        gradients = SummedGradients(torch_gradients(run), run.network, group)
        self.group, self.network, self.schedule = group, run.network, run.schedule
        self.plain = Plain(run.network, run.optimizer, run.schedule, gradients)
        self.data_format = DataFormat.of(run.task)
        self._shards: list[StreamShard] = []

    def __call__(self, ranges: WindowRanges, factors: Numbers) -> UpdateStats:
        """Makes the updates of ``ranges``, of which each process computes its own streams. Timesteps are counted over
        these."""
        shards: list[StreamShard] = []
        own = []
        for each in ranges:
            known = next((one for one in (*shards[-1:], *self._shards) if one.batch is each.batch), None)
            if known is None:
                which = shards_of(each.batch.streams, self.group.size)[self.group.rank]
                known = StreamShard(each.batch, which, self.data_format)
            shards.append(known)
            own.append(replace(each, batch=known))
        self._shards = shards
        return self.plain(own, factors)

    def state(self, streams: int, pending_carries: Sequence[int]) -> StrategyState:
        """Returns the state of this process's streams; see ``seqrnn.strategies.protocol.Strategy``."""
        own = self.shard_of(streams, self.group.rank)
        return self.plain.state(own.stop - own.start, pending_carries if own.stop > own.start else ())

    def restore(self, state: StrategyState) -> None:
        """Continues with this process's streams of a state of all."""
        carried = {}
        for before, parts in state.carried.items():
            own = self.shard_of(parts[0].shape[1], self.group.rank)
            if own.stop > own.start:
                carried[before] = tuple(part[:, own].contiguous() for part in parts)
        self.plain.restore(replace(state, carried=carried))

    def shard_of(self, streams: int, rank: int) -> slice:
        """Returns the streams of a process, of a batch of so many."""
        return shards_of(streams, self.group.size)[rank]
