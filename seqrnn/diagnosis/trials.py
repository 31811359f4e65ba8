"""Trials: remedies are tried before they are recommended.

A trial is a training from scratch with some overrides, at the run's own length or a part of it, judged by its mean
loss, over the last tenth of it, on the validation data. A remedy has several variants, since a change of the schedule
wants another learning rate; the variant is chosen on some seeds, and its effect measured on others, in pairs with the
run's own config on the same seeds, so that the reported effect does not profit from the choice of the variant.

    effect = loss with the remedy / loss without it        (geometric mean over seeds, Student's t on logarithms)

A change of the schedule may make timesteps cheaper: windows and streams are computed side by side. What takes less
time is trained longer, by a power of two, so that no trial takes longer than the run as it is; only where the remedy
is to train longer does it.

Caveats: a part of a run favours what is fast over what is good in the end. All trials are judged on the same
validation data, so the best remedy is chosen on that data too. Few seeds make wide intervals; a remedy counts only
where its interval lies below 1.
"""

from __future__ import annotations

import copy
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from seqrnn import evaluation
from seqrnn.components import Components, build_components, check_config
from seqrnn.diagnosis.budget import Budget
from seqrnn.diagnosis.intervals import Interval, of_ratio
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.errors import ConfigError, DataError, Diverged
from seqrnn.monitor import Progress
from seqrnn.schedule import distinct
from seqrnn.settings import Values
from seqrnn.strategies.choice import choose
from seqrnn.training import fit, planned_updates

SEARCHED, CONFIRMED = 2, 5  # seeds
FIRST_SEED = 1_000_003  # far from those that people use
FEWEST = 100  # updates of a trial, for its loss to mean something
TAIL, EVALUATIONS = 0.1, 5  # part of a training in which it is evaluated so often: a single evaluation is noisy
TIMED = 0.1  # part of a trial that is made to measure how long it takes
SHARE = 1 / 60  # of the time for all trials that one may take
OVERTIME = 5.0  # times the time for all trials, after which no further remedy is tried
STRUCTURE = ("model", "schedule.streams", "schedule.window", "schedule.stride", "schedule.update_every")  # costs time
HOPELESS = 1e30  # the loss of a training that diverged
Change = Mapping[str, Any]  # keys as typed on the command line, and their values


@dataclass(frozen=True)
class Remedy:
    """A change of the config that may help.

    Args:
        name: for reports, such as "longer window".
        variants: of which one is chosen; they cost the same.
        length: how many times as long training takes.
    """

    name: str
    variants: Sequence[Change]
    length: int = 1


@dataclass(frozen=True)
class Trial:
    """The result of trying a remedy.

    Args:
        change: the chosen variant.
        length: how many times as many timesteps it was trained on.
        effect: loss with it by loss without it.
        loss: geometric mean with it.
        seeds: how many the effect was measured on.
    """

    name: str
    change: dict[str, Any]
    length: int
    effect: Interval
    loss: float
    seeds: int

    @property
    def helps(self) -> bool:
        return self.effect.high < 1


