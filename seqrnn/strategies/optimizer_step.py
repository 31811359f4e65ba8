"""Takes the step of one of torch's optimizers, with what comes right before it: averaging and clipping the gradient.

Nothing here waits for the device: norms are returned as tensors.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from copy import copy, deepcopy
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from seqrnn.models.network import Network
from seqrnn.optimizers import is_elementwise
from seqrnn.strategies import strategy_state
from seqrnn.strategies.engine import ALIGNMENT, WARM_UP, Captured, Engine, NotCapturable
from seqrnn.strategies.strategy_state import ParameterState

# Numbers of a network up to which all its parameters are stepped as one. Beyond, a step is mostly arithmetic, which
# is faster where a parameter stays in the cache.
FLAT_UP_TO = 2**17


class OptimizerStep(Protocol):
    """Averages gradients, clips them, and takes the optimizer's step."""

    def gather(self, targets: int) -> Tensor | None:
        """Divides the parameters' gradients, summed over ``targets`` targets, by that number, and limits their norm.

        Returns:
            The norm before that; None if this kind of step cannot be taken, because parameters lack a gradient.
        """

    def __call__(self, rates: Sequence[float]) -> None:
        """Takes a step with these learning rates of the optimizer's groups of parameters."""

    def state(self) -> dict[str, ParameterState]:
        """Returns copies of the optimizer's state by the parameter's name."""

    def snapshot(self) -> Callable[[], None]:
        """Returns a function that sets the parameters and the optimizer's state to what they are now."""

    def finish(self) -> None:
        """Leaves parameters and optimizer as torch would have."""


