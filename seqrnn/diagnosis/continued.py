"""The training of a run, continued for a while on a copy of its network, and looked at all the time.

A finished network is a single snapshot, of which little can be said with confidence. So training goes on from where
it ended: on the data that comes next, by the run's own schedule and optimizer, at the learning rate of its last
updates. The optimizer starts without its memory, and a run that ended within a sequence without the state it had
there; they are given time to fill before anything is measured.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

import numpy as np
import torch

from seqrnn import registry
from seqrnn.diagnosis.subject import Subject
from seqrnn.errors import Diverged
from seqrnn.schedule import Schedule, WindowRange, WindowSampler
from seqrnn.strategies.choice import choose
from seqrnn.tasks.protocol import Batch

FILLED = 1000  # updates after which an optimizer's running means are those of this training
PACE = 10  # updates by which the pace is measured


class Continued:
    """Training that goes on from where a run ended.

    Args:
        seconds: what filling the optimizer's memory may take at most.

    Attributes:
        network: moves.
        position: timesteps per stream that have been trained on, those of the run included.
        factor: on the optimizer's learning rate: that of the run's last update.
    """

    def __init__(self, subject: Subject, seconds: float) -> None:
        components, schedule = subject.components, subject.components.schedule
        self.network = copy.deepcopy(components.network).train()
        optimizer = registry.build("optimizer", subject.values["optimizer"], self.network.parameters())
        self.run = replace(components, network=self.network, optimizer=optimizer)
        self.strategy = choose(self.run)
        self.strategy.prepare(lambda text: None)
        self.factor = last_factor(subject)
        endless = schedule.model_copy(update={"epochs": 2**62, "max_updates": None})
        self.sampler = WindowSampler(endless, lambda epoch: components.task.train(epoch, schedule.streams))
        self.sampler.take(subject.made)
        self.position = subject.position
        self.pace = 1e-3  # seconds of an update
        self.filled = 0
        self._fill(seconds)

    def _fill(self, seconds: float) -> None:
        self.train(PACE)  # the first call is slow
        began = perf_counter()
        self.train(PACE)
        self.pace = (perf_counter() - began) / PACE
        self.filled = 2 * PACE + self.train(max(0, min(FILLED, int(seconds / self.pace)) - 2 * PACE))

    def train(self, updates: int) -> int:
        """Makes so many updates, in calls that hold no more data than is good; returns how many."""
        left = updates
        while left:
            count = min(left, max(1, int(0.2 / self.pace)))
            parts = self.sampler.take(count)
            made = self.strategy(parts, np.full(count, self.factor))
            if not (np.isfinite(made.losses[-1]) and np.isfinite(made.norms[-1])):
                raise Diverged("training that goes on from where it ended diverges")
            self.position += steps_of(parts, self.run.schedule)
            left -= count
        return updates

    def weights(self) -> torch.Tensor:
        """All parameters as they are, (P,)."""
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.network.parameters()]).double().cpu()

    def snapshots(self, count: int, updates: int) -> Iterator[int]:
        """Trains, and stops ``count`` times for a look."""
        for number in range(count):
            self.train(updates)
            yield number

    def close(self) -> None:
        self.strategy.finish()


def last_factor(subject: Subject) -> float:
    """The factor on the learning rate of the last update; that of a plateau is known from the metrics alone."""
    rates = subject.metrics.get("lr", np.empty(0))
    if subject.decay.shape == "plateau" and np.isfinite(rates).any():
        return float(rates[np.isfinite(rates)][-1]) / float(subject.values["optimizer"]["lr"])
    return float(subject.decay.factors(subject.made - 1, 1)[0])


def steps_of(parts: list[WindowRange[Batch]], schedule: Schedule) -> int:
    """Timesteps per stream that parts advance."""
    total = 0
    for part in parts:
        timesteps = part.batch.timesteps
        first = schedule.window_at(timesteps, part.first).fresh
        last = schedule.window_at(timesteps, part.first + part.count - 1).stop
        total += (last - first) * part.epochs
    return total
