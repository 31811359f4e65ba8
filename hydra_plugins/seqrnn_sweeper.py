"""The sweeper of seqrnn, where hydra looks for plugins: in the modules of the namespace package hydra_plugins.

hydra imports this module in every run, so it imports nothing of seqrnn before a sweep begins.
"""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SeqrnnSweeper(Sweeper):
    """Plans, runs and reports the jobs of a sweep (``seqrnn.sweeping.sweeper``)."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what the sweep needs. Jobs have a task function of their own."""
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the jobs that the overrides of a command line describe."""
        from seqrnn.cli import reporting

        with reporting.importing():
            from seqrnn.reports.writing import write_after_sweep
            from seqrnn.sweeping import sweeper

        return sweeper.sweep(self.config, self.hydra_context, arguments, write_after_sweep)
