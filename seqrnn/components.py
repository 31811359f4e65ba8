"""Checks a config, with every problem reported at once, and builds the objects of a run from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import torch
from torch.optim import Optimizer

from seqrnn import device, registry, smoke
from seqrnn.device import DeviceContext
from seqrnn.errors import ConfigError, did_you_mean
from seqrnn.losses import LOSSES, Loss, loss_of
from seqrnn.models.checks import check_description, check_outputs
from seqrnn.models.network import Network
from seqrnn.models.protocol import Cell
from seqrnn.optimizers import tensors_remembered
from seqrnn.rundir.formats import PICTURES, Picture
from seqrnn.schedule import Schedule
from seqrnn.settings import Kernel, Settings, Values, logger_names
from seqrnn.tasks.protocol import Suggestions, Task, missing_targets

KINDS = ("regression", "classification")


@dataclass(frozen=True)
class Components:
    """The config of a run, as plain values, and the objects that are built from it.

    Args:
        processes: how many processes share out the streams.
    """

    values: Values
    settings: Settings
    task: Task
    loss: Loss
    network: Network
    optimizer: Optimizer
    schedule: Schedule
    context: DeviceContext
    processes: int = 1


def check_config(values: Values) -> None:
    """Checks a config. No data is read, and nothing is written.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    problems = problems_of(values)
    if problems:
        raise ConfigError(*problems)


def resolve_suggestions(values: Values) -> Values:
    """Returns a sound config in which each length that is ``auto`` is the one that the task finds in its data.

    Raises:
        ConfigError: the lengths do not fit to the other settings.
        DataError: something is wrong with the data.
    """
    if not _has_open_lengths(values):
        return values
    settings = smoke.limited_task(values) if values["smoke"] else values["task"]
    resolved = _with_lengths(values, registry.build("task", settings, values["seed"]).suggest())
    check_config(resolved)
    return resolved


def _has_open_lengths(values: Values) -> bool:
    """Returns whether lengths are ``auto``, and the task is one that finds them in its data."""
    task = registry.find("task", values["task"]["name"])
    lengths = [values[group].get(name) for group in ("suggested", "schedule") for name in Suggestions._fields]
    return "auto" in lengths and hasattr(task, "suggest")


def _with_lengths(values: Values, lengths: Suggestions) -> Values:
    """Returns a config in which ``lengths`` stand where it says ``auto``."""
    found = lengths._asdict()
    return {
        **values,
        **{
            group: {
                key: found[key] if key in found and value == "auto" else value for key, value in values[group].items()
            }
            for group in ("suggested", "schedule")
        },
    }


def _with_any_lengths(values: Values) -> Values:
    """Returns a config in which lengths that are ``auto`` are any that fit, to check everything else."""
    try:
        if not _has_open_lengths(values):
            return values
    except (ConfigError, KeyError, TypeError, AttributeError):
        return values  # there is no such task, or something else is no group: that is reported
    schedule = values["schedule"]
    window = schedule.get("stride") or schedule.get("update_every") or 1
    return _with_lengths(values, Suggestions(1, 1, window))


def build_components(values: Values) -> Components:
    """Builds the objects of a run from a sound config, in an order that a seed makes repeatable."""
    settings = Settings(**{key: values[key] for key in Settings.model_fields if key in values})
    schedule = Schedule(**values["schedule"])
    hidden = values["model"].get("hidden_size", 0)
    device.prepare(settings.seed, settings.deterministic, settings.threads, hidden * schedule.streams)
    context = device.device_context(settings.device, settings.precision)
    task: Task = registry.build("task", values["task"], settings.seed)
    network = build_network(values["model"], task.input_size, task.output_size, settings.kernel)
    check_outputs(values["model"]["name"], network.cell, task.input_size)
    network.to(context.device, context.dtype)
    optimizer: Optimizer = registry.build("optimizer", values["optimizer"], network.parameters())
    loss = loss_of(task.loss, missing_targets(task))
    return Components(values, settings, task, loss, network, optimizer, schedule, context)


def build_network(model: Values, input_size: int, output_size: int, kernel: Kernel = "auto") -> Network:
    """Builds the cell that ``model`` names, with the head and the initial weights that it describes."""
    own = registry.settings_of(Network).model_fields
    cell = registry.build("model", {key: value for key, value in model.items() if key not in own}, input_size)
    problems = _protocol_problems("model", model["name"], cell, Cell)
    if problems:
        raise ConfigError(*problems)
    check_description(model["name"], cell, input_size)
    return Network(cell, output_size, kernel, **{key: value for key, value in model.items() if key in own})


def network_without_values(model: Values, input_size: int, output_size: int) -> Network | None:
    """Builds a network whose weights have shapes and no values, so that it takes no memory, however large it is.

    Returns:
        None for a cell whose constructor computes with its weights.

    Raises:
        ConfigError: its settings do not fit together.
    """
    try:
        with torch.device("meta"):
            return build_network(model, input_size, output_size)
    except ConfigError:
        raise
    except Exception:
        return None  # such a cell shows its problems when it is built for the run


