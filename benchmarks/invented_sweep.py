"""Writes the directory of a sweep whose runs were never trained: configs, metrics, scores and pictures are made up.
So thousands of runs are there in seconds, to measure how long a report takes and to see what it looks like:

    python -m benchmarks.invented_sweep DIR --runs 1000
    python -m seqrnn.report DIR
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from seqrnn.rundir.names import CONFIG, LOG, METRICS_JSONL, OVERRIDES, SUMMARY
from seqrnn.sweeping.directory import Job, Outcome, Plan, SweepDirectory

MODELS = {"gru": 0.0, "lstm": 0.15, "elman": 1.1, "indrnn": 0.6, "rnn": 1.3}  # what each adds to log10 of the error
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03)
SIZES = (8, 16, 24, 32, 48, 64, 96, 128)
WINDOWS = (2, 5, 10, 25, 50)
BASELINES = {"constant (0)": {"loss": 0.55, "mse": 0.55}, "persistence": {"loss": 0.31, "mse": 0.31}}
EVALUATIONS = 20


def invented_jobs(runs: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Yields the swept values of so many runs; the seeds of one condition follow each other."""
    grid = itertools.product(SIZES, WINDOWS, MODELS, RATES)
    chosen = random.Random(0).sample(list(grid), k=-(-runs // seeds))
    each = ((condition, seed) for condition in chosen for seed in range(seeds))
    for (size, window, model, rate), seed in itertools.islice(each, runs):
        yield {
            "model": model, "optimizer.lr": rate, "model.hidden_size": size, "schedule.window": window, "seed": seed,
        }  # fmt: skip


def write_sweep(directory: Path, runs: int = 40, seeds: int = 5, rows: int = 200, failing: int = 2) -> SweepDirectory:
    """Writes the directory of a sweep.

    Args:
        rows: of the metrics of each run.
        failing: how many of the runs have failed; as many have diverged.
    """
    sweep = SweepDirectory(directory)
    (directory / ".sweep").mkdir(parents=True, exist_ok=True)
    values = list(invented_jobs(runs, seeds))
    picture = _picture()
    for number, swept in enumerate(values):
        if runs - number <= failing:
            end = Outcome(
                status="failed", reason="task.path=data.csv: there is no such file", attempts=2, seconds=0.4
            )
        elif runs - number <= 2 * failing:
            reason = "diverged: the loss became NaN at update 1,204; a smaller optimizer.lr may help"
            end = Outcome(status="diverged", reason=reason, attempts=1, seconds=3.1)
        else:
            end = Outcome(status="finished", attempts=1, seconds=12.0)
        write_run(sweep, number, swept, end, rows=rows, picture=picture)
    line = [
        "task=sincos",
        *(f"{key}={','.join(map(str, dict.fromkeys(v[key] for v in values)))}" for key in values[0]),
    ]
    (directory / ".sweep" / "plan.json").write_text(Plan(line=line, jobs=runs).model_dump_json())
    return sweep


def write_run(
    sweep: SweepDirectory,
    number: int,
    swept: dict[str, Any],
    outcome: Outcome,
    *,
    rows: int = 200,
    picture: bytes | None = None,
    error: float | None = None,
) -> Path:
    """Writes the directory of a run, as a job of a sweep; returns it.

    Args:
        swept: values by key as on a command line.
        picture: what its predictions.png holds.
        error: its score on the test data; None: made up from its values.
    """
    rng = np.random.default_rng(number)
    overrides = ["task=sincos", *(f"{key}={value}" for key, value in swept.items())]
    config: dict[str, Any] = {"seed": 0, "task": {"name": "sincos"}, "model": {}, "optimizer": {}, "schedule": {}}
    for key, value in swept.items():
        group, _, name = key.partition(".")
        if name:
            config[group][name] = value
        elif isinstance(config.get(group), dict):
            config[group]["name"] = value
        else:
            config[group] = value
    name = f"{number:04d}"
    sweep.write_job(Job(name=name, number=number, identity={}, overrides=overrides, values=config))
    sweep.write_outcome(name, outcome)
    directory = sweep.job_directory(name)
    if outcome.status in ("failed", "waiting"):
        return directory
    if error is None:
        error = invented_error(swept, rng)
    seconds = outcome.seconds * (0.5 + rng.random())
    updates = round(100_000 / float(swept.get("schedule.window", 10)))
    (directory / CONFIG).write_text(yaml.safe_dump(config))
    (directory / OVERRIDES).write_text(yaml.safe_dump(overrides))
    (directory / METRICS_JSONL).write_text(_metrics(error, updates, rows, rng))
    (directory / LOG).write_text("seqrnn 0\n")
    is_finished = outcome.status == "finished"
    scores = {"loss": error, "mse": error, "mae": error**0.5}
    summary = {
        "status": outcome.status, "problems": [outcome.reason] if outcome.reason else [], "task": "sincos",
        "model": str(swept.get("model", "gru")), "kind": "regression", "loss": "mse", "headline": "mse",
        "updates": updates, "timesteps": 100_000, "train_seconds": seconds * updates / 2e4,
        "validation_baselines": BASELINES, "test": scores if is_finished else {},
        "baselines": BASELINES if is_finished else {},
    }  # fmt: skip
    (directory / SUMMARY).write_text(json.dumps(summary))
    if picture is not None:
        (directory / "predictions.png").write_bytes(picture)
    return directory


def invented_error(swept: dict[str, Any], rng: np.random.Generator) -> float:
    """Returns an error that depends on the swept values as one would expect, and on chance."""
    rate = math.log10(float(swept.get("optimizer.lr", 0.003)))
    exponent = -3.2 + MODELS.get(str(swept.get("model")), 0.5) + 0.5 * (rate + 2.4) ** 2
    exponent -= 0.35 * math.log2(float(swept.get("model.hidden_size", 32)) / 32)
    exponent += 0.5 * abs(math.log10(float(swept.get("schedule.window", 10)) / 10))
    return float(min(0.6, 10 ** (exponent + 0.18 * rng.standard_normal())))


def _metrics(error: float, updates: int, rows: int, rng: np.random.Generator) -> str:
    """Returns the lines of metrics.jsonl: a loss that falls to ``error``."""
    lines = []
    noise = 0.12 * rng.standard_normal(rows + 1)
    speed = 3 + 4 * rng.random()
    for row in range(rows + 1):
        share = row / rows
        loss = (
            error
            * (0.55 / error) ** math.exp(-speed * share)
            * 10 ** float(noise[row] * (1 - math.exp(-speed * share)))
        )
        line: dict[str, float] = {
            "timesteps": round(100_000 * share), "updates": round(updates * share), "seconds": 10 * share,
            "train_loss": loss,
        }  # fmt: skip
        if row % max(1, rows // EVALUATIONS) == 0:
            line |= {"eval_loss": loss * 1.05, "eval_mse": loss * 1.05}
        lines.append(json.dumps(line))
    return "\n".join(lines) + "\n"


def _picture() -> bytes:
    """Returns a PNG file: a curve and a noisy copy of it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="timestep", ylabel="cos t")
    t = np.linspace(0, 12, 200)
    axes.plot(t, np.cos(t), color="black", label="target")
    axes.plot(t, 0.97 * np.cos(t + 0.06), color="#0072b2", label="output")
    axes.legend(loc="upper right")
    content = io.BytesIO()
    figure.savefig(content, dpi=120)
    return content.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser("python -m benchmarks.invented_sweep", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(arguments)
    write_sweep(options.directory, options.runs, options.seeds)


if __name__ == "__main__":
    main()
