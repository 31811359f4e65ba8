"""The weights of members, and what their optimizers remember, as one tensor with a row for each.

N members, P trained parameters. The parameters of each member's network are views of its row, so everything else in
its run, such as evaluations and checkpoints, reads and writes them as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from seqrnn.models.network import Network
from seqrnn.population.steps import Rows, Rule, Settings
from seqrnn.strategies import strategy_state
from seqrnn.strategies.strategy_state import ParameterState

ALIGNMENT = 64  # bytes, as of torch's own tensors
# Numbers of the weights that are stepped at a time on a CPU. The intermediate results of more do not fit into its
# cache, and are given new memory by the system each time: 32 networks of 10,000 numbers then take twice as long.
STEP_AT_ONCE = 2**17
MOST_SETTINGS = 256  # sets of members whose settings are kept


class Row:
    """The weights of a network and the state of its optimizer, until ``release`` as rows of larger tensors.

    Args:
        rule: makes the optimizer's step.
    """

    def __init__(self, network: Network, optimizer: Optimizer, rule: Rule) -> None:
        self.network, self.optimizer, self.rule = network, optimizer, rule
        self.trained = {name: each for name, each in network.named_parameters() if each.requires_grad}
        like = next(iter(self.trained.values()))
        aligned = ALIGNMENT // like.element_size()
        self.begins, size = {}, 0
        for name, parameter in self.trained.items():
            self.begins[name] = size
            size += -(-parameter.numel() // aligned) * aligned
        self.weights = like.detach().new_zeros(size)
        for name, parameter in self.trained.items():
            self.view(self.weights, name).copy_(parameter.detach())
        names = rule.remembered(self.group)
        self.kept = {name: torch.zeros_like(self.weights) for name in names}
        self.scalars: dict[str, float] = {}
        self.number = 0  # steps taken
        self.load()
        self.attach(self.weights, self.kept)

    @property
    def group(self) -> dict[str, Any]:
        """The settings of the optimizer."""
        group: dict[str, Any] = self.optimizer.param_groups[0]
        return group

    def view(self, row: Tensor, name: str) -> Tensor:
        """Returns the part of a row (P,), or of rows (N, P), that belongs to a parameter, in its shape."""
        parameter, begin = self.trained[name], self.begins[name]
        part = row[..., begin : begin + parameter.numel()]
        return part.view(*row.shape[:-1], *parameter.shape)

    def attach(self, weights: Tensor, kept: dict[str, Tensor]) -> None:
        """Makes rows that hold the same numbers the ones of this network."""
        self.weights, self.kept = weights, kept
        for name, parameter in self.trained.items():
            parameter.data = self.view(weights, name)

    def load(self) -> None:
        """Takes the state from the optimizer, as a checkpoint has restored it."""
        self.number, self.scalars = 0, dict(self.rule.scalars)
        for row in self.kept.values():
            row.zero_()
        for name, parameter in self.trained.items():
            stored = self.optimizer.state.get(parameter) or {}
            for key, row in self.kept.items():
                if stored.get(key) is not None:
                    self.view(row, name).copy_(stored[key])
            self.scalars |= {key: float(stored[key]) for key in self.rule.scalars if key in stored}
            self.number = max(self.number, int(stored.get("step", 1 if stored else 0)))

    def state(self) -> dict[str, ParameterState]:
        """Returns copies of the optimizer's state by the parameter's name, as torch.optim has it."""
        if not self.number:
            return strategy_state.optimizer_state(self.optimizer, self.network)
        return {
            name: {key: strategy_state.cpu_copy(value) for key, value in self._of(name).items()}
            for name in self.trained
            if self.rule.is_counted or self.kept
        }

    def _of(self, name: str) -> ParameterState:
        """Returns the optimizer's state of a parameter."""
        counted = {"step": torch.tensor(float(self.number))} if self.rule.is_counted else {}
        scalars = {key: torch.tensor(value) for key, value in self.scalars.items()}
        return {**counted, **scalars, **{key: self.view(row, name) for key, row in self.kept.items()}}

    def release(self) -> None:
        """Gives network and optimizer tensors of their own, as torch has them."""
        for name, parameter in self.trained.items():
            parameter.data = parameter.data.clone()
            if self.number and (self.rule.is_counted or self.kept):
                self.optimizer.state[parameter] = {key: value.clone() for key, value in self._of(name).items()}


