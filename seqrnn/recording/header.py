"""What the terminal prints before a run: what runs, on what, and what its user should know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqrnn import device
from seqrnn.components import Components
from seqrnn.schedule import distinct


def title(components: Components, experiment: str | None) -> str:
    """Returns the task, the model and the experiment, such as ``sine with elman (sine_online)``."""
    name = f"{components.values['task']['name']} with {components.values['model']['name']}"
    return f"{name} ({experiment})" if experiment else name


def facts(components: Components, planned_updates: int, directory: Path) -> dict[str, str]:
    """Returns lines by name: the data if there is something to know about it, model, optimizer, schedule, length,
    device, why torch computes the recurrence if kernel=auto has chosen it, and where the results are written."""
    model, optimizer = components.values["model"], components.values["optimizer"]
    schedule, settings = components.schedule, components.settings
    parameters = sum(parameter.numel() for parameter in components.network.parameters())
    size = f"{model['hidden_size']} hidden units · " if "hidden_size" in model else ""
    note = getattr(components.task, "data_note", None)
    network, context = components.network, components.context
    reason = network.torch_reason(context.device, context.autocast or context.dtype, schedule.streams, gradients=True)
    return {
        **({"data": note} if note else {}),
        "model": f"{size}{model['head']} head · {parameters:,} parameters",
        "optimizer": _optimizer(optimizer, schedule.lr_decay),
        "schedule": schedule.describe(),
        "length": f"{schedule.epochs:,} epoch{'s' * (schedule.epochs > 1)} · {planned_updates:,} updates",
        "device": f"{_device(components)} · {settings.precision} · seed {settings.seed}",
        **({"kernel": f"torch: {reason}"} if reason and network.kernel == "auto" else {}),
        "results": relative(directory),
    }


def _device(components: Components) -> str:
    described = device.describe(components.context.device)
    return f"{components.processes} processes on {described}" if components.processes > 1 else described


def _optimizer(settings: Mapping[str, Any], lr_decay: str) -> str:
    name = str(settings["name"])
    return f"{name} · lr {settings['lr']:g} · {lr_decay}" if "lr" in settings else name


def notes(components: Components) -> list[str]:
    """Returns a line for each setting that does not do what its name promises on this data."""
    schedule, settings = components.schedule, components.settings
    batches = components.task.train(0, schedule.streams)
    longest = max(batch.timesteps for batch, _ in distinct(batches))
    found = [*getattr(components.task, "notes", ())]
    if schedule.reach and schedule.reach > longest:
        found.append(
            f"schedule.window={schedule.window} is longer than the sequences of {longest} timesteps: "
            "gradients reach back to the start of each sequence"
        )
    if batches[0].streams < schedule.streams:
        found.append(f"schedule.streams={schedule.streams}: the task has sequences for {batches[0].streams}")
    keep = "null" if schedule.keep is None else schedule.keep
    best = settings.checkpoint.best
    chosen = {
        f"the tested weights (schedule.keep={keep})": schedule.keeps_best,
        f"best.safetensors (checkpoint.best={best})": best is not None,
        f"the end of training (schedule.patience={schedule.patience})": schedule.patience is not None,
        "the learning rate (schedule.lr_decay=plateau)": schedule.lr_decay == "plateau",
    }
    by_test = [name for name, is_chosen in chosen.items() if is_chosen]
    if getattr(components.task, "validation_is_test", False) and by_test:
        found.append(
            f"validation data is test data here, and chooses {', '.join(by_test)}; test scores of what it "
            "chooses are too good"
        )
    return found


def relative(path: Path) -> str:
    """Returns a path relative to the current directory if it is inside of it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
