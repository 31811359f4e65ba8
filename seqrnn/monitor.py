"""Where a run stands: counts it, writes rows of metrics, evaluates when due, and says when it is over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from seqrnn.errors import Diverged

EVALUATIONS = 20  # in a run that does not say how many
ROWS = 200
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
    train_seconds: float = 0.0  # without evaluation
    evaluate_seconds: float = 0.0


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
        observe: is called after each update.
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
        self._loss, self._targets, self._since_row, self._without_improvement = 0.0, 0, 0, 0
        self._latest: Row = {}
        self.evaluation_is_due = False
        self._clock: float | None = None

    @property
    def finished(self) -> bool:
        """Whether training is over."""
        return self.progress.position >= self.progress.planned_updates or self.progress.stopped_early

    def check(self, loss: float, gradient_norm: float) -> None:
        """
        Raises:
            Diverged: the loss or the gradient of this update is NaN or infinite.
        """
        for name, value in (("training loss", loss), ("gradient", gradient_norm)):
            if not math.isfinite(value):
                raise Diverged(
                    f"diverged: the {name} became {value} at update {self.progress.updates + 1} "
                    f"(timestep {self.progress.timesteps:,}); try a smaller optimizer.lr or schedule.clip_norm=1"
                )

    def updated(self, epoch: int, timesteps: int, loss: float, targets: int, gradient_norm: float, lr: float) -> None:
        """Counts an update over ``timesteps`` timesteps whose ``targets`` valid targets lost ``loss`` in sum."""
        progress = self.progress
        progress.epoch = epoch
        progress.position += 1
        progress.timesteps += timesteps
        if targets:
            progress.updates += 1
            progress.train_loss = loss / targets
            self._loss += loss
            self._targets += targets
            self._latest = {"gradient_norm": gradient_norm, "lr": lr}
        self._since_row += 1
        self.evaluation_is_due = self.finished or progress.position % self.evaluate_every == 0
        if self._since_row >= self.log_every and not self.evaluation_is_due:
            self._write_row({})
        self._tick("train_seconds")
        self._observe(progress)
        self._tick("evaluate_seconds")

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
        progress.stopped_early = self.patience is not None and self._without_improvement >= self.patience
        return loss

    def _write_row(self, metrics: dict[str, float]) -> None:
        progress = self.progress
        row: Row = {
            "timesteps": progress.timesteps,
            "updates": progress.updates,
            "epoch": progress.epoch,
            "seconds": progress.train_seconds + progress.evaluate_seconds,
            "train_loss": self._loss / self._targets if self._targets else None,
            "gradient_norm": None,
            "lr": None,
            **self._latest,
            **{f"eval_{name}": value for name, value in metrics.items()},
        }
        self._record(row)
        self._loss, self._targets, self._since_row = 0.0, 0, 0

    def _tick(self, account: str) -> None:
        """Books the time since the last call; the clock starts with the first."""
        now = time.perf_counter()
        spent = now - self._clock if self._clock is not None else 0.0
        setattr(self.progress, account, getattr(self.progress, account) + spent)
        self._clock = now
