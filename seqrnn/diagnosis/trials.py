"""Trials: trainings of a run with other settings, within a time.

A trial is a training from scratch with some overrides, on a part of the run's own timesteps or a multiple of them. It
is judged on the validation data: by the mean loss of the evaluations in the last tenth of it, or, where the schedule
keeps the weights of the best evaluation, by the lowest loss of all evaluations.

    effect = loss with the change / loss without it        (geometric mean over seeds, Student's t on logarithms)

Both are trained on the same seeds. Every training ends when the time for all of them is over.
"""

from __future__ import annotations

import copy
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from seqrnn import evaluation
from seqrnn.clock import working_seconds
from seqrnn.components import Components, build_components, check_config
from seqrnn.diagnosis.budget import Budget, TooSlow
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.errors import ConfigError, DataError, Diverged
from seqrnn.monitor import Progress
from seqrnn.schedule import distinct
from seqrnn.settings import Values
from seqrnn.strategies.choice import choose
from seqrnn.tasks.protocol import Task
from seqrnn.training import fit, planned_updates

FIRST_SEED = 1_000_003  # far from those that people use
FEWEST = 50  # updates of a trial, for its loss to mean something
TAIL, EVALUATIONS = 0.1, 4  # part of a training in which it is evaluated so often: a single evaluation is noisy
BEST_OF = 16  # evaluations of a training of which the best one counts
LONGEST_FACTOR = 64  # how many times as many timesteps a training that is cheaper may have
STRUCTURE = (  # keys on which the time for a timestep depends
    "model", "model.hidden_size", "model.num_layers", "schedule.streams", "schedule.window", "schedule.stride",
    "schedule.update_every", "schedule.gradient",
)  # fmt: skip
TIMED = 0.001  # of the time for all trainings, for measuring the pace of one
PROBED = 0.01  # of the timesteps for measuring a pace, which are trained on first
MOST_TIMED = 0.03  # of the time for all trainings, beyond which that is all that is trained on
HOPELESS = 1e30  # the loss of a training that diverged
Key = tuple[str, float, int, bool, int, str]
Change = Mapping[str, Any]  # keys as typed on the command line, and their values


class Training(NamedTuple):
    """A training to be made.

    Args:
        length: how many times as many timesteps as the run it has, such as 0.25.
        resumed: whether it starts from the weights of the run, not from initial ones.
        evaluations: in its last tenth; 0: it is made for its pace alone.
        data: the name of an alteration of the task; empty: that of trainings without one.
    """

    change: Change
    length: float
    seed: int
    resumed: bool = False
    evaluations: int = EVALUATIONS
    data: str = ""

    @property
    def key(self) -> Key:
        return repr(sorted(self.change.items())), *self[1:]


@dataclass(frozen=True)
class Trial:
    """The result of trying a remedy.

    Args:
        change: the chosen variant.
        length: how many times as many timesteps it is trained on.
        part: of its length, and of that of the run, at which it was tried.
        effect: loss with it by loss without it.
        loss: geometric mean with it.
        seeds: how many the effect was measured on.
        cost: time of a training with it, by that of one without.
    """

    name: str
    change: dict[str, Any]
    length: float
    part: float
    effect: Interval
    loss: float
    seeds: int
    cost: float

    @property
    def helps(self) -> bool:
        return self.effect.high < 1


@dataclass(frozen=True)
class Pace:
    """What a training costs.

    Args:
        fixed: seconds for building the components and for evaluations.
        timestep: seconds of training for a timestep; infinite if it cannot be trained.
    """

    fixed: float
    timestep: float


