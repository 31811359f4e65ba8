"""MEMORY: the most that a run holds, however long its stream is."""

from __future__ import annotations

import tempfile
from typing import Any

from benchmarks import measure
from benchmarks.measure import Setup
from benchmarks.report import Section, Table

LENGTHS = (100_000, 10_000_000)
GOAL = 50  # MB more for the longer one


def measure_section(setup: Setup) -> Section:
    lengths = (20_000, 100_000) if setup.quick else LENGTHS
    raw: dict[str, Any] = {str(length): peak_megabytes(length, setup) for length in lengths}
    short, long = raw.values()
    rows = [[f"{int(length):,}", f"{megabytes:,.0f} MB"] for length, megabytes in raw.items()]
    rows.append([f"difference (goal: < {GOAL} MB)", f"{long - short:+,.0f} MB"])
    return Section([Table("Most memory held by a run of task=integral model=gru", ["timesteps", "peak"], rows)], raw)


def peak_megabytes(timesteps: int, setup: Setup) -> float:
    words = [f"task.train_timesteps={timesteps}", f"device={setup.device}", "threads=1"]
    with tempfile.TemporaryDirectory() as folder:
        printed, _ = measure.python(
            "-m", "benchmarks.peak", "task=integral", "model=gru", *words, f"hydra.run.dir={folder}/run"
        )
    return int(printed.splitlines()[-1]) / 1024
