"""The values of config.yaml and summary.json that readers of a run directory rely on, as pydantic models.

Every value may be missing: an older version did not write it, or the run has just begun. Other keys are allowed; the
whole config is described by ``seqrnn.settings`` and by the components.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from seqrnn.rundir.bounded import ByName, Name

Scores = ByName[float | None]  # by metric; None where a score is not finite


class TaskValues(BaseModel):
    name: Name = ""


class ModelValues(BaseModel):
    name: Name = ""


class OptimizerValues(BaseModel):
    name: Name = ""
    lr: float = 0.0


class ScheduleValues(BaseModel):
    streams: int = 0
    window: int | None = None
    stride: int | None = None
    update_every: int | None = None
    carry: bool = False


class ConfigValues(BaseModel):
    """What is read from config.yaml."""

    seed: int = 0
    smoke: bool = False
    plugins: list[Any] = []
    task: TaskValues = TaskValues()
    model: ModelValues = ModelValues()
    optimizer: OptimizerValues = OptimizerValues()
    schedule: ScheduleValues = ScheduleValues()


class SummaryValues(BaseModel):
    """What is read from summary.json."""

    model_config = ConfigDict(protected_namespaces=())

    status: Name = ""
    experiment: Name | None = None
    task: Name = ""
    model: Name = ""
    kind: Literal["regression", "classification"] = "regression"
    loss: Name = ""
    input_size: int = 0
    output_size: int = 0
    data_note: Name | None = None
    smoke: bool = False
    planned_updates: int = 0
    updates: int = 0
    timesteps: int = 0
    train_loss: float | None = None
    validation: Scores = {}
    best_validation_loss: float | None = None
    test: Scores = {}
    baselines: ByName[Scores] = {}
