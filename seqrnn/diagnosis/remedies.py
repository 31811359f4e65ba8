"""What might help, as changes of the config that can be tried and pasted."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from seqrnn import config_files
from seqrnn.diagnosis.instrument import Examination
from seqrnn.diagnosis.instruments.truncation import Truncation
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import Change, Remedy
from seqrnn.kernels.specification import recurrence_of

STREAMS = 16  # instead of fewer; more are quadrupled
ACCUMULATED = 50  # timesteps of an update
KEPT = (  # by another cell
    "hidden_size", "num_layers", "dropout", "head", "head_size", "head_bias", "recurrent_init",
)  # fmt: skip
GROUPS = ("task", "model", "optimizer", "schedule", "experiment")
WHOLE_WINDOWS = {"schedule.stride": None, "schedule.update_every": None}


def remedies_for(names: Sequence[str], found: Examination, run: TrainedRun) -> list[Remedy]:
    """Returns those of the named remedies that change this run's config."""
    values, components = run.values, run.components
    if "lr" not in values["optimizer"]:
        return []  # such as ridge regression: nothing about its steps can be changed
    schedule, model, lr = components.schedule, values["model"], float(values["optimizer"]["lr"])
    truncation = found.get(Truncation)
    sufficient = truncation.sufficient_window if truncation else None
    window = max(sufficient, getattr(components.task, "reach", None) or 0) if sufficient else None
    wider = (
        {"schedule.window": window, **WHOLE_WINDOWS} if schedule.reach and window and window > schedule.reach else {}
    )
    streams = STREAMS if schedule.streams < STREAMS else 4 * schedule.streams
    more: Change = {"schedule.streams": streams} if _has_streams(run, streams) else {}
    constant = schedule.lr_decay == "constant"
    decay: Change = {"schedule.lr_decay": "cosine"} if constant else {}

    possible: dict[str, list[Change]] = {}
    if wider:
        possible["longer window"] = _at_rates(wider, lr, (1, 5, 25))
    if not schedule.carry:
        possible["carried state"] = _at_rates({"schedule.carry": True}, lr, (1,))
    if more:
        possible["more streams"] = _at_rates(more, lr, (1, 5, 25))
    if more or wider:
        possible["wider batch"] = _at_rates({**wider, **more, **decay}, lr, (1, 5, 25, 100))
    if schedule.window and run.update_timesteps < ACCUMULATED:
        stride = schedule.stride or schedule.window
        possible["longer accumulation"] = _at_rates(
            {"schedule.update_every": stride * -(-ACCUMULATED // stride)}, lr, (1, 5)
        )
    if decay:
        possible["decaying rate"] = _at_rates(decay, lr, (1, 4))
    possible["smaller steps"] = _at_rates({}, lr, (1 / 4, 1 / 16))
    possible["larger steps"] = _at_rates({}, lr, (4, 16))
    possible["longer training"] = _at_rates({}, lr, (1,))
    if model.get("recurrent_init") == "default":
        possible["orthogonal start"] = [{"model.recurrent_init": "orthogonal"}]
    recurrence = recurrence_of(components.network.cell)
    if "hidden_size" in model and not (recurrence and recurrence.specification.gates):
        possible["gated cell"] = [{"model": _cell("gru", model)}]
    if schedule.clip_norm is None or schedule.clip_norm > 1:
        possible["clipped gradients"] = [{"schedule.clip_norm": 1.0}, {"schedule.clip_norm": 0.1}]
    if values["optimizer"]["name"] == "adam":
        possible["weight decay"] = [{"optimizer.weight_decay": 1e-4}, {"optimizer.weight_decay": 1e-3}]
    return [
        Remedy(name, possible[name], 4 if name == "longer training" else 1)
        for name in dict.fromkeys(names)
        if name in possible
    ]


def combined(change: Change, remedy: Remedy, lr: float) -> Remedy:
    """Returns a remedy added to a change that helps, at the learning rate of that change and rates around it."""
    rate = float(change.get("optimizer.lr", lr))
    added = {key: value for key, value in remedy.variants[0].items() if key != "optimizer.lr"}
    factors = (1, 1 / 4, 4) if remedy.length == 1 else (1,)
    return Remedy(remedy.name, _at_rates({**change, **added}, rate, factors, always=True), remedy.length)


def _at_rates(change: Change, lr: float, factors: Sequence[float], always: bool = False) -> list[Change]:
    rates = [(factor, float(f"{lr * factor:.3g}")) for factor in factors]
    return [change if factor == 1 and not always else {**change, "optimizer.lr": rate} for factor, rate in rates]


def _has_streams(run: TrainedRun, streams: int) -> bool:
    return run.components.task.train(0, streams)[0].streams >= streams


def _cell(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of another cell of the same size."""
    return {**_defaults(name), **{key: model[key] for key in KEPT if key in model}, "init_std": {}}


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


def lengthened(change: Change, length: int, run: TrainedRun) -> dict[str, Any]:
    """Returns the change, with the epochs or updates that make a run so many times as long."""
    if length == 1:
        return dict(change)
    schedule = run.components.schedule
    if schedule.max_updates is None:
        return {**change, "schedule.epochs": schedule.epochs * length}
    return {
        **change,
        "schedule.epochs": schedule.epochs * length,
        "schedule.max_updates": schedule.max_updates * length,
    }


def command(change: Change, run: TrainedRun) -> str:
    """Returns the command line that trains the run again, changed."""
    new = overrides_of(change, run)
    keys = {text.partition("=")[0] for text in new}
    kept = [
        text
        for text in run.overrides
        if (key := text.lstrip("+~").partition("=")[0]) not in keys
        and not key.startswith(("hydra.", "hydra/"))
        and not ("model" in keys and key.partition(".")[0] == "model" and key.removeprefix("model.") not in KEPT)
    ]
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
    return f"{value:g}" if isinstance(value, float) else str(value)
