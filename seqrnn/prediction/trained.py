"""The run that predicts: its task and its network, built again from its directory alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqrnn import api, registry
from seqrnn.components import check_config
from seqrnn.device import DeviceContext, device_context
from seqrnn.diagnosis.trained_run import usable_here
from seqrnn.losses import Loss, loss_of
from seqrnn.models.network import Network
from seqrnn.plugins import load_components
from seqrnn.results import Run, Which
from seqrnn.rundir.reader import RunReader
from seqrnn.settings import Values
from seqrnn.streaming.run_documents import has_preprocessing, read_preprocessing
from seqrnn.tables.preprocessing import Preprocessing
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.protocol import Task


@dataclass(frozen=True)
class TrainedRun:
    """A run that predicts.

    Args:
        values: its config, as one that downloads nothing.
        which: the weights that predict.
        seed: of the task's data.
    """

    run: Run
    values: Values
    task: Task
    which: Which
    seed: int

    @property
    def name(self) -> str:
        return f"task={self.values['task']['name']} model={self.values['model']['name']}"

    @property
    def loss(self) -> Loss:
        return loss_of(self.task.loss, missing_targets=self.reads_tables)

    @property
    def data_format(self) -> DataFormat:
        """What the network reads and predicts, as the summary of the run says: the data need not be there."""
        summary = self.run.summary
        return DataFormat(summary["input_size"], summary["output_size"], summary["loss"] == "cross_entropy")

    @property
    def context(self) -> DeviceContext:
        """Predictions are made on the CPU, in the precision of the run."""
        return device_context("cpu", "float64" if self.values["precision"] == "float64" else "float32")

    @property
    def reads_tables(self) -> bool:
        """Whether the run is one of task=csv."""
        return has_preprocessing(self.run.directory)

    def preprocessing(self) -> Preprocessing:
        """Reads what is done to a table before the network reads it.

        Raises:
            DataError: it is damaged, or does not fit the network.
        """
        sizes = self.data_format.input_size, self.data_format.output_size
        return read_preprocessing(self.run.directory, *sizes)

    def network(self) -> Network:
        """Returns the trained network in evaluation mode."""
        return self.run.network(self.which)


def load(
    directory: Path, plugins: Sequence[str] = (), which: Which = "tested", seed: int | None = None
) -> TrainedRun:
    """Returns a run that predicts, from its directory alone; nothing in the directory is executed.

    Args:
        plugins: modules to import that register the run's own task or model.
        which: ``tested`` for the weights that the run was tested with, ``best`` for those of its best evaluation.
        seed: of the data that the task draws; None: that of the run.

    Raises:
        DataError: it is not a run directory, or something in it is missing or damaged.
        ConfigError: its config is not one that can be run here.
    """
    run = api.load(directory, plugins=plugins)
    RunReader(directory).check_plugins(plugins)
    load_components(plugins)
    values = usable_here(run.config)
    check_config(values)
    chosen = values["seed"] if seed is None else seed
    task: Any = registry.build("task", values["task"], chosen)
    return TrainedRun(run, values, task, which, chosen)
