"""What the tests of continued learning share: rows that arrive one by one, and runs that learn from them."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqrnn.prediction import stream, trained
from seqrnn.prediction.trained import TrainedRun
from seqrnn.prediction.vector_rows import LearningVectorStream

INTEGRAL = ("task=integral", "model=gru", "model.hidden_size=8", "model.num_layers=2")
SCHEDULES = {
    "tbptt": ("schedule.window=5", "schedule.stride=5"),
    "overlapping": ("schedule.window=7", "schedule.stride=2", "schedule.update_every=4"),
    "no carry": ("schedule.window=4", "schedule.stride=4", "schedule.carry=false"),
    "online": ("schedule=online",),
    "rtrl": ("schedule.window=4", "schedule.gradient=rtrl"),
}


def rows(timesteps: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    """The saturating sum of jumping inputs, with some true values missing and a new sequence in the middle."""
    rng = np.random.default_rng(seed)
    made, y, x = [], 0.5, 0.0
    for timestep in range(timesteps):
        x = float(np.float32(rng.random())) if timestep % 4 == 0 else x
        y = float(np.float32(np.clip(y + 0.3 * (x - 0.5), 0, 1)))
        row: dict[str, Any] = {"input": x}
        if timestep % 7 != 3:
            row["target"] = y
        if timestep == timesteps // 2:
            row["start"] = True
        made.append(row)
    return made


def load(run: Any) -> TrainedRun:
    return trained.load(run.directory)


def learning(run: TrainedRun) -> LearningVectorStream:
    answering = stream.open_learning(run, 0.01)
    assert isinstance(answering, LearningVectorStream)
    return answering
