"""START-UP: seconds from the command to its end, against what cannot be avoided; and what one more job of a sweep
costs, with and without pictures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measure
from benchmarks.measure import Setup, digits, median, spread, times
from benchmarks.report import Section, Table

TRAIN, BARE = ("-m", "seqrnn.train"), ("-m", "benchmarks.bare_hydra")
PAIRS: dict[str, tuple[Sequence[str], str, Sequence[str]]] = {
    "experiment=sine_online": (
        (*TRAIN, "experiment=sine_online"),
        "import torch, matplotlib.pyplot",
        ("-c", "import torch, matplotlib.pyplot"),
    ),
    "--help": ((*TRAIN, "--help"), "an empty hydra app's --help", (*BARE, "--help")),
    "--cfg job": ((*TRAIN, "--cfg", "job"), "an empty hydra app's --cfg job", (*BARE, "--cfg", "job")),
}
GOAL = 1.5
JOBS = {"with pictures": ((), 0.25), "without": (("plots.draw=false",), 0.1)}  # overrides, and the goal in seconds
FEW, MANY = 4, 24  # jobs of a sweep: the difference of two sweeps holds no start


class Clocked(NamedTuple):
    """Seconds by the clock and by the processor."""

    wall: float
    cpu: float


def _sweep(jobs: int, *overrides: str) -> Clocked:
    """Runs a sweep whose jobs run one after another; returns the seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder, measure.on_all_cores():
        line = [*TRAIN, "-m", "experiment=sine_online", f"seed=range({jobs})", "sweep.jobs=1", "sweep.report=false"]
        line += overrides
        before = os.times()
        _, seconds = measure.python(*line, folder=Path(folder))
        after = os.times()
    spent = (now - then for now, then in zip(after[2:4], before[2:4], strict=True))  # of processes that have ended
    return Clocked(seconds, sum(spent))


def _jobs(rounds: int) -> tuple[Table, dict[str, Any]]:
    """Measures what one more job of a sweep costs."""
    raw: dict[str, Any] = {}
    rows = []
    for name, (overrides, goal) in JOBS.items():
        clocks = {str(jobs): partial(_sweep, jobs, *overrides) for jobs in (FEW, MANY)}
        found = raw[name] = measure.in_turn(clocks, rounds)
        each = [
            [(b - a) / (MANY - FEW) for a, b in zip(few, many, strict=True)]
            for few, many in zip(found[str(FEW)], found[str(MANY)], strict=True)
        ]
        wall, cpu = ([pair[number] for pair in each] for number in (0, 1))
        rows.append(
            [
                name,
                f"{digits(median(wall))} s {spread(wall)}",
                f"≤ {goal} s",
                f"{digits(median(cpu))} s {spread(cpu)}",
            ]
        )
    note = (
        f"The difference of two sweeps, of {MANY} and of {FEW} jobs (-m experiment=sine_online sweep.jobs=1), on all "
        "cores. CPU time is that of all processes: with pictures, a helper draws those of a run while the next one "
        "trains."
    )
    return Table("One more job of a sweep", ["a job", "takes", "goal", "CPU time"], rows, note), raw


def measure_section(setup: Setup) -> Section:
    rounds = 2 if setup.quick else max(7, setup.rounds)
    raw: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (ours, _, theirs) in PAIRS.items():
            commands = {"seqrnn": ours, "bare": theirs}
            clocks = {
                which: lambda command=command: measure.python(*command, folder=Path(folder))[1]
                for which, command in commands.items()
            }
            measure.in_turn(clocks, 1)  # from here on, files are in memory and bytecode is compiled
            raw[name] = measure.in_turn(clocks, rounds)
    rows = [
        [
            f"`seqrnn.train {name}`",
            f"{digits(median(found['seqrnn']))} s {spread(found['seqrnn'])}",
            PAIRS[name][1],
            f"{digits(median(found['bare']))} s {spread(found['bare'])}",
            times(measure.ratio(found["seqrnn"], found["bare"])),
            f"≤ {GOAL}×",
        ]
        for name, found in raw.items()
    ]
    columns = ["command", "takes", "against", "takes", "ratio", "goal"]
    jobs, raw["jobs"] = _jobs(max(2, rounds // 2))
    return Section([Table("Whole commands, from start to end", columns, rows), jobs], raw)
