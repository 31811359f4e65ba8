"""The arms of the study: what is varied, and what is held equal."""

from __future__ import annotations

from dataclasses import dataclass, replace

POINTS = 250_000
AUTHORS_RATE = 0.0002
RATES = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01)
TUNED = (0.0005, 0.001, 0.002, 0.005)
WINDOWS = (2, 10, 50)
EVERY = (2, 10, 50, 250)
STREAMS = (1, 5, 25)
SEEDS = (0, 1, 2, 3, 4)
LIGHT, HEAVY = 500_000, 2_000_000  # timesteps of windows; an arm that runs through more has fewer seeds and rates
FEWER_SEEDS = SEEDS[:3]
FEW = 10  # points of an update; the best step size is smaller for so few


@dataclass(frozen=True)
class Arm:
    """A schedule and a step size; the defaults are the author's repair.

    The stride is ``window``, or ``update_every`` where that is shorter, unless it is given. Gradients reach back over
    ``window`` timesteps at most; from somewhere in the newest ``stride`` of them, ``window - stride / 2`` on average.
    """

    window: int = 2
    update_every: int = 50
    streams: int = 1
    carry: bool = True
    rate: float = AUTHORS_RATE
    decay: str = "constant"
    points: int = POINTS
    stride: int | None = None

    @property
    def name(self) -> str:
        carry = "" if self.carry else "_no-carry"
        stride = f"_stride-{self.stride}" if self.stride else ""
        return (
            f"window-{self.window}_every-{self.update_every}_streams-{self.streams}{carry}{stride}"
            f"_lr-{self.rate:g}-{self.decay}_points-{self.points}"
        )

    @property
    def updates(self) -> int:
        return self.points // (self.streams * self.update_every)

    @property
    def step(self) -> int:
        """Returns the stride."""
        return self.stride or min(self.window, self.update_every)

    @property
    def work(self) -> int:
        """Returns the timesteps of all windows; where windows overlap, timesteps count several times."""
        return self.points * self.window // self.step

    @property
    def seeds(self) -> tuple[int, ...]:
        return SEEDS if self.work <= LIGHT else FEWER_SEEDS

    @property
    def overrides(self) -> tuple[str, ...]:
        """Returns the overrides, without the seed."""
        return (
            "experiment=integral_study",
            f"schedule.window={self.window}",
            f"schedule.stride={self.step}",
            f"schedule.update_every={self.update_every}",
            f"schedule.streams={self.streams}",
            f"schedule.carry={str(self.carry).lower()}",
            f"schedule.lr_decay={self.decay}",
            f"optimizer.lr={self.rate}",
            f"task.train_timesteps={self.points}",
        )


ACCUMULATED = Arm()
FORGETTING = Arm(update_every=2)


def rates(arm: Arm, decay: str = "cosine") -> list[Arm]:
    """Returns the arm with each of several step sizes, to choose from."""
    values = TUNED
    if arm.work > LIGHT:
        values = (0.0002, 0.0005, 0.001) if arm.streams * arm.update_every <= FEW else (0.001, 0.002, 0.005)
    if arm.work > HEAVY:
        values = values[:2] if arm.streams * arm.update_every <= FEW else values[1:]
    return [replace(arm, rate=rate, decay=decay) for rate in values]


def step_sizes() -> list[Arm]:
    """Returns the arms of step size × update_every, constant and decayed: window 2, one stream."""
    return [
        Arm(update_every=every, rate=rate, decay=decay)
        for decay in ("constant", "cosine")
        for every in EVERY
        for rate in RATES
    ]


def windows() -> list[tuple[int, int]]:
    """Returns pairs (window, update_every) of one stream: equal points everywhere, and equal updates where
    update_every is equal."""
    return [(window, every) for window in WINDOWS for every in EVERY]


def reach() -> list[Arm]:
    """Returns the arms of window × update_every, at the author's step size and at several that decay."""
    cells = [Arm(window=window, update_every=every) for window, every in windows()]
    return [arm for cell in cells for arm in [cell, *rates(cell)]]


def side_by_side(window: int, streams: int) -> Arm:
    """Returns an arm with 50 points to an update, of one stream or of several, and a stride of 2, so that gradients
    reach back equally far."""
    every = 50 // streams
    return Arm(window, every, streams, stride=None if min(window, every) == 2 else 2)


def parallel() -> list[Arm]:
    """Returns the arms of window × streams: equal points, equal updates, equal reach."""
    cells = [side_by_side(window, streams) for window in WINDOWS for streams in STREAMS]
    return [arm for cell in cells for arm in [cell, *rates(cell)]]


def carried() -> list[Arm]:
    """Returns the arms with and without carry, by window: an update every 250 points of one stream."""
    cells = [Arm(window=window, update_every=250, carry=carry) for window in (2, 50, 250) for carry in (True, False)]
    return [arm for cell in cells for arm in rates(cell)]


def longer() -> list[Arm]:
    """Returns arms with more points at the same schedule, so with more updates, and arms with more streams, so with
    more points in the same updates."""
    cells = [
        *(Arm(points=points) for points in (POINTS, 4 * POINTS, 16 * POINTS)),
        *(Arm(points=points, update_every=2) for points in (POINTS, 4 * POINTS)),
        *(Arm(points=points, window=10, update_every=10) for points in (POINTS, 4 * POINTS, 16 * POINTS)),
        *(Arm(points=streams * POINTS, streams=streams) for streams in (4, 16)),
    ]
    return [arm for cell in cells for arm in [cell, *rates(cell)]]


def everything() -> list[Arm]:
    """Returns all arms, each once."""
    arms = [*step_sizes(), *reach(), *parallel(), *carried(), *longer(), *rates(Arm(10, 10), "constant")]
    return list(dict.fromkeys(arms))
