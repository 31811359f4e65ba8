"""Runs all instruments, one after another, on one run."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from seqrnn.clock import working_seconds
from seqrnn.diagnosis.instrument import Examination, instruments
from seqrnn.diagnosis.memory_limit import limited_memory
from seqrnn.diagnosis.record import Record
from seqrnn.diagnosis.trained_run import SECONDS, TrainedRun
from seqrnn.errors import UserError

FAIR = 5.0  # times an equal share of the time left, that an instrument may take


def examine(
    run: TrainedRun,
    announce: Callable[[str], None] = lambda text: None,
    seconds: float = SECONDS,
    total: float = math.inf,
) -> Examination:
    """Measures everything. What one instrument cannot measure is reported as missing, and the others are run.

    Args:
        announce: is given a line before each instrument.
        seconds: that each instrument may take.
        total: seconds that all of them may take.
    """
    results: dict[str, Record] = {}
    missing: dict[str, str] = {}
    known = instruments()
    began = working_seconds()
    for number, (name, instrument) in enumerate(known.items()):
        announce(instrument.description)
        left = began + total - working_seconds()
        if left <= 0:
            missing[name] = "the time for measurements was over; allow more with --seconds"
            continue
        run.begin(min(seconds, FAIR * left / (len(known) - number)))
        try:
            with limited_memory(run.directory, run.most_memory):
                results[name] = instrument.measure(run)
        except UserError as error:
            missing[name] = str(error)
        except LinAlgError:
            missing[name] = "the network's outputs are NaN, infinite, or too large to compute with"
    return Examination(results, missing)
