"""The data of a training that continues while rows arrive. T timesteps of one stream, I inputs, O outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn.errors import DataError
from seqrnn.schedule import Schedule, WindowRange
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Batch, Chunk

Array = NDArray[Any]
ENDLESS = 2**62  # timesteps of a sequence whose end is not known
MOST_KEPT = 2**20  # timesteps of a sequence that is learned from as a whole


@dataclass
class Step:
    """A timestep.

    Args:
        inputs: (I,).
        start: whether a new sequence begins.
        outputs: (2, O), of the network as it was trained and as it has learned since.
        targets: (O,) numbers, or the class; None: the true values are not known.
        updates: that had been made when it was predicted.
    """

    inputs: Array
    start: bool
    outputs: Any = None
    targets: Any = None
    updates: int = 0


@dataclass(eq=False)
class LiveSequence:
    """A batch of one stream, to which timesteps are added, and whose oldest ones are forgotten.

    Args:
        data_format: of the task.
        first: the number of the oldest timestep that is kept.
        timesteps: ``ENDLESS`` until the end is known.
    """

    data_format: DataFormat
    first: int = 0
    timesteps: int = ENDLESS
    steps: list[Step] = field(default_factory=list)
    streams: int = 1

    @property
    def arrived(self) -> int:
        """How many timesteps have arrived since the beginning."""
        return self.first + len(self.steps)

    def step(self, timestep: int) -> Step | None:
        """Returns a timestep; None: it is not there any more, or not yet."""
        return self.steps[timestep - self.first] if self.first <= timestep < self.arrived else None

    def forget(self, before: int) -> None:
        """Drops the timesteps before ``before``."""
        if before > self.first:
            del self.steps[: before - self.first]
            self.first = before

    def read(self, start: int, stop: int) -> Chunk:
        steps = self.steps[start - self.first : stop - self.first]
        valid = torch.tensor([[step.targets is not None] for step in steps])
        if self.data_format.classes:
            targets = torch.tensor([[0 if step.targets is None else int(step.targets)] for step in steps])
        else:
            missing = np.zeros(self.data_format.output_size)
            targets = torch.from_numpy(
                np.stack([missing if step.targets is None else np.asarray(step.targets, float) for step in steps])
            )[:, None]
        inputs = torch.from_numpy(np.stack([step.inputs for step in steps]))[:, None]
        return Chunk(inputs, targets, valid, torch.tensor([[step.start] for step in steps]))


class LiveWindows:
    """Cuts arriving timesteps into the windows of a schedule, and hands out those of whole updates.

    With a window, all timesteps are one endless batch, in which ``start`` resets the state: its windows follow one
    another, however long the sequences are. Without one, each sequence is learned from as a whole, when the next one
    begins.

    Args:
        lag: timesteps that must follow a window before it is learned from: its true values have arrived by then.
    """

    def __init__(self, schedule: Schedule, data_format: DataFormat, lag: int = 1) -> None:
        self.schedule, self.data_format, self.lag = schedule, data_format, lag
        self.current = LiveSequence(data_format)
        self.window = 0  # the number of the next window of ``current`` that is learned from

    def add(self, step: Step) -> list[WindowRange[Batch]]:
        """Adds the next timestep, and returns the windows that are now to be learned from.

        Raises:
            DataError: a sequence that is learned from as a whole is too long.
        """
        if self.schedule.cuts[0] is None:
            return self._add_to_sequence(step)
        self.current.steps.append(step)
        ranges: list[WindowRange[Batch]] = []
        passes = self.schedule.windows_per_update
        while self.schedule.window_at(ENDLESS, self.window + passes - 1).stop + self.lag <= self.current.arrived:
            ranges.append(WindowRange(0, self.current, self.window, passes, False))
            self.window += passes
        return ranges

    def _add_to_sequence(self, step: Step) -> list[WindowRange[Batch]]:
        ranges: list[WindowRange[Batch]] = []
        ended = self.current
        if step.start and ended.steps:
            ended.timesteps = ended.arrived
            ranges.append(WindowRange(0, ended, 0, self.schedule.count_windows(ended.timesteps), True))
            self.current = LiveSequence(self.data_format)
        if len(self.current.steps) >= MOST_KEPT:
            raise DataError(
                f"more than {MOST_KEPT:,} timesteps without a start: with schedule.window=null, the network learns "
                "from whole sequences, each when the next one begins"
            )
        self.current.steps.append(step)
        return ranges

    def forget(self) -> None:
        """Drops the timesteps that no later window needs."""
        if self.schedule.cuts[0] is not None:
            self.current.forget(self.schedule.window_at(ENDLESS, self.window).start)

    @property
    def pending_carries(self) -> list[int]:
        """The timesteps before which a carried state is kept for a later window."""
        return self.schedule.pending_carries(ENDLESS, self.window) if self.schedule.cuts[0] is not None else []

    def state(self) -> dict[str, Any]:
        """Returns the timesteps that are kept, and the next window, for ``restore``."""
        steps = self.current.steps
        missing = np.zeros(1 if self.data_format.classes else self.data_format.output_size)
        return {
            "first": self.current.first,
            "window": self.window,
            "inputs": _stacked([step.inputs for step in steps]),
            "outputs": _stacked([step.outputs for step in steps]),
            "targets": _stacked([missing if step.targets is None else np.atleast_1d(step.targets) for step in steps]),
            "valid": torch.tensor([step.targets is not None for step in steps]),
            "starts": torch.tensor([step.start for step in steps]),
            "updates": torch.tensor([step.updates for step in steps]),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from the state of another object of the same schedule and task."""
        columns = [state[name].numpy() for name in ("inputs", "outputs", "targets", "valid", "starts", "updates")]
        self.window = int(state["window"])
        self.current = LiveSequence(self.data_format, int(state["first"]))
        for inputs, outputs, targets, valid, start, updates in zip(*columns, strict=True):
            known = (int(targets[0]) if self.data_format.classes else targets) if valid else None
            self.current.steps.append(Step(inputs, bool(start), outputs, known, int(updates)))


def _stacked(values: list[Array]) -> torch.Tensor:
    return torch.from_numpy(np.stack(values)) if values else torch.empty(0, 1)
