"""What several test files share: settings, small networks, and a stub task. T timesteps, B streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from omegaconf import OmegaConf

from seqrnn import metrics, registry, smoke
from seqrnn.components import build_network
from seqrnn.device import DeviceContext
from seqrnn.kernels.specification import recurrence_of
from seqrnn.losses import Loss, loss_of
from seqrnn.models.network import Network
from seqrnn.monitor import Monitor
from seqrnn.plugins import load_components
from seqrnn.schedule import Schedule, Window, cut_windows
from seqrnn.settings import Kernel
from seqrnn.strategies.compiled import Compiled
from seqrnn.strategies.folded import Folded
from seqrnn.strategies.plain import Plain, WindowByWindow
from seqrnn.strategies.protocol import Strategy
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Chunk, Stored, missing_targets

load_components()

CONF = Path(__file__).parent.parent / "conf"
CPU64 = DeviceContext(torch.device("cpu"), torch.float64)

SCHEDULE = {
    "gradient": "bptt",
    "epochs": 1,
    "streams": 2,
    "window": None,
    "stride": None,
    "update_every": None,
    "carry": True,
    "clip_norm": None,
    "lr_decay": "constant",
    "warmup": 0,
    "lr_final": 0.0,
    "lr_reduction": 0.5,
    "lr_every": 1,
    "lr_patience": 1,
    "evaluate_every": None,
    "patience": None,
    "max_updates": None,
    "keep": None,
}
HEAD = {
    "head": "linear",
    "head_size": 5,
    "head_bias": True,
    "recurrent_init": "default",
    "init_std": {},
}
NOT_COMPILED = ("cornn", "esn", "lnlstm", "lru", "tcn")  # models without a compiled twin
LIVELY: dict[str, dict[str, Any]] = {"indrnn": {"activation": "tanh"}}  # a unit of relu may be silent throughout


def make_schedule(**changes: Any) -> Schedule:
    return Schedule(**{**SCHEDULE, **changes})


def windows_of(schedule: Schedule, timesteps: int) -> list[Window]:
    """Returns the windows of a sequence, in order."""
    return list(cut_windows(timesteps, schedule.window, schedule.stride))


def model_settings(name: str, **changes: Any) -> dict[str, Any]:
    """conf/model/NAME.yaml, with ``changes`` and a linear head."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    assert isinstance(values, dict)
    return {**HEAD, **values, "hidden_size": 4, **changes}


def make_network(
    name: str, inputs: int = 2, outputs: int = 2, *, seed: int = 0, kernel: Kernel = "auto", **changes: Any
) -> Network:
    """A small network in float64."""
    torch.manual_seed(seed)
    return build_network(model_settings(name, **changes), inputs, outputs, kernel).double()


