"""COMPILE: how long the kernels take to compile, the first time, and to load from their cache, every other time."""

from __future__ import annotations

from benchmarks.measure import Setup, duration
from benchmarks.report import Section, Table


def measure_section(setup: Setup) -> Section:
    raw = compile_times(setup)
    rows = [[name, duration(found["first"]), duration(found["cached"])] for name, found in raw.items()]
    note = "" if rows else "This version of seqrnn has no kernels to compile."
    return Section([Table("Compiling the kernels", ["kernel", "first time", "from the cache"], rows, note)], raw)


def compile_times(setup: Setup) -> dict[str, dict[str, float]]:
    """Seconds by kernel: ``first``, with an empty cache, and ``cached``, in another process behind it."""
    return {}
