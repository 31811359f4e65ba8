"""What a rival of a recipe measures, and the command that every rival is: it trains, and prints one line of JSON.

python -m benchmarks.plain.sine_online --repeats 3
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Options:
    """What all rivals are told.

    Args:
        seed: of weights and data.
        share: how much of the recipe is trained: the first so many of its updates.
        device: ``cpu`` or ``cuda``.
        data_dir: where MNIST/raw is.
    """

    seed: int = 0
    share: float = 1.0
    device: str = "cpu"
    data_dir: str = "data"


@dataclass(frozen=True)
class Training:
    """One training.

    Args:
        seconds: of the training loop, without imports, compilation, data that is made beforehand, and evaluation.
        updates: optimizer steps.
        timesteps: over all streams.
        train_loss: mean of the last tenth of the updates.
        test: a score on test data, by name.
        with_evaluation: seconds of the loop with the evaluations that the recipe makes on its way.
    """

    seconds: float
    updates: int
    timesteps: int
    train_loss: float
    test: dict[str, float]
    with_evaluation: float | None = None


Train = Callable[[Options], Training]


def last_tenth(losses: list[float]) -> float:
    """The mean of the last tenth of a list."""
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def command(prepare: Callable[[Options], tuple[Train, float]], parser: argparse.ArgumentParser | None = None) -> None:
    """Runs a rival: trains ``--repeats`` times, but not again once ``--budget`` seconds have gone by.

    Args:
        prepare: gives what trains, and the seconds that compiling it took.
        parser: with the rival's own arguments, which it has read already.
    """
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--share", type=float, default=Options.share)
    parser.add_argument("--device", default=Options.device)
    parser.add_argument("--data-dir", default=Options.data_dir)
    parser.add_argument("--repeats", type=int, default=1, help="trainings in this process, one after the other")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds after which none is begun")
    said = parser.parse_args()
    options = Options(said.seed, said.share, said.device, said.data_dir)
    train, compile_seconds = prepare(options)
    began, trainings = time.perf_counter(), []
    while len(trainings) < said.repeats and (not trainings or time.perf_counter() - began < said.budget):
        trainings.append(asdict(train(options)))
    print(json.dumps({"compile_seconds": compile_seconds, "trainings": trainings}))


def plain_command(train: Train) -> None:
    """Runs a rival in plain PyTorch, on one thread."""
    import torch

    torch.set_num_threads(1)
    command(lambda options: (train, 0.0))
