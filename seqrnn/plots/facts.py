"""What a picture says about its run in words: title, notes, recipe, and scores beside those of the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seqrnn.metrics import headline

METRIC_NAMES = {
    "mse": "MSE",
    "mae": "MAE",
    "rmse": "RMSE",
    "max_error": "largest |error|",
    "accuracy": "accuracy",
}
LOSS_NAMES = {
    "mse": "mean error²",
    "half_mse": "mean ½ error²",
    "l1": "mean |error|",
    "cross_entropy": "cross-entropy, nats",
}
LONGEST_TITLE = 80  # characters


@dataclass(frozen=True)
class Facts:
    """A run's config and summary; the summary may be empty, or lack its scores."""

    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def task(self) -> str:
        return str(self._group("task").get("name", self.summary.get("task", "?")))

    @property
    def model(self) -> str:
        return str(self._group("model").get("name", self.summary.get("model", "?")))

    @property
    def kind(self) -> str:
        return str(self.summary.get("kind", "regression"))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The task's."""
        return self._group("task")

    @property
    def loss(self) -> str:
        """What the loss is, for an axis."""
        name = str(self.summary.get("loss", ""))
        return f"loss ({LOSS_NAMES.get(name, name)})"

    @property
    def name(self) -> str:
        return f"{self.task} with {self.model}"

    @property
    def title(self) -> str:
        """Task, model, and the main test metric beside the baselines, as many as fit."""
        title = self.name
        metric = self._main_metric()
        scores = self.summary.get("test") or {}
        if metric not in scores:
            return title
        title += f": test {METRIC_NAMES.get(metric, metric)} {number(scores[metric], metric)}"
        compared = [f"{name} {number(value, metric)}" for name, value in self.baselines(metric).items()]
        while compared and len(f"{title} ({', '.join(compared)})") > LONGEST_TITLE:
            compared.pop()
        return f"{title} ({', '.join(compared)})" if compared else title

    @property
    def notes(self) -> list[str]:
        """What a reader must know before believing the picture."""
        notes = []
        if self.config.get("smoke"):
            notes.append("smoke run, shrunk to seconds: says nothing about the model")
        if self.summary.get("data_note"):
            notes.append(f"data: {self.summary['data_note']}")
        status, updates = self.summary.get("status", "finished"), self.summary.get("updates") or 0
        if status != "finished" and "updates" in self.summary:
            notes.append(f"{status} after {updates:,} updates")
        return notes

    @property
    def recipe(self) -> str:
        """Optimizer and schedule in a line."""
        optimizer, schedule = self._group("optimizer"), self._group("schedule")
        parts = []
        if "name" in optimizer and "lr" in optimizer:
            parts.append(f"{optimizer['name']} (lr {optimizer['lr']:g})")
        if "streams" in schedule:
            parts.append(f"{schedule['streams']:,} stream{'s' * (schedule['streams'] != 1)}")
            window = schedule.get("window")
            parts.append(f"window {window:,}" if window else "whole sequences")
            stride = schedule.get("stride")
            if stride and stride != window:
                parts.append(f"stride {stride:,}")
            if schedule.get("update_every"):
                parts.append(f"update every {schedule['update_every']:,}")
            parts.append("state carried" if schedule.get("carry") else "no carry")
        if "seed" in self.config:
            parts.append(f"seed {self.config['seed']}")
        return ", ".join(parts)

    def test(self, metric: str) -> float:
        """The test score; NaN if there is none."""
        value = (self.summary.get("test") or {}).get(metric)
        return math.nan if value is None else float(value)

    def baselines(self, metric: str) -> dict[str, float]:
        """The baselines' scores, by names without what is in parentheses where that leaves them apart."""
        baselines = self.summary.get("baselines") or {}
        scores = {name: scores[metric] for name, scores in baselines.items() if scores.get(metric) is not None}
        short = {name: name.split(" (")[0] for name in scores}
        unique = len(set(short.values())) == len(short)
        return {short[name] if unique else name: float(value) for name, value in scores.items()}

    def _main_metric(self) -> str:
        return headline(self.kind, str(self.summary.get("loss")))

    def _group(self, name: str) -> Mapping[str, Any]:
        group = self.config.get(name)
        return group if isinstance(group, Mapping) else {}


def number(value: float | None, metric: str = "") -> str:
    """For people: three digits, and a percentage for accuracies."""
    if value is None or not math.isfinite(value):
        return "not finite"
    return f"{100 * value:.2f} %" if metric.startswith("accuracy") else f"{value:#.3g}".rstrip(".")
