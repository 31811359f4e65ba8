"""Healthy configs: small networks that learn their tasks in about a second. A fault is planted into one of these.

``python -m studies.doctor --recipes`` trains each of them on three seeds, and prints the losses beside ``reaches``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Change = Mapping[str, Any]  # keys as typed on the command line, and their values

STACKED = ("gru", "lstm", "rnn", "irnn")  # cells whose parameters have torch's names, cell.stack.weight_hh_l0 …
REGRESSIONS = ("sine", "sincos", "integral", "adding", "xor", "letters", "memory_capacity", "mackey_glass", "narma")
DRAWN = (
    "adding", "copy", "delayed_echo", "xor", "letters", "parity", "add_memory", "memory_capacity", "mackey_glass",
    "narma",
)  # fmt: skip


@dataclass(frozen=True)
class Data:
    """The data of a task.

    Args:
        sequences: of an epoch.
        length: timesteps of each.
        settings: of the task, besides the number of sequences.
        window: timesteps that gradients reach back; None: whole sequences, full backpropagation.
        streams: read in parallel.
        reach: how many of the latest timesteps a target depends on.
    """

    sequences: int
    length: int
    settings: Mapping[str, Any]
    window: int | None
    streams: int
    reach: int


DATA = {
    "sine": Data(1, 20, {}, None, 1, 2),
    "sincos": Data(1, 2000, {"task.train_pieces": 200}, 10, 1, 3),
    "integral": Data(3200, 250, {"task.test_sequences": 50, "task.test_timesteps": 500}, 50, 16, 65),
    "adding": Data(2000, 20, {"task.length": 20}, None, 50, 20),
    "copy": Data(2000, 11, {"task.delay": 5, "task.symbols": 3, "task.alphabet": 4}, None, 50, 9),
    "delayed_echo": Data(320, 200, {"task.delay": 6, "task.length": 200}, 20, 16, 7),
    "xor": Data(320, 300, {}, 15, 16, 3),
    "letters": Data(160, 300, {}, 12, 16, 4),
    "parity": Data(320, 200, {"task.length": 200}, 20, 16, 3),
    "add_memory": Data(320, 500, {}, 20, 16, 9),
    "memory_capacity": Data(320, 200, {"task.delays": 8, "task.length": 200}, 20, 16, 9),
    "mackey_glass": Data(
        64, 300,
        {"task.length": 300, "task.steps": 4, "task.washout": 100, "task.validation_sequences": 20},
        50, 16, 18,
    ),
    "narma": Data(160, 300, {"task.length": 300}, 50, 16, 11),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A healthy config.

    Args:
        lr: the rate of the optimizer; it falls to 0 (cosine).
        reaches: test loss that every one of three seeds stays below.
    """

    task: str
    cell: str
    optimizer: str
    lr: float
    epochs: int
    reaches: float
    units: int = 24

    @property
    def name(self) -> str:
        return f"{self.task} {self.cell} {self.optimizer}"

    @property
    def data(self) -> Data:
        return DATA[self.task]

    @property
    def is_regression(self) -> bool:
        return self.task in REGRESSIONS

    @property
    def updates(self) -> int:
        """Optimizer steps of a run."""
        data = self.data
        return self.epochs * -(-data.sequences // data.streams) * -(-data.length // (data.window or data.length))

    def values(self) -> dict[str, Any]:
        """Returns the config as overrides."""
        data = self.data
        momentum = {"optimizer.momentum": 0.9} if self.optimizer == "sgd" else {}
        return {
            "task": self.task,
            "model": self.cell,
            "optimizer": self.optimizer,
            **data.settings,
            **self.sequences(data.sequences),
            "model.hidden_size": self.units,
            "optimizer.lr": self.lr,
            **momentum,
            "schedule.epochs": self.epochs,
            "schedule.streams": data.streams,
            "schedule.window": data.window,
        }

    def sequences(self, count: int) -> dict[str, Any]:
        """Returns so many training sequences as overrides; nothing for tasks that have one sequence."""
        if self.task in DRAWN:
            return {"task.train_sequences": count}
        return {"task.train_timesteps": count * self.data.length} if self.task == "integral" else {}


RECIPES = (
    Recipe("sine", "gru", "adam", 0.01, 1000, 5.2e-07),
    Recipe("sine", "elman", "sgd", 0.05, 1000, 8.4e-06),
    Recipe("sine", "irnn", "adam", 0.01, 1000, 0.00015),
    Recipe("sincos", "lstm", "adam", 0.003, 5, 0.00013),
    Recipe("sincos", "gru", "adam", 0.002, 5, 0.00092),
    Recipe("sincos", "rnn", "sgd", 0.05, 5, 0.00042),
    Recipe("sincos", "irnn", "adam", 0.01, 5, 0.00025),
    Recipe("integral", "gru", "adam", 0.005, 3, 0.015),
    Recipe("integral", "lstm", "rmsprop", 0.002, 3, 0.031),
    Recipe("integral", "rnn", "adam", 0.005, 3, 0.027),
    Recipe("adding", "gru", "adam", 0.01, 20, 0.00094),
    Recipe("adding", "lstm", "adamw", 0.01, 25, 0.0027),
    Recipe("adding", "mingru", "adam", 0.01, 20, 0.0011),
    Recipe("adding", "gru", "sgd", 0.3, 30, 0.0019),
    Recipe("copy", "gru", "adam", 0.01, 60, 0.0042),
    Recipe("copy", "lstm", "rmsprop", 0.005, 60, 0.083),
    Recipe("copy", "mingru", "adam", 0.01, 40, 0.0046),
    Recipe("delayed_echo", "gru", "sgd", 0.3, 5, 0.00031),
    Recipe("delayed_echo", "lstm", "adam", 0.01, 5, 0.00066),
    Recipe("delayed_echo", "rnn", "rmsprop", 0.002, 5, 0.00038),
    Recipe("xor", "gru", "adam", 0.01, 4, 0.172),
    Recipe("xor", "rnn", "adam", 0.01, 4, 0.172),
    Recipe("letters", "lstm", "adam", 0.01, 5, 0.0255),
    Recipe("letters", "rnn", "sgd", 0.3, 5, 0.0254),
    Recipe("parity", "gru", "adam", 0.01, 5, 0.0005),
    Recipe("parity", "lstm", "adamw", 0.01, 6, 0.0022),
    Recipe("add_memory", "gru", "adam", 0.01, 5, 0.474),
    Recipe("add_memory", "rnn", "sgd", 0.3, 5, 0.47),
    Recipe("memory_capacity", "gru", "adam", 0.01, 8, 6.2e-05),
    Recipe("memory_capacity", "lstm", "rmsprop", 0.003, 8, 0.0005),
    Recipe("memory_capacity", "rnn", "sgd", 0.3, 8, 0.00034),
    Recipe("mackey_glass", "gru", "adam", 0.01, 40, 0.00087),
    Recipe("mackey_glass", "lstm", "adamw", 0.01, 40, 0.00085),
    Recipe("mackey_glass", "rnn", "rmsprop", 0.002, 40, 0.001),
    Recipe("narma", "lstm", "adam", 0.01, 60, 0.0012),
    Recipe("narma", "rnn", "adam", 0.005, 60, 0.0019),
    Recipe("narma", "gru", "rmsprop", 0.005, 60, 0.0013),
)
