"""From a config to the objects of a run. Everything wrong with the config is found first, and reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch.optim import Optimizer

from seqrnn import device, registry
from seqrnn.device import DeviceContext
from seqrnn.errors import ConfigError
from seqrnn.losses import LOSSES, Loss
from seqrnn.models.network import Network
from seqrnn.schedule import Schedule
from seqrnn.settings import Kernel, Settings, Values
from seqrnn.tasks.protocol import Task


@dataclass(frozen=True)
class Components:
    """The config of a run, as plain values, and the objects that are built from it."""

    values: Values
    settings: Settings
    task: Task
    loss: Loss
    network: Network
    optimizer: Optimizer
    schedule: Schedule
    context: DeviceContext


def check_config(values: Values) -> None:
    """Checks a config. No data is read, and nothing is written.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    problems = problems_of(values)
    if problems:
        raise ConfigError(*problems)


def build_components(values: Values) -> Components:
    """Builds the objects of a run from a sound config, in an order that a seed makes repeatable."""
    settings = Settings(**{key: values[key] for key in Settings.model_fields})
    schedule = Schedule(**values["schedule"])
    hidden = values["model"].get("hidden_size", 0)
    device.prepare(settings.seed, settings.deterministic, settings.threads, hidden * schedule.streams)
    context = device.device_context(settings.device, settings.precision)
    task: Task = registry.build("task", values["task"], settings.seed)
    network = build_network(values["model"], task.input_size, task.output_size, settings.kernel)
    network.to(context.device, context.dtype)
    optimizer: Optimizer = registry.build("optimizer", values["optimizer"], network.parameters())
    return Components(values, settings, task, LOSSES[task.loss], network, optimizer, schedule, context)


def build_network(model: Values, input_size: int, output_size: int, kernel: Kernel = "auto") -> Network:
    """The cell that ``model`` names, and the head and initial weights that it describes."""
    own = registry.settings_of(Network).model_fields
    cell = registry.build("model", {key: value for key, value in model.items() if key not in own}, input_size)
    return Network(cell, output_size, kernel, **{key: value for key, value in model.items() if key in own})


def problems_of(values: Values) -> list[str]:
    """A line for everything that is wrong with a config; types and bounds first, then what does not fit together."""
    groups = {group: values.get(group) for group in ("task", "model", "optimizer", "schedule")}
    rest = {key: value for key, value in values.items() if key not in groups}
    found = registry.problems_with(Settings, rest, "")
    if not any(problem.startswith(("device", "precision")) for problem in found):
        found += _refusal(lambda: device.device_context(values["device"], values["precision"]))
    if values.get("logger") == "tensorboard" and find_spec("tensorboard") is None:
        found.append(
            "logger=tensorboard: TensorBoard is not installed; install seqrnn[tensorboard], or leave logger=null"
        )
    checkpoint = values.get("checkpoint")
    if values.get("on_divergence") == "rollback" and isinstance(checkpoint, dict) and checkpoint.get("keep") == 0:
        found.append("on_divergence=rollback: needs a checkpoint to go back to; set checkpoint.keep=1")
    found += _schedule_problems(groups["schedule"] or {}, checkpoint)

    parameters = [torch.nn.Parameter(torch.zeros(1))]  # something for an optimizer to be tried on
    found += _component_problems("task", groups["task"], lambda task: registry.build("task", task, 0))
    found += _component_problems("model", groups["model"], _try_network, Network)
    found += _component_problems(
        "optimizer", groups["optimizer"], lambda optimizer: registry.build("optimizer", optimizer, parameters)
    )
    return found


def _schedule_problems(values: Values, checkpoint: Any) -> list[str]:
    problems = registry.problems_with(Schedule, values, "schedule")
    if problems or not isinstance(checkpoint, Mapping) or checkpoint.get("best", "") is not None:
        return problems
    schedule = Schedule(**values)
    if not schedule.keeps_best:
        return []
    key = "schedule.keep=best" if schedule.keep else f"schedule.patience={schedule.patience}"
    return [
        f"{key}: scores the best evaluation, and checkpoint.best=null keeps none; set checkpoint.best=loss, or "
        "schedule.keep=last"
    ]


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