def optimizer_step(
    network: Network,
    optimizer: Optimizer,
    clip_norm: float | None,
    engine: Engine | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> OptimizerStep:
    """Returns the fastest step for an optimizer. All of them give the same numbers, on a GPU to rounding.

    Args:
        engine: captures what can be captured.
        report: called with a line for the user if the step cannot be.
    """
    if FlatStep.applies_to(network, optimizer):
        return FlatStep(network, optimizer, clip_norm)
    if engine is not None and engine.captures_steps:
        if all("capturable" in group for group in optimizer.param_groups):
            return CapturedStep(network, optimizer, clip_norm, engine, report)
        report(f"note: the steps of {type(optimizer).__name__} are not captured: it decides on the CPU what to do")
    return ParameterStep(network, optimizer, clip_norm)


def average_and_clip(parameters: Iterable[nn.Parameter], targets: int, clip_norm: float | None) -> Tensor:
    """Divides summed gradients by the number of targets, and limits their norm; returns the norm before that."""
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    if targets > 1 and moved:
        torch._foreach_div_([parameter.grad for parameter in moved if parameter.grad is not None], targets)
    return clip_grad_norm_(moved, clip_norm or float("inf"))


class ParameterStep:
    """Steps one parameter after another, as the optimizer does it by itself."""

    def __init__(self, network: Network, optimizer: Optimizer, clip_norm: float | None) -> None:
        self.network, self.optimizer, self.clip_norm = network, optimizer, clip_norm
        self.parameters, self.buffers = list(network.parameters()), list(network.buffers())

    def gather(self, targets: int) -> Tensor | None:
        return average_and_clip(self.parameters, targets, self.clip_norm)

    def __call__(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.optimizer.step()

    def state(self) -> dict[str, ParameterState]:
        return strategy_state.optimizer_state(self.optimizer, self.network)

    def snapshot(self) -> Callable[[], None]:
        tensors = [*self.parameters, *self.buffers]
        values = [tensor.detach().clone() for tensor in tensors]
        state = {parameter: _copied(kept) for parameter, kept in self.optimizer.state.items()}
        groups = [
            {key: deepcopy(value) for key, value in group.items() if key != "params"}
            for group in self.optimizer.param_groups
        ]

        def restore() -> None:
            with torch.no_grad():
                for tensor, value in zip(tensors, values, strict=True):
                    tensor.copy_(value)
            self.optimizer.state = defaultdict(dict, {key: _copied(kept) for key, kept in state.items()})
            for group, settings in zip(self.optimizer.param_groups, groups, strict=True):
                group.update(deepcopy(settings))

        return restore

    def finish(self) -> None:
        pass


class CapturedStep:
    """Captures the step of an optimizer whose own code keeps everything on the device (``capturable``).

    Learning rates are tensors, which are filled before a step. Gradients are copied to where the captured step reads
    them, because each captured update has gradients of its own.
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        clip_norm: float | None,
        engine: Engine,
        report: Callable[[str], None],
    ) -> None:
        self.usual = ParameterStep(network, optimizer, clip_norm)
        self.optimizer, self.engine, self.report = optimizer, engine, report
        self.parameters = self.usual.parameters
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        device, groups = self.parameters[0].device, optimizer.param_groups
        self._rates = [torch.tensor(float(group["lr"]), device=device) for group in groups]
        self._before = [(group["lr"], group["capturable"]) for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group.update(lr=rate, capturable=True)
        for kept in optimizer.state.values():
            if isinstance(kept.get("step"), Tensor):
                kept["step"] = kept["step"].to(device)
        self._captured: Captured | None = None
        self._is_refused = False
        self._taken = 0

    def gather(self, targets: int) -> Tensor | None:
        norm = self.usual.gather(targets)
        pairs = zip(self.parameters, self.gradients, strict=True)
        moved = [(parameter, kept) for parameter, kept in pairs if parameter.grad is not None]
        torch._foreach_copy_([kept for _, kept in moved], [parameter.grad for parameter, _ in moved])  # type: ignore[misc]
        for parameter, kept in moved:
            parameter.grad = kept
        return norm

    def __call__(self, rates: Sequence[float]) -> None:
        for tensor, rate in zip(self._rates, rates, strict=True):
            tensor.fill_(rate)
        if self._is_refused or any(parameter.grad is None for parameter in self.parameters):
            self.optimizer.step()
        elif self._captured is not None:
            self._captured()
        elif self._taken < WARM_UP:
            with self.engine.warm_up():
                self.optimizer.step()
            self._taken += 1
        else:
            self._capture()

    def _capture(self) -> None:
        """Captures a step, and takes it."""

        def function() -> Sequence[Tensor]:
            self.optimizer.step()
            return []

        try:
            self._captured = self.engine.capture(function)
        except NotCapturable as error:
            self._is_refused = True
            self.report(f"note: the steps of {type(self.optimizer).__name__} are not captured: {error}")
            self.optimizer.step()

    def state(self) -> dict[str, ParameterState]:
        return self.usual.state()

    def snapshot(self) -> Callable[[], None]:
        restore_usual = self.usual.snapshot()

        def restore() -> None:
            restore_usual()
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate
            self._captured, self._taken = None, 0  # the optimizer's state is in other tensors now

        return restore

    def finish(self) -> None:
        for group, (rate, capturable) in zip(self.optimizer.param_groups, self._before, strict=True):
            group.update(lr=rate, capturable=capturable)
        for kept in self.optimizer.state.values():
            if isinstance(kept.get("step"), Tensor):
                kept["step"] = kept["step"].cpu()


class FlatStep:
    """Steps all parameters as one, for optimizers that treat each number by itself, on a CPU.

    The parameters become views of one flat tensor. The optimizer's own code makes the step: once for the flat tensor,
    instead of once for each parameter, which for a small network takes most of the time of an update.
    """

    def __init__(self, network: Network, optimizer: Optimizer, clip_norm: float | None) -> None:
        self.network, self.optimizer, self.clip_norm = network, optimizer, clip_norm
        self.parameters, self.buffers = list(network.parameters()), list(network.buffers())
        like = self.parameters[0]
        aligned = ALIGNMENT // like.element_size()
        self.begins, size = [], 0
        for parameter in self.parameters:
            self.begins.append(size)
            size += -(-parameter.numel() // aligned) * aligned
        self.flat = nn.Parameter(like.new_zeros(size))
        self.flat.grad = torch.zeros_like(self.flat)
        self.gradients = self._views(self.flat.grad)
        for parameter, view in zip(self.parameters, self._views(self.flat.data), strict=True):
            parameter.data = view.copy_(parameter.data)
        self.twin = copy(optimizer)
        self.twin.state = defaultdict(dict)
        self.twin.param_groups = [{**optimizer.param_groups[0], "params": [self.flat]}]
        self._step = inspect.unwrap(type(optimizer).step)  # without what torch adds for its profiler
        kept = [optimizer.state.get(parameter, {}) for parameter in self.parameters]
        if kept[0]:
            self.twin.state[self.flat] = {key: self._joined([one[key] for one in kept]) for key in kept[0]}
        optimizer.state.clear()

    @staticmethod
    def applies_to(network: Network, optimizer: Optimizer) -> bool:
        """Returns whether all parameters can be stepped as one, with the same numbers."""
        parameters, (group, *others) = list(network.parameters()), optimizer.param_groups
        watched = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
        if others or watched or not is_elementwise(optimizer) or set(group["params"]) != set(parameters):
            return False
        kept = [optimizer.state.get(parameter, {}) for parameter in parameters]
        return (
            all(
                each.requires_grad and each.device.type == "cpu" and each.dim() and each.is_contiguous()
                for each in parameters
            )
            and len({each.dtype for each in parameters}) == 1
            and len({each.untyped_storage().data_ptr() for each in parameters}) == len(parameters)
            and sum(each.numel() for each in parameters) <= FLAT_UP_TO
            and all(_can_be_joined(kept[0], other) for other in kept)
        )

    def gather(self, targets: int) -> Tensor | None:
        gradients = [parameter.grad for parameter in self.parameters]
        if any(gradient is None for gradient in gradients):
            return None
        flat = self.flat.grad
        assert flat is not None
        torch._foreach_copy_(self.gradients, gradients)  # type: ignore[arg-type]
        if targets > 1:
            flat.div_(targets)
        norm: Tensor
        if self.clip_norm is None:  # the norm is only reported
            norm = torch.linalg.vector_norm(flat)
        else:  # as torch.nn.utils.clip_grad_norm_ does it
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self.gradients)))
            flat.mul_((self.clip_norm / (norm + 1e-6)).clamp_(max=1.0))
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return norm

    def __call__(self, rates: Sequence[float]) -> None:
        self.twin.param_groups[0]["lr"] = rates[0]
        with torch.no_grad():
            self._step(self.twin)

    def state(self) -> dict[str, ParameterState]:
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        return {
            names[id(parameter)]: {key: strategy_state.cpu_copy(value) for key, value in kept.items()}
            for parameter, kept in zip(self.parameters, self._state(), strict=True)
            if kept
        }

    def snapshot(self) -> Callable[[], None]:
        tensors = [self.flat, *self.buffers]
        values = [tensor.detach().clone() for tensor in tensors]
        state = _copied(self.twin.state[self.flat])

        def restore() -> None:
            with torch.no_grad():
                for tensor, value in zip(tensors, values, strict=True):
                    tensor.copy_(value)
            self.twin.state = defaultdict(dict, {self.flat: _copied(state)})

        return restore

    def finish(self) -> None:
        for parameter, kept in zip(self.parameters, self._state(), strict=True):
            parameter.data = parameter.data.clone()
            if kept:
                self.optimizer.state[parameter] = {
                    key: value.clone() if isinstance(value, Tensor) else value for key, value in kept.items()
                }

    def _views(self, flat: Tensor) -> list[Tensor]:
        """Returns the parts of a flat tensor that belong to the parameters, in their shapes."""
        return [
            flat[begin : begin + parameter.numel()].view(parameter.shape)
            for begin, parameter in zip(self.begins, self.parameters, strict=True)
        ]

    def _joined(self, values: Sequence[Any]) -> Any:
        """Returns the optimizer's state of the flat tensor, from that of the parameters."""
        if not isinstance(values[0], Tensor) or not values[0].dim():
            return deepcopy(values[0])
        flat = torch.zeros_like(self.flat).detach()
        for view, value in zip(self._views(flat), values, strict=True):
            view.copy_(value)
        return flat

    def _state(self) -> list[dict[str, Any]]:
        """Returns the optimizer's state of each parameter, of which some tensors are views."""
        kept = {key: value for key, value in self.twin.state[self.flat].items() if value is not None}
        parts = {
            key: self._views(value) if isinstance(value, Tensor) and value.shape == self.flat.shape else None
            for key, value in kept.items()
        }
        return [
            {key: kept[key] if views is None else views[number] for key, views in parts.items()}
            for number in range(len(self.parameters))
        ]


def _can_be_joined(state: ParameterState, other: ParameterState) -> bool:
    """Returns whether an optimizer's state of two parameters has the same numbers that are not of their shapes."""

    def scalars(kept: ParameterState) -> dict[str, float | None]:
        return {
            key: None if value is None or (isinstance(value, Tensor) and value.dim()) else float(value)
            for key, value in kept.items()
        }

    return scalars(state) == scalars(other)


def _copied(state: ParameterState) -> ParameterState:
    return {
        key: value.detach().clone() if isinstance(value, Tensor) else deepcopy(value) for key, value in state.items()
    }
