"""Sends the rows of a run to the loggers that its config names. One that fails ends no run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from seqrnn import registry
from seqrnn.errors import ConfigError, UserError
from seqrnn.monitor import Row
from seqrnn.recording.loggers.protocol import LoggedRun, Logger
from seqrnn.rundir.atomic import replacing
from seqrnn.rundir.bounded import Name, read_model, resolve_inside
from seqrnn.rundir.names import LOGGERS
from seqrnn.rundir.strict_json import to_json
from seqrnn.settings import logger_names


class Known(BaseModel, frozen=True):
    """loggers.json: by which name each logger knows the run."""

    identifiers: dict[Name, Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]] = {}


class Tracking:
    """The loggers of a run.

    Args:
        values: its config.
        headline: the metric that stands for it.
        resumed_at: the timesteps from which it is resumed; None: it is new.
        warn: called once for each logger that fails.

    Raises:
        ConfigError: a logger cannot be started.
    """

    def __init__(
        self,
        directory: Path,
        values: Mapping[str, Any],
        headline: str,
        resumed_at: int | None,
        warn: Callable[[str], None],
    ) -> None:
        self._warn = warn
        self._loggers: dict[str, Logger] = {}
        names = logger_names(values["logger"])
        if not names:
            return
        known = _known(directory) if resumed_at is not None else {}
        for name in names:
            run = LoggedRun(directory, values, headline, resumed_at, known.get(name))
            try:
                self._loggers[name] = registry.find("logger", name)(run)
            except Exception as error:  # of any kind: it is another package's
                self.close("failed", {})
                raise ConfigError(
                    f"logger={name}: cannot be started: {_reason(error)}; leave it out, or mend that"
                ) from error
        found = {name: one.identifier for name, one in self._loggers.items() if one.identifier is not None}
        if found:
            with replacing(directory / LOGGERS) as path:
                path.write_text(to_json({"identifiers": {**known, **found}}) + "\n", encoding="utf-8")

    def record(self, rows: Sequence[Row]) -> None:
        """Hands rows on to the loggers."""
        self._each(lambda logger: logger.record(rows))

    def rewind(self, timesteps: int) -> None:
        """Tells the loggers that the rows after so many timesteps come once more."""
        self._each(lambda logger: logger.rewind(timesteps))

    def close(self, status: str, scores: Mapping[str, float]) -> None:
        """Ends the loggers."""
        self._each(lambda logger: logger.close(status, {f"test_{name}": score for name, score in scores.items()}))
        self._loggers = {}

    def _each(self, call: Callable[[Logger], None]) -> None:
        """Calls the loggers; one that raises gets nothing more."""
        for name, logger in [*self._loggers.items()]:
            try:
                call(logger)
            except Exception as error:
                del self._loggers[name]
                self._warn(f"note: logger={name} has failed and gets nothing more: {_reason(error)}")


def _known(directory: Path) -> Mapping[str, str]:
    """Reads loggers.json, which may come from anyone; without a sound one, the run is new to all loggers."""
    try:
        return read_model(resolve_inside(directory, LOGGERS), Known).identifiers
    except UserError:
        return {}


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else repr(error)
