"""The identity of a run: its config without the keys that may change when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqrnn.keys import flattened, prefixes

Values = dict[str, Any]

# The keys that may change when a run is resumed, and what they decide. Another value of any other key is another run.
CHANGEABLE = {
    "schedule.epochs": "how long it lasts",
    "schedule.max_updates": "how long it lasts",
    "schedule.patience": "how long it lasts",
    "schedule.keep": "which weights are scored and saved",
    "device": "where it computes",
    "threads": "where it computes",
    "kernel": "where it computes: compiled code is not everywhere",
    "capture": "how torch computes it",
    "task.data_dir": "where the data is stored; it is checked that the data is the same",
    "task.download": "whether missing data is downloaded; it is checked that the data is the same",
    "log_every": "what it writes down",
    "logger": "what it writes down",
    "plots": "what it draws",
    "diagnose": "what it measures",
    "checkpoint": "when it writes checkpoints",
    "on_divergence": "what happens when it diverges",
    "rollback": "what happens when it diverges",
    "plugins": "which modules are imported: they are code, so a command must name them itself",
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
