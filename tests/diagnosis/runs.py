"""Runs that are diagnosed in these tests: trained ones, and networks whose weights are written by hand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers import make_schedule
from numpy.typing import NDArray
from omegaconf import OmegaConf
from test_configs import composed
from torch import Tensor, nn

from seqrnn import smoke
from seqrnn.api import execute
from seqrnn.components import Components, build_components
from seqrnn.device import DeviceContext
from seqrnn.diagnosis.budget import Budget
from seqrnn.diagnosis.trained_run import MOST_MEMORY, TrainedRun
from seqrnn.losses import LOSSES
from seqrnn.models.network import Network
from seqrnn.models.protocol import State
from seqrnn.rundir.request import RunRequest
from seqrnn.schedule import Schedule
from seqrnn.tasks.protocol import Stored


def make_run(directory: Path, *overrides: str) -> Path:
    """Trains as ``python -m seqrnn.train OVERRIDES`` does, by torch's own operations and without pictures."""
    values = composed("plots.draw=false", "kernel=torch", "device=cpu", *overrides)
    execute(RunRequest(smoke.shrink(values) if values["smoke"] else values, directory, overrides))
    return directory


def changed_run(directory: Path, tmp_path: Path) -> Path:
    """Returns a copy of a run, to be changed."""
    return Path(shutil.copytree(directory, tmp_path / "changed"))


def edit_config(run: Path, **changes: Any) -> None:
    """Sets values of config.yaml; ``a__b`` stands for the key a.b."""
    values = OmegaConf.load(run / "config.yaml")
    for key, value in changes.items():
        OmegaConf.update(values, key.replace("__", "."), value, merge=False)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(values))


def edit_summary(run: Path, **changes: Any) -> None:
    """Sets values of summary.json."""
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, **changes}))


class Dated(Stored):
    """A batch whose timesteps have dates, on which all of its sequences are."""

    share_time = True

    @property
    def times(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(self.timesteps)[:, None], self.streams, axis=1)


class Linear(nn.Module):
    """A cell h_t = W h_{t−1} + V x_t, with W (H, H) and V (H, I); it offers the protocol and no more."""

    def __init__(self, W: Tensor, V: Tensor) -> None:
        super().__init__()
        self.W, self.V = nn.Parameter(W.double()), nn.Parameter(V.double())
        self.output_size = len(W)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        h, steps = state[0][0], []
        for x in inputs:
            h = h @ self.W.T + x @ self.V.T
            steps.append(h)
        return torch.stack(steps), (h[None],)

    def initial_state(self, streams: int) -> State:
        return (torch.zeros(1, streams, self.output_size, dtype=self.W.dtype),)

    def recurrent_weights(self) -> list[Tensor]:
        return [self.W.data]


def delay_line(units: int) -> Linear:
    """It remembers its last inputs, each in a unit of its own, and nothing else."""
    return Linear(torch.diag(torch.ones(units - 1), -1), torch.eye(units)[:, :1])


def by_hand(cell: Any, task: Any, schedule: Schedule | None = None, head: nn.Module | None = None) -> TrainedRun:
    """Returns a run whose network was not trained but written: a cell, and a head (None: a random linear one), in
    float64; its config has ``task`` and ``schedule``."""
    network = Network(
        cell,
        task.output_size,
        head="linear",
        head_size=1,
        head_bias=True,
        recurrent_init="default",
        init_std={},
        kernel="torch",
    )
    if head is not None:
        network.head = head
    context = DeviceContext(torch.device("cpu"), torch.float64)
    network.double().eval()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    chosen = schedule or make_schedule()
    run = build_components(composed("device=cpu", "plots.draw=false"))  # for everything else
    components: Components = replace(
        run, task=task, loss=LOSSES[task.loss], network=network, optimizer=optimizer, schedule=chosen, context=context
    )
    trained = object.__new__(TrainedRun)
    trained.directory, trained.components = Path("by hand"), components
    trained.values, trained.overrides, trained.metrics = components.values, [], {}
    trained.summary = {"status": "finished", "timesteps": 1, "test": {}, "baselines": {}}
    trained.most_memory = MOST_MEMORY
    trained._prepare()
    trained.budget = Budget(1e9)  # a busy machine is no failure
    return trained
