"""Clocks: in this process and in others, always in turn (A B A B), so that a busy machine slows all alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Setup:
    """How to measure.

    Args:
        quick: in seconds, to see that all works; the figures mean little.
        rounds: how often each implementation has its turn.
        device: ``cpu`` or ``cuda``.
        data_dir: where MNIST/raw is; None: leave MNIST out.
        share: how much of each experiment is trained.
        pictures: where pictures for the documentation go.
    """

    quick: bool
    rounds: int
    device: str
    data_dir: str | None
    share: float
    pictures: Path


def pin_to_one_core() -> int | None:
    """Keeps this process, and those it starts, on one core; returns which (None: this system cannot)."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


@contextmanager
def on_all_cores() -> Iterator[None]:
    """Lets processes that are started within its block use every core."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    if before is None:
        yield
        return
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def python(*arguments: str, folder: Path | None = None) -> tuple[str, float]:
    """Runs this interpreter in ``folder`` (None: the repository's root); returns what it printed, and seconds.

    Raises:
        RuntimeError: it failed.
    """
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(root)}
    began = time.perf_counter()
    result = subprocess.run(
        [sys.executable, *arguments], cwd=folder or root, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if result.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {result.returncode}\n{result.stderr[-2000:]}")
    return result.stdout, seconds


def implementation(module: str, *arguments: str) -> Any:
    """Returns what an implementation's command measured."""
    output, _ = python("-m", module, *arguments)
    return json.loads(output.splitlines()[-1])


def seqrnn_summary(*overrides: str) -> tuple[Any, float]:
    """Returns the summary of a run in a process of its own, and the seconds of the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        _, seconds = python("-m", "seqrnn.train", *overrides, f"hydra.run.dir={folder}/run")
        return json.loads((Path(folder) / "run" / "summary.json").read_text(encoding="utf-8")), seconds


def in_turn(functions: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """Calls each function once per round; returns what each returned."""
    results: dict[str, list[Any]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            results[name].append(function())
    return results


def best_of(function: Callable[[], Any], seconds: float, synchronize: Callable[[], Any] = lambda: None) -> float:
    """Returns the shortest call of a function, in seconds, within so many seconds of calls (at least three)."""
    best, calls, end = float("inf"), 0, time.perf_counter() + seconds
    while calls < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        function()
        synchronize()
        best = min(best, time.perf_counter() - began)
        calls += 1
    return best


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Returns the median of the ratios of what was measured in the same round."""
    return median([value / other for value, other in zip(values, others, strict=True)])


def spread(values: Sequence[float]) -> str:
    """Returns ``±3 %``: half the range, relative to the median."""
    return f"±{50 * (max(values) - min(values)) / median(values):.0f} %"


def duration(seconds: float) -> str:
    """Returns seconds for people: three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{digits(seconds / size)} {unit}"
    return f"{digits(seconds * 1e9)} ns"


def digits(value: float) -> str:
    """Returns three significant digits, without an exponent."""
    if value != value:
        return "–"
    places = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2 if abs(value) >= 0.0995 else 4
    return f"{value:,.{places}f}"


def times(factor: float) -> str:
    return "–" if factor != factor else f"{digits(factor)}×"
