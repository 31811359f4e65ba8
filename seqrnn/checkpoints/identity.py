"""What makes a run this run and no other: its config, without the keys that may change when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqrnn.keys import flattened, prefixes

Values = dict[str, Any]

# The keys that may change when a run is resumed, and what they decide. Any other key would make it another run.
CHANGEABLE = {
    "schedule.epochs": "how long it lasts",
    "schedule.max_updates": "how long it lasts",
    "schedule.patience": "how long it lasts",
    "schedule.keep": "which weights are scored and saved",
    "device": "where it computes",
    "threads": "where it computes",
    "kernel": "where it computes: compiled code is not everywhere",
    "task.data_dir": "where the data lies; that it is the same is checked",
    "task.download": "whether missing data is fetched; that it is the same is checked",
    "log_every": "what it writes down",
    "logger": "what it writes down",
    "plots": "what it draws",
    "diagnose": "what it measures",
    "checkpoint": "when it writes checkpoints",
    "on_divergence": "what happens when it diverges",
    "rollback": "what happens when it diverges",
    "plugins": "modules are code: they are imported where you name them yourself",
}
EXTENDING = {"schedule.epochs", "schedule.max_updates", "schedule.patience", "schedule.keep"}


def identity(values: Mapping[str, Any]) -> Values:
    """Returns the flat config of a run without the keys that may change."""
    flat = flattened(values)
    free = {*CHANGEABLE, "resume"}
    return {key: value for key, value in flat.items() if not free & set(prefixes(key))}


def differences(now: Mapping[str, Any], was: Mapping[str, Any]) -> list[str]:
    """Returns a line for each key in which two identities differ."""
    return [
        f"{key} is {now.get(key, 'not there')}, and was {was.get(key, 'not there')}"
        for key in sorted({*now, *was})
        if now.get(key, ...) != was.get(key, ...)
    ]
