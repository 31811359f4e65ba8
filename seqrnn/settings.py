"""From a config to the objects of a run: everything wrong with it is found first, and reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field
from torch.optim import Optimizer

from seqrnn import device, registry
from seqrnn.bounds import Count, Natural
from seqrnn.checkpoints.keeper import Checkpoints
from seqrnn.device import Device, Precision
from seqrnn.errors import ConfigError
from seqrnn.loop import Place
from seqrnn.losses import LOSSES, Loss
from seqrnn.models.network import Network
from seqrnn.schedule import Schedule
from seqrnn.tasks.protocol import Task

Values = dict[str, Any]


class Plots(BaseModel, frozen=True, extra="forbid", strict=True):
    """``plots.*``: whether to draw, whether to animate the fit as it improves, and in how many frames."""

    draw: bool
    animation: bool
    frames: Count


class Rollback(BaseModel, frozen=True, extra="forbid", strict=True):
    """``rollback.*``: what the learning rate is multiplied by each time, and how often at most."""

    factor: Annotated[float, Field(gt=0, lt=1)]
    times: Annotated[int, Field(ge=1, le=100)]


class Suggested(BaseModel, frozen=True, extra="forbid", strict=True):
    """``suggested.*``: what a task gives to schedules that refer to it."""

    epochs: Count
    streams: Count
    window: Count


class Settings(BaseModel, frozen=True, extra="forbid", strict=True):
    """What stands outside the groups: how to run, and what to leave behind."""

    seed: Natural
    device: Device
    precision: Precision
    threads: Annotated[int, Field(ge=1, le=256)] | Literal["auto"]
    deterministic: bool
    smoke: bool
    log_every: Count | None
    logger: Literal["tensorboard"] | None
    resume: Literal["auto"] | None
    init_from: str | None
    on_divergence: Literal["stop", "rollback"]
    rollback: Rollback
    checkpoint: Checkpoints
    plots: Plots
    plugins: list[str]
    suggested: Suggested


@dataclass(frozen=True)
class Experiment:
    """The config of a run, as plain values, and the objects made from it."""

    values: Values
    settings: Settings
    task: Task
    loss: Loss
    network: Network
    optimizer: Optimizer
    schedule: Schedule
    place: Place


def plain(config: DictConfig) -> Values:
    """The config as plain values, interpolations resolved.

    Raises:
        ConfigError: an interpolation leads nowhere, or a value is missing.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def plugins_of(values: Values) -> list[str]:
    """The modules that ``plugins`` names.

    Raises:
        ConfigError: it is no list of names.
    """
    plugins = values.get("plugins")
    if not isinstance(plugins, list) or not all(isinstance(plugin, str) for plugin in plugins):
        raise ConfigError(f"plugins={plugins}: should be a list of module names, such as plugins=[my_package.cells]")
    return plugins


def check(values: Values) -> None:
    """
    Raises:
        ConfigError: all that is wrong with a config. No data has been read, and nothing written.
    """
    problems = problems_of(values)
    if problems:
        raise ConfigError(*problems)


def assemble(values: Values) -> Experiment:
    """Builds the objects of a run from a sound config, in an order that a seed makes repeatable."""
    settings = Settings(**{key: values[key] for key in Settings.model_fields})
    schedule = Schedule(**values["schedule"])
    hidden = values["model"].get("hidden_size", 0)
    device.prepare(settings.seed, settings.deterministic, settings.threads, hidden * schedule.streams)
    place = device.place(settings.device, settings.precision)
    task: Task = registry.build("task", values["task"], settings.seed)
    network = build_network(values["model"], task.input_size, task.output_size)
    network.to(place.device, place.dtype)
    optimizer: Optimizer = registry.build("optimizer", values["optimizer"], network.parameters())
    return Experiment(values, settings, task, LOSSES[task.loss], network, optimizer, schedule, place)


def build_network(model: Values, input_size: int, output_size: int) -> Network:
    """The cell that ``model`` names, and the head and initial weights that it describes."""
    own = registry.settings_of(Network).model_fields
    cell = registry.build("model", {key: value for key, value in model.items() if key not in own}, input_size)
    return Network(cell, output_size, **{key: value for key, value in model.items() if key in own})


def problems_of(values: Values) -> list[str]:
    """A line for everything that is wrong with a config; types and bounds first, then what does not fit together."""
    groups = {group: values.get(group) for group in ("task", "model", "optimizer", "schedule")}
    rest = {key: value for key, value in values.items() if key not in groups}
    found = registry.problems_with(Settings, rest, "")
    if not any(problem.startswith(("device", "precision")) for problem in found):
        found += _refusal(lambda: device.place(values["device"], values["precision"]))
    if values.get("logger") == "tensorboard" and find_spec("tensorboard") is None:
        found.append(
            "logger=tensorboard: TensorBoard is not installed; install seqrnn[tensorboard], or leave logger=null"
        )
    checkpoint = values.get("checkpoint")
    if values.get("on_divergence") == "rollback" and isinstance(checkpoint, dict) and checkpoint.get("keep") == 0:
        found.append("on_divergence=rollback: needs a checkpoint to go back to; set checkpoint.keep=1")
    found += registry.problems_with(Schedule, groups["schedule"] or {}, "schedule")

    parameters = [torch.nn.Parameter(torch.zeros(1))]  # something for an optimizer to be tried on
    found += _component_problems("task", groups["task"], lambda task: registry.build("task", task, 0))
    found += _component_problems("model", groups["model"], _try_network, Network)
    found += _component_problems(
        "optimizer", groups["optimizer"], lambda optimizer: registry.build("optimizer", optimizer, parameters)
    )
    return found


def _try_network(model: Values) -> None:
    """Builds it without values, so that it takes no memory, however large it is."""
    try:
        with torch.device("meta"):
            build_network(model, 1, 1)
    except ConfigError:
        raise
    except Exception:
        return  # a cell whose constructor computes with its weights shows its problems when it is built for the run


def _component_problems(
    kind: str, values: Any, build: Callable[[Values], Any], *shared: Callable[..., Any]
) -> list[str]:
    """Problems of a group's settings; if they are sound one by one, those that only building it shows."""
    if not isinstance(values, Mapping):
        return [f"{kind}: none is chosen; choose one of {', '.join(registry.names(kind))}"]
    try:
        component = registry.find(kind, values.get("name"))
    except ConfigError as error:
        return list(error.problems)
    settings = registry.settings_of(component, *shared)
    own = {str(key): value for key, value in values.items() if key != "name"}
    return registry.problems_with(settings, own, kind) or _refusal(lambda: build(dict(values)))


def _refusal(build: Callable[[], Any]) -> list[str]:
    try:
        build()
    except ConfigError as error:
        return list(error.problems)
    return []
