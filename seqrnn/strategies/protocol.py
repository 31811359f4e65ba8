"""The interface of all ways to compute updates."""

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
    """Figures of consecutive updates, an entry for each. An update that diverged is the last, and was not applied.

    Args:
        epochs: numbers of the epochs that they belong to.
        timesteps: over all streams.
        losses: summed over the valid targets.
        targets: how many targets were valid; with none, the weights were left alone.
        norms: of the averaged gradient, before clipping.
        rates: learning rates.
    """

    epochs: Counts
    timesteps: Counts
    losses: Numbers
    targets: Counts
    norms: Numbers
    rates: Numbers

    def __len__(self) -> int:
        return len(self.losses)

    @property
    def diverged(self) -> bool:
        """Whether the loss or the gradient of the last update is NaN or infinite."""
        return bool(len(self)) and not (np.isfinite(self.losses[-1]) and np.isfinite(self.norms[-1]))


class Strategy(Protocol):
    """A way to compute updates. All of them give the same numbers, to rounding.

    Args:
        network: whose weights the updates change.
    """

    network: Network

    def prepare(self, announce: Callable[[str], None]) -> None:
        """Compiles what must be compiled before the first update.

        Args:
            announce: called with a message before a compilation that takes a while.
        """

    def __call__(self, ranges: WindowRanges, factors: Numbers) -> UpdateStats:
        """Makes the updates of ``ranges``, and changes the network in place. Stops after an update that diverged.

        Args:
            ranges: the windows of whole updates.
            factors: what to multiply the optimizer's learning rate by in each update; as many, or more.
        """

    def state(self, streams: int, pending_carries: Sequence[int]) -> StrategyState:
        """Returns everything besides the weights that later updates depend on, in a form that all strategies share.

        Args:
            streams: of the batch of which some windows have been computed, and others not.
            pending_carries: the timesteps before which states are carried there; see ``Schedule.pending_carries``.
        """

    def restore(self, state: StrategyState) -> None:
        """Continues from the state of another strategy for the same network, optimizer and schedule. The weights have
        been restored already.

        Raises:
            DataError: the state does not fit.
        """

    def finish(self) -> None:
        """Leaves the network as it was before training but for its weights; there are no more updates."""
