"""What every way to compute updates looks like from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seqrnn.models.network import Network
from seqrnn.schedule import WindowRange
from seqrnn.strategies.strategy_state import StrategyState
from seqrnn.tasks.protocol import Batch

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]
WindowRanges = Sequence[WindowRange[Batch]]


@dataclass(frozen=True)
class UpdateStats:
    """What some updates in a row came to, an entry for each. One that diverged is the last, and was not applied.

    Args:
        epochs: numbers of the epochs that they belong to.
        timesteps: over all streams.
        losses: summed over the valid targets.
        targets: how many were valid; with none, the weights were left alone.
        norms: of the averaged gradient, before clipping.
        rates: learning rates.
    """

    epochs: Counts
    timesteps: Counts
    losses: Numbers
    targets: Counts
    norms: Numbers
    rates: Numbers


class Strategy(Protocol):
    """A way to compute updates. All of them give the same numbers, to rounding."""

    network: Network

    def ready(self, announce: Callable[[str], None]) -> None:
        """Prepares what takes a while, and announces it."""

    def __call__(self, parts: WindowRanges, factors: Numbers) -> UpdateStats:
        """Makes the updates that ``parts`` hold, and changes the network in place.

        Args:
            parts: whole updates.
            factors: what to multiply the optimizer's learning rate by in each update; as many, or more.
        """

    def memory(self, streams: int, pending_carries: Sequence[int]) -> StrategyState:
        """What it remembers besides the weights, in the form that all strategies have in common.

        Args:
            streams: of the batch that is under way.
            awaited: the timesteps before which states are carried there, as ``Schedule.awaited`` says.
        """

    def restore(self, memory: StrategyState) -> None:
        """Goes on with what another strategy remembered, for the same network, optimizer and schedule. The weights
        have been restored already.

        Raises:
            DataError: it does not fit.
        """

    def finish(self) -> None:
        """Leaves the network as it was found but for its weights; there are no more updates."""
