"""LIMIT: two small trainings beside their bare arithmetic in C, and where the rest of the time goes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import implementation
from benchmarks.measure import Setup, duration, median, ratio, times
from benchmarks.report import Section, Table
from benchmarks.seqrnn_implementation import overrides
from seqrnn.components import Components, build_components
from seqrnn.plugins import load_components
from seqrnn.settings import composed_values
from seqrnn.strategies.compiled import Compiled
from seqrnn.training import fit

SOURCE = Path(__file__).with_name("by_hand.c")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fPIC")
EXPERIMENTS = ("sine_online", "sincos_lstm")
REPEATS = 20  # trainings of a round, of which the fastest counts
Array = NDArray[np.float32]
Floats = ctypes.POINTER(ctypes.c_float)


@contextmanager
def library() -> Iterator[ctypes.CDLL | None]:
    """Compiles the C code, and yields it; None: there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        compiled, target = Path(folder) / "by_hand.o", Path(folder) / "by_hand.so"
        subprocess.run([compiler, *FLAGS, "-c", str(SOURCE), "-o", str(compiled)], check=True)
        # Linked without -ffast-math, which makes the whole process treat subnormal numbers as zero.
        subprocess.run([compiler, "-shared", str(compiled), "-o", str(target), "-lm"], check=True)
        yield ctypes.CDLL(str(target))


def prepared(experiment: str) -> Components:
    """Returns the objects of an experiment, before its training."""
    return build_components(composed_values(overrides(experiment, implementation.Options(), None)))


def by_hand(code: ctypes.CDLL, experiment: str, run: Components) -> tuple[float, list[Array], Array]:
    """Trains a network by the C code; returns seconds, the parameters in torch's order and shapes, and the losses."""
    parameters = [parameter.detach().float().numpy().copy() for parameter in run.network.parameters()]
    batches = [batch.read(0, batch.timesteps) for batch in run.task.train(0, 1)]
    x, y = (_flat([getattr(chunk, name) for chunk in batches]) for name in ("inputs", "targets"))
    rate = ctypes.c_float(run.values["optimizer"]["lr"])
    if experiment == "sine_online":
        epochs = run.values["schedule"]["epochs"]
        losses = np.empty(epochs * len(x), np.float32)
        began = time.perf_counter()
        code.sine_online(
            *map(_pointer, (*parameters, x, y)), ctypes.c_long(epochs), ctypes.c_long(len(x)), rate, _pointer(losses)
        )
        return time.perf_counter() - began, parameters, losses
    parameters[1] = parameters[1].T  # of the state
    flat = np.concatenate([each.ravel() for each in parameters])
    losses = np.empty(len(batches), np.float32)
    began = time.perf_counter()
    code.sincos_lstm(*map(_pointer, (flat, x, y)), ctypes.c_long(len(batches)), rate, _pointer(losses))
    seconds = time.perf_counter() - began
    ends = np.cumsum([each.size for each in parameters])[:-1]
    trained = [part.reshape(each.shape) for part, each in zip(np.split(flat, ends), parameters, strict=True)]
    trained[1] = trained[1].T
    return seconds, trained, losses


def _flat(tensors: list[Tensor]) -> Array:
    return torch.cat([tensor.flatten() for tensor in tensors]).float().numpy()


def _pointer(array: Array) -> Any:
    return array.ctypes.data_as(Floats)


@contextmanager
def clocked(seconds: list[float]) -> Iterator[None]:
    """Appends the seconds of each call of compiled code within its block."""
    prepare = Compiled.prepare

    def clocked_prepare(self: Compiled, announce: Callable[[str], None]) -> None:
        prepare(self, announce)
        make = self._train_updates

        def make_updates(*arguments: Any) -> Any:
            began = time.perf_counter()
            made = make(*arguments)
            seconds.append(time.perf_counter() - began)
            return made

        self._train_updates = make_updates

    Compiled.prepare = clocked_prepare  # type: ignore[method-assign]
    try:
        yield
    finally:
        Compiled.prepare = prepare  # type: ignore[method-assign]


def measure_round(code: ctypes.CDLL | None, experiment: str, repeats: int) -> dict[str, float]:
    """Returns seconds of the fastest trainings: by hand, and seqrnn's, with its calls of compiled code."""
    found = {"by_hand": float("nan"), "calls": 0.0, "compiled": 0.0, "training": float("inf")}
    if code is not None:
        found["by_hand"] = min(by_hand(code, experiment, prepared(experiment))[0] for _ in range(repeats))
    for _ in range(repeats):
        calls: list[float] = []
        with clocked(calls):
            progress = fit(prepared(experiment))
        if progress.train_seconds < found["training"]:
            found |= {"training": progress.train_seconds, "calls": len(calls), "compiled": sum(calls)}
        found["updates"] = progress.updates
    return found


def measure_section(setup: Setup) -> Section:
    load_components()
    torch.set_num_threads(1)
    raw: dict[str, Any] = {}
    with library() as code:
        for experiment in EXPERIMENTS:
            measure_round(code, experiment, 1)  # compiles
            raw[experiment] = [
                measure_round(code, experiment, 2 if setup.quick else REPEATS) for _ in range(setup.rounds)
            ]
    return Section([table(raw)], raw)


def table(raw: dict[str, list[dict[str, float]]]) -> Table:
    columns = ["experiment", "updates", "by hand in C", "compiled code of seqrnn", "its calls", "between them",
               "the training", "compiled ÷ by hand", "training ÷ by hand"]  # fmt: skip
    rows = []
    for experiment, rounds in raw.items():
        hand, compiled, training, calls = (
            [found[name] for found in rounds] for name in ("by_hand", "compiled", "training", "calls")
        )
        between = [whole - part for whole, part in zip(training, compiled, strict=True)]
        rows.append([
            experiment,
            f"{rounds[0]['updates']:,}",
            duration(median(hand)),
            duration(median(compiled)),
            f"{median(calls):.0f}",
            duration(median(between)),
            duration(median(training)),
            times(ratio(compiled, hand)),
            times(ratio(training, hand)),
        ])  # fmt: skip
    note = (
        f"A whole training, the fastest of {REPEATS}. By hand: benchmarks/by_hand.c, cc {' '.join(FLAGS[:3])}, for "
        "these sizes alone, without checks, norms and rows of metrics, and with its data in memory. Between the "
        "calls, seqrnn reads data, cuts windows, and chooses learning rates."
    )
    return Table("Bare arithmetic", columns, rows, note)
