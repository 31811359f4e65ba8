"""The one training loop. Nothing here asks which task, model or schedule it is running."""

from __future__ import annotations

from collections.abc import Callable

from seqrnn.errors import Diverged
from seqrnn.monitor import Monitor
from seqrnn.schedule import Schedule, WindowSampler
from seqrnn.strategies.protocol import Strategy
from seqrnn.tasks import checks
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Task


class TrainingCursor:
    """The position of a training in its data, and the state of its learning-rate decay."""

    def __init__(self, task: Task, schedule: Schedule, updates: int) -> None:
        self.sampler = WindowSampler(schedule, lambda epoch: task.train(epoch, schedule.streams))
        self.decay = schedule.decay(updates)


def train(
    task: Task,
    schedule: Schedule,
    strategy: Strategy,
    monitor: Monitor,
    cursor: TrainingCursor | None = None,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Trains the network of ``strategy`` until ``monitor`` says that training is over.

    Args:
        cursor: where training resumes; None: at the beginning.
        pause: called between updates, with everything counted, wherever training can be interrupted and resumed
            later. An exception that it raises ends the training.

    Raises:
        Diverged: the loss or the gradient became NaN or infinite; the weights are those before that update.
        DataError: the training data is not what it should be, or not finite.
    """
    cursor = cursor or TrainingCursor(task, schedule, monitor.progress.planned_updates)
    sampler, decay = cursor.sampler, cursor.decay
    if not monitor.progress.evaluation:
        decay.evaluated(monitor.evaluate())
    pause()
    while not monitor.finished:
        updates = monitor.horizon
        ranges = sampler.take(updates)
        if not ranges:
            break  # a task whose later epochs are shorter than its first one
        made = strategy(ranges, decay.factors(monitor.progress.position, updates))
        try:
            monitor.updated(made)
        except Diverged:  # data that is not finite is named as the cause, where it is
            dtype = next(strategy.network.parameters()).dtype
            checks.check_update(ranges, len(made.losses) - 1, schedule, DataFormat.of(task), dtype)
            raise
        if monitor.evaluation_is_due:
            decay.evaluated(monitor.evaluate())
        pause()
    if not monitor.evaluation_is_due:
        monitor.evaluate()
    strategy.finish()
