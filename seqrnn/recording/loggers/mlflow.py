"""logger=mlflow: a run in MLflow's store, by default the file outputs/mlflow.db."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from seqrnn.monitor import Row
from seqrnn.recording.loggers.protocol import LoggedRun
from seqrnn.registry import register

STORE = Path("outputs/mlflow.db")
EXPERIMENT = "seqrnn"
LOCK_SECONDS = 60  # that a process waits for another one which writes the store
MOST_METRICS, MOST_PARAMETERS = 1000, 100  # in a call, as MLflow has it
STATES = {"finished": "FINISHED", "interrupted": "KILLED", "pruned": "KILLED"}


@register("logger", "mlflow")
class MLflow:
    """Writes to MLflow's store; the step of a metric is timesteps.

    Nothing leaves the machine: the store is a file, and MLflow's usage statistics are switched off. The environment
    variables of MLflow (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME) choose another one.
    """

    package = "mlflow"

    def __init__(self, run: LoggedRun) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._metric: Any = Metric
        place = os.environ.get("MLFLOW_TRACKING_URI")
        if place is None:
            STORE.parent.mkdir(exist_ok=True)
            place = f"sqlite:///{STORE.absolute()}?timeout={LOCK_SECONDS}"
        with FileLock(f"{STORE}.lock" if place.startswith("sqlite:///") else os.devnull, timeout=LOCK_SECONDS):
            # Processes that start together would each create the tables.
            self._client = MlflowClient(place)
            experiment = self._experiment(MlflowException)
        self._after = -1  # rows up to these timesteps are known
        if run.known_as is not None:
            try:
                found = self._client.get_run(run.known_as)
                self._after = max(
                    (one.step for one in self._client.get_metric_history(run.known_as, "epoch")), default=-1
                )
                self._client.update_run(found.info.run_id, status="RUNNING")
                self.identifier = run.known_as
                return
            except MlflowException:  # the store is another one, or has been emptied
                pass
        tags = [RunTag("directory", str(run.directory.absolute()))]
        self.identifier = self._client.create_run(experiment, run_name=run.name).info.run_id
        parameters = [Param(key, str(value)) for key, value in run.parameters.items()]
        for begin in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(self.identifier, params=parameters[begin : begin + MOST_PARAMETERS])
        self._client.log_batch(self.identifier, tags=tags)

    def _experiment(self, error: type[Exception]) -> str:
        """Returns the identifier of the experiment, which is created if there is none."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def record(self, rows: Sequence[Row]) -> None:
        """Adds the numbers of rows, in few calls."""
        now = int(1000 * time.time())
        metrics = [
            self._metric(key, value, now, int(row["timesteps"] or 0))
            for row in rows
            if int(row["timesteps"] or 0) > self._after
            for key, value in row.items()
            if key != "timesteps" and value is not None
        ]
        for begin in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self.identifier, metrics=metrics[begin : begin + MOST_METRICS])

    def rewind(self, timesteps: int) -> None:
        """Takes the rows after so many timesteps once more; MLflow keeps those from before beside them."""
        self._after = timesteps

    def close(self, status: str, scores: Mapping[str, float]) -> None:
        """Adds the test scores and ends the run."""
        now = int(1000 * time.time())
        self._client.log_batch(
            self.identifier, metrics=[self._metric(name, value, now, 0) for name, value in scores.items()]
        )
        self._client.set_terminated(self.identifier, STATES.get(status, "FAILED"))