def task_settings(name: str, **changes: Any) -> dict[str, Any]:
    """conf/task/NAME.yaml as smoke=true shrinks it, with ``changes``."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "task" / f"{name}.yaml"))
    assert isinstance(values, dict)
    smoke.limit(values["task"], getattr(registry.find("task", name), "smoke", {}))
    return {**values["task"], **changes}


def make_task(kind: str, seed: int = 0, **changes: Any) -> Any:
    return registry.build("task", task_settings(kind, **changes), seed)


def loss_for(task: Any) -> Loss:
    return loss_of(task.loss, missing_targets(task))


def make_monitor(task: Any, schedule: Schedule, evaluate: Any = lambda: {"loss": 1.0}, **changes: Any) -> Monitor:
    planned = schedule.count_updates(task.train(0, schedule.streams))
    values = {"evaluate_every": schedule.evaluate_every, "patience": schedule.patience, **changes}
    return Monitor(planned, evaluate, **values)


def plain(
    network: Network, task: Any, optimizer: Any, schedule: Schedule, context: DeviceContext = CPU64
) -> Strategy:
    """One window after another: the reference."""
    gradients = WindowByWindow(network, loss_for(task), schedule.carry, context, DataFormat.of(task))
    return Plain(network, optimizer, schedule, gradients)


def folded(
    network: Network, task: Any, optimizer: Any, schedule: Schedule, context: DeviceContext = CPU64
) -> Strategy:
    """The windows of an update side by side."""
    gradients = Folded(network, loss_for(task), schedule.carry, context, DataFormat.of(task))
    return Plain(network, optimizer, schedule, gradients)


def compiled(
    network: Network, task: Any, optimizer: Any, schedule: Schedule, context: DeviceContext = CPU64, threads: int = 1
) -> Strategy:
    """Whole updates in compiled code, whatever ``seqrnn.strategies.choice`` would choose."""
    if recurrence_of(network.cell) is None:
        pytest.skip("this cell has no compiled twin")
    batches = [batch for epoch in range(schedule.epochs) for batch in task.train(epoch, schedule.streams)]
    largest = max(batch.streams for batch in batches), max(batch.timesteps for batch in batches)
    strategy = Compiled(network, loss_for(task), optimizer, schedule, largest, threads)
    strategy.prepare(lambda text: None)
    return strategy


def shared(
    network: Network, task: Any, optimizer: Any, schedule: Schedule, context: DeviceContext = CPU64
) -> Strategy:
    """Whole updates in compiled code, the streams shared out among three threads."""
    return compiled(network, task, optimizer, schedule, context, threads=3)


MakeStrategy = Callable[..., Strategy]
STRATEGIES: dict[str, MakeStrategy] = {"plain": plain, "folded": folded, "compiled": compiled, "shared": shared}


@dataclass
class StubTask:
    """Trains on the batches it is given: those of one epoch after another, and from the beginning again."""

    epochs: Sequence[Sequence[Any]]
    loss: str = "mse"
    input_size: int = 2
    output_size: int = 2
    kind: str = "regression"
    missing_targets: bool = False
    metrics: Any = field(default=staticmethod(metrics.regression))

    def train(self, epoch: int, streams: int) -> Sequence[Any]:
        return self.epochs[epoch % len(self.epochs)]

    def validation(self) -> Sequence[Any]:
        return self.epochs[0][:1]

    def test(self) -> Sequence[Any]:
        return self.epochs[0][:1]

    def baselines(self) -> Mapping[str, Any]:
        return {"zero": lambda chunk: torch.zeros_like(chunk.targets)}


def random_batch(
    timesteps: int,
    streams: int,
    *,
    seed: int = 0,
    valid: float = 0.6,
    starts: float = 0.15,
    classes: bool = False,
    sizes: tuple[int, int] = (2, 2),
) -> Stored:
    """Inputs and outputs (or classes), as many as ``sizes`` says, at random; targets are valid, and sequences start,
    with the probabilities ``valid`` and ``starts``."""
    rng = torch.Generator().manual_seed(1000 * seed + 10 * timesteps + streams)
    inputs = torch.randn(timesteps, streams, sizes[0], generator=rng, dtype=torch.float64)
    targets = torch.randn(timesteps, streams, sizes[1], generator=rng, dtype=torch.float64)
    if classes:
        targets = torch.randint(sizes[1], (timesteps, streams), generator=rng)
    return Stored(
        Chunk(
            inputs,
            targets,
            torch.rand(timesteps, streams, generator=rng) < valid,
            torch.rand(timesteps, streams, generator=rng) < starts,
        )
    )


@st.composite
def lengths(draw: st.DrawFn, longest: int = 8) -> dict[str, int | None]:
    """Any valid window, stride and update_every."""
    window = draw(st.none() | st.integers(1, longest))
    stride = draw(st.none() | st.integers(1, window or longest))
    step = stride or window
    update_every = draw(st.none() | st.integers(1, 4).map(lambda n: n * step)) if step else None
    return {"window": window, "stride": stride, "update_every": update_every}


@dataclass
class Finished:
    """What a command left behind."""

    exit_code: int
    out: str
    err: str
    directory: Path

    @property
    def summary(self) -> dict[str, Any]:
        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is no strict JSON")

        text = (self.directory / "summary.json").read_text(encoding="utf-8")
        summary: dict[str, Any] = json.loads(text, parse_constant=refuse)
        return summary


def whole(batch: Any) -> Chunk:
    """Returns all timesteps of a batch."""
    chunk: Chunk = batch.read(0, batch.timesteps)
    return chunk


def fields(chunk: Chunk) -> list[torch.Tensor]:
    """Returns a chunk's inputs, targets, valid and starts."""
    return [chunk.inputs, chunk.targets, chunk.valid, chunk.starts]


def values_ahead(values: np.ndarray, horizon: int) -> np.ndarray:
    """Returns what comes after each timestep: (T, ...) -> (T, horizon, ...), with values[t + h + 1] at [t, h]; NaN
    beyond the last timestep."""
    found = np.full((len(values), horizon, *values.shape[1:]), np.nan)
    for step in range(1, min(horizon, len(values) - 1) + 1):
        found[:-step, step - 1] = values[step:]
    return found
