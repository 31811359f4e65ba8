"""The command ``python -m seqrnn.train``: hydra composes a config, and a job trains what it describes."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from seqrnn import config_files, resuming
from seqrnn.cli import arguments, key_help, reporting, workers
from seqrnn.errors import ConfigError
from seqrnn.processes.environment import ProcessEnvironment, process_environment
from seqrnn.rundir.request import RunRequest

if TYPE_CHECKING:
    from seqrnn.api import Host
    from seqrnn.processes.group import Group

_group: Group | None = None  # the processes that share the run of this command, if there are several


@hydra.main(version_base="1.3", config_path=config_files.config_directory(), config_name="config")
def train(config: DictConfig) -> float:
    """Trains and tests what ``config`` describes; returns the test loss."""
    context = HydraConfig.get()
    directory = Path(context.runtime.output_dir)
    number = None if context.mode == RunMode.RUN else context.job.num
    with workers.in_worker(), reporting.reporting(directory, number):
        with reporting.importing(directory):  # late, so that --help, --cfg and tab completion do not wait for torch
            from seqrnn import api, settings
        overrides = api.typed_overrides(context)
        of_hydra = context.overrides.hydra if context.mode == RunMode.RUN else ()
        settings.refuse_sweep_options([*overrides, *of_hydra])
        if _group is not None and context.mode != RunMode.RUN:
            raise _one_run_only(_group.environment)
        request, loss = api.carry_out(RunRequest(settings.plain(config), directory, overrides), host=_host())
        if request.directory != directory:  # the config names the directory of a run to be resumed
            reporting.remove_if_new_and_empty(directory)
        return loss


def resume(request: RunRequest) -> None:
    """Resumes a run that was started before."""
    with reporting.reporting(request.directory):
        with reporting.importing():
            from seqrnn import api
        api.carry_out(request, host=_host())


def _host() -> Host:
    """Returns what a run takes from this process."""
    from seqrnn import api

    if _group is None:
        return api.ALONE
    from seqrnn.processes.leading import Leading
    from seqrnn.processes.sharing import build_components

    group = _group
    return api.Host(lambda run: Leading(run, group), build=lambda values: build_components(values, group))


def show_help() -> None:
    """Prints hydra's help of this command, with the comments of conf/."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            reporting.run_hydra(train)
    finally:
        print(key_help.with_comments(text.getvalue(), Path(config_files.config_directory())), end="")


def command() -> None:
    """Does what the command line asks for."""
    flags, overrides = arguments.split(sys.argv[1:])
    environment = process_environment()
    if environment is None:
        _do(flags, overrides)
        return
    is_only_shown = {"--version", "--help", "-h", *arguments.INFORMATIVE} & {*flags}
    if is_only_shown or arguments.value_of(flags, "--cfg", "-c"):
        if environment.rank == 0:
            _do(flags, overrides)
        return
    if {"-m", "--multirun"} & {*flags}:
        if environment.rank == 0:
            raise _one_run_only(environment)
        sys.exit(ConfigError.exit_code)
    with reporting.importing():
        from seqrnn.processes import group, helping
    if environment.rank:
        sys.exit(helping.help_leader(environment))
    global _group
    _group = group.Group(environment)
    try:
        _do(flags, overrides)
    except BaseException as error:
        _group.leave(reporting.exit_code_of(error))
        raise
    _group.leave(0)


def _one_run_only(environment: ProcessEnvironment) -> ConfigError:
    return ConfigError(
        f"-m: {environment.size} processes share one run, and a sweep is many; start the sweep in one process "
        "(without torchrun); its runs can be made side by side (sweep.jobs=…, or a launcher)"
    )


def _do(flags: list[str], overrides: list[str]) -> None:
    """Does what flags and overrides ask for."""
    if "--version" in flags:
        print(arguments.versions())
        return
    sys.argv[1:] = arguments.arranged(sys.argv[1:])
    shown = arguments.value_of(flags, "--cfg", "-c")
    if {"--help", "-h"} & {*flags}:
        show_help()
        return
    if arguments.INFORMATIVE & {*flags} or shown not in (None, "job"):
        reporting.run_hydra(train)
        return
    request = resuming.named_run(overrides, [] if shown else [word for word in flags if word.startswith("-")])
    if request is None:
        with workers.ending_with_us():  # also without -m: a config may ask for a sweep (hydra.mode)
            reporting.run_hydra(train)
    elif shown:
        print(yaml.safe_dump(request.values, sort_keys=False, allow_unicode=True), end="")
    else:
        resume(request)
