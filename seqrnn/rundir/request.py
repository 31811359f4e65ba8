"""A request for a run: its config, its directory, and whether it is resumed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAKEOVER_SECONDS = 60.0  # that a requeued job waits for the process that it replaces


@dataclass(frozen=True)
class RunRequest:
    """A run to be made or resumed.

    Args:
        values: its config.
        directory: its run directory.
        overrides: the overrides of the command line.
        resuming: whether the directory holds this run, which is resumed.
        reason: why it is resumed, if the user did not name the directory: "resume=auto", or a requeued job.
    """

    values: dict[str, Any]
    directory: Path
    overrides: Sequence[str]
    resuming: bool = False
    reason: str = ""

    @property
    def lock_timeout(self) -> float:
        """Seconds to wait at most for another process that still writes the directory."""
        return TAKEOVER_SECONDS if self.reason else 0.0


def resume_command(directory: str, values: Mapping[str, Any]) -> str:
    """Returns the command line that resumes a run."""
    words = ["python", "-m", "seqrnn.train", f"resume={directory}"]
    if values.get("plugins"):
        words.append(f"plugins=[{','.join(values['plugins'])}]")
    return shlex.join(words)


def diagnosis_command(directory: str, values: Mapping[str, Any]) -> str:
    """Returns the command line that diagnoses a run."""
    modules = [word for name in values.get("plugins") or () for word in ("--plugins", name)]
    return shlex.join(["python", "-m", "seqrnn.diagnose", directory, *modules])


def drawing_command(directory: str) -> str:
    """Returns the command line that draws the pictures of a run again."""
    return shlex.join(["python", "-m", "seqrnn.plots", directory])
