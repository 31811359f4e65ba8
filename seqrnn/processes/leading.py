"""The strategy of process 0, which has the others compute their share of the updates."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrnn.components import Components
from seqrnn.processes.group import Group
from seqrnn.processes.sharing import ShardUpdates
from seqrnn.schedule import split_updates
from seqrnn.strategies.protocol import Numbers, UpdateStats, WindowRanges
from seqrnn.strategies.strategy_state import StrategyState, cpu_copy


class Leading:
    """Computes updates with torch in several processes, each for its own streams.

    The training loop, evaluations, files and signals are those of process 0 alone. The other processes have the same
    weights and the same data, and compute only when a message asks for it (see ``seqrnn.processes.helping``).

    Args:
        run: the objects of the run, as ``seqrnn.processes.sharing.build_components`` returns them.
    """

    def __init__(self, run: Components, group: Group) -> None:
        self.network, self.schedule, self.group = run.network, run.schedule, group
        self.own = ShardUpdates(run, group)
        self.name = f"torch in {group.size} processes"
        group.send({"do": "build", "values": run.values})
        group.largest(0)  # all have built the objects of the run
        self._unsent: StrategyState | None = self.own.state(0, ())  # a state that the others do not have yet

    def prepare(self, announce: Callable[[str], None]) -> None:
        streams, size = self.schedule.streams, self.group.size
        least, more = divmod(streams, size)
        each = f"{least}" if not more else f"{least} or {least + 1}"
        shares = f"  {size} processes share out the {streams} streams, {each} each"
        announce(f"{shares}; torch makes the updates, as with capture=false")

    def __call__(self, ranges: WindowRanges, factors: Numbers) -> UpdateStats:
        self._send_state()
        described = [
            [each.epoch, each.number, each.first, each.count, each.ends_epoch, each.epochs] for each in ranges
        ]
        self.group.send({"do": "update", "ranges": described, "factors": torch.from_numpy(np.array(factors))})
        stats = self.own(ranges, factors)
        received = self.group.largest(0)
        if received:  # by another process: answered here, as if this one had received it
            signal.raise_signal(received)
        updates = split_updates(ranges, self.schedule.windows_per_update)
        timesteps = [
            sum(batch.streams * (window.stop - window.fresh) for batch, window in self.schedule.windows_of(update))
            for _, update in zip(range(len(stats)), updates, strict=False)
        ]
        return replace(stats, timesteps=np.array(timesteps, np.int64))

    def state(self, streams: int, pending_carries: Sequence[int]) -> StrategyState:
        own = self.own.state(streams, pending_carries)
        if not pending_carries:
            return own
        self._send_state()
        self.group.send({"do": "state", "streams": streams, "pending": list(pending_carries)})
        carried = {
            before: tuple(self._joined(part, streams) for part in own.carried[before]) for before in own.carried
        }
        return replace(own, carried=carried)

    def _joined(self, own: Tensor, streams: int) -> Tensor:
        """Returns a part of a carried state (…, B, …) of all streams."""
        parts = [own]
        for rank in range(1, self.group.size):
            which = self.own.shard_of(streams, rank)
            if which.stop > which.start:
                shape = (own.shape[0], which.stop - which.start, *own.shape[2:])
                parts.append(self.group.take(own.new_empty(shape), rank))
        return torch.cat(parts, dim=1)

    def restore(self, state: StrategyState) -> None:
        self.own.restore(state)
        self._unsent = state

    def _send_state(self) -> None:
        """Sends weights and state to the other processes, if these are not those of the last update."""
        if self._unsent is None:
            return
        state, self._unsent = self._unsent, None
        message: dict[str, Any] = {
            "do": "load",
            "model": {name: cpu_copy(value) for name, value in self.network.state_dict().items()},
            "parameters": dict(state.parameters),
            "groups": list(state.groups),
            "carried": [{"before": before, "parts": list(parts)} for before, parts in state.carried.items()],
        }
        self.group.send(message)

    def finish(self) -> None:
        self.own.plain.finish()
        self.group.dismiss()
