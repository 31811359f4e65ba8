"""logger=tensorboard: event files in the run directory, with the config as hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqrnn.monitor import Row
from seqrnn.recording.loggers.protocol import LoggedRun
from seqrnn.registry import register

NOT_DRAWN = ("timesteps", "updates", "seconds")  # the x-axis, and what grows along with it


@register("logger", "tensorboard")
class TensorBoard:
    """Writes TensorBoard event files; the x-axis is timesteps."""

    package = "tensorboard"
    identifier = None

    def __init__(self, run: LoggedRun) -> None:
        self._directory = str(run.directory)
        self._timesteps = run.resumed_at or 0
        self._writer = self._open(run.resumed_at)
        self._write_parameters(run)

    def _open(self, timesteps: int | None) -> Any:
        """Opens a new event file; what earlier ones hold beyond ``timesteps`` is not shown."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self._directory, purge_step=None if timesteps is None else timesteps + 1)

    def _write_parameters(self, run: LoggedRun) -> None:
        from torch.utils.tensorboard import summary

        untyped: Any = summary
        experiment, start, _ = untyped.hparams(run.parameters, {f"eval_{run.headline}": 0.0})
        self._writer.file_writer.add_summary(experiment)
        self._writer.file_writer.add_summary(start)

    def record(self, rows: Sequence[Row]) -> None:
        """Adds the numbers of rows."""
        for row in rows:
            self._timesteps = int(row["timesteps"] or 0)
            for key, value in row.items():
                if key not in NOT_DRAWN and value is not None:
                    self._writer.add_scalar(key, value, self._timesteps)

    def rewind(self, timesteps: int) -> None:
        """Begins another event file, before which later rows are not shown."""
        self._writer.close()
        self._writer = self._open(timesteps)

    def close(self, status: str, scores: Mapping[str, float]) -> None:
        """Adds the test scores and closes the file."""
        for name, score in scores.items():
            self._writer.add_scalar(name, score, self._timesteps)
        self._writer.close()
