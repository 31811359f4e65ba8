"""Runs the jobs of a sweep on a Ray cluster: each is a task that Ray starts once."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from seqrnn import registry
from seqrnn.cli.workers import LOOK_EVERY, PATIENCE, raise_if_interrupted
from seqrnn.errors import ConfigError
from seqrnn.sweeping.job import CarryOut


class RaySettings(BaseModel, frozen=True, extra="forbid", strict=True):
    """``hydra.launcher.*`` of ``hydra/launcher=ray_cluster``; its file in conf/ says what they mean."""

    address: str
    num_cpus: Annotated[int | float, Field(gt=0)]
    num_gpus: Annotated[int | float, Field(ge=0)]
    memory_gb: Annotated[int | float, Field(gt=0)] | None


def launch(task: CarryOut, names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Runs jobs, and returns when all have ended.

    Args:
        names: of the jobs.
        settings: ``hydra.launcher.*``.

    Raises:
        ConfigError: the settings are wrong, Ray is missing, or no cluster answers.
        KeyboardInterrupt: the sweep was interrupted; the jobs have written checkpoints.
    """
    problems = registry.problems_with(RaySettings, settings, "hydra.launcher")
    if problems:
        raise ConfigError(*problems)
    checked = RaySettings.model_validate(settings)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError:
        raise ConfigError("hydra/launcher=ray_cluster: ray is missing: pip install 'seqrnn[ray]'") from None
    try:
        ray.init(address=checked.address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"hydra.launcher.address={checked.address}: {reason}; is the cluster running?") from None
    try:
        _run(ray, task, names, checked)
    finally:
        ray.shutdown()


def _run(ray: Any, task: CarryOut, names: Sequence[str], settings: RaySettings) -> None:
    memory = None if settings.memory_gb is None else int(settings.memory_gb * 2**30)
    # max_retries=0: Ray would start a job again whose process was killed, and again, without a word.
    start = ray.remote(num_cpus=settings.num_cpus, num_gpus=settings.num_gpus, memory=memory, max_retries=0)(
        _carry_out
    )
    attempts = {name: task.sweep.outcome(name).attempts for name in names}
    running = {start.remote(task, name): name for name in names}
    try:
        while running:
            ended, _ = ray.wait([*running], num_returns=1, timeout=LOOK_EVERY)
            raise_if_interrupted()
            for reference in ended:
                name = running.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    task.lost(name, attempts[name], f"Ray: {' '.join(str(error).split())}")
    except BaseException:
        for reference in running:
            ray.cancel(reference)
        ray.wait([*running], num_returns=len(running), timeout=PATIENCE)
        raise


def _carry_out(task: CarryOut, name: str) -> None:
    task.run(name)
