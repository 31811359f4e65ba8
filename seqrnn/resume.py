"""What a command line asks for: a new run, or to go on with one.

``resume=RUN_DIR`` goes on with the run in that directory, with the config that it was started with. It never reaches
hydra, which would compose today's conf/ and make a directory of its own. ``resume=auto`` does so if hydra's run
directory holds this very run, unfinished; so does a job that its scheduler has put back into the queue.

Imports nothing that is slow, so that errors come at once, and help without what reads a run.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from seqrnn import cli
from seqrnn.errors import ConfigError, UserError, did_you_mean

Values = dict[str, Any]
PATIENCE = 60.0  # seconds that a job waits for the one that it takes over from to end

# What may differ when a run goes on, and why; all else would make it another run.
CHANGEABLE = {
    "schedule.epochs": "how long it lasts",
    "schedule.max_updates": "how long it lasts",
    "schedule.patience": "how long it lasts",
    "device": "where it computes",
    "threads": "where it computes",
    "model.kernel": "where it computes: compiled code is not everywhere",
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
SHOWS = {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i"}  # hydra's: nothing is run
EXTENDING = {"schedule.epochs", "schedule.max_updates", "schedule.patience"}


@dataclass(frozen=True)
class Job:
    """A run to be made.

    Args:
        values: its config.
        overrides: what the command line said.
        again: whether the directory holds it already, and it goes on.
        why: why it goes on, for people, if nobody has said so by name.
    """

    values: Values
    directory: Path
    overrides: Sequence[str]
    again: bool = False
    why: str = ""

    @property
    def patience(self) -> float:
        """Seconds to wait for another process that still writes the directory."""
        return PATIENCE if self.why else 0.0

    def result(self) -> float | None:
        """The test loss, if the run has finished already and nothing makes it longer; that it has is said."""
        from seqrnn.run import RunReader, left_behind

        if not self.again or left_behind(self.directory):
            return None
        try:
            summary, was = RunReader(self.directory).summary(), flattened(RunReader(self.directory).config())
        except UserError:
            return None  # killed before it said anything
        now = flattened(self.values)
        if summary.get("status") != "finished" or any(now.get(key) != was.get(key) for key in EXTENDING):
            return None
        print(
            f"{self.directory}: finished after {summary['updates']:,} updates; nothing to do (it would go on with "
            "schedule.epochs or schedule.max_updates raised)"
        )
        return float(summary["test"]["loss"])


def requested(arguments: Sequence[str]) -> Job | None:
    """The run that ``resume=RUN_DIR`` asks to go on with; None: it does not say so, and hydra takes over.

    Raises:
        ConfigError: all that is wrong with the command line.
        DataError: there is no such run, or its config cannot be read.
    """
    named = [text for text in arguments if text.lstrip("+").partition("=")[0] == "resume"]
    where = named[-1].partition("=")[2] if named else ""
    if where in ("", "null", "auto") or {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i"} & {
        *arguments
    }:
        return None
    from seqrnn.run import RunReader

    directory = Path(where).expanduser()
    others = [text for text in arguments if text not in named]
    problems = [f"resume={where}: said more than once"] if len(named) > 1 else []
    for flag in (text for text in others if text.startswith("-")):
        problems.append(
            f"{flag}: one run goes on at a time; leave it out"
            if flag in ("-m", "--multirun")
            else f"{flag}: a run goes on with its own config; leave it out"
        )
    said = [text for text in others if not text.startswith("-")]
    values = RunReader(directory).config()
    _complete(values)
    for text in said:
        problems += _apply(values, text)
    unnamed = set(values.get("plugins") or []) if not any(text.startswith("plugins=") for text in said) else set()
    if unnamed:
        problems.append(
            f"plugins: the run uses {', '.join(sorted(map(str, unnamed)))}, and modules are code: say "
            f"'plugins=[{','.join(sorted(map(str, unnamed)))}]' to import them"
        )
    if problems:
        raise ConfigError(*problems)
    return Job(values, directory, said, again=True)


def _complete(values: Values) -> None:
    """Gives a config that an earlier version has written today's values of the keys that there were not yet, if they
    are among those that make no other run of it."""
    defaults = OmegaConf.to_container(OmegaConf.load(Path(cli.config_directory()) / "config.yaml"), resolve=False)
    assert isinstance(defaults, dict)
    flat = flattened(values)
    for key, value in flattened({str(key): value for key, value in defaults.items()}).items():
        group, _, name = key.rpartition(".")
        holder = values.setdefault(group, {}) if group in CHANGEABLE else values.get(group) if group else values
        if key not in flat and isinstance(holder, dict) and {*CHANGEABLE} & {*_prefixes(key)}:
            holder[name] = value


def _apply(values: Values, text: str) -> list[str]:
    """Changes a value as an override says; returns what is wrong with it."""
    try:
        override = OverridesParser.create().parse_override(text)
        key, value = override.key_or_group, override.value()
        plain = not (override.is_sweep_override() or override.is_add() or override.is_delete())
    except Exception:
        return [f"{text}: not an override; write key=value"]
    if not plain:
        return [f"{text}: a run goes on with one value of each key; write key=value"]
    path = key.split(".")
    allowed = any(".".join(path[: count + 1]) in CHANGEABLE for count in range(len(path)))
    group: Any = values
    for part in path[:-1]:
        group = group.get(part) if isinstance(group, dict) else None
    known = isinstance(group, dict) and path[-1] in group and not isinstance(group[path[-1]], dict)
    if not allowed or not known:
        nearest = did_you_mean(key, CHANGEABLE) if not known else ""
        return [
            f"{key}: a run goes on with its own config, and this cannot change{nearest} (what can: "
            f"{', '.join(CHANGEABLE)})"
        ]
    group[path[-1]] = value
    return []


def recognised(job: Job) -> Job:
    """The same job, going on if its directory holds it and that is what is wanted.

    Raises:
        ConfigError: resume=auto, and the directory holds another run.
    """
    from seqrnn.run import CONFIG, RunReader

    if not (job.directory / CONFIG).is_file():
        return job
    queued = requeued(job.directory)
    if job.values.get("resume") != "auto" and not queued:
        return job
    found = differences(identity(job.values), identity(RunReader(job.directory).config()))
    if found:
        raise ConfigError(
            f"{job.directory}: holds another run, so it does not go on: {'; '.join(found[:5])}; choose another "
            "directory with hydra.run.dir=DIR"
        )
    return replace(job, again=True, why=f"requeued as {queued}" if queued else "resume=auto")


def requeued(directory: Path) -> str | None:
    """The scheduler's job that this process is and that has written a run directory before: it was put back into the
    queue. Slurm's, or a local one of submitit's."""
    from seqrnn.run import RunReader

    this = scheduled()
    if this is None or ("SLURM_JOB_ID" in os.environ and not int(os.environ.get("SLURM_RESTART_COUNT") or 0)):
        return None
    try:
        return this if RunReader(directory).summary().get("job") == this else None
    except UserError:
        return None


def scheduled() -> str | None:
    """The scheduler's name for the job that this process belongs to."""
    for scheduler, name in (("slurm", "SLURM_JOB_ID"), ("submitit", "SUBMITIT_LOCAL_JOB_ID")):
        if os.environ.get(name):
            return f"{scheduler} job {os.environ[name]}"
    return None


def identity(values: Mapping[str, Any]) -> Values:
    """What makes a run this one and no other: its config without what may change."""
    flat = flattened(values)
    free = {*CHANGEABLE, "resume"}
    return {key: value for key, value in flat.items() if not free & set(_prefixes(key))}


def differences(now: Mapping[str, Any], was: Mapping[str, Any]) -> list[str]:
    """Where two identities differ, a line each."""
    return [
        f"{key} is {now.get(key, 'not there')}, and was {was.get(key, 'not there')}"
        for key in sorted({*now, *was})
        if now.get(key, ...) != was.get(key, ...)
    ]


def flattened(values: Mapping[str, Any], prefix: str = "") -> Values:
    """Nested values by their keys as typed on a command line."""
    flat: Values = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _prefixes(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def command(directory: str, values: Mapping[str, Any]) -> str:
    """The command that goes on with a run."""
    words = ["python", "-m", "seqrnn.train", f"resume={directory}"]
    if values.get("plugins"):
        words.append(f"plugins=[{','.join(values['plugins'])}]")
    return shlex.join(words)
