"""What captures functions of torch: the interface of ``seqrnn.strategies.replay``, which does it on a CPU, and of
``seqrnn.strategies.cuda_graph``, which does it on an NVIDIA GPU; and what those share who capture something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence, Sized
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

WARM_UP = 2  # computations of a layout that are made as usual before one is captured
MOST_LAYOUTS = 16  # that are captured; each holds memory
MOST_COUNTED = 1024  # layouts that are counted
ALIGNMENT = 64  # bytes: torch's own, on which the rounding of matrix products may depend


NOT_THE_SAME = (
    "repeating the operations of one is not the same, as the network keeps something in Python or outside of torch"
)


class NotCapturable(Exception):
    """A function that cannot be captured; the message is the reason."""


class Captured(Protocol):
    """A captured function: a call computes it once more, and writes to the same ``results``."""

    results: Sequence[Tensor]

    def __call__(self) -> None: ...


class Engine(Protocol):
    """A way to capture functions.

    Args:
        exact: whether what is repeated gives the same bits.
        captures_steps: whether it captures the steps of optimizers too.
    """

    exact: bool
    captures_steps: bool

    def warm_up(self) -> AbstractContextManager[object]:
        """Returns a context in which a function is computed as usual before it is captured."""

    def capture(self, function: Callable[[], Sequence[Tensor]]) -> Captured:
        """Computes a function of no arguments once, and returns what repeats it.

        Raises:
            NotCapturable: it cannot be repeated.
        """


class Layouts:
    """Counts how often each layout has been seen."""

    def __init__(self) -> None:
        self._seen: Counter[Hashable] = Counter()

    def is_due(self, layout: Hashable, captured: int) -> bool:
        """Returns whether what has this layout is to be captured now.

        Args:
            captured: how many layouts have been captured.
        """
        if captured >= MOST_LAYOUTS:
            return False
        if len(self._seen) >= MOST_COUNTED:
            self._seen.clear()
        self._seen[layout] += 1
        return self._seen[layout] > WARM_UP


def attributes_of(modules: Iterable[nn.Module]) -> list[tuple[int, str, object]]:
    """Returns what modules hold in Python: numbers and texts, and the lengths of containers."""
    found: list[tuple[int, str, object]] = []
    for number, module in enumerate(modules):
        for name, value in vars(module).items():
            if isinstance(value, bool | int | float | complex | str):
                found.append((number, name, value))
            elif isinstance(value, Sized) and not isinstance(value, Tensor):
                found.append((number, name, len(value)))
    return found


def are_equal(engine: Engine, found: Tensor, usual: Tensor) -> bool:
    """Returns whether a repetition has given what the usual computation gives, as exactly as the engine promises."""
    if engine.exact:
        return torch.equal(found, usual)
    return found.shape == usual.shape and torch.allclose(found.float(), usual.float(), rtol=1e-2, atol=1e-4)


class Explanations:
    """Reports why updates are computed as usual, each reason once.

    Args:
        report: called with a line for the user.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._given: set[str] = set()

    def __call__(self, reason: str) -> None:
        """Reports a reason."""
        if reason not in self._given:
            self._given.add(reason)
            self._report(f"note: some updates are not captured (capture=true): {reason}")