class Stack:
    """Rows of members, side by side."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self.weights = torch.stack([row.weights for row in rows])
        self.kept = {key: torch.stack([row.kept[key] for row in rows]) for key in rows[0].kept}
        for number, row in enumerate(rows):
            row.attach(self.weights[number], {key: kept[number] for key, kept in self.kept.items()})
        first = rows[0]
        self.leaves = {name: first.view(self.weights, name).detach().requires_grad_() for name in first.trained}
        self.fixed = {
            name: torch.stack([row.network.get_parameter(name).detach() for row in rows])
            for name, parameter in first.network.named_parameters()
            if not parameter.requires_grad
        } | {
            name: torch.stack([row.network.get_buffer(name) for row in rows])
            for name, _ in first.network.named_buffers()
        }
        self.gradient = torch.zeros_like(self.weights)
        self.parts = [first.view(self.gradient, name) for name in first.trained]
        self._settings: dict[tuple[int, ...], Settings] = {}  # by the numbers of the members whose they are

    def add(self, gradients: Sequence[Tensor], is_first: bool) -> None:
        """Adds gradients (N, …) of the trained parameters to those of an update.

        Args:
            is_first: whether they are the first ones of the update.
        """
        (torch._foreach_copy_ if is_first else torch._foreach_add_)(self.parts, list(gradients))

    def gather(self, targets: Rows, clips: Rows) -> Tensor:
        """Averages the gradients that have been added, and limits their norms.

        Args:
            targets: over how many targets each member's gradient is a sum; at least 1.
            clips: largest norms.

        Returns:
            The norms (N,) before that.
        """
        self.gradient.div_(self._column(targets))
        norms: Tensor = torch.linalg.vector_norm(self.gradient, dim=1)
        if np.isfinite(clips).any():
            self.gradient.mul_((self._column(clips) / (norms.unsqueeze(1) + 1e-6)).clamp_(max=1.0))
        return norms

    def step(self, which: Sequence[int], rates: Rows) -> None:
        """Takes the step of some members, with these learning rates."""
        rows = [self.rows[number] for number in which]
        for row in rows:
            row.number += 1
        numbers = np.array([row.number for row in rows], np.float64)
        scalars = {key: np.array([row.scalars[key] for row in rows]) for key in rows[0].scalars}
        weights, gradient, kept = self.weights, self.gradient, self.kept
        index = None if len(rows) == len(self.rows) else torch.tensor(list(which), device=weights.device)
        if index is not None:
            weights, gradient = weights[index], gradient[index]
            kept = {key: value[index] for key, value in kept.items()}
        is_split = weights.device.type == "cpu" and not rows[0].rule.is_fused
        most = max(1, STEP_AT_ONCE // weights.shape[1]) if is_split else len(rows)
        for begin in range(0, len(rows), most):
            part = slice(begin, begin + most)
            settings = self._settings_of(which[part])
            settings.rates, settings.numbers = rates[part], numbers[part]
            own_kept = {key: value[part] for key, value in kept.items()}
            own_scalars = {key: value[part] for key, value in scalars.items()}
            rows[0].rule.step(weights[part], gradient[part], own_kept, own_scalars, settings)
        if index is not None:
            self.weights[index] = weights
            for key, value in kept.items():
                self.kept[key][index] = value
        for key, values in scalars.items():
            for row, value in zip(rows, values.tolist(), strict=True):
                row.scalars[key] = value

    def _settings_of(self, which: Sequence[int]) -> Settings:
        """Returns the settings of some members' optimizers."""
        key = tuple(which)
        if key not in self._settings:
            if len(self._settings) == MOST_SETTINGS:
                self._settings.clear()
            self._settings[key] = Settings([self.rows[number].group for number in which], self.weights)
        return self._settings[key]

    def _column(self, rows: Rows) -> Tensor:
        return torch.from_numpy(rows).to(self.weights.device, self.weights.dtype).unsqueeze(1)
