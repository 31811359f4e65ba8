"""logger=tensorboard: the rows of metrics as event files in the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    """Writes TensorBoard event files; the x-axis is timesteps.

    Args:
        reached: the timesteps that a run goes on from: what an earlier process has written beyond is not shown.
    """

    def __init__(self, directory: Path, reached: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory), purge_step=None if reached is None else reached + 1)

    def record(self, row: Mapping[str, Any]) -> None:
        """Adds the row's numbers; ``eval_mae`` becomes ``eval/mae``."""
        for key, value in row.items():
            if key not in ("timesteps", "updates", "seconds") and value is not None:
                group, _, name = key.partition("_") if key.startswith(("train_", "eval_")) else ("run", "", key)
                self._writer.add_scalar(f"{group}/{name}", value, row["timesteps"])

    def close(self) -> None:
        self._writer.close()
