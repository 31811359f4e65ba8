"""Captures the computation of a window of all members once, and repeats it for windows of the same layout.

``seqrnn.strategies.capture`` says what that means, and does it for single runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from seqrnn.population.joint import JointNetwork, JointWindow, WindowResult
from seqrnn.strategies.engine import (
    NOT_THE_SAME,
    Captured,
    Engine,
    Explanations,
    Layouts,
    NotCapturable,
    are_equal,
    attributes_of,
)


@dataclass
class CapturedWindow:
    """A captured window.

    Args:
        compute: computes it; None: it cannot be captured.
        inputs: the tensors that it reads.
        found: what it gives, each time in the same tensors.
        is_checked: whether it has been compared with the usual computation.
    """

    compute: Captured | None
    inputs: list[Tensor]
    found: WindowResult
    is_checked: bool = False


class CapturedWindows:
    """Computes windows by capturing them.

    The first windows of a layout are computed as usual. One is captured; the next is computed both ways, and if the
    results differ, windows of this layout are never captured.

    Args:
        report: called with a line for the user when windows cannot be captured.
    """

    def __init__(self, network: JointNetwork, engine: Engine, report: Callable[[str], None]) -> None:
        self.network, self.engine, self._explain = network, engine, Explanations(report)
        self._windows: dict[Hashable, CapturedWindow] = {}
        self._layouts = Layouts()

    def __call__(self, window: JointWindow) -> WindowResult:
        """Computes a window. What it returns is overwritten by the next window."""
        layout = window.layout
        repeated = self._windows.get(layout)
        if repeated is None:
            if self._layouts.is_due(layout, len(self._windows)):
                return self._capture(layout, window)
            with self.engine.warm_up():
                return self.network(window)
        if repeated.compute is None:
            return self.network(window)
        if not repeated.is_checked:
            return self._check(repeated, window)
        return _repeat(repeated, window)

    def _capture(self, layout: Hashable, window: JointWindow) -> WindowResult:
        """Captures a window, and computes it."""
        inputs = [tensor.clone() for tensor in window.tensors()]
        fixed, found = window.with_tensors(inputs), list[WindowResult]()

        def function() -> list[Tensor]:
            found[:] = [self.network(fixed)]
            return _tensors(found[0])

        try:
            captured = self.engine.capture(function)
        except NotCapturable as error:
            self._windows[layout] = CapturedWindow(None, [], WindowResult(None, [], ()))
            self._explain(str(error))
            return self.network(window)
        self._windows[layout] = repeated = CapturedWindow(captured, inputs, found[0])
        return repeated.found

    def _check(self, repeated: CapturedWindow, window: JointWindow) -> WindowResult:
        """Computes a window both ways; returns what the usual one gives."""
        repetition = [tensor.clone() for tensor in _tensors(_repeat(repeated, window))]
        attributes = attributes_of(self.network.modules)
        usual = self.network(window)
        pairs = list(zip(repetition, _tensors(usual), strict=True))
        if all(bool(tensor.isfinite().all()) for _, tensor in pairs):
            repeated.is_checked = True
            is_same = all(are_equal(self.engine, one, other) for one, other in pairs)
            if not is_same or attributes != attributes_of(self.network.modules):
                repeated.compute = None
                self._explain(NOT_THE_SAME)
        return usual


def _repeat(repeated: CapturedWindow, window: JointWindow) -> WindowResult:
    """Computes a captured window."""
    assert repeated.compute is not None
    torch._foreach_copy_(repeated.inputs, window.tensors())
    repeated.compute()
    return repeated.found


def _tensors(found: WindowResult) -> list[Tensor]:
    """Returns its tensors."""
    return [*([] if found.losses is None else [found.losses]), *found.gradients, *found.kept]
