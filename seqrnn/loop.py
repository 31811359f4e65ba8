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
    """Where a training is in its data, and how far its learning rate has decayed."""

    def __init__(self, task: Task, schedule: Schedule, planned_updates: int) -> None:
        self.sampler = WindowSampler(schedule, lambda epoch: task.train(epoch, schedule.streams))
        self.decay = schedule.decay(planned_updates)


def train(
    task: Task,
    schedule: Schedule,
    strategy: Strategy,
    monitor: Monitor,
    cursor: TrainingCursor | None = None,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Trains the network of ``strategy`` until ``monitor`` decides that training is over.

    Args:
        cursor: where training resumes; None: at the beginning.
        pause: called between blocks of updates, where all updates have been counted and training can be resumed from.
            An exception that it raises ends the training.

    Raises:
        Diverged: the loss or the gradient became NaN or infinite. The weights, the monitor and the cursor are then
            those after the last update that was finite.
        DataError: the training data has a wrong shape or type, or is not finite.
    """
    cursor = cursor or TrainingCursor(task, schedule, monitor.progress.planned_updates)
    sampler, decay = cursor.sampler, cursor.decay
    if not monitor.progress.evaluation:
        decay.evaluated(monitor.evaluate())
    pause()
    while not monitor.finished:
        position, before = monitor.progress.position, sampler.state()
        updates = monitor.block_size
        ranges = sampler.take(updates)
        if not ranges:
            break  # the later epochs of the task are shorter than its first one
        stats = strategy(ranges, decay.factors(position, updates))
        try:
            monitor.updated(stats)
        except Diverged:
            sampler.restore(before)
            sampler.take(monitor.progress.position - position)
            dtype = next(strategy.network.parameters()).dtype
            checks.check_update(ranges, len(stats) - 1, schedule, DataFormat.of(task), dtype)
            raise
        if monitor.evaluation_is_due:
            decay.evaluated(monitor.evaluate())
        pause()
    if not monitor.evaluation_is_due:
        monitor.evaluate()
    strategy.finish()
