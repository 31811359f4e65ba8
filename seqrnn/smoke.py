"""smoke=true: the same run, of any config, in seconds: what people put in CI."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from seqrnn import registry

CAPS = {
    "schedule": {"epochs": 2, "streams": 8, "window": 32, "max_updates": 6, "evaluate_every": 3, "warmup": 2},
    "model": {"hidden_size": 16, "head_size": 16, "num_layers": 2},
    "plots": {"frames": 6},
}
MOST_PASSES = 16  # backward passes in an update


def shrink(values: Mapping[str, Any]) -> dict[str, Any]:
    """The config with its numbers limited, and with what the task's ``smoke`` attribute asks for.

    A number is lowered to its limit, never raised; None becomes the limit only where it means "no limit". What is
    not a number is replaced. Window, stride and update_every keep their proportions as far as they can.
    """
    small = copy.deepcopy(dict(values))
    task = small.get("task")
    if isinstance(task, dict) and task.get("name") in registry.names("task"):
        limit(task, getattr(registry.find("task", task["name"]), "smoke", {}))
    schedule = small.get("schedule")
    if isinstance(schedule, dict):
        window, stride, update_every = (schedule.get(key) for key in ("window", "stride", "update_every"))
        step: Any
        small_step: Any
        limit(schedule, CAPS["schedule"])
        if isinstance(window, int) and isinstance(stride, int) and 0 < stride <= window:
            schedule["stride"] = max(1, stride * schedule["window"] // window)
        step, small_step = stride or window, schedule.get("stride") or schedule.get("window")
        if all(isinstance(value, int) and value > 0 for value in (update_every, step)) and not update_every % step:
            schedule["update_every"] = min(update_every // step, MOST_PASSES) * small_step
        schedule["max_updates"] = schedule.get("max_updates") or CAPS["schedule"]["max_updates"]
    for group in ("model", "plots"):
        if isinstance(small.get(group), dict):
            limit(small[group], CAPS[group])
    return small


def limit(values: dict[str, Any], caps: Mapping[str, Any]) -> None:
    """Lowers ``values`` to ``caps``, in place."""
    for key, cap in caps.items():
        value = values.get(key)
        is_number = isinstance(cap, int) and not isinstance(cap, bool)
        if not is_number:
            values[key] = cap
        elif isinstance(value, int) and not isinstance(value, bool):
            values[key] = min(value, cap)
