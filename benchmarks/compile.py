"""COMPILE: how long the kernels take to compile, the first time, and to load from their cache, every other time."""

from __future__ import annotations

import os
import tempfile

from benchmarks import measure
from benchmarks.measure import Setup, duration
from benchmarks.report import Section, Table
from benchmarks.seqrnn_rival import has_kernels

RECIPES = ("sine_online", "sincos_lstm", "integral_forgetting")  # an Elman cell, an LSTM, a GRU
CACHE = "SEQRNN_CACHE_DIR"


def measure_section(setup: Setup) -> Section:
    raw = compile_times(setup)
    rows = [
        [f"{recipe}{', after the above' if number else ''}", duration(found["first"]), duration(found["cached"])]
        for number, (recipe, found) in enumerate(raw.items())
    ]
    note = "" if rows else "This version of seqrnn has no kernels to compile."
    return Section([Table("Compiling the kernels", ["recipe", "first time", "from the cache"], rows, note)], raw)


def compile_times(setup: Setup) -> dict[str, dict[str, float]]:
    """Seconds by recipe: ``first``, with a cache that holds what the recipes before it have compiled, and
    ``cached``, in another process behind it."""
    if not has_kernels():
        return {}
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        before = os.environ.get(CACHE)
        os.environ[CACHE] = cache
        try:
            for recipe in RECIPES[:1] if setup.quick else RECIPES:
                first, cached = (float(measure.python("-m", "benchmarks.first_call", recipe)[0]) for _ in range(2))
                found[recipe] = {"first": first, "cached": cached}
        finally:
            os.environ.pop(CACHE)
            if before is not None:
                os.environ[CACHE] = before
    return found
