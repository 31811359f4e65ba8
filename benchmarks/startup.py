"""START-UP: seconds from the command to its end, against what cannot be avoided."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    return Section([Table("Whole commands, from start to end", columns, rows)], raw)