class Trials:
    """Trainings of a run with other settings.

    Args:
        seconds: after which no training continues.
        alterations: what makes another task of that of a trial, such as one with less data, by names that trainings
            ask for; that of the empty name is for all others.
        metric: by which a trial is judged, lower being better.
        known: losses of earlier trainings of the same run, which are not made again; new ones are added.

    Attributes:
        timesteps: of the run, over all streams.
        updates: of the run.
        workers: how many trainings are made at the same time.
    """

    def __init__(
        self,
        run: TrainedRun,
        seconds: float,
        alterations: Mapping[str, Callable[[Task], Task]] | None = None,
        metric: str = "loss",
        known: dict[Key, float] | None = None,
    ) -> None:
        self.original, self.alterations, self.metric = run, alterations or {}, metric
        self.timesteps, self.updates = int(run.summary["timesteps"]), run.updates_made
        spent = run.summary.get("train_seconds")
        if not isinstance(spent, int | float) or not 0 <= spent < math.inf:
            raise DataError(
                f"{run.directory / 'summary.json'}: train_seconds={spent!r}: should be a number of seconds"
            )
        self.spent = float(spent)
        self.budget = Budget(seconds)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        dropout = bool(run.values["model"].get("dropout"))  # drawn from the one generator of this process
        self.workers = 1 if dropout else min(4, cores)
        self._known = {} if known is None else known
        self._paces: dict[str, Pace] = {}
        self._checked: set[str] = set()  # changes that make a sound config
        self._one_by_one = threading.Lock()

    @property
    def shortest(self) -> float:
        """The least length of a trial whose loss means something."""
        return min(1.0, FEWEST / self.updates)

    def losses(self, trainings: Sequence[Training]) -> list[float]:
        """Returns the losses of trainings. None is made twice.

        Raises:
            TooSlow: the time was over before all were made.
        """
        found = self.finished_losses(trainings)
        if None in found:
            raise self.budget.too_slow()
        return [loss for loss in found if loss is not None]

    def finished_losses(self, trainings: Sequence[Training], within: float = math.inf) -> list[float | None]:
        """Returns the losses of trainings, None for those that the time was over for; the first ones come first.

        Args:
            within: seconds after which none begins.
        """
        last = self.budget.remaining - within  # seconds that are then left

        def loss_of(training: Training) -> float | None:
            return self._loss(training) if self.budget.remaining > last else None

        new = {one.key: one for one in trainings if one.key not in self._known}
        with (
            torch.random.fork_rng(devices=()),  # trainings seed the generator of this process
            ThreadPoolExecutor(self.workers) as pool,
        ):
            try:
                for key, loss in zip(new, pool.map(loss_of, new.values()), strict=True):
                    if loss is not None:
                        self._known[key] = loss
            except BaseException:  # Ctrl-C: the trainings that have begun end at once
                self.budget.seconds = -math.inf
                raise
        return [self._known.get(one.key) for one in trainings]

    def _loss(self, training: Training) -> float | None:
        try:
            self.budget.check()
            return self._train(training)[0]
        except TooSlow:
            return None

    def seconds_of(self, change: Change, length: float, trainings: int = 1) -> float:
        """Returns about how long so many trainings with a change take, side by side."""
        pace = self.pace(change)
        one = pace.fixed + length * self.timesteps * pace.timestep
        return one * math.ceil(trainings / self.workers) if trainings else 0.0

    def length_in_same_time(self, change: Change) -> float:
        """Returns how many times as many timesteps a training with a change has in the time of one without: a power
        of two, at least 1. A change of the schedule may make timesteps cheaper: windows and streams are computed side
        by side."""
        if not any(key in STRUCTURE and key.startswith("schedule.") for key in change):
            return 1.0  # a timestep costs the same, whatever a clock shows, or is one of a smaller network
        own, new = self.pace({}).timestep, self.pace(change).timestep
        if not (math.isfinite(own) and math.isfinite(new)):
            return 1.0
        return float(2 ** math.floor(math.log2(min(LONGEST_FACTOR, max(1.0, own / max(new, 1e-12))))))

    def pace(self, change: Change) -> Pace:
        """Returns what a training with a change costs.

        Raises:
            TooSlow: the time is over.
        """
        structure = {key: value for key, value in change.items() if key in STRUCTURE}
        key = repr(sorted(structure.items()))
        if key not in self._paces:
            share = min(0.05, max(2.5 / self.updates, TIMED * self.budget.seconds / max(self.spent, 1e-9)))
            probed = max(2.5 / self.updates, PROBED * share)
            with torch.random.fork_rng(devices=()):
                probe = self._train(Training(structure, probed, FIRST_SEED, evaluations=0))[1]
                if structure and probe.timestep * share * self.timesteps > MOST_TIMED * self.budget.seconds:
                    share = probed  # such as exact gradients of many streams
                timed = Training(structure, share, FIRST_SEED, evaluations=0)
                timestep = min(self._train(timed)[1].timestep for _ in range(2))  # one may be disturbed
                base = self._paces.get("[]") or self._train(Training(structure, share, FIRST_SEED))[1]
            self._paces[key] = Pace(base.fixed, timestep)
        return self._paces[key]

    def _train(self, training: Training) -> tuple[float, Pace]:
        """Returns the loss, and what the training cost.

        Raises:
            TooSlow: the time was over.
        """
        began = working_seconds()
        values = changed(self.original.values, {**training.change, "seed": training.seed})
        with self._one_by_one:  # a seed sets the generator of this process
            self.budget.check()
            try:
                if (key := training.key[0]) not in self._checked:
                    check_config(values)
                    self._checked.add(key)
                built = build_components(values)
                if training.data in self.alterations:
                    built = replace(built, task=self.alterations[training.data](built.task))
                components = self._shortened(built, training.length)
                if components is None:
                    return HOPELESS, Pace(0.0, math.inf)
                strategy = choose(components)
            except ConfigError:
                return HOPELESS, Pace(0.0, math.inf)
            if training.resumed:
                components.network.load_state_dict(self.original.components.network.state_dict())
            strategy.prepare(self.original.announce)
        task, schedule = components.task, components.schedule
        batches, planned = task.validation()[:1], planned_updates(components)
        losses: list[float] = []

        def evaluate(progress: Progress) -> dict[str, float]:
            self.budget.check()
            counts = schedule.keeps_best or progress.position > planned * (1 - TAIL)
            if not training.evaluations:
                return {"loss": 1.0}
            if not counts and schedule.lr_decay != "plateau":
                return {"loss": 1.0}  # not used
            predictions = evaluation.predict(components.network, batches, components.context)
            scores = evaluation.score(predictions, task, components.loss)
            if counts:
                losses.append(found if math.isfinite(found := scores[self.metric]) else HOPELESS)
            return scores

        every = planned / BEST_OF if schedule.keeps_best else planned * TAIL / max(1, training.evaluations)
        try:
            progress = fit(
                components, evaluate, strategy=strategy, evaluate_every=max(1, math.ceil(every)),
                record=lambda row: self.budget.check(),
            )  # fmt: skip
        except Diverged:
            return HOPELESS, Pace(0.0, math.inf)
        loss = (min if schedule.keeps_best else np.mean)(losses or [HOPELESS])
        pace = Pace(working_seconds() - began - progress.train_seconds, progress.train_seconds / progress.timesteps)
        return min(max(float(loss), 1 / HOPELESS), HOPELESS), pace

    def _shortened(self, components: Components, length: float) -> Components | None:
        """Returns the same for so many times the run's timesteps; None: the task has no such data."""
        schedule = components.schedule
        batches = components.task.train(0, schedule.streams)
        if batches[0].streams < schedule.streams and schedule.streams > self.original.components.schedule.streams:
            return None
        epoch = schedule.model_copy(update={"epochs": 1, "max_updates": None}).count_updates(batches)
        timesteps = sum(batch.streams * batch.timesteps * count for batch, count in distinct(batches))
        updates = max(1, round(length * self.timesteps * epoch / timesteps))
        part = min(1.0, length)
        fitted = {
            "epochs": math.ceil(updates / epoch),
            "max_updates": updates,
            "patience": None,
            "keep": "best" if schedule.keeps_best else "last",
            "warmup": round(part * schedule.warmup),
            "lr_every": max(1, round(part * schedule.lr_every)),
        }
        settings = components.settings.model_copy(update={"log_every": None})  # so that the clock is looked at
        return replace(components, schedule=schedule.model_copy(update=fitted), settings=settings)


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
