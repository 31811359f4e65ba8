"""The training schedule: where gradients are cut, and when the weights move.

           update_every = 4                update_every = 4
  ├───────────────────────────────┤├───────────────────────────────┤
t 0       1       2       3       4       5       6       7       8
  ├─stride┤
  ├─ window = 2 ──┤                 loss on the newest `stride` timesteps of each window;
          ├─ window ──────┤         gradients reach back to the window's start, no further;
                  ├─ window ──────┤ the weights move after every `update_every` timesteps
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Generic, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, model_validator

from seqrnn.bounds import Count, Fraction, Natural, Positive
from seqrnn.lr_decay import LRDecay, Shape


class Sized(Protocol):
    """Sequences that are read side by side: all that a schedule needs to know of them."""

    @property
    def timesteps(self) -> int: ...


AnyBatch = TypeVar("AnyBatch", bound=Sized)


def distinct(batches: Sequence[AnyBatch]) -> Iterable[tuple[AnyBatch, int]]:
    """Batches of which each stands for so many that have its timesteps and streams. A sequence that makes its batches
    as they are asked for may know without making them, and say so in a method ``distinct``: it may be endless."""
    known = getattr(batches, "distinct", None)
    return ((batch, 1) for batch in batches) if known is None else known()


class Window(NamedTuple):
    """Timesteps ``start`` to ``stop`` of a sequence; those from ``fresh`` on contribute loss."""

    start: int  # gradients reach back to here
    fresh: int
    stop: int
    keep: int  # a later window starts here, if the sequence lasts so long: it needs the state before this timestep


@dataclass(frozen=True, slots=True)
class WindowRange(Generic[AnyBatch]):
    """Windows in a row of one batch: ``count`` of them, from number ``first`` on.

    Args:
        last: the epoch ends with them, and so does an update that is under way.
        epochs: how many epochs in a row consist of just these, if they make up a whole one.
    """

    epoch: int
    batch: AnyBatch
    first: int
    count: int
    last: bool
    epochs: int = 1


class Schedule(BaseModel, frozen=True, extra="forbid", strict=True):
    """Truncated backpropagation through time, TBPTT(k1 = stride, k2 = window) of Williams & Peng (1990).

    All lengths are timesteps per stream. What would reach back beyond the start of a sequence reaches back to its
    start. The last stride of a sequence may be short; it counts as a whole one towards update_every.

    Args:
        epochs: passes over the task's training data.
        streams: sequences that are read in parallel: the batch size.
        window: how far back a gradient may flow; None: to the start of the sequence.
        stride: how far the window moves between backward passes; None: by a whole window.
        update_every: timesteps between optimizer steps, a multiple of stride; None: every stride. Gradients
            accumulate in between, and are divided by the number of valid targets.
        carry: whether the (detached) state crosses from one window to the next.
        clip_norm: largest Euclidean norm of an update's gradient; None: no limit.
        lr_decay, warmup, lr_final, lr_reduction, lr_step: see ``seqrnn.lr_decay.LRDecay``.
        evaluate_every: updates between two evaluations; None: 20 evaluations in a run. Here and for max_updates, an
            update without any valid target counts, although no step is made.
        patience: evaluations without improvement after which training stops; None: it never stops early.
        max_updates: stop after so many updates; None: no limit.
    """

    epochs: Count
    streams: Count
    window: Count | None
    stride: Count | None
    update_every: Count | None
    carry: bool
    clip_norm: Positive | None
    lr_decay: Shape
    warmup: Natural
    lr_final: Fraction
    lr_reduction: Fraction
    lr_step: Count
    evaluate_every: Count | None
    patience: Count | None
    max_updates: Count | None

    @model_validator(mode="after")
    def _fits_together(self) -> Schedule:
        stride = self.stride or self.window
        problems = []
        if self.window and self.stride and self.stride > self.window:
            problems.append(
                f"schedule.stride={self.stride} is longer than schedule.window={self.window}: timesteps in "
                "between would never be learned from; make stride at most window"
            )
        if self.update_every and stride is None:
            problems.append(
                f"schedule.update_every={self.update_every} needs schedule.window or schedule.stride: "
                "with window=null, each whole sequence is one update"
            )
        if self.update_every and stride and self.update_every % stride:
            nearest = max(1, round(self.update_every / stride)) * stride
            problems.append(
                f"schedule.update_every={self.update_every} is not a multiple of the stride of {stride} timesteps; "
                f"the nearest that is: {nearest}"
            )
        if self.warmup and self.lr_decay == "onecycle":
            problems.append(
                f"schedule.warmup={self.warmup}: schedule.lr_decay=onecycle warms up by itself; "
                "set schedule.warmup=0, or schedule.lr_decay=cosine"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def passes(self) -> int:
        """Backward passes in an update."""
        stride = self.stride or self.window
        return self.update_every // stride if self.update_every and stride else 1

    def describe(self) -> str:
        """For people, in one line."""
        stride = self.stride or self.window
        cuts = f"window {self.window or 'the whole sequence'}"
        if stride:
            cuts += f" · stride {stride} · update every {self.update_every or stride}"
        streams = f"{self.streams} stream{'s' * (self.streams > 1)}"
        return f"{streams} · {cuts} · {'carry' if self.carry else 'no carry'}"

    def decay(self, updates: int) -> LRDecay:
        """What sets the learning rate over a run of so many updates."""
        return LRDecay(
            updates,
            self.lr_decay,
            warmup=self.warmup,
            final=self.lr_final,
            reduction=self.lr_reduction,
            step=self.lr_step,
        )

    def cut(self, timesteps: int) -> Iterator[Window]:
        """The windows of a sequence, in order. The fresh parts cover each timestep exactly once."""
        return (self.window_at(timesteps, number) for number in range(self.count_windows(timesteps)))

    def window_at(self, timesteps: int, number: int) -> Window:
        """Window ``number``, counted from 0, of a sequence."""
        window = self.window or timesteps
        stride = self.stride or window
        behind = window - stride  # timesteps that a window reads again, so window n starts at n · stride − behind
        fresh = number * stride
        stop = min(fresh + stride, timesteps)
        if self.window is None:
            return Window(0, fresh, stop, keep=timesteps)
        # Of all those starts, exactly one lies among these fresh timesteps, or right behind them.
        return Window(max(0, fresh - behind), fresh, stop, keep=fresh + stride - behind % stride)

    def updates(self, parts: Iterable[WindowRange[AnyBatch]]) -> Iterator[tuple[int, list[tuple[AnyBatch, Window]]]]:
        """The epoch of each update, and the windows between one optimizer step and the next, from one batch or from
        several."""
        group: list[tuple[AnyBatch, Window]] = []
        for part in parts:
            for epoch in range(part.epoch, part.epoch + part.epochs):
                for number in range(part.first, part.first + part.count):
                    group.append((part.batch, self.window_at(part.batch.timesteps, number)))
                    if len(group) == self.passes:
                        yield epoch, group
                        group = []
                if group and part.last:
                    yield epoch, group
                    group = []

    def pending_carries(self, timesteps: int, number: int) -> list[int]:
        """Where windows from ``number`` on begin with a carried state that has been reached already: the timesteps
        that those states come before."""
        if not self.carry or self.window is None:
            return []
        reached = self.window_at(timesteps, number).fresh
        coming = (self.window_at(timesteps, later).start for later in range(number, self.count_windows(timesteps)))
        return [start for start in takewhile(lambda start: start <= reached, coming) if start > 0]

    def count_updates(self, batches: Sequence[Sized]) -> int:
        """How many updates a run over such epochs makes at most."""
        windows = sum(count * self.count_windows(batch.timesteps) for batch, count in distinct(batches))
        updates = self.epochs * -(-windows // self.passes)
        return min(updates, self.max_updates or updates)

    def count_windows(self, timesteps: int) -> int:
        """How many windows a sequence is cut into."""
        return -(-timesteps // (self.stride or self.window or timesteps))


class WindowSampler(Generic[AnyBatch]):
    """All windows of a run in order, handed out in whole updates. The last update of an epoch may be small.

    Args:
        epoch: the batches of an epoch, by its number.
    """

    def __init__(self, schedule: Schedule, epoch: Callable[[int], Sequence[AnyBatch]]) -> None:
        self.schedule, self._read = schedule, epoch
        self.epoch, self.batch, self.window = -1, 0, 0  # where the next part begins
        self._batches: Sequence[AnyBatch] = ()
        self._held: AnyBatch | None = None  # the batch that is being read: a task may make it anew for each asking

    @property
    def current_batch(self) -> AnyBatch | None:
        """The batch of which some windows have been handed out, and others not."""
        if self.window and self._held is None:
            self._held = self._batches[self.batch]
        return self._held

    def state(self) -> dict[str, int]:
        """Where the next part begins, for ``restore``."""
        return {"epoch": self.epoch, "batch": self.batch, "window": self.window}

    def restore(self, state: Mapping[str, int]) -> None:
        """Goes on from where another agenda of the same schedule and data has got to."""
        self.epoch, self.batch, self.window = state["epoch"], state["batch"], state["window"]
        self._batches = self._read(self.epoch) if self.epoch >= 0 else ()
        self._held = None

    def take(self, updates: int) -> list[WindowRange[AnyBatch]]:
        """The windows of the next ``updates`` updates, or of those that are left."""
        parts: list[WindowRange[AnyBatch]] = []
        passes, pending = self.schedule.passes, 0  # windows of the update that is being put together
        while updates:
            if self.batch == len(self._batches):
                if self.epoch + 1 == self.schedule.epochs:
                    break
                self.epoch, self.batch, self.window = self.epoch + 1, 0, 0
                self._batches = self._read(self.epoch)
            batch = self._held = self._batches[self.batch] if self._held is None else self._held
            windows = self.schedule.count_windows(batch.timesteps)
            count = min(windows - self.window, updates * passes - pending)
            ends_batch = self.window + count == windows
            last = ends_batch and self.batch + 1 == len(self._batches)
            parts.append(WindowRange(self.epoch, batch, self.window, count, last))
            complete, pending = divmod(pending + count, passes)
            updates -= complete
            if last and pending:
                updates, pending = updates - 1, 0
            self.batch, self.window = (self.batch + 1, 0) if ends_batch else (self.batch, self.window + count)
            self._held = None if ends_batch else batch
            if last and count == windows and len(self._batches) == 1:
                parts[-1], updates = self._repeated(parts[-1], updates)
        return parts

    def _repeated(self, part: WindowRange[AnyBatch], updates: int) -> tuple[WindowRange[AnyBatch], int]:
        """An epoch that is one batch, and the following ones as long as they are that batch again."""
        each, epochs = -(-part.count // self.schedule.passes), 1
        while updates >= each and self.epoch + 1 < self.schedule.epochs:
            batches = self._read(self.epoch + 1)
            if len(batches) != 1 or batches[0] is not part.batch:
                break
            self.epoch, updates, epochs = self.epoch + 1, updates - each, epochs + 1
        return replace(part, epochs=epochs), updates
