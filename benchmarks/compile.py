"""COMPILE: how long the kernels take to compile, the first time, and to load from their cache, every other time."""

from __future__ import annotations

import os
import tempfile

from benchmarks import measure
from benchmarks.measure import Setup, duration
from benchmarks.report import Section, Table

EXPERIMENTS = ("sine_online", "sincos_lstm", "integral_forgetting")  # an Elman cell, an LSTM, a GRU
CACHE = "SEQRNN_CACHE_DIR"


def measure_section(setup: Setup) -> Section:
    raw = compile_times(setup)
    rows = [
        [f"{experiment}{', after the above' if number else ''}", duration(found["first"]), duration(found["cached"])]
        for number, (experiment, found) in enumerate(raw.items())
    ]
    return Section([Table("Compiling the kernels", ["experiment", "first time", "from the cache"], rows)], raw)


def compile_times(setup: Setup) -> dict[str, dict[str, float]]:
    """Returns seconds by experiment: ``first``, with a cache that holds what the experiments before it have compiled,
    and ``cached``, in a process after that."""
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        before = os.environ.get(CACHE)
        os.environ[CACHE] = cache
        try:
            for experiment in EXPERIMENTS[:1] if setup.quick else EXPERIMENTS:
                first, cached = (
                    float(measure.python("-m", "benchmarks.first_call", experiment)[0]) for _ in range(2)
                )
                found[experiment] = {"first": first, "cached": cached}
        finally:
            os.environ.pop(CACHE)
            if before is not None:
                os.environ[CACHE] = before
    return found
