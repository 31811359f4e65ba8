"""The launchers of seqrnn, where hydra looks for plugins: in the modules of the namespace package hydra_plugins.

hydra imports this module in every run, so it imports nothing of seqrnn before a sweep begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class _ByName(Launcher):
    """Runs jobs of ``hydra/sweeper=seqrnn``, which are known by name.

    Args:
        settings: ``hydra.launcher.*``.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in settings.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps the task function, which the sweeper has made."""
        self.task: Any = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs jobs, each given as ``job=NAME``; returns nothing, because each writes down how it ended."""
        from seqrnn.errors import ConfigError
        from seqrnn.sweeping.job import CarryOut

        if not isinstance(self.task, CarryOut):
            raise ConfigError("hydra/launcher: slurm, ray_cluster and population need hydra/sweeper=seqrnn")
        self.run([text.partition("=")[2] for (text,) in job_overrides])
        return []

    def run(self, names: list[str]) -> None:
        """Runs jobs, and returns when all have ended."""
        raise NotImplementedError


class SlurmLauncher(_ByName):
    """Runs jobs on a Slurm cluster (``seqrnn.sweeping.launchers.slurm``)."""

    def run(self, names: list[str]) -> None:
        """Runs jobs, and returns when all have ended."""
        from seqrnn.sweeping.launchers import slurm

        slurm.launch(self.task, names, self.settings)


class RayLauncher(_ByName):
    """Runs jobs on a Ray cluster (``seqrnn.sweeping.launchers.ray_cluster``)."""

    def run(self, names: list[str]) -> None:
        """Runs jobs, and returns when all have ended."""
        from seqrnn.sweeping.launchers import ray_cluster

        ray_cluster.launch(self.task, names, self.settings)


class PopulationLauncher(_ByName):
    """Runs jobs side by side in this process, with updates that are computed together
    (``seqrnn.sweeping.launchers.population``)."""

    def run(self, names: list[str]) -> None:
        """Runs jobs, and returns when all have ended."""
        from seqrnn.sweeping.launchers import population

        population.launch(self.task, names, self.settings, print)
