"""What a logger is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from seqrnn.keys import as_typed, flattened
from seqrnn.monitor import Row


@dataclass(frozen=True)
class LoggedRun:
    """A run that is about to be logged.

    Args:
        directory: its directory.
        values: its config.
        headline: the metric that stands for it.
        resumed_at: the timesteps from which it is resumed; None: it is new.
        known_as: what ``identifier`` of the same logger was in the process before; None: the run is new to it.
    """

    directory: Path
    values: Mapping[str, Any]
    headline: str
    resumed_at: int | None
    known_as: str | None

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.directory.absolute().name

    @property
    def parameters(self) -> dict[str, bool | int | float | str]:
        """Its config by keys as typed; what is no number stands as text."""
        return {
            key: value if isinstance(value, bool | int | float) else as_typed(value)
            for key, value in flattened(self.values).items()
        }


class Logger(Protocol):
    """Gets what a run measures. The constructor is called with a ``LoggedRun``, before training; what it raises ends
    the command. If a later call raises, the run continues without the logger.

    Attributes of the class:
        package: the module that it imports, and the extra of seqrnn that installs it (its name for ``pip``). It may
            be left out where nothing needs to be installed.

    Attributes:
        identifier: by which it finds the run again when it is resumed; None: it needs none.
    """

    package: str
    identifier: str | None

    def record(self, rows: Sequence[Row]) -> None:
        """Takes rows of metrics, those of about a second. Values that were not measured are None."""

    def rewind(self, timesteps: int) -> None:
        """Forgets rows after so many timesteps, if it can: they will come once more."""

    def close(self, status: str, scores: Mapping[str, float]) -> None:
        """Takes the status of the run and its test scores (``test_mse``), and ends."""
