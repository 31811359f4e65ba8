"""Where a run stands: counts it, writes rows of metrics, evaluates when due, and says when it is over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from seqrnn.errors import Diverged
from seqrnn.strategies.protocol import Numbers, UpdateStats

EVALUATIONS = 20  # in a run that does not say how many
ROWS = 200
MOMENT = 0.1  # seconds
Row = dict[str, float | int | None]


@dataclass
class Progress:
    """Where a run stands. Timesteps are counted over all streams."""

    planned_updates: int
    epoch: int = 0
    position: int = 0  # how many updates of the schedule are behind, those without a valid target included
    updates: int = 0  # optimizer steps
    timesteps: int = 0
    train_loss: float = math.nan  # of the latest update: mean over its valid targets
    evaluation: dict[str, float] = field(default_factory=dict)  # the latest
    best_loss: float = math.inf  # of the evaluations
    stopped_early: bool = False
    train_seconds: float = 0.0  # in updates alone
    evaluate_seconds: float = 0.0  # in evaluation, and in writing down what has happened


class Monitor:
    """Follows a run.

    Args:
        planned_updates: how many updates the schedule will make at most.
        evaluate: judges the network as it is; returns metrics, ``loss`` among them.
        evaluate_every: updates of the schedule between evaluations; None: 20 in a run. One comes before the first
            update, and one after the last.
        log_every: updates of the schedule between rows of metrics; None: 200 in a run.
        patience: evaluations without improvement after which the run is over; None: it never stops early.
        record: is given each row of metrics.
        observe: is called after some updates, and at least at every multiple of each of ``stops``.
    """

    def __init__(
        self,
        planned_updates: int,
        evaluate: Callable[[], dict[str, float]],
        *,
        evaluate_every: int | None = None,
        log_every: int | None = None,
        patience: int | None = None,
        record: Callable[[Row], None] = lambda row: None,
        observe: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.progress = Progress(planned_updates)
        self.evaluate_every = evaluate_every or max(1, planned_updates // EVALUATIONS)
        self.log_every = log_every or max(1, planned_updates // ROWS)
        self.patience = patience
        self._evaluate, self._record, self._observe = evaluate, record, observe
        self._targets, self._since_row, self._without_improvement = 0, 0, 0
        self._losses: list[Numbers] = []  # of the updates since the last row
        self._latest: Row = {}
        self._pace = 1
        self.stops: list[int] = []  # updates of the schedule between looks, or pauses, that must not be missed
        self.evaluation_is_due = False
        self._clock: float | None = None

    def state(self) -> dict[str, Any]:
        """All that has been counted, for ``restore``."""
        counted = {name: value for name, value in vars(self.progress).items() if name != "planned_updates"}
        losses = np.concatenate(self._losses) if self._losses else np.empty(0)
        return {
            "progress": {**counted, "evaluation": dict(self.progress.evaluation)},
            "evaluation_is_due": self.evaluation_is_due,
            "without_improvement": self._without_improvement,
            "since_row": self._since_row,
            "targets": self._targets,
            "losses": torch.from_numpy(losses.copy()),
            "latest": dict(self._latest),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from the state of another one. How long the run is, and how patient, are this one's own."""
        for name, value in state["progress"].items():
            setattr(self.progress, name, value)
        self.evaluation_is_due = state["evaluation_is_due"]
        self._without_improvement = state["without_improvement"]
        self._since_row, self._targets = state["since_row"], state["targets"]
        self._losses, self._latest = [state["losses"].numpy().copy()], dict(state["latest"])
        self._clock = None
        self.progress.stopped_early = self._out_of_patience

    @property
    def _out_of_patience(self) -> bool:
        return self.patience is not None and self._without_improvement >= self.patience

    @property
    def finished(self) -> bool:
        """Whether training is over."""
        return self.progress.position >= self.progress.planned_updates or self.progress.stopped_early

    @property
    def horizon(self) -> int:
        """How many updates may be made before the network is looked at, or the run is over; and no more than take a
        moment, so that progress is seen and an interruption heard."""
        position = self.progress.position
        waits = [self.progress.planned_updates - position, self._pace]
        waits += [every - position % every for every in (self.evaluate_every, *self.stops)]
        return max(1, min(waits))

    def updated(self, made: UpdateStats) -> None:
        """Counts updates that have been made, and writes the rows of metrics that are due.

        Raises:
            Diverged: the loss or the gradient of the last one is NaN or infinite.
        """
        spent = self._tick("train_seconds")
        progress, count = self.progress, len(made.losses)
        self._check(made)
        self._pace = self._paced(count, spent)
        progress.position += count
        progress.train_seconds -= spent
        self.evaluation_is_due = self.finished or progress.position % self.evaluate_every == 0
        begin = 0
        while begin < count:
            end = min(count, begin + max(1, self.log_every - self._since_row))
            progress.train_seconds += spent * (end - begin) / count
            self._count(made, slice(begin, end))
            if self._since_row >= self.log_every and not (end == count and self.evaluation_is_due):
                self._write_row({})
            begin = end
        self._observe(progress)
        self._tick("evaluate_seconds")

    def _count(self, made: UpdateStats, which: slice) -> None:
        """Counts some of the updates, all for the same row."""
        progress, targets = self.progress, made.targets[which]
        self._since_row += len(targets)
        progress.epoch = int(made.epochs[which][-1])
        progress.timesteps += int(made.timesteps[which].sum())
        stepped = np.flatnonzero(targets)
        if len(stepped):
            last = which.start + stepped[-1]
            progress.updates += len(stepped)
            progress.train_loss = float(made.losses[last] / made.targets[last])
            self._losses.append(made.losses[which])
            self._targets += int(targets.sum())
            self._latest = {"gradient_norm": float(made.norms[last]), "lr": float(made.rates[last])}

    def _check(self, made: UpdateStats) -> None:
        progress = self.progress
        for name, value in (("training loss", made.losses[-1]), ("gradient", made.norms[-1])):
            if not math.isfinite(value):
                before = int(made.timesteps[:-1].sum())
                raise Diverged(
                    f"diverged: the {name} became {value} at update "
                    f"{progress.updates + np.count_nonzero(made.targets[:-1]) + 1} "
                    f"(timestep {progress.timesteps + before:,}); try a smaller optimizer.lr or schedule.clip_norm=1"
                )

    def _paced(self, count: int, seconds: float) -> int:
        """How many updates take a moment, if they go on like the last ones."""
        return max(1, min(8 * self._pace, int(MOMENT * count / max(seconds, 1e-9))))

    def evaluate(self) -> float:
        """Evaluates the network, writes a row, and returns the loss.

        Raises:
            Diverged: the loss is NaN or infinite.
        """
        self._tick("train_seconds")
        metrics = self._evaluate()
        self._tick("evaluate_seconds")
        progress, loss = self.progress, metrics["loss"]
        progress.evaluation = metrics
        self._write_row(metrics)
        if not math.isfinite(loss):
            raise Diverged(f"diverged: the evaluation loss became {loss} after update {progress.updates}")
        if loss < progress.best_loss:
            progress.best_loss, self._without_improvement = loss, 0
        else:
            self._without_improvement += 1
        progress.stopped_early = self._out_of_patience
        return loss

    def _write_row(self, metrics: dict[str, float]) -> None:
        progress = self.progress
        row: Row = {
            "timesteps": progress.timesteps,
            "updates": progress.updates,
            "epoch": progress.epoch,
            "seconds": progress.train_seconds + progress.evaluate_seconds,
            "train_loss": float(np.concatenate(self._losses).sum()) / self._targets if self._targets else None,
            "gradient_norm": None,
            "lr": None,
            **self._latest,
            **{f"eval_{name}": value for name, value in metrics.items()},
        }
        self._record(row)
        self._losses, self._targets, self._since_row = [], 0, 0

    def _tick(self, account: str) -> float:
        """Books the time since the last call, and returns it; the clock starts with the first."""
        now = time.perf_counter()
        spent = now - self._clock if self._clock is not None else 0.0
        setattr(self.progress, account, getattr(self.progress, account) + spent)
        self._clock = now
        return spent
