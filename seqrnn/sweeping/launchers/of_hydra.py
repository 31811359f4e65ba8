"""Runs the jobs of a sweep by a launcher of hydra's."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from seqrnn.cli.workers import raise_if_interrupted
from seqrnn.errors import UserError
from seqrnn.sweeping.job import CarryOut, PlannedConfigs

LOST = "its process ended without a word (killed, or out of memory)"


def launch(task: CarryOut, names: Sequence[str], config: DictConfig, context: HydraContext) -> None:
    """Runs jobs, and returns when all have ended.

    A launcher may itself fail, because a worker of its was killed, and does not say which job that worker ran. Then
    those that were running are launched once more, each alone, and one that ends in the same way has failed; after
    them, the jobs that had not begun.

    Args:
        names: of the jobs.
        config: what hydra has composed for the sweep.
        context: hydra's callbacks.

    Raises:
        Exception: the launcher's own error, where no job has begun.
    """
    config = config.copy()
    with open_dict(config):
        config.hydra.sweep.dir = str(task.sweep.path)
    loader: Any = PlannedConfigs()
    context = HydraContext(config_loader=loader, callbacks=context.callbacks)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=config)
    before = {name: task.sweep.outcome(name).attempts for name in names}
    waiting = list(names)
    while waiting:
        error = _launch(launcher, waiting)
        raise_if_interrupted()
        if error is None:
            return
        begun = [name for name in waiting if task.sweep.outcome(name).attempts > before[name]]
        if not begun:
            raise error
        for name in begun:
            if task.sweep.outcome(name).status in ("running", "interrupted"):
                attempts = task.sweep.outcome(name).attempts
                if _launch(launcher, [name]) is not None:
                    task.lost(name, attempts, LOST)
        waiting = [name for name in waiting if name not in begun]


def _launch(launcher: Any, names: Sequence[str]) -> Exception | None:
    """Hands jobs to a launcher; returns the launcher's own error, if it could not carry them all out."""
    with _quiet():
        try:
            for result in launcher.launch([[f"job={name}"] for name in names], initial_job_idx=0):
                result.return_value  # noqa: B018  # raises what the launcher could not do
        except (OSError, UserError):
            raise
        except Exception as error:
            return error
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Within its block, launchers do not print the jobs that they start: a line of ours says how each ended."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
