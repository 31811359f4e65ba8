"""What might help, as changes of the config that can be tried and pasted."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from seqrnn import config_files
from seqrnn.diagnosis.examination import Examination
from seqrnn.diagnosis.subject import Subject
from seqrnn.diagnosis.trials import Change, Remedy

STREAMS = 16  # that a single one becomes; more are quadrupled
ACCUMULATED = 50  # timesteps
GATES = ("gru", "lstm")
KEPT = (
    "hidden_size",
    "num_layers",
    "dropout",
    "head",
    "head_size",
    "head_bias",
    "recurrent_init",
    "kernel",
)  # by all
GROUPS = ("task", "model", "optimizer", "schedule", "experiment")
OWN_CUT = {"schedule.stride": None, "schedule.update_every": None}


def remedies_for(names: Sequence[str], found: Examination, subject: Subject) -> list[Remedy]:
    """Those of the remedies named that change anything here."""
    values, components = subject.values, subject.components
    schedule, model, lr = components.schedule, values["model"], float(values["optimizer"]["lr"])
    faithful = found.truncation.faithful if found.truncation else None
    window = max(faithful, getattr(components.task, "reach", None) or 0) if faithful else None
    wider = {"schedule.window": window, **OWN_CUT} if schedule.window and window and window > schedule.window else {}
    streams = STREAMS if schedule.streams < STREAMS else 4 * schedule.streams
    more: Change = {"schedule.streams": streams} if _has_streams(subject, streams) else {}
    constant = schedule.lr_decay == "constant"
    decay: Change = {"schedule.lr_decay": "cosine"} if constant else {}

    known: dict[str, list[Change]] = {}
    if wider:
        known["longer window"] = _at_rates(wider, lr, (1, 5, 25))
    if not schedule.carry:
        known["carried state"] = _at_rates({"schedule.carry": True}, lr, (1,))
    if more:
        known["more streams"] = _at_rates(more, lr, (1, 5, 25))
    if more or wider:
        known["wider batch"] = _at_rates({**wider, **more, **decay}, lr, (1, 5, 25, 100))
    if schedule.window and subject.update_timesteps < ACCUMULATED:
        stride = schedule.stride or schedule.window
        known["longer accumulation"] = _at_rates(
            {"schedule.update_every": stride * -(-ACCUMULATED // stride)}, lr, (1, 5)
        )
    if decay:
        known["decaying rate"] = _at_rates(decay, lr, (1, 4))
    known["smaller steps"] = _at_rates({}, lr, (1 / 4, 1 / 16))
    known["larger steps"] = _at_rates({}, lr, (4, 16))
    known["longer training"] = _at_rates({}, lr, (1,))
    if model.get("recurrent_init") == "default":
        known["orthogonal start"] = [{"model.recurrent_init": "orthogonal"}]
    if model["name"] not in GATES and "hidden_size" in model:
        known["gated cell"] = [{"model": _cell("gru", model)}]
    if schedule.clip_norm is None or schedule.clip_norm > 1:
        known["clipped gradients"] = [{"schedule.clip_norm": 1.0}, {"schedule.clip_norm": 0.1}]
    if values["optimizer"]["name"] == "adam":
        known["weight decay"] = [{"optimizer.weight_decay": 1e-4}, {"optimizer.weight_decay": 1e-3}]
    return [
        Remedy(name, known[name], 4 if name == "longer training" else 1)
        for name in dict.fromkeys(names)
        if name in known
    ]


def combined(change: Change, remedy: Remedy, lr: float) -> Remedy:
    """A remedy on top of a change that has been found to help, at the learning rate found there and around it."""
    rate = float(change.get("optimizer.lr", lr))
    added = {key: value for key, value in remedy.variants[0].items() if key != "optimizer.lr"}
    factors = (1, 1 / 4, 4) if remedy.length == 1 else (1,)
    return Remedy(remedy.name, _at_rates({**change, **added}, rate, factors, always=True), remedy.length)


def _at_rates(change: Change, lr: float, factors: Sequence[float], always: bool = False) -> list[Change]:
    rates = [(factor, float(f"{lr * factor:.3g}")) for factor in factors]
    return [change if factor == 1 and not always else {**change, "optimizer.lr": rate} for factor, rate in rates]


def _has_streams(subject: Subject, streams: int) -> bool:
    return subject.components.task.train(0, streams)[0].streams >= streams


def _cell(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of another cell of the same size."""
    return {**_defaults(name), **{key: model[key] for key in KEPT if key in model}, "init_std": {}}


def _defaults(name: str) -> dict[str, Any]:
    """What ``model=NAME`` sets."""
    return {**_conf("config.yaml")["model"], **_conf(f"model/{name}.yaml")}


def _conf(name: str) -> dict[str, Any]:
    values: Any = OmegaConf.to_container(OmegaConf.load(Path(config_files.config_directory()) / name))
    return {str(key): value for key, value in values.items()}


def overrides_of(change: Change, subject: Subject) -> list[str]:
    """A change as overrides; what would not change anything is left out."""
    found = []
    for key, value in change.items():
        if key == "model":
            found += _another_cell(value, subject)
        elif _now(subject, key) != value:
            found.append(f"{key}={_as_typed(value)}")
    return found


def _another_cell(model: Mapping[str, Any], subject: Subject) -> list[str]:
    """It as overrides; what an experiment says of the cell that it is not must go."""
    usual = _defaults(model["name"])
    found = [f"model={model['name']}"]
    found += [f"model.{key}={_as_typed(model[key])}" for key in KEPT if model[key] != usual[key]]
    for text in subject.overrides:
        path = Path(config_files.config_directory()) / "experiment" / f"{text.removeprefix('experiment=')}.yaml"
        if text.startswith("experiment=") and path.is_file():
            said = _conf(f"experiment/{path.name}").get("model") or {}
            found += [f"~model.{key}" for key in said if key not in usual]
            found += ["~model.init_std", "+model.init_std={}"] if said.get("init_std") else []
    return found


def lengthened(change: Change, length: int, subject: Subject) -> dict[str, Any]:
    """The change, with the epochs or updates that make a run so many times as long."""
    if length == 1:
        return dict(change)
    schedule = subject.components.schedule
    if schedule.max_updates is None:
        return {**change, "schedule.epochs": schedule.epochs * length}
    return {
        **change,
        "schedule.epochs": schedule.epochs * length,
        "schedule.max_updates": schedule.max_updates * length,
    }


def command(change: Change, subject: Subject) -> str:
    """The line that runs it again, changed."""
    new = overrides_of(change, subject)
    keys = {text.partition("=")[0] for text in new}
    kept = [
        text
        for text in subject.overrides
        if (key := text.lstrip("+~").partition("=")[0]) not in keys
        and not key.startswith(("hydra.", "hydra/"))
        and not ("model" in keys and key.partition(".")[0] == "model" and key.removeprefix("model.") not in KEPT)
    ]
    return shlex.join(["python", "-m", "seqrnn.train", *kept, *new])


def not_ours(line: str) -> list[str]:
    """The config files that a line chooses and that are not in conf/: it needs --config-dir or hydra.searchpath,
    which no run writes down."""
    chosen = (text.split("=", 1) for text in shlex.split(line) if "=" in text)
    files = [f"{group}/{name}.yaml" for group, name in chosen if group in GROUPS and name != "null"]
    return [name for name in files if not (Path(config_files.config_directory()) / name).is_file()]


def _now(subject: Subject, key: str) -> Any:
    context: Any = subject.values
    for part in key.split("."):
        context = context[part]
    return context


def _as_typed(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
