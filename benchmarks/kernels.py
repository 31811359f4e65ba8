"""KERNELS: a forward and backward pass of each recurrence, against torch.nn, JAX and what the arithmetic allows."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import cells, machine, measure, plots
from benchmarks.cells import GATES, Size
from benchmarks.measure import Setup, digits, median, times
from benchmarks.report import Section, Table
from seqrnn.plugins import load_components

SIZES = [
    Size(2, 25, 1, 50),
    Size(10, 1, 1, 32),
    Size(50, 1, 1, 50),
    Size(50, 16, 1, 50),
    Size(150, 64, 1, 50),
    Size(28, 64, 28, 64),
    Size(28, 64, 28, 256),
    Size(100, 32, 16, 128),
    Size(1000, 1, 8, 64),
    Size(64, 256, 32, 32),
]
CELLS = ("gru", "lstm", "rnn", "elman")


def measure_section(setup: Setup) -> Section:
    load_components()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    seconds = 0.01 if setup.quick else 0.1
    peaks = cells.gemm_peak(setup.device, 10 * seconds)
    peak = max(peaks.values())
    raw: dict[str, Any] = {"gemm_peak_flops": peaks, "cells": {}}
    for cell in CELLS[:2] if setup.quick else CELLS:
        found = [measure_cell(cell, size, setup, seconds) for size in (SIZES[:3] if setup.quick else SIZES)]
        for result in found:
            result["limit"] = result["flops"] / peak
        raw["cells"][cell] = found
    picture = plots.kernels(raw, setup.pictures / "benchmark_kernels.png")
    return Section([table(cell, found, peaks) for cell, found in raw["cells"].items()], raw, [picture])


def measure_cell(cell: str, size: Size, setup: Setup, seconds: float) -> dict[str, Any]:
    """Returns seconds of a pass: per implementation a list of rounds, each the shortest call."""
    passes = {}
    if cell in cells.TORCH:
        passes["torch.nn"] = cells.torch_pass(cell, size, setup.device)
    passes["seqrnn_torch"] = cells.seqrnn_pass(cell, size, setup.device, "torch")
    passes["seqrnn"] = cells.seqrnn_pass(cell, size, setup.device, "auto")
    jax_compiles = None
    if machine.installed("jax") and cell in cells.TORCH:
        passes["jax"], jax_compiles = cells.jax_pass(cell, size, setup.device)
    for run in passes.values():
        run()  # compiles, if need be
    clocks = {
        name: lambda run=run: measure.best_of(run, seconds, lambda: cells.synchronize(setup.device))
        for name, run in passes.items()
    }
    return {
        "size": [size.T, size.B, size.I, size.H],
        "seconds": measure.in_turn(clocks, setup.rounds),
        "jax_compile_seconds": jax_compiles,
        "flops": size.flops(GATES[cell]),
        "gemms": cells.gemm_seconds(GATES[cell], size, setup.device, seconds),
    }


def table(cell: str, found: list[dict[str, Any]], peaks: dict[str, float]) -> Table:
    columns = ["T, B, I, H", "torch.nn", "seqrnn", "JAX", "products alone", "limit", "torch.nn ÷ seqrnn",
               "JAX ÷ seqrnn", "seqrnn ÷ limit"]  # fmt: skip
    rows = []
    for result in found:
        seconds = result["seconds"]
        theirs, ours, jax = (
            seconds.get("torch.nn", seconds.get("seqrnn_torch")),
            seconds["seqrnn"],
            seconds.get("jax"),
        )
        rows.append([
            str(Size(*result["size"])),
            milliseconds(median(theirs)) if theirs else "–",
            milliseconds(median(ours)),
            milliseconds(median(jax)) if jax else "–",
            milliseconds(result["gemms"]),
            milliseconds(result["limit"]),
            times(measure.ratio(theirs, ours)) if theirs else "–",
            times(measure.ratio(jax, ours)) if jax else "–",
            times(median(ours) / result["limit"]),
        ])  # fmt: skip
    gates = GATES[cell]
    speeds = ", ".join(f"{library} {flops / 1e9:,.0f} GFLOP/s" for library, flops in peaks.items())
    compared = "" if cell in cells.TORCH else " For torch.nn stands the same cell with kernel=torch."
    return Table(
        f"{cell}: forward and backward, milliseconds", columns, rows,
        f"Limit: 2·T·B·{gates}·H·(2I + 3H) operations at the speed of the fastest large product here ({speeds}). "
        f"Products alone: the same products, called from torch one after another.{compared}",
    )  # fmt: skip


def milliseconds(seconds: float) -> str:
    return digits(1e3 * seconds)
