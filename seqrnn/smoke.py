"""smoke=true: shrinks the run of any config to seconds, for CI."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from seqrnn import registry
from seqrnn.schedule import Schedule

CAPS = {
    "schedule": {"epochs": 2, "streams": 8, "window": 32, "evaluate_every": 3, "warmup": 2},
    "model": {"hidden_size": 16, "head_size": 16, "num_layers": 2},
    "plots": {"frames": 6},
}
MOST_WINDOWS = 16  # backward passes in an update
MOST_UPDATES = 6


def limited_task(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a config's task, with the changes that its attribute ``smoke`` lists."""
    settings = copy.deepcopy(dict(values["task"]))
    limit(settings, getattr(registry.find("task", settings["name"]), "smoke", {}))
    return settings


def shrink(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a sound config with its numbers lowered to limits, and with the changes that the task's attribute
    ``smoke`` lists. No number is raised. Window, stride and update_every keep their proportions as far as possible.
    """
    small = copy.deepcopy(dict(values))
    small["task"] = limited_task(values)
    for group, caps in CAPS.items():
        limit(small[group], caps)

    schedule, full = small["schedule"], Schedule(**values["schedule"])
    if full.stride:
        share = schedule["window"] / full.window if full.window else 1
        schedule["stride"] = max(1, int(min(full.stride * share, CAPS["schedule"]["window"])))
    if full.update_every:
        stride = schedule["stride"] or schedule["window"]
        schedule["update_every"] = stride * min(full.windows_per_update, MOST_WINDOWS)
    schedule["max_updates"] = min(full.max_updates or MOST_UPDATES, MOST_UPDATES)
    return small


def limit(values: dict[str, Any], caps: Mapping[str, Any]) -> None:
    """Lowers numbers in ``values`` to those in ``caps``, and replaces truth values by those in ``caps``, in place."""
    for key, cap in caps.items():
        value = values.get(key)
        if isinstance(cap, bool):
            values[key] = cap
        elif value is not None:
            values[key] = min(value, cap)
