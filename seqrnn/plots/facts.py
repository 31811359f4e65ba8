"""What pictures say about their run: title, notes, training line, and scores beside those of the baselines."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seqrnn.metrics import headline, is_higher_better
from seqrnn.rundir.formats import Forecast, Picture

METRIC_NAMES = {
    "mse": "MSE",
    "mae": "MAE",
    "rmse": "RMSE",
    "max_error": "largest |error|",
    "smape": "sMAPE",
    "mase": "MASE",
    "crps": "CRPS",
    "accuracy": "accuracy",
    "bpc": "bits per character",
}
LOSS_NAMES = {
    "mse": "mean error²",
    "half_mse": "mean ½ error²",
    "l1": "mean |error|",
    "cross_entropy": "cross-entropy, nats",
}
LONGEST_TITLE, LONGEST_NOTE = 80, 400  # characters


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
    def picture(self) -> Picture:
        """The picture of the predictions that the task asks for."""
        values = self.summary.get("picture")
        return Picture.model_validate(values) if values else Picture(name="")

    @property
    def forecast(self) -> Forecast | None:
        """How the forecasts of the run were judged; None if it makes none."""
        values = self.summary.get("forecast")
        return Forecast.model_validate(values) if values else None

    def class_name(self, number: int) -> str:
        """Returns the name of a class, by its number."""
        names = self.summary.get("classes") or []
        return names[number] if 0 <= number < len(names) else str(number)

    @property
    def loss(self) -> str:
        """The label of an axis that shows the loss."""
        name = str(self.summary.get("loss", ""))
        return f"loss ({LOSS_NAMES.get(name, name)})"

    @property
    def name(self) -> str:
        """The task and the model."""
        return f"{self.task} with {self.model}"

    @property
    def title(self) -> str:
        """Task, model, and the main test metric beside those of the best baselines, as many as fit."""
        title = self.name
        metric = self._main_metric()
        scores = self.summary.get("test") or {}
        if metric not in scores:
            return title
        title += f": test {METRIC_NAMES.get(metric, metric)} {number(scores[metric], metric)}"
        baselines = self.baselines(metric)
        best_first = sorted(baselines, key=baselines.__getitem__, reverse=is_higher_better(metric, None) or False)
        compared = [f"{name} {number(baselines[name], metric)}" for name in best_first]
        while compared and len(f"{title} ({', '.join(compared)})") > LONGEST_TITLE:
            compared.pop()
        return f"{title} ({', '.join(compared)})" if compared else title

    @property
    def notes(self) -> list[str]:
        """What a reader of the picture must know: a shrunk run, data that is not what it seems, an early end."""
        notes = []
        if self.config.get("smoke"):
            notes.append("smoke run, shrunk to seconds: says nothing about the model")
        if self._data and self.summary.get("data_note_warns", True):
            notes.append(self._data)
        status, updates = self.summary.get("status", "finished"), self.summary.get("updates") or 0
        if status != "finished" and "updates" in self.summary:
            notes.append(f"{status} after {updates:,} updates")
        return notes

    @property
    def description(self) -> str:
        """What the data is, in a line; empty where nothing describes it, or where ``notes`` do."""
        return "" if self.summary.get("data_note_warns", True) else self._data

    @property
    def _data(self) -> str:
        note = self.summary.get("data_note")
        return f"data: {textwrap.shorten(note, LONGEST_NOTE, placeholder='…')}" if note else ""

    @property
    def training_line(self) -> str:
        """Optimizer, schedule and seed in one line."""
        optimizer, schedule = self._group("optimizer"), self._group("schedule")
        parts = []
        if "name" in optimizer and "lr" in optimizer:
            parts.append(f"{optimizer['name']} (lr {optimizer['lr']:g})")
        if "streams" in schedule:
            parts.append(f"{schedule['streams']:,} stream{'s' * (schedule['streams'] != 1)}")
            window, stride = schedule.get("window"), schedule.get("stride")
            gradient = schedule.get("gradient") or "bptt"
            cuts = f"window {window:,}" if window else "whole sequences"
            parts.append(cuts if gradient == "bptt" else f"{gradient}, no window")
            if stride and (stride != window or gradient != "bptt"):
                parts.append(f"stride {stride:,}")
            if schedule.get("update_every"):
                parts.append(f"update every {schedule['update_every']:,}")
            parts.append("state carried" if schedule.get("carry") else "no carry")
        if "seed" in self.config:
            parts.append(f"seed {self.config['seed']}")
        return ", ".join(parts)

    def test(self, metric: str) -> float:
        """Returns the test score; NaN if there is none."""
        value = (self.summary.get("test") or {}).get(metric)
        return math.nan if value is None else float(value)

    def baselines(self, metric: str, data: str = "test") -> dict[str, float]:
        """Returns the scores of the baselines on the test or the validation data. What their names have in
        parentheses is left out where they differ without it."""
        baselines = self.summary.get("baselines" if data == "test" else "validation_baselines") or {}
        scores = {name: scores[metric] for name, scores in baselines.items() if scores.get(metric) is not None}
        short = {name: name.split(" (")[0] for name in scores}
        unique = len(set(short.values())) == len(short)
        return {short[name] if unique else name: float(value) for name, value in scores.items()}

    def _main_metric(self) -> str:
        return str(self.summary.get("headline") or headline(self.kind, str(self.summary.get("loss"))))

    def _group(self, name: str) -> Mapping[str, Any]:
        group = self.config.get(name)
        return group if isinstance(group, Mapping) else {}


def number(value: float | None, metric: str = "") -> str:
    """Returns a number for people: three digits, and a percentage for accuracies."""
    if value is None or not math.isfinite(value):
        return "not finite"
    return f"{100 * value:.2f} %" if metric.startswith(("accuracy", "coverage")) else f"{value:#.3g}".rstrip(".")
