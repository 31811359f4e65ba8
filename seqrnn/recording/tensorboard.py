"""logger=tensorboard: the rows of metrics as event files in the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    """Writes TensorBoard event files; the x-axis is timesteps.

    Args:
        timesteps: where a run resumes; what an earlier process wrote beyond is not shown. None: a new run.
    """

    def __init__(self, directory: Path, timesteps: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=None if timesteps is None else timesteps + 1)

    def record(self, row: Mapping[str, Any]) -> None:
        """Adds the row's numbers; ``eval_mae`` becomes ``eval/mae``."""
        for key, value in row.items():
            if key not in ("timesteps", "updates", "seconds") and value is not None:
                group, _, name = key.partition("_") if key.startswith(("train_", "eval_")) else ("run", "", key)
                self._writer.add_scalar(f"{group}/{name}", value, row["timesteps"])

    def close(self) -> None:
        """Writes what is left and closes the files."""
        self._writer.close()
