"""What an implementation of an experiment measures, and its command, which trains and prints one line of JSON.

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
    """The settings that all implementations share.

    Args:
        seed: of weights and data.
        share: of the updates of the experiment that are made.
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
        with_evaluation: seconds of the training loop and of the evaluations in it.
    """

    seconds: float
    updates: int
    timesteps: int
    train_loss: float
    test: dict[str, float]
    with_evaluation: float | None = None


Train = Callable[[Options], Training]


def last_tenth(losses: list[float]) -> float:
    """Returns the mean of the last tenth of a list."""
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def command(prepare: Callable[[Options], tuple[Train, float]], parser: argparse.ArgumentParser | None = None) -> None:
    """Runs an implementation: trains ``--repeats`` times, but not again once ``--budget`` seconds have gone by.

    Args:
        prepare: returns a function that trains, and the seconds that its compilation took.
        parser: with the implementation's own arguments; None: it has none.
    """
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--share", type=float, default=Options.share)
    parser.add_argument("--device", default=Options.device)
    parser.add_argument("--data-dir", default=Options.data_dir)
    parser.add_argument("--repeats", type=int, default=1, help="trainings in this process, one after the other")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds after which none is begun")
    arguments = parser.parse_args()
    options = Options(arguments.seed, arguments.share, arguments.device, arguments.data_dir)
    train, compile_seconds = prepare(options)
    began, trainings = time.perf_counter(), []
    while len(trainings) < arguments.repeats and (not trainings or time.perf_counter() - began < arguments.budget):
        trainings.append(asdict(train(options)))
    print(json.dumps({"compile_seconds": compile_seconds, "trainings": trainings}))


def plain_command(train: Train) -> None:
    """Runs an implementation in plain PyTorch, on one thread."""
    import torch

    torch.set_num_threads(1)
    command(lambda options: (train, 0.0))
