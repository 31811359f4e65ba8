"""Runs all instruments, one after another, on one run."""

from __future__ import annotations

from collections.abc import Callable

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from seqrnn.diagnosis.instrument import Examination, instruments
from seqrnn.diagnosis.memory_limit import limited_memory
from seqrnn.diagnosis.record import Record
from seqrnn.diagnosis.trained_run import SECONDS, TrainedRun
from seqrnn.errors import UserError


def examine(
    run: TrainedRun, announce: Callable[[str], None] = lambda text: None, seconds: float = SECONDS
) -> Examination:
    """Measures everything. What one instrument cannot measure is reported as missing, and the others are run.

    Args:
        announce: is given a line before each instrument.
        seconds: that each instrument may take.
    """
    results: dict[str, Record] = {}
    missing: dict[str, str] = {}
    for name, instrument in instruments().items():
        announce(instrument.description)
        run.begin(seconds)
        try:
            with limited_memory(run.directory, run.most_memory):
                results[name] = instrument.measure(run)
        except UserError as error:
            missing[name] = str(error)
        except LinAlgError:
            missing[name] = "the network's outputs are NaN, infinite, or too large to compute with"
    return Examination(results, missing)
