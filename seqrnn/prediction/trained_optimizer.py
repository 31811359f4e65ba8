"""The state of a run's optimizer as its training left it, for a training that continues."""

from __future__ import annotations

from pathlib import Path

from seqrnn.checkpoints import file, manager
from seqrnn.checkpoints.file import Damaged, OtherVersion
from seqrnn.errors import DataError
from seqrnn.rundir.bounded import resolve_inside
from seqrnn.rundir.names import CHECKPOINTS
from seqrnn.strategies.protocol import Strategy
from seqrnn.strategies.strategy_state import StrategyState


def restore_optimizer(directory: Path, strategy: Strategy) -> Path | None:
    """Gives a strategy the state of the optimizer in the newest checkpoint of a run that can be read.

    Returns:
        The checkpoint; None: there is none. Nothing in the directory is changed.

    Raises:
        DataError: the state is not that of such a network.
    """
    for found in sorted((directory / CHECKPOINTS).glob(manager.PATTERN), reverse=True):
        path = resolve_inside(directory, f"{CHECKPOINTS}/{found.name}")
        try:
            optimizer = file.read(path)["optimizer"]
            strategy.restore(StrategyState(optimizer["parameters"], optimizer["groups"], {}))
        except (Damaged, OtherVersion):
            continue
        except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: the state of its optimizer does not fit this run: {error}") from error
        return path
    return None
