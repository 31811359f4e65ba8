"""A network that answers rows and learns from the true values among them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn.checkpoints.file import Tree
from seqrnn.checkpoints.identity import differences
from seqrnn.checkpoints.init_from import load_weights, weights_hash
from seqrnn.components import build_components
from seqrnn.errors import DataError, Diverged
from seqrnn.prediction.live_data import LiveWindows, Step
from seqrnn.prediction.trained import TrainedRun
from seqrnn.prediction.vector_rows import Row, RowFormat, answer
from seqrnn.strategies.plain import Plain, WindowByWindow
from seqrnn.strategies.strategy_state import StrategyState, cpu_copy
from seqrnn.streaming import state_file
from seqrnn.streaming.predictor import StreamPredictor
from seqrnn.tasks.checks import DataFormat

RECENT = 1000  # true values, of which the latest errors are the mean


class Learner:
    """A network that answers rows and learns from the true values among them, by the schedule and the optimizer of
    its run, with one stream and a constant learning rate.

    A window is learned from when the timestep after it arrives, before that is answered. Rows without inputs bring
    true values of earlier timesteps, as long as those have not been learned from.

    Args:
        rate: the learning rate; None: that of the run's optimizer.
    """

    def __init__(self, trained: TrainedRun, rate: float | None = None) -> None:
        values = learning_values(trained, rate)
        components = build_components(values)
        original = trained.network()
        load_weights(components.network, original.state_dict())
        self.trained, self.loss = trained, trained.loss
        self.network, self.schedule = components.network, components.schedule
        data_format = DataFormat.of(trained.task)
        self.row_format = RowFormat(data_format)
        self.windows = LiveWindows(self.schedule, data_format)
        gradients = WindowByWindow(self.network, self.loss, self.schedule.carry, components.context, data_format)
        self.strategy = Plain(self.network, components.optimizer, self.schedule, gradients)
        names = {"task": values["task"]["name"], "model": values["model"]["name"]}
        sizes = (data_format.input_size, names)
        self.identity = {**names, "weights": weights_hash(original.state_dict())[:16]}
        self.network.eval()
        self.predictors = StreamPredictor(original, *sizes), StreamPredictor(self.network, *sizes)
        self.rows, self.updates = 0, 0
        self.begin = 0  # of the present sequence, in ``windows.current``
        self.errors = Errors()

    @property
    def list_columns(self) -> Sequence[str]:
        return self.row_format.inputs

    def check_columns(self, names: Sequence[str]) -> None:
        self.row_format.check_columns(names)

    def answer(self, values: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer to a row: the outputs and, with true values, the losses of the network as it was trained
        and as it has learned since.

        Raises:
            DataError: it cannot be used, and has changed nothing.
            Diverged: the loss or the gradient became NaN or infinite.
        """
        row = self.row_format.row(values)
        found: dict[str, Any] = {}
        if row.inputs is not None:
            found = self._predict(row)
            timestep = self.predictors[1].timesteps - 1
        else:
            timestep = self._timestep_of(row)
            found = {"timestep": timestep}
        if row.targets is not None:
            step = self.windows.current.step(self.begin + timestep)
            assert step is not None
            found |= self._judge(step, row.targets)
        self.rows += 1
        return found

    def _predict(self, row: Row) -> dict[str, Any]:
        assert row.inputs is not None
        inputs = self.predictors[1].check(row.inputs)
        start = row.start or not self.predictors[1].timesteps
        ranges = self.windows.add(step := Step(inputs, start))
        if start:
            for predictor in self.predictors:
                predictor.reset()
            self.begin = self.windows.current.arrived - 1
        if ranges:
            self._learn(ranges)
        step.outputs = np.stack([predictor(inputs) for predictor in self.predictors])
        classes = self.row_format.data_format.classes
        return {**answer(step.outputs[1], self.predictors[1].timesteps - 1, classes), "updates": self.updates}

    def _timestep_of(self, row: Row) -> int:
        """Returns the timestep of its sequence that true values belong to."""
        latest = self.predictors[1].timesteps - 1
        timestep = latest if row.timestep is None else row.timestep
        if not 0 <= timestep <= latest:
            raise DataError(f"timestep: {timestep} has not been yet")
        step = self.windows.current.step(self.begin + timestep)
        if step is None:
            raise DataError(f"timestep: {timestep} has been learned from without its true values; they came too late")
        if step.targets is not None:
            raise DataError(f"timestep: the true values of {timestep} are known already")
        return timestep

    def _judge(self, step: Step, targets: Any) -> dict[str, Any]:
        """Notes the true values of a timestep; returns the losses of both networks."""
        step.targets = targets
        dtype = torch.int64 if self.row_format.data_format.classes else torch.from_numpy(step.outputs).dtype
        expected = torch.tensor([targets, targets], dtype=dtype)
        before, now = self.loss(torch.from_numpy(step.outputs), expected).tolist()
        self.errors.add(before, now)
        return {"loss": _rounded(now), "loss_as_trained": _rounded(before)}

    def _learn(self, ranges: Any) -> None:
        count = sum(each.count for each in ranges)
        self.network.train()
        stats = self.strategy(ranges, np.ones(count))
        self.network.eval()
        self.windows.forget()
        if stats.diverged:
            raise Diverged(
                f"diverged: the loss or the gradient became NaN or infinite after {self.updates:,} updates; the last "
                "checkpoint is from before; try a smaller --lr"
            )
        self.updates += int((stats.targets > 0).sum())
        self.predictors[1].refresh()

    def state(self) -> Tree:
        """Returns everything that what follows depends on."""
        strategy = self.strategy.state(1, self.windows.pending_carries)
        return {
            "content": "learning",
            "network": self.identity,
            "model": {name: cpu_copy(value) for name, value in self.network.state_dict().items()},
            "optimizer": {"parameters": dict(strategy.parameters), "groups": list(strategy.groups)},
            "carried": [{"before": before, "parts": list(parts)} for before, parts in strategy.carried.items()],
            "windows": self.windows.state(),
            "states": [list(predictor.state) for predictor in self.predictors],
            "timesteps": self.predictors[1].timesteps,
            "rows": self.rows,
            "updates": self.updates,
            "begin": self.begin,
            "errors": self.errors.state(),
            "generator": torch.get_rng_state(),
        }

    def restore(self, tree: Tree) -> None:
        """Continues from the state of another learner of the same run.

        Raises:
            DataError: it is that of another run, or not whole.
        """
        different = differences(self.identity, tree.get("network", {}))
        if tree.get("content") != "learning" or different:
            raise DataError(f"the learning of another network: {'; '.join(different) or 'no learning at all'}")
        try:
            load_weights(self.network, tree["model"])
            carried = {int(one["before"]): tuple(one["parts"]) for one in tree["carried"]}
            for parts in carried.values():
                state_file.check_parts(parts, self.network.initial_state(1))
            optimizer = tree["optimizer"]
            self.strategy.restore(StrategyState(optimizer["parameters"], optimizer["groups"], carried))
            self.windows.restore(tree["windows"])
            for predictor, state in zip(self.predictors, tree["states"], strict=True):
                predictor.state = tuple(state)
                predictor.timesteps = int(tree["timesteps"])
            self.rows, self.updates, self.begin = (int(tree[name]) for name in ("rows", "updates", "begin"))
            self.errors.restore(tree["errors"])
            torch.set_rng_state(tree["generator"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise DataError(f"does not fit this run: {error!r}") from error
        self.predictors[1].refresh()


class Errors:
    """The mean losses of the network as it was trained, and as it has learned since; of all and of the latest true
    values."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: NDArray[np.float64] = np.zeros(2)
        self.recent: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def add(self, before: float, now: float) -> None:
        self.count += 1
        self.sums += (before, now)
        self.recent.append((before, now))

    def describe(self, loss: str) -> str:
        """Returns a line for people."""
        if not self.count:
            return "no true values have arrived"
        before, now = self.sums / self.count
        text = f"{loss} over {self.count:,} true values: {before:.4g} as trained, {now:.4g} learning"
        if self.count > len(self.recent):
            before, now = np.mean(self.recent, axis=0)
            text += f"; over the latest {len(self.recent):,}: {before:.4g} and {now:.4g}"
        return text

    def state(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "sums": torch.from_numpy(self.sums.copy()),
            "recent": torch.tensor(list(self.recent), dtype=torch.float64).reshape(-1, 2),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.count, self.sums = int(state["count"]), state["sums"].numpy().copy()
        self.recent = deque([(float(before), float(now)) for before, now in state["recent"]], maxlen=RECENT)


def learning_values(trained: TrainedRun, rate: float | None) -> dict[str, Any]:
    """Returns the config of the training that goes on."""
    values = dict(trained.values)
    precision = "float64" if values["precision"] == "float64" else "float32"
    optimizer = {**values["optimizer"]} | ({} if rate is None else {"lr": rate})
    schedule = {**values["schedule"], "streams": 1}
    threads = values["threads"] if isinstance(values["threads"], int) else 1
    threads = min(threads, os.cpu_count() or 1)
    return {**values, "device": "cpu", "precision": precision, "threads": threads, "optimizer": optimizer,
            "schedule": schedule}  # fmt: skip


def _rounded(loss: float) -> float:
    return float(f"{loss:.6g}")
