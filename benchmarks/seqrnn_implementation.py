"""An experiment in seqrnn, trained several times in one process.

python -m benchmarks.seqrnn_implementation sine_online --kernel torch --repeats 3
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch

from benchmarks import implementation, outside
from seqrnn import evaluation
from seqrnn.components import build_components
from seqrnn.plugins import load_components
from seqrnn.settings import Values, composed_values
from seqrnn.training import fit

UPDATES = {
    "sine_online": 6_000,
    "sincos_lstm": 100,
    "mnist_lstm": 938,
    "integral_accumulated": 5_000,
    "integral_forgetting": 125_000,
}
SCORE = {"sine": "mse", "sincos": "mse", "mnist": "accuracy", "integral": "mae"}


def overrides(experiment: str, options: implementation.Options, kernel: str | None) -> list[str]:
    """Returns the overrides that describe an experiment."""
    words = [f"experiment={experiment}", f"seed={options.seed}", f"device={options.device}", "threads=1"]
    if options.share < 1:
        words.append(f"schedule.max_updates={max(1, round(UPDATES[experiment] * options.share))}")
    if experiment == "mnist_lstm":
        words.append(f"task.data_dir={options.data_dir}")
    if kernel is not None:
        words.append(f"kernel={kernel}")
    return words


def config(experiment: str, options: implementation.Options, kernel: str | None) -> Values:
    """Returns the config of an experiment, or of one of the recipes of ``benchmarks.outside``."""
    if experiment in outside.UPDATES:
        words = [f"seed={options.seed}", f"device={options.device}", "threads=1"]
        words.append(f"schedule.max_updates={max(1, round(outside.UPDATES[experiment] * options.share))}")
        return outside.values(experiment, words)
    return composed_values(overrides(experiment, options, kernel))


def train(experiment: str, kernel: str | None, options: implementation.Options) -> implementation.Training:
    """Trains an experiment once, or one of the recipes of ``benchmarks.outside``."""
    rows: list[dict[str, Any]] = []
    run = build_components(config(experiment, options, kernel))
    progress = fit(run, record=rows.append, announce=lambda text: print(text, file=sys.stderr))
    if options.device == "cuda":
        torch.cuda.synchronize()
    late = [row["train_loss"] for row in rows if row["updates"] > 0.9 * progress.updates and row["train_loss"]]
    score = evaluation.score(evaluation.predict(run.network, run.task.test(), run.context), run.task, run.loss)
    name = SCORE[run.values["task"]["name"]]
    return implementation.Training(
        progress.train_seconds,
        progress.updates,
        progress.timesteps,
        sum(late) / len(late),
        {name: score[name]},
        with_evaluation=progress.train_seconds + progress.evaluate_seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("experiment", choices=[*UPDATES, *outside.UPDATES])
    parser.add_argument("--kernel")
    arguments, _ = parser.parse_known_args()
    load_components()
    implementation.command(
        lambda options: (lambda options: train(arguments.experiment, arguments.kernel, options), 0.0), parser
    )


if __name__ == "__main__":
    main()
