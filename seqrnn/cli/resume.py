"""Decides whether a command line starts a new run or resumes one.

``resume=RUN_DIR`` resumes the run in that directory, with the config that it was started with. It never reaches
hydra, which would compose today's conf/ and make a directory of its own. ``resume=auto`` resumes the run in hydra's
run directory if it is this very run, unfinished; so does a job that its scheduler has put back into the queue.

Imports nothing that is slow, so that errors and help come at once.
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
from seqrnn.checkpoints.identity import CHANGEABLE, EXTENDING, differences, flattened, identity, prefixes
from seqrnn.errors import ConfigError, UserError, did_you_mean
from seqrnn.recording.provenance import scheduler_job
from seqrnn.rundir.names import DIAGNOSIS
from seqrnn.rundir.request import RunRequest

Values = dict[str, Any]
INFORMATIVE = {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i"}  # hydra's flags that run nothing


def finished_result(request: RunRequest) -> float | None:
    """Returns the test loss of a run that has finished and is not made longer, and says so; None otherwise. Makes the
    diagnosis of such a run if diagnose=true asks for one and there is none, as after a kill during the diagnosis."""
    from seqrnn.rundir.reader import RunReader, left_behind

    if not request.resuming or left_behind(request.directory):
        return None
    try:
        summary = RunReader(request.directory).summary()
        before = flattened(RunReader(request.directory).config())
    except UserError:
        return None  # killed before it wrote them
    now = flattened(request.values)
    if summary.get("status") != "finished" or any(now.get(key) != before.get(key) for key in EXTENDING):
        return None
    print(
        f"{request.directory}: finished after {summary['updates']:,} updates; nothing to do (a larger "
        "schedule.epochs or schedule.max_updates would resume it)"
    )
    if request.values.get("diagnose") is True and not (request.directory / DIAGNOSIS).exists():
        from seqrnn.cli import reporting

        with reporting.importing():
            from seqrnn.diagnosis.session import diagnose_finished_run
        diagnose_finished_run(
            request.directory, list(request.values.get("plugins") or []), bool(request.values.get("smoke"))
        )
    return float(summary["test"]["loss"])


def requested(arguments: Sequence[str]) -> RunRequest | None:
    """Returns the run that ``resume=RUN_DIR`` names; None where the command line does not say it.

    Raises:
        ConfigError: all that is wrong with the command line.
        DataError: there is no such run, or its config cannot be read.
    """
    named = [text for text in arguments if text.lstrip("+").partition("=")[0] == "resume"]
    where = named[-1].partition("=")[2] if named else ""
    if where in ("", "null", "auto") or INFORMATIVE & {*arguments}:
        return None
    from seqrnn.rundir.reader import RunReader

    directory = Path(where).expanduser()
    others = [text for text in arguments if text not in named]
    problems = [f"resume={where}: given more than once"] if len(named) > 1 else []
    for flag in (text for text in others if text.startswith("-")):
        problems.append(
            f"{flag}: only one run can be resumed at a time; leave it out"
            if flag in ("-m", "--multirun")
            else f"{flag}: a run is resumed with its own config; leave it out"
        )
    overrides = [text for text in others if not text.startswith("-")]
    values = RunReader(directory).config()
    _complete(values)
    for text in overrides:
        problems += _apply(values, text)
    unnamed = (
        set(values.get("plugins") or []) if not any(text.startswith("plugins=") for text in overrides) else set()
    )
    if unnamed:
        problems.append(
            f"plugins: the run uses {', '.join(sorted(map(str, unnamed)))}, and modules are code: say "
            f"'plugins=[{','.join(sorted(map(str, unnamed)))}]' to import them"
        )
    if problems:
        raise ConfigError(*problems)
    return RunRequest(values, directory, overrides, resuming=True)


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


def recognised(request: RunRequest) -> RunRequest:
    """Returns the request, resuming if its directory holds this very run and ``resume=auto`` or a requeued job asks.

    Raises:
        ConfigError: resume=auto, and the directory holds another run.
    """
    from seqrnn.rundir.names import CONFIG
    from seqrnn.rundir.reader import RunReader

    if not (request.directory / CONFIG).is_file():
        return request
    queued = requeued(request.directory)
    if request.values.get("resume") != "auto" and not queued:
        return request
    found = differences(identity(request.values), identity(RunReader(request.directory).config()))
    if found:
        raise ConfigError(
            f"{request.directory}: holds another run, so it cannot be resumed: {'; '.join(found[:5])}; choose "
            "another directory with hydra.run.dir=DIR"
        )
    return replace(request, resuming=True, reason=f"requeued as {queued}" if queued else "resume=auto")


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
