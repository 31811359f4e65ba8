"""Changes of a config as a command line that makes the changed run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from seqrnn import config_files
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import Change
from seqrnn.rundir.request import runs_no_code
from seqrnn.schedule import Schedule

KEPT = (  # by another cell
    "hidden_size", "num_layers", "dropout", "head", "head_size", "head_bias", "recurrent_init",
)  # fmt: skip
GROUPS = ("task", "model", "optimizer", "schedule", "experiment")


def another_cell(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of another cell of the same size."""
    return {**_defaults(name), **{key: model[key] for key in KEPT if key in model}, "init_std": {}}


def usual_start(run: TrainedRun) -> dict[str, Any]:
    """Returns the standard deviations that the run's model file sets for initial weights."""
    chosen = [text.removeprefix("model=") for text in run.overrides if text.startswith("model=")]
    name = f"model/{(chosen or [run.values['model']['name']])[-1]}.yaml"
    is_known = (Path(config_files.config_directory()) / name).is_file()
    return dict(_conf(name).get("init_std") or {}) if is_known else {}


def _defaults(name: str) -> dict[str, Any]:
    """Returns what ``model=NAME`` sets."""
    return {**_conf("config.yaml")["model"], **_conf(f"model/{name}.yaml")}


def _conf(name: str) -> dict[str, Any]:
    values: Any = OmegaConf.to_container(OmegaConf.load(Path(config_files.config_directory()) / name))
    return {str(key): value for key, value in values.items()}


def overrides_of(change: Change, run: TrainedRun) -> list[str]:
    """Returns a change as overrides; keys that have the value already are left out."""
    found = []
    for key, value in change.items():
        if key == "model":
            found += _another_cell(value, run)
        elif isinstance(value, Mapping) and _current(run, key) != value:  # hydra merges dictionaries: one is replaced
            found += [f"~{key}", f"+{key}={_as_typed(value)}"]
        elif _current(run, key) != value:
            found.append(f"{key}={_as_typed(value)}")
    return found


def _another_cell(model: Mapping[str, Any], run: TrainedRun) -> list[str]:
    """Returns another cell as overrides, which also remove what an experiment sets for its own cell."""
    usual = _defaults(model["name"])
    found = [f"model={model['name']}"]
    found += [f"model.{key}={_as_typed(model[key])}" for key in KEPT if model[key] != usual[key]]
    for text in run.overrides:
        path = Path(config_files.config_directory()) / "experiment" / f"{text.removeprefix('experiment=')}.yaml"
        if text.startswith("experiment=") and path.is_file():
            settings = _conf(f"experiment/{path.name}").get("model") or {}
            found += [f"~model.{key}" for key in settings if key not in usual]
            found += ["~model.init_std", "+model.init_std={}"] if settings.get("init_std") else []
    return found


def lengthened(change: Change, length: float, run: TrainedRun) -> dict[str, Any]:
    """Returns the change, with the epochs or updates that make a run so many times as long, in timesteps."""
    schedule = run.components.schedule
    found = dict(change)
    if length != 1:
        found["schedule.epochs"] = math.ceil(schedule.epochs * length)
    if schedule.max_updates is not None:
        own, new = (_updates_of_epoch(one, run) for one in (schedule, _schedule_with(change, schedule)))
        updates = round(schedule.max_updates * length * new / own)
        if updates != schedule.max_updates:
            found["schedule.max_updates"] = max(1, updates)
    return found


def _schedule_with(change: Change, schedule: Schedule) -> Schedule:
    own = {key.removeprefix("schedule."): value for key, value in change.items() if key.startswith("schedule.")}
    return schedule.model_copy(update=own)


def _updates_of_epoch(schedule: Schedule, run: TrainedRun) -> int:
    one = schedule.model_copy(update={"epochs": 1, "max_updates": None})
    return one.count_updates(run.components.task.train(0, schedule.streams))


def command(change: Change, run: TrainedRun) -> str:
    """Returns the command line that trains the run again, changed."""
    added = {text[1:].partition("=")[0] for text in run.overrides if text.startswith("+") and text[1:2] != "+"}
    new = [f"+{text}" if text.partition("=")[0] in added else text for text in overrides_of(change, run)]
    keys = {text.lstrip("+~").partition("=")[0] for text in new}
    kept = [
        text
        for text in run.overrides
        if (key := text.lstrip("+~").partition("=")[0]) not in keys
        and runs_no_code(text)
        and not key.startswith("hydra/")
        and not ("model" in keys and key.partition(".")[0] == "model" and key.removeprefix("model.") not in KEPT)
    ]
    modules = run.values.get("plugins")  # which the user has named, too
    kept += [f"plugins=[{','.join(modules)}]"] if modules else []
    return shlex.join(["python", "-m", "seqrnn.train", *kept, *new])


def unknown_config_files(line: str) -> list[str]:
    """Returns the config files that a command line chooses and that are not in conf/: it needs --config-dir or
    hydra.searchpath, which a run does not record."""
    chosen = (text.split("=", 1) for text in shlex.split(line) if "=" in text)
    files = [f"{group}/{name}.yaml" for group, name in chosen if group in GROUPS and name != "null"]
    return [name for name in files if not (Path(config_files.config_directory()) / name).is_file()]


def _current(run: TrainedRun, key: str) -> Any:
    value: Any = run.values
    for part in key.split("."):
        value = value[part]
    return value


def _as_typed(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_as_typed(part)}" for key, part in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)
