"""Computes the head by ridge regression, from sums over all timesteps so far; the cell stays as it is.

H outputs of the cell, O outputs of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from seqrnn.components import Components
from seqrnn.errors import ConfigError, DataError
from seqrnn.schedule import Window, split_updates
from seqrnn.strategies import strategy_state
from seqrnn.strategies.optimizer_step import average_and_clip
from seqrnn.strategies.plain import WindowRunner
from seqrnn.strategies.protocol import Numbers, UpdateStats, WindowRanges
from seqrnn.strategies.strategy_state import StrategyState
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Batch

HEAD = "head.weight"  # the parameter under whose name the sums are kept


class RidgeRegression:
    """A strategy that sets the head to the W and b that minimise Σ_t ‖W h_t + b − target_t‖² + ridge ‖W‖².

    The sum is over all timesteps so far with a valid target that lie behind the washout. The sums
    Σ (h_t, 1)(h_t, 1)ᵀ and Σ (h_t, 1) target_tᵀ grow with each update, in double precision, and give the head after
    it (Lukoševičius 2012, "A practical guide to applying echo state networks", section 4.1; but b is not penalised).
    So the last head is that of one fit to all of the data, however the schedule divides it. The figures of an update
    are those of the head before it, on data to which it has not been fitted, in the first epoch.
    """

    def __init__(self, components: Components) -> None:
        self.network, self.loss = components.network, components.loss
        self.optimizer, self.schedule = components.optimizer, components.schedule
        head = self.network.head
        assert isinstance(head, nn.Linear)
        self.head, group = head, self.optimizer.param_groups[0]
        self.ridge, self.washout = group["ridge"], group["washout"]
        self.runner = WindowRunner(
            self.network, self.schedule.carry, components.context, DataFormat.of(components.task)
        )
        inputs = head.in_features + (head.bias is not None)
        self.gram = head.weight.new_zeros(inputs, inputs, dtype=torch.float64)  # Σ (h, 1)(h, 1)ᵀ
        self.cross = head.weight.new_zeros(inputs, head.out_features, dtype=torch.float64)  # Σ (h, 1) targetᵀ

    def prepare(self, announce: Callable[[str], None]) -> None:
        pass

    def __call__(self, ranges: WindowRanges, factors: Numbers) -> UpdateStats:
        rows = []
        self.runner.reader.plan(ranges, self.schedule)
        for update in split_updates(ranges, self.schedule.windows_per_update):
            for parameter in self.network.parameters():
                parameter.grad = None
            windows = self.schedule.windows_of(update)
            found = [self._pass(batch, window) for batch, window in windows]
            loss, targets = sum(one[0] for one in found), sum(one[1] for one in found)
            norm = float(average_and_clip(self.head.parameters(), targets, None))
            timesteps = sum(batch.streams * (window.stop - window.fresh) for batch, window in windows)
            rows.append((update[0].epoch, timesteps, loss, targets, norm))
            if not (np.isfinite(loss) and np.isfinite(norm)):
                break
            for _, _, gram, cross in found:
                self.gram += gram
                self.cross += cross
            if targets:
                self._solve()
        epochs, steps, losses, counts, norms = (np.array(column) for column in zip(*rows, strict=True))
        return UpdateStats(epochs, steps, losses, counts, norms, np.zeros(len(rows)))

    def _pass(self, batch: Batch, window: Window) -> tuple[float, int, Tensor, Tensor]:
        """Returns the summed loss of a window's fresh timesteps, their number, and what they add to the two sums.
        Adds the gradient of the loss to the head's."""
        with torch.no_grad():
            hidden = self.runner(self.runner.read(batch, window))  # (T', B, H)
        piece = self.runner.reader.piece(batch, window.start, window.stop)
        fresh = slice(window.fresh - piece.start, window.stop - piece.start)
        valid = torch.from_numpy(piece.valid[fresh]) & self._settled(batch, window)  # (T', B)
        fitted = valid.to(hidden.device) & ~piece.targets[fresh].isnan().any(dim=-1)  # one sum serves all outputs
        h, targets = hidden[fitted].to(self.head.weight.dtype), piece.targets[fresh][fitted]  # (N, H), (N, O)
        loss = self.loss(self.head(h), targets).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        rows = h.double()
        if self.head.bias is not None:
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
        return loss.item(), len(targets), rows.T @ rows, rows.T @ targets.double()

    def _settled(self, batch: Batch, window: Window) -> Tensor:
        """Returns which of a window's fresh timesteps (T', B) lie behind the washout of their sequence."""
        begin = max(0, window.fresh - self.washout)
        starts = batch.read(begin, window.stop).starts.clone()
        starts[0] |= begin == 0
        times = torch.arange(len(starts)).unsqueeze(1)  # (T'', 1), from ``begin`` on
        started = torch.where(starts, times, -self.washout).cummax(dim=0).values  # the latest start
        settled: Tensor = times - started >= self.washout
        return settled[window.fresh - begin :]

    def _solve(self) -> None:
        """Sets the head to the solution for the present sums.

        Where rounding leaves them no Cholesky factor, directions in which the data does not vary get no weight.
        """
        penalty = torch.full((len(self.gram),), self.ridge, dtype=torch.float64, device=self.gram.device)
        if self.head.bias is not None:
            penalty[-1] = 0.0
        matrix = self.gram + penalty.diag()
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            solution = torch.linalg.pinv(matrix, hermitian=True) @ self.cross
        else:
            solution = torch.cholesky_solve(self.cross, factor)
        with torch.no_grad():
            self.head.weight.copy_(solution[: self.head.in_features].T)
            if self.head.bias is not None:
                self.head.bias.copy_(solution[-1])

    def state(self, streams: int, pending_carries: Sequence[int]) -> StrategyState:
        sums = {"gram": strategy_state.cpu_copy(self.gram), "cross": strategy_state.cpu_copy(self.cross)}
        groups = strategy_state.group_settings(self.optimizer)
        return StrategyState({HEAD: sums}, groups, strategy_state.cpu_states(self.runner.states, pending_carries))

    def restore(self, state: StrategyState) -> None:
        strategy_state.load_group_settings(self.optimizer, state)
        sums = state.parameters.get(HEAD, {})
        for name, own in (("gram", self.gram), ("cross", self.cross)):
            stored = sums.get(name)
            if not isinstance(stored, Tensor) or stored.shape != own.shape or stored.dtype != own.dtype:
                raise DataError(f"the sums of optimizer=ridge lack {name} of shape {tuple(own.shape)}")
            own.copy_(stored)
        strategy_state.load_states(self.runner.states, state, self.gram.device)

    def finish(self) -> None:
        pass


def check_ridge(components: Components) -> None:
    """Checks that ridge regression can compute the head of a network.

    Raises:
        ConfigError: it cannot.
    """
    if components.schedule.is_forward:
        raise ConfigError(
            f"optimizer=ridge: needs no gradient of the cell, and schedule.gradient={components.schedule.gradient} "
            "computes one; set schedule.gradient=bptt"
        )
    if not isinstance(components.network.head, nn.Linear):
        raise ConfigError("optimizer=ridge: computes a linear head in closed form; set model.head=linear")
    if components.task.loss not in ("mse", "half_mse"):
        raise ConfigError(
            f"optimizer=ridge: minimises squared errors, and the loss of this task is {components.task.loss}; set "
            "task.loss=mse, or train the head by gradient descent with another optimizer"
        )
