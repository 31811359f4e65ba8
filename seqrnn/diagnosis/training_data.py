"""The training data of a run that is diagnosed, by the number of the timestep at which training reads it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from seqrnn.components import Components
from seqrnn.schedule import distinct
from seqrnn.tasks.protocol import Batch


class TrainingData:
    """All timesteps that a training reads, per stream, in order and without an end: one batch after another, one
    epoch after another."""

    def __init__(self, components: Components) -> None:
        self.task, self.streams = components.task, components.schedule.streams
        self._runs = [(batch.timesteps, batch.streams, count) for batch, count in distinct(self._read(0))]
        self._ends = list(accumulate(timesteps * count for timesteps, _, count in self._runs))
        self._batches_before = list(accumulate((count for _, _, count in self._runs), initial=0))
        self._epoch: tuple[int, Sequence[Batch]] = 0, self._read(0)
        self._batch: tuple[tuple[int, int], Batch] | None = None

    def _read(self, epoch: int) -> Sequence[Batch]:
        return self.task.train(epoch, self.streams)

    @property
    def epoch_timesteps(self) -> int:
        """Timesteps per stream of an epoch."""
        return self._ends[-1]

    @property
    def first_batch_timesteps(self) -> int:
        """Timesteps of the first batch of an epoch."""
        return self._runs[0][0]

    @property
    def longest_batch_timesteps(self) -> int:
        """Timesteps of the longest batch of an epoch."""
        return max(timesteps for timesteps, _, _ in self._runs)

    @property
    def all_timesteps(self) -> int:
        """Timesteps of an epoch, over all streams."""
        return sum(timesteps * streams * count for timesteps, streams, count in self._runs)

    def steps_per_stream(self, timesteps: int) -> int:
        """Returns how many timesteps per stream have been read when so many, over all streams, have been."""
        epochs, rest = divmod(timesteps, self.all_timesteps)
        steps = epochs * self.epoch_timesteps
        for length, streams, count in self._runs:
            whole = min(count, rest // (length * streams))
            steps, rest = steps + whole * length, rest - whole * length * streams
            if whole < count:
                return steps + rest // streams
        return steps

    def excerpt_length(self, timestep: int, length: int) -> int:
        """Returns how many timesteps an excerpt has that should have ``length``: the batch there may be short."""
        timesteps = self._runs[bisect_right(self._ends, timestep % self.epoch_timesteps)][0]
        return timesteps if timesteps <= 2 * length else length

    def find(self, timestep: int) -> tuple[Batch, int]:
        """Returns the batch that holds a timestep, and the timestep's number in it."""
        epoch, rest = divmod(timestep, self.epoch_timesteps)
        run = bisect_right(self._ends, rest)
        rest -= self._ends[run - 1] if run else 0
        number, first = divmod(rest, self._runs[run][0])
        number += self._batches_before[run]
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._read(epoch)
        if self._batch is None or self._batch[0] != (epoch, number):
            self._batch = (epoch, number), self._epoch[1][number]  # a task may build it anew each time
        return self._batch[1], first
