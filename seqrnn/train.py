"""python -m seqrnn.train task=integral model=gru: one run, from its config to its plots."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seqrnn import config_files
from seqrnn.cli import reporting, resume
from seqrnn.rundir.request import RunRequest


@hydra.main(version_base="1.3", config_path=config_files.config_directory(), config_name="config")
def train(config: DictConfig) -> float:
    """Trains and tests what ``config`` describes; returns the test loss."""
    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    with reporting.reporting(directory, None if hydra_config.mode == RunMode.RUN else hydra_config.job.num):
        with reporting.importing():  # late, so that --help, --cfg and tab completion need not wait for torch
            from seqrnn import api, settings
        overrides: Any = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)  # as they were typed
        request = RunRequest(api.checked(settings.plain(config)), directory, overrides)
        request = resume.recognised(request)
        return api.execute(request) if (result := resume.finished_result(request)) is None else result


def resume_run(request: RunRequest) -> float:
    """Resumes a run that was started before; returns its test loss."""
    if (result := resume.finished_result(request)) is not None:
        return result
    with reporting.reporting(request.directory):
        with reporting.importing():
            from seqrnn import api
        api.checked(request.values)
        return api.execute(request)


def command() -> None:
    """Does what the command line asks for."""
    request = resume.requested(sys.argv[1:])
    if request is None:
        reporting.run_hydra(train)
    else:
        resume_run(request)


def main() -> None:
    """Runs the ``seqrnn-train`` command."""
    reporting.run(command)


if __name__ == "__main__":
    main()