def check_model(model: Any) -> None:
    """Checks the group ``model`` of a config.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    problems = _group_problems("model", model, _try_network, Network)
    if problems:
        raise ConfigError(*problems)


def problems_of(values: Values) -> list[str]:
    """Returns a line for everything that is wrong with a config; types and bounds first, then what does not fit
    together."""
    values = _with_any_lengths(values)
    groups = {group: values.get(group) for group in ("task", "model", "optimizer", "schedule")}
    rest = {key: value for key, value in values.items() if key not in groups}
    found = registry.problems_with(Settings, rest, "")
    if not any(problem.startswith(("device", "precision")) for problem in found):
        found += _problems_raised(lambda: device.device_context(values["device"], values["precision"]))
    if not any(problem.startswith("logger") for problem in found):
        found += _logger_problems(logger_names(values.get("logger")))
    checkpoint = values.get("checkpoint")
    if values.get("on_divergence") == "rollback" and isinstance(checkpoint, dict) and checkpoint.get("keep") == 0:
        found.append("on_divergence=rollback: needs a checkpoint to go back to; set checkpoint.keep=1")
    found += _schedule_problems(groups["schedule"] or {}, checkpoint)
    found += _group_problems("task", groups["task"], _try_task)
    found += _group_problems("model", groups["model"], _try_network, Network)
    found += _group_problems("optimizer", groups["optimizer"], _try_optimizer)
    return found or _size_problems(values)


def _logger_problems(names: Sequence[str]) -> list[str]:
    known, found = registry.names("logger"), []
    for name in names:
        if name not in known:
            found.append(f"logger={name}: no such logger{did_you_mean(name, known)} (there are: {', '.join(known)})")
            continue
        package = getattr(registry.find("logger", name), "package", None)
        if package is not None and find_spec(package) is None:
            what = f"'seqrnn[{package}]'" if package in _extras() else package
            found.append(f"logger={name}: {package} is not installed; pip install {what}, or leave the logger out")
    return found


def _extras() -> list[str]:
    """Returns the names of this package's extras; none where it was not installed by pip."""
    try:
        return metadata.metadata("seqrnn").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []


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


def _size_problems(values: Values) -> list[str]:
    """Returns the problem of a network whose parameters do not fit into memory, which are not allocated to see that.

    On a CPU, their gradients and what the optimizer remembers of them count too. Activations do not count, nor what
    the first and the last layer have for more than one input and one output: the task decides over that.
    """
    available = device.available_memory()
    network = network_without_values(values["model"], 1, 1)
    if network is None or available is None:
        return []
    numbers = sum(parameter.numel() for parameter in network.parameters())
    context = device.device_context(values["device"], values["precision"])
    on_cpu = context.device.type == "cpu"
    copies = 2 + tensors_remembered(values["optimizer"]) if on_cpu else 1
    needed = numbers * copies * context.dtype.itemsize
    if needed <= available:
        return []
    model = values["model"]
    sizes = " ".join(f"model.{key}={model[key]}" for key in ("hidden_size", "num_layers") if key in model)
    what = "their gradients and what the optimizer remembers of them " if on_cpu else ""
    return [
        f"{sizes or 'model.name=' + model['name']}: {numbers:,} parameters {'with ' + what if what else ''}take "
        f"{_gigabytes(needed)}, and {_gigabytes(available)} of memory are available; make the network smaller"
    ]


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"


def _group_problems(
    kind: str, values: Any, attempt: Callable[[Values], object], *shared: Callable[..., Any]
) -> list[str]:
    """Returns the problems of a group's settings; if each is sound by itself, those that only building it shows."""
    if not isinstance(values, Mapping):
        return [f"{kind}: none is chosen; choose one of {', '.join(registry.names(kind))}"]
    try:
        settings = registry.settings_of(registry.find(kind, values.get("name")), *shared)
    except ConfigError as error:
        return list(error.problems)
    own = {str(key): value for key, value in values.items() if key != "name"}
    return registry.problems_with(settings, own, kind) or _problems_raised(lambda: attempt(dict(values)))


def _try_task(values: Values) -> None:
    task = registry.build("task", values, 0)
    problems = _protocol_problems("task", values["name"], task, Task)
    if not problems:
        where = f"task.name={values['name']}: {registry.describe(type(task))}"
        if task.kind not in KINDS:
            problems.append(f"{where}: its kind is {task.kind!r}; should be {' or '.join(map(repr, KINDS))}")
        if task.loss not in LOSSES:
            nearest = did_you_mean(str(task.loss), LOSSES)
            problems.append(f"{where}: its loss is {task.loss!r}{nearest} (there are: {', '.join(LOSSES)})")
        problems += [f"{where}: {problem}" for problem in _picture_problems(task)]
    if problems:
        raise ConfigError(*problems)


def _picture_problems(task: Task) -> list[str]:
    picture, names = getattr(task, "picture", None), PICTURES.get(task.kind, ())
    if picture is None or not names or (isinstance(picture, Picture) and picture.name in names):
        return []
    found = picture.name if isinstance(picture, Picture) else picture
    return [
        f"its picture is {found!r}; should be a seqrnn.rundir.formats.Picture with the name of one for a "
        f"{task.kind}: {', '.join(names)}"
    ]


def _try_network(values: Values) -> None:
    network_without_values(values, 1, 1)


def _try_optimizer(values: Values) -> None:
    optimizer = registry.build("optimizer", values, [torch.nn.Parameter(torch.zeros(1))])
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(
            f"optimizer.name={values['name']}: it is built as a {registry.describe(type(optimizer))}; should be a "
            "torch.optim.Optimizer"
        )


def _protocol_problems(kind: str, name: str, component: Any, protocol: type) -> list[str]:
    """Returns what a component lacks of a protocol, in a line."""
    missing = registry.missing_members(component, protocol)
    if not missing:
        return []
    return [
        f"{kind}.name={name}: {registry.describe(type(component))} has no {', '.join(missing)}; "
        f"{protocol.__module__}.{protocol.__name__} documents what a {kind} has"
    ]


def _problems_raised(attempt: Callable[[], object]) -> list[str]:
    try:
        attempt()
    except ConfigError as error:
        return list(error.problems)
    return []
