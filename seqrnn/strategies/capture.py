"""Captures the computation of an update once, and repeats it for later updates whose windows have the same layout.

The layout of an update is everything about it but the numbers: lengths, streams, which targets are valid, where
sequences start, whether a carried state comes in. The numbers (inputs, targets, carried states) are copied into
tensors that stay where they are, and what has been captured computes from these. ``seqrnn.strategies.replay``
captures on a CPU, and ``seqrnn.strategies.cuda_graph`` on an NVIDIA GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

import torch
from torch import Tensor

from seqrnn.models.network import Network
from seqrnn.models.protocol import State
from seqrnn.schedule import Window
from seqrnn.strategies.engine import (
    ALIGNMENT,
    NOT_THE_SAME,
    Captured,
    Engine,
    Explanations,
    Layouts,
    NotCapturable,
    are_equal,
    attributes_of,
)


class WindowInput(Protocol):
    """A window with its data, as the computation of a gradient takes it."""

    @property
    def start(self) -> int:
        """The timestep of its sequences at which it starts."""

    @property
    def begins_batch(self) -> bool:
        """Whether it is the first of its batch."""

    def layout(self, origin: int) -> Hashable:
        """Returns all that its computation depends on besides the numbers in its tensors and in the state before it.

        Args:
            origin: a timestep that other timesteps are counted from.
        """

    def tensors(self) -> list[Tensor]:
        """Returns the tensors that it is computed from."""

    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        """Returns the same window with other tensors."""


class CapturableGradients(Protocol):
    """Computes the gradient of an update; see ``seqrnn.strategies.plain.Gradients``."""

    states: dict[int, State]

    def __call__(self, inputs: Sequence[WindowInput]) -> tuple[list[Tensor], int]: ...


@dataclass
class Update:
    """A captured update.

    Args:
        compute: computes it; None: it cannot be captured.
        inputs: the tensors that it reads.
        targets: how many are valid.
        produced: the timesteps that the carried states come before that it computes, counted from the origin of its
            last batch, each with the number of tensors.
        gradients: of the parameters.
        is_checked: whether it has been compared with the usual computation.
    """

    compute: Captured | None
    inputs: list[Tensor]
    targets: int
    produced: list[tuple[int, int]]
    gradients: list[Tensor | None]
    is_checked: bool = False


class CapturedUpdates:
    """Computes the gradients of updates, averaged and clipped, by capturing them.

    The first updates of a layout are computed as usual. One is captured; the next is computed both ways, and if
    the results differ, or the usual computation has changed a number or the length of a container that a module holds
    as an attribute, updates of this layout are never captured: the network keeps something in Python, or outside of
    torch.

    Args:
        gather: averages and clips the gradients, as ``OptimizerStep.gather`` does.
        report: called with a line for the user when updates cannot be captured.
    """

    def __init__(
        self,
        engine: Engine,
        network: Network,
        gradients: CapturableGradients,
        gather: Callable[[int], Tensor | None],
        report: Callable[[str], None],
    ) -> None:
        self.engine, self.gradients, self.gather = engine, gradients, gather
        self._explain = Explanations(report)
        self._modules = list(network.modules())
        self.parameters, self.buffers = list(network.parameters()), list(network.buffers())
        self._updates: dict[Hashable, Update] = {}
        self._layouts = Layouts()

    def __call__(
        self, inputs: Sequence[WindowInput], compute: Callable[[], tuple[Tensor, int]]
    ) -> tuple[Tensor, int]:
        """Computes the gradient of an update.

        Args:
            compute: computes it as usual.

        Returns:
            The losses of its windows, and the norm of the gradient, as one tensor; and how many targets are valid.
        """
        begun = self._states_before(inputs)
        layout = self._layout(inputs, begun)
        update = self._updates.get(layout)
        if update is None:
            if not self._layouts.is_due(layout, len(self._updates)):
                with self.engine.warm_up():
                    return compute()
            return self._capture(layout, inputs, begun, compute)
        if update.compute is None:
            return compute()
        if not update.is_checked:
            return self._check(update, inputs, begun, compute)
        return self._repeat(update, inputs, begun)

    def _states_before(self, inputs: Sequence[WindowInput]) -> list[int]:
        """Returns the timesteps of the carried states that the update begins with."""
        if inputs[0].begins_batch:
            return []
        found = []
        for each in inputs:
            if each.begins_batch:
                break
            if each.start in self.gradients.states and each.start not in found:
                found.append(each.start)
        return found

    def _layout(self, inputs: Sequence[WindowInput], begun: Sequence[int]) -> Hashable:
        origin = inputs[0].start
        layouts: list[Hashable] = []
        for each in inputs:
            if each.begins_batch:
                origin = 0
            layouts.append(each.layout(origin))
        for before in begun:
            layouts.append((before - inputs[0].start, *map(place, self.gradients.states[before])))
        return tuple(layouts)

    def _tensors(self, inputs: Sequence[WindowInput], begun: Sequence[int]) -> list[Tensor]:
        """Returns the tensors that an update is computed from."""
        tensors = [tensor for each in inputs for tensor in each.tensors()]
        return tensors + [part for before in begun for part in self.gradients.states[before]]

    def _capture(
        self,
        layout: Hashable,
        inputs: Sequence[WindowInput],
        begun: Sequence[int],
        compute: Callable[[], tuple[Tensor, int]],
    ) -> tuple[Tensor, int]:
        """Captures an update, and computes it."""
        tensors = [_copy(tensor.detach()) for tensor in self._tensors(inputs, begun)]
        states, targets, produced = dict(self.gradients.states), 0, []
        undo = self._side_effects()

        def function() -> Sequence[Tensor]:
            nonlocal targets, produced
            remaining = iter(tensors)
            fixed = [each.with_tensors([next(remaining) for _ in each.tensors()]) for each in inputs]
            self.gradients.states.clear()
            for before in begun:
                self.gradients.states[before] = tuple(next(remaining) for _ in states[before])
            for parameter in self.parameters:
                parameter.grad = None
            losses, targets = self.gradients(fixed)
            norm = self.gather(targets) if targets else None
            if norm is None:
                raise NotCapturable("parameters, or all of them, have no gradient")
            produced = list(self.gradients.states.items())
            reached = [part for _, state in produced for part in state]
            gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            return [torch.stack([*losses, norm]), *reached, *gradients]

        try:
            captured = self.engine.capture(function)
        except NotCapturable as error:
            self._explain(str(error))
            self._updates[layout] = Update(None, [], 0, [], [])
            undo()
            self._restore(states)
            return compute()
        origin = self._last_origin(inputs)
        gradients = [parameter.grad for parameter in self.parameters]
        update = Update(
            captured, tensors, targets, [(before - origin, len(state)) for before, state in produced], gradients
        )
        self._updates[layout] = update
        self._restore(states)
        return self._results(update, inputs, begun)

    def _repeat(self, update: Update, inputs: Sequence[WindowInput], begun: Sequence[int]) -> tuple[Tensor, int]:
        """Computes a captured update."""
        assert update.compute is not None
        torch._foreach_copy_(update.inputs, self._tensors(inputs, begun))
        update.compute()
        for parameter, gradient in zip(self.parameters, update.gradients, strict=True):
            parameter.grad = gradient
        return self._results(update, inputs, begun)

    def _results(self, update: Update, inputs: Sequence[WindowInput], begun: Sequence[int]) -> tuple[Tensor, int]:
        """Returns copies of what an update has computed, and stores the states that it has reached."""
        assert update.compute is not None
        figures, *parts = update.compute.results
        states = self.gradients.states
        if any(each.begins_batch for each in inputs):
            states.clear()
        for before in begun:
            states.pop(before, None)
        origin, copies = self._last_origin(inputs), map(_copy, parts)  # of the states, which come first
        for before, count in update.produced:
            states[origin + before] = tuple(next(copies) for _ in range(count))
        return figures.clone(), update.targets

    def _check(
        self,
        update: Update,
        inputs: Sequence[WindowInput],
        begun: Sequence[int],
        compute: Callable[[], tuple[Tensor, int]],
    ) -> tuple[Tensor, int]:
        """Computes an update both ways; returns what the usual one gives."""
        states, undo = dict(self.gradients.states), self._side_effects()
        found = [self._repeat(update, inputs, begun)[0], *self._outcome()]
        found = [tensor.clone() for tensor in found]
        undo()
        self._restore(states)
        generator = self._device_generator()
        attributes = attributes_of(self._modules)
        figures, targets = compute()
        usual = [figures, *self._outcome()]
        if all(bool(tensor.isfinite().all()) for tensor in usual):
            drawn = not torch.equal(generator, self._device_generator())  # other random numbers than in the other way
            same = drawn or (len(found) == len(usual) and all(map(partial(are_equal, self.engine), found, usual)))
            same = same and attributes == attributes_of(self._modules)
            update.is_checked = True
            if not same:
                update.compute = None
                self._explain(NOT_THE_SAME)
        return figures, targets

    def _outcome(self) -> list[Tensor]:
        """Returns gradients, carried states and buffers."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        states = [part for _, state in sorted(self.gradients.states.items()) for part in state]
        return [*gradients, *states, *self.buffers]

    def _side_effects(self) -> Callable[[], None]:
        """Returns a function that sets buffers and random generators to what they are now."""
        buffers, generator = [buffer.clone() for buffer in self.buffers], torch.get_rng_state()

        def undo() -> None:
            with torch.no_grad():
                for buffer, value in zip(self.buffers, buffers, strict=True):
                    buffer.copy_(value)
            torch.set_rng_state(generator)

        return undo

    def _device_generator(self) -> Tensor:
        """Returns the state of the GPU's random generator; that of the CPU's is restored between the two ways."""
        device = self.parameters[0].device
        return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.empty(0)

    def _restore(self, states: dict[int, State]) -> None:
        self.gradients.states.clear()
        self.gradients.states.update(states)

    @staticmethod
    def _last_origin(inputs: Sequence[WindowInput]) -> int:
        """Returns the timestep from which those of the last batch of an update are counted."""
        return 0 if any(each.begins_batch for each in inputs) else inputs[0].start


def timesteps_layout(window: Window, origin: int) -> Hashable:
    """Returns where the timesteps of a window lie, counted from ``origin``."""
    start, fresh, stop, keep = window
    return start == 0, fresh == 0, start - origin, fresh - start, stop - start, keep - start


def inputs_layout(inputs: Tensor) -> Hashable:
    """Returns what the computation of a window depends on besides the numbers in its inputs (T, B, I)."""
    # One input number makes products of one term, which are the same wherever it lies.
    return place(inputs) if inputs.shape[-1] > 1 else inputs.shape


def place(tensor: Tensor) -> Hashable:
    """Returns what the rounding of products with a tensor may depend on besides its numbers."""
    return tensor.shape, tensor.stride(), tensor.data_ptr() % ALIGNMENT, tensor.dtype


def _copy(tensor: Tensor) -> Tensor:
    """Returns a copy that lies in memory as the tensor does, so that products with it are rounded alike."""
    lead = tensor.data_ptr() % ALIGNMENT // tensor.element_size()
    if (not lead and tensor.is_contiguous()) or 0 in tensor.stride():
        return tensor.clone()
    size = 1 + sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.new_empty(lead + size).as_strided(tensor.shape, tensor.stride(), lead).copy_(tensor)
