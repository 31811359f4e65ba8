"""The values of config.yaml and summary.json that readers of a run directory rely on, as pydantic models.

Every value may be missing: an older version did not write it, or the run has just begun. Other keys are allowed;
``seqrnn.settings`` and the components describe the whole config, and ``seqrnn.recording.summary`` the whole summary.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from seqrnn.rundir.bounded import ByName, Items, Name

Scores = ByName[float | None]  # by metric; None where a score is not finite
Drawn = Annotated[float, Field(ge=-1e15, le=1e15)]  # where neighbouring numbers still differ by less than 1


# The pictures of predictions by the kind of task, the default first; each is a file in seqrnn/plots/pictures.
PICTURES = {"regression": ("sequences", "points", "pieces"), "classification": ("classes", "text")}


class Picture(BaseModel, frozen=True):
    """The picture of a task's predictions, which the task chooses and the summary records.

    Args:
        name: one of ``PICTURES`` for the kind of the task. A config with another one is refused; where a summary that
            was received has another one, the default is drawn.
        axis: the label of the x-axis.
        start: where the x-axis has the first timestep (``points``).
        step: the distance between timesteps on it (``points``).
        length: the timesteps of each piece (``pieces``).
        input: the label of the input.
        target: the label of the target.
    """

    name: Name
    axis: Name = "timestep"
    start: Drawn = 0.0
    step: Drawn = 1.0
    length: Annotated[int, Field(ge=1, le=2**53)] = 1
    input: Name = "input"
    target: Name = "target"


class StepErrors(BaseModel):
    """Errors by step of the horizon, and the share of actual values within intervals of 90 %."""

    mae: Items[float | None]
    rmse: Items[float | None]
    coverage_90: Items[float | None]


class Covered(BaseModel):
    """What intervals of a confidence cover: adaptive ones (of all series, and of the one that they cover least), and
    split conformal ones."""

    confidence: float
    coverage: float | None
    worst_series: Name | None = None
    worst_coverage: float | None = None
    split_coverage: float | None


class Residuals(BaseModel):
    """Residuals of a target, one step ahead."""

    target: Name
    count: int
    mean: float | None
    deviation: float | None
    autocorrelation: Items[float | None]
    band: float | None
    ljung_box_p: float | None


class Forecast(BaseModel):
    """The forecasts of a run, as ``seqrnn.forecasting.report`` judges them.

    Args:
        horizon: steps of a forecast.
        lead: timesteps from an origin to its first step.
        targets, series: names.
        is_dated: whether the times are nanoseconds since 1970; otherwise they count rows, or are numbers of a file.
        period: timesteps of the season that the seasonal baseline repeats.
        origins: how many forecasts were judged.
        width_90: the mean width of an interval of 90 %.
        coverage_by_series: by series, the share of actual values within intervals of 90 %.
        by_step: by predictor; the network is the first.
        by_target: by target, predictor and metric, where there are several targets.
    """

    horizon: Annotated[int, Field(ge=1)]
    lead: Annotated[int, Field(ge=0, le=1)]
    targets: Annotated[Items[Name], Field(min_length=1)]
    series: Items[Name]
    is_dated: bool
    period: int | None
    origins: int
    width_90: float | None
    coverage_by_series: Items[float | None] = []
    intervals: Items[Covered]
    by_step: Annotated[ByName[StepErrors], Field(min_length=1)]
    by_target: ByName[ByName[Scores]]
    residuals: Items[Residuals]


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
    problems: Items[str] = []
    wall_seconds: float | None = None
    experiment: Name | None = None
    task: Name = ""
    model: Name = ""
    kind: Literal["regression", "classification"] = "regression"
    loss: Name = ""
    picture: Picture | None = None
    input_size: int = 0
    output_size: int = 0
    data_note: str | None = None
    data_note_warns: bool = True  # False: it only says what the data is
    classes: Items[Name] = []
    headline: Name | None = None
    smoke: bool = False
    planned_updates: int = 0
    updates: int = 0
    timesteps: int = 0
    train_loss: float | None = None
    validation: Scores = {}
    validation_baselines: ByName[Scores] = {}
    best_validation_loss: float | None = None
    test: Scores = {}
    baselines: ByName[Scores] = {}
    forecast: Forecast | None = None