class Trials:
    """Trainings of a run with other settings.

    Args:
        seconds: about how long all trials may take.

    Attributes:
        timesteps: of a trial, over all streams.
        obstacle: why there can be no trials; None: there can.
    """

    def __init__(self, run: TrainedRun, seconds: float) -> None:
        self.original = run
        done, spent = int(run.summary["timesteps"]), run.summary.get("train_seconds")
        if not isinstance(spent, int | float) or not 0 <= spent < math.inf:
            raise DataError(
                f"{run.directory / 'summary.json'}: train_seconds={spent!r}: should be a number of seconds"
            )
        share = min(1.0, SHARE * seconds / max(spent, 1e-9))
        self.timesteps = math.ceil(done * share)
        self.whole = share == 1.0
        updates = int(run.updates_made * share)
        self.obstacle = None
        if updates < min(FEWEST, run.updates_made):
            needed = FEWEST * spent / run.updates_made
            self.obstacle = (
                f"a training of {FEWEST} updates takes {needed:.1f} s, and there are about fifty trials; allow more "
                f"time with --seconds {math.ceil(needed / SHARE)}"
            )
        self.budget = Budget(OVERTIME * seconds)
        self._known: dict[tuple[str, int, int], float] = {}
        self._step_seconds: dict[str, float] = {}
        self._one_by_one = threading.Lock()

    def run(self, remedies: Sequence[Remedy], announce: Callable[[str], None] = lambda text: None) -> list[Trial]:
        """Tries remedies, one by one; after ``OVERTIME``, no further ones."""
        with torch.random.fork_rng(devices=()):  # trainings seed the generator of this process
            return [
                self._try(remedy, announce) for remedy in remedies if self.budget.remaining > 0 or not self._known
            ]

    def _try(self, remedy: Remedy, announce: Callable[[str], None]) -> Trial:
        announce(f"trying {remedy.name}")
        search = range(FIRST_SEED, FIRST_SEED + SEARCHED)
        confirm = range(FIRST_SEED + SEARCHED, FIRST_SEED + SEARCHED + CONFIRMED)
        length = remedy.length * self._length_in_same_time(remedy.variants[0])
        logs = np.log(self.losses([(change, length, seed) for change in remedy.variants for seed in search]))
        chosen = dict(remedy.variants[int(logs.reshape(-1, SEARCHED).mean(axis=1).argmin())])
        losses = self.losses([(chosen, length, seed) for seed in confirm])
        without = self.losses([({}, 1, seed) for seed in confirm])
        loss = float(np.exp(np.log(losses).mean()))
        return Trial(remedy.name, chosen, length, of_ratio(losses, without), loss, CONFIRMED)

    def _length_in_same_time(self, change: Change) -> int:
        """Returns how many times as many timesteps are trained on in the same time: a power of two."""
        if not any(key.startswith(STRUCTURE) for key in change):
            return 1  # a timestep costs the same, whatever a clock shows
        own, new = self._seconds_of_timestep({}), self._seconds_of_timestep(change)
        if not (math.isfinite(own) and math.isfinite(new)):
            return 1
        gain = own / new
        return int(2 ** max(0, min(10, math.floor(math.log2(gain)))))

    def _seconds_of_timestep(self, change: Change) -> float:
        """Returns the seconds of training for a timestep; infinite if it cannot be trained."""
        structure = {key: value for key, value in change.items() if key != "optimizer.lr"}
        key = repr(sorted(structure.items()))
        if key not in self._step_seconds:
            seconds = [self._train(structure, 1, FIRST_SEED - 1, part=TIMED)[1] for _ in range(2)]
            self._step_seconds[key] = min(seconds)  # the first one compiles, reads and fills caches
        return self._step_seconds[key]

    def losses(self, trainings: Sequence[tuple[Change, int, int]]) -> list[float]:
        """Returns the losses of trainings: (change, length, seed) each. None is made twice."""
        keys = [(repr(sorted(change.items())), length, seed) for change, length, seed in trainings]
        new = {key: one for key, one in zip(keys, trainings, strict=True) if key not in self._known}
        dropout = bool(self.original.values["model"].get("dropout"))  # drawn from the one generator of this process
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with ThreadPoolExecutor(1 if dropout else min(4, cores)) as pool:
            found = pool.map(lambda one: self._train(*one)[0], new.values())
            self._known.update(zip(new, found, strict=True))
        return [self._known[key] for key in keys]

    def _train(self, change: Change, length: int, seed: int, part: float = 1.0) -> tuple[float, float]:
        """Returns the loss, and the seconds for a timestep."""
        values = changed(self.original.values, {**change, "seed": seed})
        with self._one_by_one:  # a seed sets the generator of this process
            try:
                check_config(values)
            except ConfigError:
                return HOPELESS, math.inf
            shortened = self._shortened(build_components(values), length * part)
            if shortened is None:
                return HOPELESS, math.inf
            components = shortened
            strategy = choose(components)
            strategy.prepare(lambda text: None)
        task, schedule = components.task, components.schedule
        batches, planned = task.validation()[:1], planned_updates(components)
        tail: list[float] = []

        def evaluate(progress: Progress) -> dict[str, float]:
            is_last = progress.position > planned * (1 - TAIL)
            if not is_last and schedule.lr_decay != "plateau":
                return {"loss": 1.0}  # not used
            predictions = evaluation.predict(components.network, batches, components.context)
            scores = evaluation.score(predictions, task, components.loss)
            if is_last:
                tail.append(scores["loss"])
            return scores

        every = max(1, math.ceil(planned * TAIL / EVALUATIONS))
        try:
            progress = fit(components, evaluate, strategy=strategy, evaluate_every=every)
        except Diverged:
            return HOPELESS, math.inf
        return max(float(np.mean(tail)), 1 / HOPELESS), progress.train_seconds / progress.timesteps

    def _shortened(self, components: Components, length: float) -> Components | None:
        """Returns the same for as many timesteps as a trial has; None: the task has no such data."""
        schedule = components.schedule
        batches = components.task.train(0, schedule.streams)
        if batches[0].streams < schedule.streams and schedule.streams > self.original.components.schedule.streams:
            return None
        epoch = schedule.model_copy(update={"epochs": 1, "max_updates": None}).count_updates(batches)
        timesteps = sum(batch.streams * batch.timesteps * count for batch, count in distinct(batches))
        updates = max(1, round(length * self.timesteps * epoch / timesteps))
        fitted = {"epochs": math.ceil(updates / epoch), "max_updates": updates, "patience": None}
        return replace(components, schedule=schedule.model_copy(update=fitted))


def changed(values: Values, change: Change) -> Values:
    """Returns a config with other values; the key ``model`` replaces a whole group."""
    result = copy.deepcopy(values)
    for key, value in change.items():
        *groups, last = key.split(".")
        holder = result
        for group in groups:
            holder = holder[group]
        holder[last] = copy.deepcopy(value)
    return result
