"""A network that is trained further while it predicts one timestep after another. I inputs, O outputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from seqrnn import device, registry
from seqrnn.checkpoints.file import Tree
from seqrnn.checkpoints.identity import differences
from seqrnn.checkpoints.init_from import load_weights
from seqrnn.errors import ConfigError, DataError, Diverged
from seqrnn.prediction.live_data import LiveWindows, Step
from seqrnn.prediction.trained import TrainedRun
from seqrnn.prediction.trained_optimizer import restore_optimizer
from seqrnn.schedule import Schedule
from seqrnn.strategies.choice import window_by_window
from seqrnn.strategies.plain import Plain
from seqrnn.strategies.strategy_state import StrategyState, cpu_copy
from seqrnn.streaming import state_file
from seqrnn.streaming.predictor import StreamPredictor

Array = NDArray[Any]
RECENT = 1000  # true values, of which the latest errors are the mean
RATE_DIVISOR = 50  # the default learning rate is the run's divided by it: training has lowered its own to nearly 0
WARMUP = 100  # updates over which the rate rises where the state of the run's optimizer is not known


class Learner:
    """A network that is fed timesteps and learns from their true values, by the schedule and the optimizer of its
    run, with one stream and a constant learning rate. The run's own network is fed the same, to be compared with.

    The optimizer continues from its state in the run's newest checkpoint. Without one, it begins anew, as does the
    learning rate, which then rises over the first updates: the first steps of an optimizer like Adam are long.

    A window is learned from before the timestep is predicted that comes ``lag`` timesteps after the window's last.

    Args:
        lag: timesteps after which the true values of a timestep are known, if they ever are.
        rate: the learning rate; None: that of the run's optimizer, divided by ``RATE_DIVISOR``.

    Raises:
        ConfigError: the run's optimizer has no learning rate.
        DataError: the state of the optimizer does not fit the run.
    """

    def __init__(self, trained: TrainedRun, rate: float | None = None, lag: int = 1) -> None:
        values = trained.values
        device.prepare(values["seed"], values["deterministic"], 1, 0)
        original, self.network = trained.network(), trained.network()
        if "lr" not in values["optimizer"]:
            raise ConfigError(
                f"optimizer.name={values['optimizer']['name']}: takes no steps by a learning rate, so that it cannot "
                "learn from rows as they come; train with another optimizer, such as optimizer=adam"
            )
        self.rate = values["optimizer"]["lr"] / RATE_DIVISOR if rate is None else rate
        optimizer = {**values["optimizer"], "lr": self.rate}
        self.trained, self.loss, self.data_format = trained, trained.loss, trained.data_format
        self.schedule = Schedule(**{**values["schedule"], "streams": 1})
        self.windows = LiveWindows(self.schedule, self.data_format, lag)
        gradients = window_by_window(self.network, self.loss, self.schedule, trained.context, self.data_format)
        made: Any = registry.build("optimizer", optimizer, self.network.parameters())
        self.strategy = Plain(self.network, made, self.schedule, gradients)
        self.checkpoint = restore_optimizer(trained.run.directory, self.strategy)
        names = {"task": values["task"]["name"], "model": values["model"]["name"]}
        self.predictors = tuple(
            StreamPredictor(network, self.data_format.input_size, names) for network in (original, self.network)
        )
        self.identity = self.predictors[0].identity
        self.rows, self.updates = 0, 0
        self.begin = 0  # of the present sequence, in ``windows.current``
        self.errors = Errors()

    @property
    def timesteps(self) -> int:
        """How many timesteps of the present sequence have been fed."""
        return self.predictors[1].timesteps

    def step(self, timestep: int) -> Step | None:
        """Returns a timestep of the present sequence; None: it has been learned from, or has not been yet."""
        return self.windows.current.step(self.begin + timestep)

    def check(self, inputs: ArrayLike) -> Array:
        """Returns the inputs of a timestep (I,) in the network's precision.

        Raises:
            DataError: they are not I finite numbers.
        """
        return self.predictors[1].check(inputs)

    def feed(self, inputs: ArrayLike, start: bool) -> Array:
        """Learns from what is due, and returns the outputs (O,) for the inputs (I,) of the next timestep.

        Args:
            start: whether a new sequence begins.

        Raises:
            DataError: the inputs cannot be used, and have changed nothing.
            Diverged: the loss or the gradient became NaN or infinite.
        """
        values = self.check(inputs)
        start = start or not self.timesteps
        ranges = self.windows.add(step := Step(values, start))
        if start:
            for predictor in self.predictors:
                predictor.reset()
            self.begin = self.windows.current.arrived - 1
        if ranges:
            self._learn(ranges)
        step.outputs = np.stack([predictor(values) for predictor in self.predictors])
        step.updates = self.updates
        outputs: Array = step.outputs[1]
        return outputs

    def judge(self, timestep: int, targets: Any) -> dict[str, Any]:
        """Notes the true values of a timestep of the present sequence; returns the losses of the network as it learns
        and as it was trained.

        Args:
            targets: O numbers, or the class.
        """
        step = self.step(timestep)
        assert step is not None
        step.targets = targets
        dtype = torch.int64 if self.data_format.classes else torch.from_numpy(step.outputs).dtype
        expected = torch.from_numpy(np.array([targets, targets])).to(dtype)
        before, now = self.loss(torch.from_numpy(step.outputs), expected).tolist()
        if step.updates:  # before the first update, both are the same network
            self.errors.add(before, now)
        return {"loss": _rounded(now), "loss_as_trained": _rounded(before)}

    def _learn(self, ranges: Any) -> None:
        count = sum(each.count for each in ranges)
        self.network.train()
        stats = self.strategy(ranges, self._factors(count))
        self.network.eval()
        self.windows.forget()
        if stats.diverged:
            raise Diverged(
                f"diverged: the loss or the gradient became NaN or infinite after {self.updates:,} updates; the last "
                "checkpoint is from before; try a smaller --lr"
            )
        self.updates += int((stats.targets > 0).sum())
        self.predictors[1].refresh()

    def _factors(self, count: int) -> NDArray[np.float64]:
        """Returns what the learning rate is multiplied by in the next ``count`` updates."""
        if self.checkpoint is not None:
            return np.ones(count)
        return np.minimum((self.updates + 1 + np.arange(count)) / WARMUP, 1.0)

    def state(self) -> Tree:
        """Returns everything that what follows depends on."""
        strategy = self.strategy.state(1, self.windows.pending_carries)
        return {
            "content": "learning",
            "network": self.identity,
            "model": {name: cpu_copy(value) for name, value in self.network.state_dict().items()},
            "optimizer": {"parameters": dict(strategy.parameters), "groups": list(strategy.groups)},
            "carried": [{"before": before, "parts": list(parts)} for before, parts in strategy.carried.items()],
            "influence": strategy.influence,
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
            influence = tree.get("influence", {})
            self.strategy.restore(StrategyState(optimizer["parameters"], optimizer["groups"], carried, influence))
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
    """The mean losses of the network as it was trained, and as it has learned since, over the same true values, whose
    predictions were made after the first update; of all and of the latest."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: NDArray[np.float64] = np.zeros(2)
        self.recent: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def add(self, before: float, now: float) -> None:
        self.count += 1
        self.sums += (before, now)
        self.recent.append((before, now))

    def describe(self, loss: str) -> str:
        """Returns a line for people, with a warning where the network that learns is the worse one."""
        if not self.count:
            return "no true value of a prediction since the first update has come, so whether it helps is not known"
        pairs = [self.sums / self.count]
        text = f"{loss} over {self.count:,} true values since the first update: {_pair(pairs[0])}"
        if self.count > len(self.recent):
            pairs.append(np.mean(self.recent, axis=0))
            text += f"; over the latest {len(self.recent):,}: {_pair(pairs[1])}"
        if any(now > before and f"{now:.4g}" != f"{before:.4g}" for before, now in pairs):
            text += "; learning made it worse: try a smaller --lr"
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


def _pair(losses: NDArray[np.float64]) -> str:
    before, now = losses
    return f"{before:.4g} as trained, {now:.4g} learning"


def _rounded(loss: float) -> float:
    return float(f"{loss:.6g}")
