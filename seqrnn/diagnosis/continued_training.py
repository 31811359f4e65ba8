"""The training of a run, continued for a while on a copy of its network.

A finished network is a single snapshot, of which little can be said with confidence. So training is continued from
where it ended: on the data that comes next, by the run's own schedule and optimizer, at the learning rate of its last
updates. The optimizer starts with new running means, and a run that ended within a sequence starts without the state
it had there; both are given time to settle before anything is measured.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch

from seqrnn import registry
from seqrnn.clock import working_seconds
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.errors import Diverged
from seqrnn.schedule import Schedule, WindowRange, WindowSampler
from seqrnn.strategies.choice import choose
from seqrnn.tasks.protocol import Batch

SETTLED = 1000  # updates after which an optimizer's running means are those of this training
TIMED = 10  # updates by which the duration of an update is measured
MOMENT = 0.2  # seconds of training that one call makes


class ContinuedTraining:
    """Training that continues from where a run ended.

    Args:
        seconds: that the settling may take at most.

    Attributes:
        network: is trained.
        position: timesteps per stream that have been trained on, those of the run included.
        lr_factor: on the optimizer's learning rate: that of the run's last update.
        update_seconds: duration of an update.

    Raises:
        Diverged: the loss or the gradient became NaN or infinite.
        TooSlow: the first updates take longer than ``run.budget`` allows.
    """

    def __init__(self, run: TrainedRun, seconds: float) -> None:
        components, schedule = run.components, run.components.schedule
        self.budget = run.budget
        self.network = copy.deepcopy(components.network).train()
        optimizer = registry.build("optimizer", run.values["optimizer"], self.network.parameters())
        self.components = replace(components, network=self.network, optimizer=optimizer)
        self.strategy = choose(self.components)
        self.strategy.prepare(lambda text: None)
        self.lr_factor = last_lr_factor(run)
        endless = schedule.model_copy(update={"epochs": 2**62, "max_updates": None})
        self.sampler = WindowSampler(endless, lambda epoch: components.task.train(epoch, schedule.streams))
        self.sampler.take(run.updates_made)
        self.position = run.position
        self.update_seconds = 1e-3
        self.settled = self._settle(seconds)

    def _settle(self, seconds: float) -> int:
        """Trains, and returns how many updates."""
        self._train_timed(1)
        self._train_timed(TIMED - 1)  # the first call was slow
        self._train_timed(TIMED)
        return 2 * TIMED + self.train(max(0, min(SETTLED, int(seconds / self.update_seconds)) - 2 * TIMED))

    def _train_timed(self, updates: int) -> None:
        for count in [1] * updates if self.update_seconds > MOMENT else [updates]:
            began = working_seconds()
            self.train(count)
            self.update_seconds = (working_seconds() - began) / count

    def train(self, updates: int) -> int:
        """Makes so many updates, in calls of a moment each; returns how many."""
        left = updates
        while left:
            count = min(left, max(1, int(MOMENT / self.update_seconds)))
            ranges = self.sampler.take(count)
            stats = self.strategy(ranges, np.full(count, self.lr_factor))
            if not (np.isfinite(stats.losses[-1]) and np.isfinite(stats.norms[-1])):
                raise Diverged("the training diverges when it is continued from where it ended")
            self.position += timesteps_of(ranges, self.components.schedule)
            left -= count
            self.budget.check()
        return updates

    def weights(self) -> torch.Tensor:
        """Returns all parameters as they are, (P,)."""
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.network.parameters()]).double().cpu()

    def close(self) -> None:
        """Writes what the strategy holds back to the network."""
        self.strategy.finish()


def last_lr_factor(run: TrainedRun) -> float:
    """Returns the factor on the learning rate of the last update; that of a plateau is known from the metrics
    alone."""
    rates = run.metrics.get("lr", np.empty(0))
    if run.decay.shape == "plateau" and np.isfinite(rates).any():
        return float(rates[np.isfinite(rates)][-1]) / float(run.values["optimizer"]["lr"])
    return float(run.decay.factors(run.updates_made - 1, 1)[0])


def timesteps_of(ranges: list[WindowRange[Batch]], schedule: Schedule) -> int:
    """Returns the timesteps per stream that windows advance."""
    total = 0
    for part in ranges:
        timesteps = part.batch.timesteps
        first = schedule.window_at(timesteps, part.first).fresh
        last = schedule.window_at(timesteps, part.first + part.count - 1).stop
        total += (last - first) * part.epochs
    return total
