"""Forgetting itself: the loss now on what the network trained on some timesteps ago, beside that on fresh data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn import smoke
from seqrnn.components import Components, build_components
from seqrnn.diagnosis import intervals
from seqrnn.diagnosis.intervals import Interval
from seqrnn.monitor import Progress
from seqrnn.plugins import load_components
from seqrnn.rundir.atomic import replacing
from seqrnn.rundir.strict_json import to_json
from seqrnn.settings import composed_values
from seqrnn.tasks.protocol import Batch
from seqrnn.training import fit, planned_updates
from studies.runs import Sweep

STRETCH = 50  # timesteps that are judged together
SETTLE = 500  # timesteps before them, from a zero state: long enough for the integral to have met a limit
AGES = (0, 50, 200, 1000, 5000, 50_000)  # timesteps since the end of a stretch
SNAPSHOTS = 100  # of a run; the first quarter, when there is nothing to forget yet, is left out
SKIPPED = 0.25
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class ErrorsByAge:
    """Mean absolute errors of one arm, by seed, averaged over the snapshots of a run.

    Args:
        old: on timesteps that it trained on, by how long ago that was: (S, ages).
        fresh: at the same times on other data: (S,).
    """

    old: Numbers
    fresh: Numbers

    def relative(self, age: int) -> Interval:
        """Returns the error on stretches of an age, as a multiple of the error on fresh data."""
        return intervals.of_ratio(self.old[:, AGES.index(age)], self.fresh)

    @property
    def gap(self) -> Interval:
        """Returns the recency gap: by what share the error is smaller on the latest timesteps than on fresh ones."""
        latest = self.relative(0)
        return Interval(1 - latest.value, 1 - latest.high, 1 - latest.low)


def measure(sweep: Sweep, seeds: Sequence[int], folder: Path, processes: int) -> ErrorsByAge:
    """Trains a config under each of some seeds, as ``seqrnn.train`` does, and measures on the way; what ``folder``
    holds already is not measured again."""
    paths = {seed: folder / f"{sweep.name}_seed-{seed}.json" for seed in seeds}
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        futures = [
            pool.submit(follow, sweep.overrides, seed, path) for seed, path in paths.items() if not path.exists()
        ]
        for future in futures:
            future.result()
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths.values()]
    return ErrorsByAge(*(np.array([run[name] for run in found], np.float64) for name in ("old", "fresh")))


def follow(overrides: Sequence[str], seed: int, path: Path) -> None:
    """Trains one run, and writes its errors, averaged over the snapshots, to ``path``."""
    load_components()
    values = composed_values([*overrides, f"seed={seed}", "device=cpu"])
    run = build_components(smoke.shrink(values) if values["smoke"] else values)
    trained, fresh = run.task.train(0, run.schedule.streams)[0], run.task.test()[0]
    errors: list[Numbers] = []  # (1 + ages,) each

    def look(progress: Progress) -> dict[str, float]:
        position = progress.timesteps // run.schedule.streams
        errors.append(snapshot(run, trained, fresh, position))
        return {"loss": float(errors[-1][0])}

    fit(run, look, evaluate_every=max(1, planned_updates(run) // SNAPSHOTS))
    kept = np.array(errors[int(SKIPPED * len(errors)) :])
    fresh, *old = kept.mean(axis=0).tolist()  # NaN for an age that the run did not reach in its first quarter
    text = to_json({"old": old, "fresh": fresh, "snapshots": len(kept)})
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def snapshot(run: Components, trained: Batch, fresh: Batch, position: int) -> Numbers:
    """Returns mean absolute errors of the network as it is: on fresh stretches, and on those of each age; NaN where
    the run is not as old as that.

    Args:
        position: timesteps per stream that have been trained on.
    """
    length = SETTLE + STRETCH
    chunks = [fresh.read(max(0, fresh.timesteps - length), fresh.timesteps)]
    ages = [age for age in AGES if position - age >= length]
    chunks += [trained.read(position - age - length, position - age) for age in ages]
    inputs, targets = (torch.cat([getattr(c, name) for c in chunks], dim=1) for name in ("inputs", "targets"))
    errors = judged(run, inputs, targets)  # (N,): the fresh ones, then those of each age
    found, by_age = errors[: fresh.streams], errors[fresh.streams :].reshape(len(ages), trained.streams).mean(1)
    return np.array([found.mean(), *by_age, *np.full(len(AGES) - len(ages), np.nan)])


def judged(run: Components, inputs: Tensor, targets: Tensor) -> Numbers:
    """Returns the mean absolute error over the last ``STRETCH`` timesteps of each of N sequences (T, N, ·); each
    starts from a zero state."""
    inputs, targets = (values.to(run.context.device, run.context.dtype) for values in (inputs, targets))
    network = run.network
    with torch.no_grad():
        hidden, _ = network.recur(inputs, network.initial_state(inputs.shape[1]))
        outputs = network.head(hidden[-STRETCH:])
    errors = (outputs - targets[-STRETCH:]).abs().mean(dim=(0, 2), dtype=torch.float64)
    found: Numbers = errors.cpu().numpy()
    return found
