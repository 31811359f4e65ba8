"""Trains a config that is given as a dictionary, and reads its scores."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import seqrnn
from seqrnn.keys import as_override

PLUGIN = "studies.doctor.planted"
QUIET = ("plots.draw=false", "checkpoint.every=null", "threads=1", "device=cpu")


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Returns the overrides of a config; a setting that is added begins with ``+``."""
    plugin = [f"plugins=[{PLUGIN}]"] if str(values.get("task.name", "")).startswith("planted_") else []
    return [f"{key}={_typed(value)}" for key, value in values.items()] + plugin


def _typed(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}: {part}" for key, part in value.items()) + "}"
    return str(value)


def train(overrides: Sequence[str], directory: Path) -> dict[str, Any]:
    """Trains, and returns its summary.

    Raises:
        seqrnn.UserError: the config is wrong, or the run diverged.
    """
    shutil.rmtree(directory, ignore_errors=True)
    seqrnn.run([*overrides, as_override("hydra.run.dir", str(directory))], quiet=True)
    return seqrnn.load(directory, plugins=[PLUGIN]).summary


def test_score(overrides: Sequence[str], directory: Path, measure: str) -> float:
    """Returns a test score of a config; infinite where training diverged."""
    try:
        return float(train(overrides, directory)["test"][measure])
    except seqrnn.Diverged:
        return math.inf
