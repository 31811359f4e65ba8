"""Decides whether a command line, or a config, starts a new run or resumes one.

``resume=RUN_DIR`` among the overrides resumes the run in that directory with the config that it was started with. It
never reaches hydra, which would compose today's conf/ and make a directory of its own. A config may also have the key
``resume``, from whichever file: ``auto`` resumes the run in the run directory, and a directory the run in it,
if that is this very run. A job that its scheduler has put back into the queue resumes in the same way.

Imports nothing that is slow, so that errors and --help come at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from seqrnn import config_files
from seqrnn.checkpoints.identity import CHANGEABLE, EXTENDING, differences, identity
from seqrnn.errors import ConfigError, UserError, did_you_mean
from seqrnn.keys import flattened, prefixes
from seqrnn.recording.provenance import scheduler_job
from seqrnn.rundir.names import CHECKPOINTS, CONFIG
from seqrnn.rundir.request import RunRequest

Values = dict[str, Any]
MOST_DIFFERENCES = 5  # that an error names


def finished_summary(request: RunRequest) -> dict[str, Any] | None:
    """Returns the summary of a run that has finished and is not made longer; None if there is something to train."""
    from seqrnn.rundir.reader import RunReader, was_not_closed

    if not request.resuming or was_not_closed(request.directory):
        return None
    try:
        summary = RunReader(request.directory).summary()
        before = flattened(RunReader(request.directory).config())
    except UserError:
        return None  # the process was killed before it wrote them
    now = flattened(request.values)
    is_longer = any(now.get(key) != before.get(key) for key in EXTENDING)
    return None if is_longer or summary.get("status") != "finished" else summary


def named_run(overrides: Sequence[str], flags: Sequence[str] = ()) -> RunRequest | None:
    """Returns the run that ``resume=RUN_DIR`` among ``overrides`` names; None where they do not name one.

    Args:
        flags: of the command line; a run is resumed without any.

    Raises:
        ConfigError: all that is wrong with the command line.
        DataError: there is no such run, or its config cannot be read.
    """
    naming = [text for text in overrides if text.lstrip("+").partition("=")[0] == "resume"]
    where = _value(naming[-1]) if naming else ""
    if where in ("", "null", "auto"):
        return None
    from seqrnn.rundir.reader import RunReader

    directory = Path(where).expanduser()
    others = [text for text in overrides if text not in naming]
    problems = [f"resume={where}: given more than once"] if len(naming) > 1 else []
    for flag in flags:
        problems.append(
            f"{flag}: only one run can be resumed at a time; leave it out"
            if flag in ("-m", "--multirun")
            else f"{flag}: a run is resumed with its own config; leave it out"
        )
    values = RunReader(directory).config()
    _complete(values)
    for text in others:
        problems += _apply(values, text)
    names_plugins = any(text.startswith("plugins=") for text in others)
    plugins = [] if names_plugins else sorted(map(str, values.get("plugins") or []))
    if plugins:
        problems.append(
            f"plugins: the run uses {', '.join(plugins)}, and modules are code: write "
            f"'plugins=[{','.join(plugins)}]' to import them"
        )
    if problems:
        raise ConfigError(*problems)
    _check_version(directory)
    return RunRequest(values, directory, others, resuming=True)


def _value(override: str) -> str:
    """Returns the value of an override without hydra's quotes; where hydra cannot parse it, as it was typed."""
    try:
        return str(OverridesParser.create().parse_override(override).value())
    except Exception:
        return override.partition("=")[2]


def _check_version(directory: Path) -> None:
    """Refuses a run of another version before its config is compared with today's keys."""
    from seqrnn.checkpoints.manager import check_version

    check_version(directory / CHECKPOINTS)


def _complete(values: Values) -> None:
    """Adds to a config the changeable keys that the version which wrote it did not have, with today's defaults."""
    defaults = OmegaConf.to_container(
        OmegaConf.load(Path(config_files.config_directory()) / "config.yaml"), resolve=False
    )
    assert isinstance(defaults, dict)
    flat = flattened(values)
    for key, value in flattened({str(key): value for key, value in defaults.items()}).items():
        group, _, name = key.rpartition(".")
        holder = values.setdefault(group, {}) if group in CHANGEABLE else values.get(group) if group else values
        if key not in flat and isinstance(holder, dict) and {*CHANGEABLE} & {*prefixes(key)}:
            holder[name] = value


def _apply(values: Values, text: str) -> list[str]:
    """Applies an override to ``values``; returns what is wrong with it."""
    try:
        override = OverridesParser.create().parse_override(text)
        key, value = override.key_or_group, override.value()
        plain = not (override.is_sweep_override() or override.is_add() or override.is_delete())
    except Exception:
        return [f"{text}: not an override; write key=value"]
    if not plain:
        return [f"{text}: a run is resumed with one value of each key; write key=value"]
    path = key.split(".")
    allowed = any(".".join(path[: count + 1]) in CHANGEABLE for count in range(len(path)))
    group: Any = values
    for part in path[:-1]:
        group = group.get(part) if isinstance(group, dict) else None
    known = isinstance(group, dict) and path[-1] in group and not isinstance(group[path[-1]], dict)
    if not allowed or not known:
        nearest = did_you_mean(key, CHANGEABLE) if not known else ""
        return [
            f"{key}: a run is resumed with its own config, and this key cannot change{nearest} (keys that can: "
            f"{', '.join(CHANGEABLE)})"
        ]
    group[path[-1]] = value
    return []


def follow_setting(request: RunRequest) -> RunRequest:
    """Returns the request as the key ``resume`` of its config, or a scheduler that put the job back into its queue,
    would have it: resuming, or as it is.

    Raises:
        ConfigError: the directory that is to be resumed holds another run.
        DataError: ``resume`` names a directory that holds no run.
    """
    from seqrnn.rundir.reader import RunReader

    setting = request.values.get("resume")
    is_named = setting not in (None, "auto")
    if is_named:
        request = replace(
            request, directory=Path(str(setting)).expanduser(), values={**request.values, "resume": None}
        )
    elif not (request.directory / CONFIG).is_file():
        return request
    queued = None if is_named else requeued(request.directory)
    if setting is None and not queued:
        return request
    _check_version(request.directory)
    found = differences(identity(request.values), identity(RunReader(request.directory).config()))
    if found:
        remedy = (
            f"with resume={setting} on the command line, it is resumed with its own config"
            if is_named
            else "choose another directory with hydra.run.dir=DIR"
        )
        raise ConfigError(
            f"{request.directory}: holds another run, so it cannot be resumed: "
            f"{'; '.join(found[:MOST_DIFFERENCES])}; {remedy}"
        )
    reason = f"requeued as {queued}" if queued else "" if is_named else "resume=auto"
    return replace(request, resuming=True, reason=reason)


def requeued(directory: Path) -> str | None:
    """Returns the scheduler's job that this process belongs to, if that job has written the run directory before and
    was put back into the queue."""
    from seqrnn.rundir.reader import RunReader

    this = scheduler_job()
    if this is None or ("SLURM_JOB_ID" in os.environ and not int(os.environ.get("SLURM_RESTART_COUNT") or 0)):
        return None
    try:
        return this if RunReader(directory).summary().get("job") == this else None
    except UserError:
        return None
