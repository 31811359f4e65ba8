"""integral_exact: its errors under several seeds, on streams 70 times as long as its tests, and its time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import measure
from seqrnn import api, device, evaluation, plots, registry
from studies.integral.arms import SEEDS
from studies.integral.study import Study
from studies.runs import summary_of

NAME = "integral_exact"
CHOSEN_BY = SEEDS  # seeds whose errors were seen when the settings were chosen
OTHERS = (5, 6, 7, 8, 9)
LONG = {"test_sequences": 10, "test_timesteps": 100_000}
SHORT = {"test_sequences": 10, "test_timesteps": 1_000}
PARTS = 10  # of a long stream
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Exact:
    """One seed of it.

    Args:
        mae, max_error: on its 100 test sequences.
        parts: mean absolute errors (10, N) in each tenth of N long streams.
        largest: error in them.
    """

    seed: int
    mae: float
    max_error: float
    parts: Numbers
    largest: float

    @property
    def change(self) -> float:
        """Returns the error in the last tenth as a multiple of that in the first, all streams together: drift."""
        return float(self.parts[-1].mean() / self.parts[0].mean())


def made(study: Study, seeds: tuple[int, ...]) -> list[Exact]:
    """Trains what is not trained yet, tests, and lets each network run on."""
    sweeps = [study.sweep(NAME, ("experiment=integral_exact", "plots.draw=false"), (seed,)) for seed in seeds]
    study.make(sweeps)
    directories = [sweep.directory(study.folder / "runs", sweep.seeds[0]) for sweep in sweeps]
    return [judge(directory, SHORT if study.quick else LONG) for directory in directories]


def judge(directory: Path, lengths: dict[str, int]) -> Exact:
    """Returns the test errors of a run, and those on longer streams of its task, in tenths."""
    summary = summary_of(directory)
    assert summary is not None, directory
    errors = long_errors(directory, lengths)
    parts = errors.reshape(PARTS, -1, errors.shape[1]).mean(axis=1)
    test = summary["test"]
    return Exact(summary["seed"], test["mae"], test["max_error"], parts, float(errors.max()))


def long_errors(directory: Path, lengths: dict[str, int]) -> Numbers:
    """Returns absolute errors (T, N) of a run's trained network on test streams of its task. The state is carried
    from the first timestep to the last.

    Args:
        lengths: settings of the task that replace those of the run.
    """
    run = api.load(directory)
    network = run.network()
    task = registry.build("task", {**run.config["task"], **lengths}, run.summary["seed"])
    found = evaluation.predict(network, task.test(), device.DeviceContext(torch.device("cpu"), torch.float32))
    errors: Numbers = np.abs(found.outputs - found.targets)[..., 0].astype(np.float64)
    return errors


def picture(study: Study, seed: int, path: Path) -> Path:
    """Draws the picture that the run itself makes of its first test sequence; returns its path."""
    directory = study.folder / "runs" / NAME / f"seed-{seed}"
    plots.draw(directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(directory / "predictions.png") as drawn:  # with few colours, it is a third of the size
        drawn.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def clock(rounds: int, share: float) -> list[dict[str, float]]:
    """Returns seconds of the plain script of integral_accumulated (its training) and of integral_exact (its training,
    and the whole command with start and test), measured in turn, on one thread.

    Args:
        share: of the plain script's updates; less than 1 only for a quick check.
    """
    plain_words = ["benchmarks.plain.integral_accumulated", "--share", str(share)]
    words = ["experiment=integral_exact", "device=cpu", "threads=1", "plots.draw=false"]
    if share < 1:
        words.append("smoke=true")
    found = measure.in_turn(
        {"plain": lambda: measure.rival(*plain_words), "exact": lambda: measure.seqrnn_summary(*words)}, rounds
    )
    return [
        {
            "plain": plain["trainings"][0]["seconds"],
            "exact": summary["train_seconds"],
            "command": seconds,
        }
        for plain, (summary, seconds) in zip(found["plain"], found["exact"], strict=True)
    ]
