"""A recipe in seqrnn, trained several times in one process.

python -m benchmarks.seqrnn_rival sine_online --kernel torch --repeats 3
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import hydra
import torch

from benchmarks import rival
from seqrnn import config_files, evaluation, settings
from seqrnn.components import build_components
from seqrnn.plugins import load_components
from seqrnn.training import fit

UPDATES = {
    "sine_online": 6_000,
    "sincos_lstm": 100,
    "mnist_lstm": 938,
    "integral_accumulated": 5_000,
    "integral_forgetting": 125_000,
}
SCORE = {"sine": "mse", "sincos": "mse", "mnist": "accuracy", "integral": "mae"}


def overrides(recipe: str, options: rival.Options, kernel: str | None) -> list[str]:
    """The command line of a recipe, without the command."""
    words = [f"experiment={recipe}", f"seed={options.seed}", f"device={options.device}", "threads=1"]
    if options.share < 1:
        words.append(f"schedule.max_updates={max(1, round(UPDATES[recipe] * options.share))}")
    if recipe == "mnist_lstm":
        words.append(f"task.data_dir={options.data_dir}")
    if kernel is not None:
        words.append(f"kernel={kernel}")
    return words


def compose(words: list[str]) -> Any:
    """The config that a command line describes, as plain values."""
    with hydra.initialize_config_dir(config_files.config_directory(), version_base="1.3"):
        return settings.plain(hydra.compose("config", words))


def has_kernels() -> bool:
    """Whether this version of seqrnn lets one choose between kernels."""
    return "kernel" in compose([])


def train(recipe: str, kernel: str | None, options: rival.Options) -> rival.Training:
    """Trains a recipe once."""
    rows: list[dict[str, Any]] = []
    run = build_components(compose(overrides(recipe, options, kernel)))
    progress = fit(run, record=rows.append, announce=lambda text: print(text, file=sys.stderr))
    if options.device == "cuda":
        torch.cuda.synchronize()
    late = [row["train_loss"] for row in rows if row["updates"] > 0.9 * progress.updates and row["train_loss"]]
    score = evaluation.score(evaluation.predict(run.network, run.task.test(), run.context), run.task, run.loss)
    name = SCORE[run.values["task"]["name"]]
    return rival.Training(
        progress.train_seconds,
        progress.updates,
        progress.timesteps,
        sum(late) / len(late),
        {name: score[name]},
        with_evaluation=progress.train_seconds + progress.evaluate_seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", choices=list(UPDATES))
    parser.add_argument("--kernel")
    said, _ = parser.parse_known_args()
    load_components()
    rival.command(lambda options: (lambda options: train(said.recipe, said.kernel, options), 0.0), parser)


if __name__ == "__main__":
    main()
