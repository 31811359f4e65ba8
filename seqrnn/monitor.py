"""Counts the updates of a run, writes rows of metrics, evaluates when due, and decides when training is over."""

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

EVALUATIONS = 20  # in a run whose config does not set evaluate_every
ROWS = 200  # in a run whose config does not set log_every
BLOCK_SECONDS = 0.1  # that a block of updates takes, so that progress is shown and an interruption is answered
Row = dict[str, float | int | None]


@dataclass
class Progress:
    """How far a run is. Timesteps are counted over all streams."""

    planned_updates: int
    epoch: int = 0
    position: int = 0  # updates of the schedule that have been made, those without a valid target included
    updates: int = 0  # optimizer steps
    timesteps: int = 0
    train_loss: float = math.nan  # of the latest update: mean over its valid targets
    evaluation: dict[str, float] = field(default_factory=dict)  # the latest
    best_loss: float = math.inf  # of the evaluations
    stopped_early: bool = False
    train_seconds: float = 0.0  # in updates alone
    evaluate_seconds: float = 0.0  # in evaluations, and in writing rows and checkpoints


class Pace:
    """How many updates make a block: as many as take so many seconds, judged by the latest block.

    Args:
        seconds: that a block takes at most, about.
    """

    def __init__(self, seconds: float = BLOCK_SECONDS) -> None:
        self.seconds, self.updates = seconds, 1

    def took(self, count: int, seconds: float) -> None:
        """Takes note that ``count`` updates took ``seconds``."""
        self.updates = max(1, min(8 * self.updates, int(self.seconds * count / max(seconds, 1e-9))))


class Monitor:
    """Follows a run.

    Args:
        planned_updates: how many updates the schedule makes at most.
        evaluate: evaluates the network as it is; returns metrics, ``loss`` among them.
        evaluate_every: updates of the schedule between evaluations; None: 20 evaluations in a run. One comes before
            the first update, and one after the last.
        log_every: updates of the schedule between rows of metrics; None: 200 rows in a run.
        patience: evaluations without a lower loss after which the run is over; None: it never stops early.
        advice: what to try after a divergence.
        record: called with each row of metrics.
        observe: called after each block of updates.
        evaluated: called after each evaluation; an exception that it raises ends the run.
        pace: how many updates make a block; None: one of its own.
    """

    def __init__(
        self,
        planned_updates: int,
        evaluate: Callable[[], dict[str, float]],
        *,
        evaluate_every: int | None = None,
        log_every: int | None = None,
        patience: int | None = None,
        advice: str = "a smaller optimizer.lr",
        record: Callable[[Row], None] = lambda row: None,
        observe: Callable[[Progress], None] = lambda progress: None,
        evaluated: Callable[[Progress], None] = lambda progress: None,
        pace: Pace | None = None,
    ) -> None:
        self.progress = Progress(planned_updates)
        self.evaluate_every = evaluate_every or max(1, planned_updates // EVALUATIONS)
        self.log_every = log_every or max(1, planned_updates // ROWS)
        self.patience = patience
        self._evaluate, self._record, self._observe, self._advice = evaluate, record, observe, advice
        self._evaluated = evaluated
        self._targets, self._since_row, self._without_improvement = 0, 0, 0
        self._losses: list[Numbers] = []  # of the updates since the last row
        self._latest: Row = {}
        self._pace = Pace() if pace is None else pace
        self._block_ends: list[int] = []
        self.evaluation_is_due = False
        self._clock: float | None = None

    def state(self) -> dict[str, Any]:
        """Returns all counts, for ``restore``."""
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
        """Continues from the state of another monitor. The length of the run and its patience are this one's own."""
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

    def end_blocks_at_multiples_of(self, updates: int) -> None:
        """Makes a block of updates end at each multiple of so many updates of the schedule."""
        self._block_ends.append(updates)

    @property
    def block_size(self) -> int:
        """How many updates to make in one block: up to the end of the run, the next evaluation or another multiple at
        which a block must end, and no more than its pace allows."""
        position = self.progress.position
        limits = [self.progress.planned_updates - position, self._pace.updates]
        limits += [every - position % every for every in (self.evaluate_every, *self._block_ends)]
        return max(1, min(limits))

    def updated(self, stats: UpdateStats) -> None:
        """Counts the updates of a block, and writes the rows of metrics that are due. An update that diverged is not
        counted, because it was not applied; those before it in the block are, and a last row holds them.

        Raises:
            Diverged: the loss or the gradient of the last update is NaN or infinite.
        """
        spent = self._book_time("train_seconds")
        progress, count = self.progress, len(stats) - stats.diverged
        self._pace.took(len(stats), spent)
        progress.position += count
        self.evaluation_is_due = self.finished or progress.position % self.evaluate_every == 0
        after = progress.train_seconds
        begin = 0
        while begin < count:
            end = min(count, begin + max(1, self.log_every - self._since_row))
            progress.train_seconds = after - spent * (1 - end / len(stats))  # as it was at the end of the row
            self._count(stats, slice(begin, end))
            if self._since_row >= self.log_every and not (end == count and self.evaluation_is_due):
                self._write_row({})
            begin = end
        progress.train_seconds = after
        if stats.diverged and self._since_row:
            self._write_row({})
        if count:
            self._observe(progress)
        self._book_time("evaluate_seconds")
        if stats.diverged:
            raise self._divergence(stats)

    def _count(self, stats: UpdateStats, which: slice) -> None:
        """Counts some of the updates, all for the same row."""
        progress, targets = self.progress, stats.targets[which]
        self._since_row += len(targets)
        progress.epoch = int(stats.epochs[which][-1])
        progress.timesteps += int(stats.timesteps[which].sum())
        stepped = np.flatnonzero(targets)
        if len(stepped):
            last = which.start + stepped[-1]
            progress.updates += len(stepped)
            progress.train_loss = float(stats.losses[last] / stats.targets[last])
            self._losses.append(stats.losses[which])
            self._targets += int(targets.sum())
            self._latest = {"gradient_norm": float(stats.norms[last]), "lr": float(stats.rates[last])}

    def _divergence(self, stats: UpdateStats) -> Diverged:
        """Returns the error for a block whose last update diverged; the others have been counted."""
        name, value = next(
            (name, value)
            for name, value in (("training loss", stats.losses[-1]), ("gradient", stats.norms[-1]))
            if not math.isfinite(value)
        )
        return Diverged(
            f"diverged: the {name} became {value} at update {self.progress.updates + 1} (timestep "
            f"{self.progress.timesteps:,}); try {self._advice}"
        )

    def evaluate(self) -> float:
        """Evaluates the network, writes a row, and returns the loss.

        Raises:
            Diverged: the loss is NaN or infinite.
        """
        self._book_time("train_seconds")
        metrics = self._evaluate()
        self._book_time("evaluate_seconds")
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
        self._evaluated(progress)
        self._book_time("evaluate_seconds")
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

    def _book_time(self, account: str) -> float:
        """Adds the time since the last call to an account of ``progress``, and returns it. The first call starts the
        clock."""
        now = time.perf_counter()
        spent = now - self._clock if self._clock is not None else 0.0
        setattr(self.progress, account, getattr(self.progress, account) + spent)
        self._clock = now
        return spent
