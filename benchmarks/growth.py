"""GROWTH: time per timestep as sequences, batches, networks and streams grow. It should not grow with the first,
and with the last not at all."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks import cells, implementation, measure, plots
from benchmarks.cells import Size
from benchmarks.measure import Setup, duration, median
from benchmarks.report import Section, Table
from benchmarks.seqrnn_implementation import overrides
from seqrnn.components import build_components
from seqrnn.plugins import load_components
from seqrnn.settings import composed_values
from seqrnn.training import fit

SWEEPS = {
    "timesteps T": [Size(T, 16, 1, 50) for T in (2, 5, 10, 30, 100, 300, 1000, 3000)],
    "streams B": [Size(50, B, 1, 50) for B in (1, 2, 4, 8, 16, 32, 64, 128, 256)],
    "hidden units H": [Size(50, 16, 1, H) for H in (8, 16, 32, 64, 128, 256, 512)],
}
LENGTHS = (1_000, 4_000, 16_000, 64_000, 256_000, 1_024_000)
LONGEST = 20.0  # seconds; a longer stream than took so long is not tried


def measure_section(setup: Setup) -> Section:
    load_components()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    seconds = 0.01 if setup.quick else 0.1
    raw: dict[str, Any] = {}
    for name, sizes in SWEEPS.items():
        raw[name] = [measure_size(size, name, setup, seconds) for size in (sizes[:3] if setup.quick else sizes)]
    raw["stream length"] = measure_streams(setup)
    picture = plots.growth(raw, setup.pictures / "benchmark_growth.png")
    return Section([table(name, found) for name, found in raw.items()], raw, [picture])


def measure_size(size: Size, name: str, setup: Setup, seconds: float) -> dict[str, Any]:
    passes = {
        "torch.nn": cells.torch_pass("gru", size, setup.device),
        "seqrnn": cells.seqrnn_pass("gru", size, setup.device, "auto"),
    }
    clocks = {
        which: lambda run=run: measure.best_of(run, seconds, lambda: cells.synchronize(setup.device)) / size.T
        for which, run in passes.items()
    }
    at = {"timesteps T": size.T, "streams B": size.B, "hidden units H": size.H}[name]
    return {"at": at, "seconds_per_timestep": measure.in_turn(clocks, setup.rounds)}


def measure_streams(setup: Setup) -> list[dict[str, Any]]:
    """Returns seconds per timestep of whole trainings of integral_accumulated, over longer and longer streams."""
    words = overrides("integral_accumulated", implementation.Options(device=setup.device), None)
    found: list[dict[str, Any]] = []
    for length in LENGTHS[:2] if setup.quick else LENGTHS:
        values = composed_values([*words, f"task.train_timesteps={length}", f"schedule.evaluate_every={length}"])
        began = time.perf_counter()
        seconds = [fit(build_components(values)).train_seconds / length for _ in range(setup.rounds)]
        found.append({"at": length, "seconds_per_timestep": {"seqrnn": seconds}})
        if time.perf_counter() - began > LONGEST:
            break
    return found


def table(name: str, found: list[dict[str, Any]]) -> Table:
    implementations = list(found[0]["seconds_per_timestep"])
    rows = [
        [f"{result['at']:,}", *(duration(median(result["seconds_per_timestep"][which])) for which in implementations)]
        for result in found
    ]
    what = "Training of integral_accumulated" if name == "stream length" else "A GRU's forward and backward pass"
    return Table(f"{what}: time per timestep by {name}", [name, *implementations], rows)
