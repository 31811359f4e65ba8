"""The training schedule: where gradients are cut, and when the weights move.

           update_every = 4                update_every = 4
  ├───────────────────────────────┤├───────────────────────────────┤
t 0       1       2       3       4       5       6       7       8
  ├─stride┤
  ├─ window = 2 ──┤                 loss on the newest `stride` timesteps of each window;
          ├─ window ──────┤         gradients reach back to the window's start, no further;
                  ├─ window ──────┤ the weights move after every `update_every` timesteps

``window_at``, ``cut_windows``, ``split_updates`` and ``group_by_extent`` are the one implementation of cutting
sequences into windows and grouping windows into updates. Compiled code has a twin of the first
(``seqrnn.kernels.update.cut``), which a test compares with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, model_validator

from seqrnn.bounds import Count, Fraction, Natural, Positive
from seqrnn.lr_decay import LRDecay, Shape


class Sized(Protocol):
    """Sequences that are read in parallel: all that a schedule needs to know of a batch."""

    @property
    def streams(self) -> int: ...

    @property
    def timesteps(self) -> int: ...


AnyBatch = TypeVar("AnyBatch", bound=Sized)


def distinct(batches: Sequence[AnyBatch]) -> Iterable[tuple[AnyBatch, int]]:
    """Returns batches in order, each with the number of consecutive batches that have its timesteps and streams.

    A sequence that makes its batches only when they are asked for, and that may be endless, can have a method
    ``distinct`` that returns this without making them all.
    """
    known = getattr(batches, "distinct", None)
    return ((batch, 1) for batch in batches) if known is None else known()


class Window(NamedTuple):
    """Timesteps ``start`` to ``stop`` of a sequence; those from ``fresh`` on contribute loss."""

    start: int  # gradients reach back to here
    fresh: int
    stop: int
    keep: int  # a later window starts here, if the sequence is long enough: it needs the state before this timestep


def window_at(timesteps: int, number: int, window: int | None, stride: int | None, first: int = 0) -> Window:
    """Returns window ``number``, counted from 0, of a sequence.

    Args:
        timesteps: where the sequence ends.
        window: how many timesteps a gradient may flow back; None: to the start of the sequence.
        stride: how many timesteps a window advances; None: ``window``.
        first: the first timestep that contributes loss.
    """
    length = window or timesteps
    stride = stride or length
    overlap = length - stride  # timesteps that a window shares with earlier ones: it starts `overlap` before `fresh`
    fresh = first + number * stride
    stop = min(fresh + stride, timesteps)
    if window is None:
        return Window(0, fresh, stop, keep=timesteps)
    # Of the starts of all windows, exactly one is among these fresh timesteps or right after them.
    return Window(max(0, fresh - overlap), fresh, stop, keep=fresh + stride - overlap % stride)


def cut_windows(timesteps: int, window: int | None, stride: int | None, first: int = 0) -> Iterator[Window]:
    """Yields all windows of a sequence in order; see ``window_at`` for the arguments. Their fresh parts cover each
    timestep from ``first`` on exactly once."""
    step = stride or window or timesteps
    for number in range(-(-(timesteps - first) // step)):
        yield window_at(timesteps, number, window, stride, first)


@dataclass(slots=True)  # not frozen: there is one for each update, and a frozen one takes eight times as long to make
class WindowRange(Generic[AnyBatch]):
    """Consecutive windows of one batch: ``count`` of them, from number ``first`` on.

    Args:
        epoch: the number of the epoch that they belong to.
        ends_epoch: whether they are the last of their epoch, which also ends an update.
        epochs: for how many consecutive epochs they are repeated, if they are a whole epoch.
        number: of the batch in its epoch.
    """

    epoch: int
    batch: AnyBatch
    first: int
    count: int
    ends_epoch: bool
    epochs: int = 1
    number: int = 0


def split_updates(
    ranges: Iterable[WindowRange[AnyBatch]], windows_per_update: int
) -> Iterator[list[WindowRange[AnyBatch]]]:
    """Yields the windows of one update after another. An update ends after ``windows_per_update`` windows, or with
    its epoch; it may consist of windows of several batches."""
    update: list[WindowRange[AnyBatch]] = []
    pending = 0  # windows in `update`
    for each in ranges:
        for epoch in range(each.epoch, each.epoch + each.epochs):
            first, end = each.first, each.first + each.count
            while first < end:
                count = min(end - first, windows_per_update - pending)
                ends_epoch = each.ends_epoch and first + count == end
                update.append(WindowRange(epoch, each.batch, first, count, ends_epoch))
                first, pending = first + count, pending + count
                if pending == windows_per_update or ends_epoch:
                    yield update
                    update, pending = [], 0


def group_by_extent(
    windows: Sequence[tuple[AnyBatch, Window]], most_pairs: int
) -> Iterator[Sequence[tuple[AnyBatch, Window]]]:
    """Yields groups of consecutive windows that can be computed side by side: they have the same number of timesteps,
    in all and before the fresh ones.

    Args:
        most_pairs: (timestep, stream) pairs in a group of more than one window, at most.
    """

    def extent(window: Window) -> tuple[int, int]:
        return window.stop - window.start, window.fresh - window.start

    first, pairs = 0, 0
    for number, (batch, window) in enumerate(windows):
        size = batch.streams * (window.stop - window.start)
        if number > first and (extent(window) != extent(windows[first][1]) or pairs + size > most_pairs):
            yield windows[first:number]
            first, pairs = number, 0
        pairs += size
    yield windows[first:]


Gradient = Literal["bptt", "rtrl", "snap1"]


class Schedule(BaseModel, frozen=True, extra="forbid", strict=True):
    """Truncated backpropagation through time, TBPTT(k1 = stride, k2 = window) of Williams & Peng (1990), or gradients
    that are computed forwards in time, by real-time recurrent learning (Williams & Zipser 1989).

    What would reach back beyond the start of a sequence reaches back to its start. The last stride of a sequence may
    be short; it counts as a whole one towards update_every. Wherever a schedule counts updates, one without any valid
    target counts, although the optimizer makes no step; ``updates`` in metrics and summaries are steps.

    Gradients that are computed forwards reach back to where the state was last reset, whatever the window is. Their
    windows follow one another without overlap, and are only what update_every counts.

    Args:
        gradient: ``bptt``: by backpropagation through the timesteps of each window. ``rtrl``: forwards in time,
            exactly. ``snap1``: the same with the influence of a parameter on its own unit alone (Menick et al. 2021).
        epochs: passes over the task's training data.
        streams: sequences that are read in parallel: the batch size.
        window: timesteps per stream that a gradient may flow back; None: to the start of the sequence.
        stride: timesteps per stream that the window advances between backward passes; None: a whole window.
        update_every: timesteps per stream between optimizer steps, a multiple of stride; None: every stride.
            Gradients accumulate in between, and are divided by the number of valid targets.
        carry: whether the (detached) state crosses from one window to the next.
        clip_norm: largest Euclidean norm of an update's gradient; None: no limit.
        lr_decay, warmup, lr_final, lr_reduction, lr_every, lr_patience: see ``seqrnn.lr_decay.LRDecay``.
        evaluate_every: updates between two evaluations; None: 20 evaluations in a run.
        patience: evaluations without improvement of the validation loss after which training stops; None: it never
            stops early.
        max_updates: updates after which training stops; None: no limit.
        keep: whether the last weights or those of the best evaluation are scored and saved; None: see ``keeps_best``.
    """

    gradient: Gradient = "bptt"  # what a config of a version without this key means
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
    lr_every: Count
    lr_patience: Count
    evaluate_every: Count | None
    patience: Count | None
    max_updates: Count | None
    keep: Literal["last", "best"] | None

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
        if self.is_forward and self.window and self.stride and self.stride < self.window:
            problems.append(
                f"schedule.stride={self.stride} is shorter than schedule.window={self.window}, so that gradients "
                f"reach further back; with schedule.gradient={self.gradient} they do so in any case, and no "
                "timestep is computed twice; set schedule.stride=null, and schedule.window to the timesteps between "
                "updates"
            )
        if self.is_forward and not self.carry and stride:
            problems.append(
                f"schedule.carry=false: the state would be reset every {stride} timesteps, and no gradient could "
                f"reach further back, which is what schedule.gradient={self.gradient} is for; set "
                "schedule.carry=true, or schedule.window=null schedule.stride=null for whole sequences, or "
                "schedule.gradient=bptt"
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
    def is_forward(self) -> bool:
        """Whether gradients are computed forwards in time, so that nothing is cut."""
        return self.gradient != "bptt"

    @property
    def reach(self) -> int | None:
        """How many timesteps a gradient may flow back; None: to the start of the sequence."""
        return None if self.is_forward else self.window

    @property
    def cuts(self) -> tuple[int | None, int | None]:
        """The window and the stride by which sequences are cut into windows, as ``window_at`` takes them."""
        step = self.stride or self.window
        return (step, step) if self.is_forward else (self.window, self.stride)

    @property
    def divergence_advice(self) -> str:
        """What to try after a divergence."""
        is_clipped = self.clip_norm is not None and self.clip_norm <= 1
        return f"a smaller optimizer.lr{'' if is_clipped else ' or schedule.clip_norm=1'}"

    @property
    def windows_per_update(self) -> int:
        """The backward passes in an update, which is the number of its windows."""
        stride = self.stride or self.window
        return self.update_every // stride if self.update_every and stride else 1

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best evaluation are scored and saved, rather than the last. By default they are
        where ``patience`` is set, since the last evaluations then brought no improvement."""
        return self.keep == "best" or (self.keep is None and self.patience is not None)

    def describe(self) -> str:
        """Returns a line about the schedule for people."""
        stride = self.stride or self.window
        cuts = f"window {self.window or 'the whole sequence'}"
        if self.is_forward:
            cuts = f"{self.gradient}, no window · update every {self.update_every or stride or 'whole sequence'}"
        elif stride:
            cuts += f" · stride {stride} · update every {self.update_every or stride}"
        streams = f"{self.streams} stream{'s' * (self.streams > 1)}"
        return f"{streams} · {cuts} · {'carry' if self.carry else 'no carry'}"

    def decay(self, updates: int) -> LRDecay:
        """Returns what sets the learning rate over a run of so many updates."""
        return LRDecay(
            updates,
            self.lr_decay,
            warmup=self.warmup,
            final=self.lr_final,
            reduction=self.lr_reduction,
            every=self.lr_every,
            patience=self.lr_patience,
        )

    def window_at(self, timesteps: int, number: int) -> Window:
        """Returns window ``number``, counted from 0, of a sequence."""
        return window_at(timesteps, number, *self.cuts)

    def windows_of(self, update: Iterable[WindowRange[AnyBatch]]) -> list[tuple[AnyBatch, Window]]:
        """Returns the windows of an update, each with its batch."""
        return [
            (each.batch, self.window_at(each.batch.timesteps, number))
            for each in update
            for number in range(each.first, each.first + each.count)
        ]

    def pending_carries(self, timesteps: int, number: int) -> list[int]:
        """Returns the timesteps before which a carried state has been reached already that a later window, from
        ``number`` on, begins with."""
        if not self.carry or self.cuts[0] is None:
            return []
        reached = self.window_at(timesteps, number).fresh
        coming = (self.window_at(timesteps, later).start for later in range(number, self.count_windows(timesteps)))
        return [start for start in takewhile(lambda start: start <= reached, coming) if start > 0]

    def count_updates(self, batches: Sequence[Sized]) -> int:
        """Returns how many updates a run over such epochs makes at most."""
        windows = sum(count * self.count_windows(batch.timesteps) for batch, count in distinct(batches))
        updates = self.epochs * -(-windows // self.windows_per_update)
        return min(updates, self.max_updates or updates)

    def count_windows(self, timesteps: int) -> int:
        """Returns how many windows a sequence is cut into."""
        return -(-timesteps // (self.stride or self.window or timesteps))


class WindowSampler(Generic[AnyBatch]):
    """Reads all windows of a run in order, in whole updates. The last update of an epoch may be small.

    Args:
        read_epoch: returns the batches of an epoch, by its number.
    """

    def __init__(self, schedule: Schedule, read_epoch: Callable[[int], Sequence[AnyBatch]]) -> None:
        self.schedule, self._read_epoch = schedule, read_epoch
        self.epoch, self.batch, self.window = -1, 0, 0  # numbers of where the next range begins
        self._batches: Sequence[AnyBatch] = ()
        self._current: AnyBatch | None = None  # a task may make a batch anew each time it is asked for it

    @property
    def current_batch(self) -> AnyBatch | None:
        """The batch of which some windows have been read, and others not; None: there is none."""
        if self.window and self._current is None:
            self._current = self._batches[self.batch]
        return self._current

    def state(self) -> dict[str, int]:
        """Returns where the next range begins, for ``restore``."""
        return {"epoch": self.epoch, "batch": self.batch, "window": self.window}

    def restore(self, state: Mapping[str, int]) -> None:
        """Continues where another sampler of the same schedule and data was."""
        self.epoch, self.batch, self.window = state["epoch"], state["batch"], state["window"]
        self._batches = self._read_epoch(self.epoch) if self.epoch >= 0 else ()
        self._current = None

    def take(self, updates: int) -> list[WindowRange[AnyBatch]]:
        """Returns the windows of the next ``updates`` updates, or of as many as remain."""
        ranges: list[WindowRange[AnyBatch]] = []
        passes, pending = self.schedule.windows_per_update, 0  # pending: windows of an update that is not complete
        while updates:
            if self.batch == len(self._batches):
                if self.epoch + 1 == self.schedule.epochs:
                    break
                self.epoch, self.batch, self.window = self.epoch + 1, 0, 0
                self._batches = self._read_epoch(self.epoch)
            batch = self._current = self._batches[self.batch] if self._current is None else self._current
            windows = self.schedule.count_windows(batch.timesteps)
            count = min(windows - self.window, updates * passes - pending)
            ends_batch = self.window + count == windows
            ends_epoch = ends_batch and self.batch + 1 == len(self._batches)
            ranges.append(WindowRange(self.epoch, batch, self.window, count, ends_epoch, number=self.batch))
            complete, pending = divmod(pending + count, passes)
            updates -= complete
            if ends_epoch and pending:
                updates, pending = updates - 1, 0
            self.batch, self.window = (self.batch + 1, 0) if ends_batch else (self.batch, self.window + count)
            self._current = None if ends_batch else batch
            if ends_epoch and count == windows and len(self._batches) == 1:
                ranges[-1], updates = self._repeat(ranges[-1], updates)
        return ranges

    def _repeat(self, whole: WindowRange[AnyBatch], updates: int) -> tuple[WindowRange[AnyBatch], int]:
        """Extends a range that is a whole epoch over the following epochs, as long as they are the same batch again
        and updates remain; returns it and the updates that remain then."""
        updates_per_epoch, epochs = -(-whole.count // self.schedule.windows_per_update), 1
        while updates >= updates_per_epoch and self.epoch + 1 < self.schedule.epochs:
            batches = self._read_epoch(self.epoch + 1)
            if len(batches) != 1 or batches[0] is not whole.batch:
                break
            self.epoch, updates, epochs = self.epoch + 1, updates - updates_per_epoch, epochs + 1
        return replace(whole, epochs=epochs), updates
