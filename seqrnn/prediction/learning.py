"""A network that is trained further while it predicts one timestep after another. I inputs, O outputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from seqrnn import device, registry
from seqrnn.checkpoints.file import Tree
from seqrnn.checkpoints.identity import differences
from seqrnn.checkpoints.init_from import load_weights
from seqrnn.errors import ConfigError, DataError, Diverged
from seqrnn.models.protocol import State
from seqrnn.prediction.live_data import LiveWindows, Step
from seqrnn.prediction.trained import TrainedRun
from seqrnn.prediction.trained_optimizer import restore_optimizer
from seqrnn.schedule import Schedule
from seqrnn.strategies.choice import window_by_window
from seqrnn.strategies.plain import Plain
from seqrnn.strategies.strategy_state import StrategyState, cpu_copy, cpu_states
from seqrnn.streaming import state_file
from seqrnn.streaming.predictor import StreamPredictor

Array = NDArray[Any]
RECENT = 1000  # true values, of which the latest errors are the mean
RATE_DIVISOR = 50  # the default learning rate is the run's divided by it: training has lowered its own to nearly 0
WARMUP = 100  # updates over which the rate rises where the state of the run's optimizer is not known


@dataclass
class LearningSequence:
    """Where a sequence is, while timesteps of another one are fed.

    Args:
        windows: its latest timesteps, and the windows that they are cut into.
        begin: of the present sequence in ``windows.current``.
        timesteps: of the present sequence.
        states: of the run's own network, and of the one that learns; None: initial ones.
        carried, influence: see ``seqrnn.strategies.strategy_state.StrategyState``.
    """

    windows: LiveWindows
    begin: int = 0
    timesteps: int = 0
    states: tuple[State, ...] | None = None
    carried: dict[int, State] = field(default_factory=dict)
    influence: dict[str, torch.Tensor] = field(default_factory=dict)

    def tree(self, key: str) -> Tree:
        """Returns it for a checkpoint, from which ``sequence_of`` makes it."""
        assert self.states is not None
        return {
            "key": key,
            "windows": self.windows.state(),
            "begin": self.begin,
            "timesteps": self.timesteps,
            "states": [list(state) for state in self.states],
            "carried": [{"before": before, "parts": list(parts)} for before, parts in self.carried.items()],
            "influence": self.influence,
        }


class Learner:
    """A network that is fed timesteps and learns from their true values, by the schedule and the optimizer of its
    run, with one stream and a constant learning rate. The run's own network is fed the same, to be compared with.

    Timesteps may be of several sequences, in any order: ``select`` says of which the next ones are. Each has a state
    and windows of its own, and an update is made as soon as one of them has the windows for it. The weights and the
    optimizer are those of all.

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
        self.gradients = window_by_window(self.network, self.loss, self.schedule, trained.context, self.data_format)
        made: Any = registry.build("optimizer", optimizer, self.network.parameters())
        self.strategy = Plain(self.network, made, self.schedule, self.gradients)
        self.checkpoint = restore_optimizer(trained.run.directory, self.strategy)
        names = {"task": values["task"]["name"], "model": values["model"]["name"]}
        self.predictors = tuple(
            StreamPredictor(network, self.data_format.input_size, names) for network in (original, self.network)
        )
        self.identity = self.predictors[0].identity
        self.rows, self.updates = 0, 0
        self.begin = 0  # of the present sequence, in ``windows.current``
        self.key = ""  # of the sequence that timesteps are fed of
        self.others: dict[str, LearningSequence] = {}
        self.errors = Errors()

    @property
    def timesteps(self) -> int:
        """How many timesteps of the present sequence have been fed."""
        return self.predictors[1].timesteps

    def select(self, key: str) -> None:
        """Continues with another sequence, or begins one."""
        if key != self.key:
            if self.windows.current.arrived:
                self.others[self.key] = self._present()
            self._continue(key, self.others.pop(key) if key in self.others else self._new())

    def _new(self) -> LearningSequence:
        return LearningSequence(LiveWindows(self.schedule, self.data_format, self.windows.lag))

    def _present(self) -> LearningSequence:
        pending = self.windows.pending_carries
        return LearningSequence(
            self.windows,
            self.begin,
            self.timesteps,
            tuple(predictor.state for predictor in self.predictors),
            cpu_states(self.gradients.states, pending),
            self.gradients.influence if pending else {},
        )

    def _continue(self, key: str, sequence: LearningSequence) -> None:
        self.key, self.windows, self.begin = key, sequence.windows, sequence.begin
        for number, predictor in enumerate(self.predictors):
            predictor.reset()
            if sequence.states is not None:
                predictor.state, predictor.timesteps = sequence.states[number], sequence.timesteps
        self.gradients.states.clear()
        self.gradients.states.update(sequence.carried)
        self.gradients.influence = sequence.influence

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
        optimizer = self.strategy.state(1, ())
        sequences = {**self.others, self.key: self._present()}
        return {
            "content": "learning",
            "network": self.identity,
            "model": {name: cpu_copy(value) for name, value in self.network.state_dict().items()},
            "optimizer": {"parameters": dict(optimizer.parameters), "groups": list(optimizer.groups)},
            "learned_from": [sequence.tree(key) for key, sequence in sequences.items()],  # the last one is present
            "rows": self.rows,
            "updates": self.updates,
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
            optimizer = tree["optimizer"]
            self.strategy.restore(StrategyState(optimizer["parameters"], optimizer["groups"], {}))
            self.others = {str(one["key"]): self._restored(one) for one in tree["learned_from"]}
            self._continue(*self.others.popitem())
            self.rows, self.updates = int(tree["rows"]), int(tree["updates"])
            self.errors.restore(tree["errors"])
            torch.set_rng_state(tree["generator"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise DataError(f"does not fit this run: {error!r}") from error
        self.predictors[1].refresh()

    def _restored(self, tree: Tree) -> LearningSequence:
        sequence = self._new()
        sequence.windows.restore(tree["windows"])
        sequence.begin, sequence.timesteps = int(tree["begin"]), int(tree["timesteps"])
        before, now = (tuple(parts) for parts in tree["states"])
        sequence.states = before, now
        sequence.carried = {int(one["before"]): tuple(one["parts"]) for one in tree["carried"]}
        sequence.influence = dict(tree["influence"])
        for parts in (before, now, *sequence.carried.values()):
            state_file.check_parts(parts, self.network.initial_state(1))
        return sequence


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
