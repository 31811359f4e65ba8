"""logger=wandb: Weights & Biases, offline unless WANDB_MODE says otherwise; ``wandb sync`` uploads a run later."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from seqrnn.monitor import Row
from seqrnn.recording.loggers.protocol import LoggedRun
from seqrnn.registry import register

PROJECT = "seqrnn"


@register("logger", "wandb")
class WandB:
    """Writes to the folder wandb in the run directory; the step of a metric is timesteps.

    Nothing leaves the machine by default. The environment variables of W&B (WANDB_MODE, WANDB_PROJECT) change that.
    """

    package = "wandb"

    def __init__(self, run: LoggedRun) -> None:
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        if mode != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.identifier = run.known_as or uuid.uuid4().hex[:12]
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True
        )
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(run.directory),
            id=self.identifier,
            name=run.name,
            config=run.parameters,
            mode=mode,
            resume=None if run.known_as is None else "allow",
            settings=settings,
        )

    def record(self, rows: Sequence[Row]) -> None:
        """Adds the numbers of rows."""
        for row in rows:
            known = {key: value for key, value in row.items() if value is not None}
            self._run.log(known, step=int(row["timesteps"] or 0))

    def rewind(self, timesteps: int) -> None:
        """Does nothing: W&B takes the steps of a run once, in order."""

    def close(self, status: str, scores: Mapping[str, float]) -> None:
        """Adds the test scores to the summary and ends the run."""
        self._run.summary.update({**scores, "status": status})
        self._run.finish(exit_code=0 if status == "finished" else 1)
