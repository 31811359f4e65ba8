"""The values of summary.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from seqrnn import device, metrics
from seqrnn.components import Components
from seqrnn.errors import Diverged, Pruned, printable
from seqrnn.monitor import Progress
from seqrnn.recording import provenance
from seqrnn.rundir.bounded import MOST_NAME_CHARACTERS
from seqrnn.tasks.protocol import Task


def summarise(
    components: Components, progress: Progress, status: str, problems: Sequence[str], measured: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what summary.json holds.

    Args:
        status: ``running``, or that of ``status_of``.
        problems: a line for each thing that went wrong: why the run has not finished, and pictures that could not be
            drawn.
        measured: what only the recorder has: times, scores, and the history of the run.
    """
    task, settings = components.task, components.settings
    picture = getattr(task, "picture", None)
    return {
        "status": status,
        "problems": list(problems),
        "task": components.values["task"]["name"],
        "model": components.values["model"]["name"],
        "kind": task.kind,
        "loss": task.loss,
        "headline": headline_of(task),
        "classes": classes_of(task),
        "picture": picture.model_dump() if picture else None,
        "input_size": task.input_size,
        "output_size": task.output_size,
        "parameters": sum(parameter.numel() for parameter in components.network.parameters()),
        "data_note": getattr(task, "data_note", None),
        "data_note_warns": getattr(task, "data_note_warns", True),
        "smoke": settings.smoke,
        "seed": settings.seed,
        "device": device.describe(components.context.device),
        "precision": settings.precision,
        "threads": torch.get_num_threads(),
        "processes": components.processes,
        "planned_updates": progress.planned_updates,
        "position": progress.position,
        "updates": progress.updates,
        "timesteps": progress.timesteps,
        "epochs": progress.epoch + 1,
        "stopped_early": progress.stopped_early,
        "train_seconds": progress.train_seconds,
        "evaluate_seconds": progress.evaluate_seconds,
        "train_loss": progress.train_loss,
        "validation": progress.evaluation,
        "best_validation_loss": progress.best_loss,
        **measured,
        "job": provenance.scheduler_job(),
        "versions": provenance.versions(),
        "git_revision": provenance.git_revision(),
    }


def classes_of(task: Task) -> list[str]:
    """Returns the names of the classes of a classification, as they are shown; empty where they are numbered."""
    return [printable(name)[:MOST_NAME_CHARACTERS] for name in getattr(task, "classes", ())]


def headline_of(task: Task) -> str:
    """Returns the metric that stands for a run of a task in one number."""
    return str(getattr(task, "headline", None) or metrics.headline(task.kind, task.loss))


def status_of(error: BaseException | None) -> str:
    """Returns the status of a run that ended with ``error``, or without one."""
    match error:
        case None:
            return "finished"
        case Diverged():
            return "diverged"
        case Pruned():
            return "pruned"
        case KeyboardInterrupt() | SystemExit():  # a scheduler's handler may end the process
            return "interrupted"
        case _:
            return "failed"
