"""python -m seqrnn.train task=integral model=gru: one run, from its config to its plots."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seqrnn import cli, resume
from seqrnn.resume import Job


@hydra.main(version_base="1.3", config_path=cli.config_directory(), config_name="config")
def train(config: DictConfig) -> float:
    """Trains and tests what ``config`` describes; returns the test loss."""
    hydras = HydraConfig.get()
    directory = Path(hydras.runtime.output_dir)
    with cli.reporting(directory, None if hydras.mode == RunMode.RUN else hydras.job.num):
        with cli.importing():  # late, so that --help, --cfg and tab completion need not wait for torch
            from seqrnn import registry, settings, smoke
        values = settings.plain(config)
        registry.load(settings.plugins_of(values))
        settings.check(values)  # every problem at once
        values = smoke.shrink(values) if values["smoke"] else values
        said: Any = OmegaConf.to_container(hydras.overrides.task, resolve=False)  # as it was typed
        job = resume.recognised(Job(values, directory, said))
        return execute(job) if (result := job.result()) is None else result


def go_on(job: Job) -> float:
    """Goes on with a run that was started before; returns its test loss."""
    if (result := job.result()) is not None:
        return result
    with cli.reporting(job.directory):
        with cli.importing():
            from seqrnn import registry, settings
        registry.load(settings.plugins_of(job.values))
        settings.check(job.values)
        return execute(job)


def execute(job: Job) -> float:
    """A run, or the rest of one, from its sound config to its plots; returns its test loss."""
    from seqrnn import loop, settings
    from seqrnn.checkpoints.initial import start_from
    from seqrnn.checkpoints.training import Training
    from seqrnn.diagnosis.vitals import Vitals
    from seqrnn.monitor import Monitor
    from seqrnn.recording.recorder import Recorder
    from seqrnn.signals import Signals
    from seqrnn.strategies.choice import choose

    run = settings.assemble(job.values)
    source = run.settings.init_from if not job.again else None
    origin = start_from(source, run.network) if source else None
    planned = run.schedule.count_updates(run.task.train(0, run.schedule.streams))
    strategy = choose(run)
    validation, test = run.task.validation(), run.task.test()  # damaged data is found before training
    vitals = Vitals(run) if run.settings.diagnose else dict
    with Signals() as signals, Recorder(run, job, signals.deferred) as recorder:
        monitor = Monitor(
            planned,
            lambda: loop.score(loop.predict(run.network, validation, run.place), run.task, run.loss) | vitals(),
            evaluate_every=run.schedule.evaluate_every,
            log_every=run.settings.log_every,
            patience=run.schedule.patience,
            record=recorder.record,
            observe=recorder.observe,
        )
        training = Training(run, strategy, monitor, recorder, signals)
        training.begin(job.again, job.why, origin)
        strategy.ready(recorder.terminal.say)
        training.train()
        loss = recorder.finish(loop.predict(run.network, test, run.place))
    if run.settings.diagnose:
        from seqrnn.diagnosis.session import diagnose

        diagnose(job.directory, plugins=run.settings.plugins, seconds=0 if run.settings.smoke else None)
    return loss


def command() -> None:
    """What the command line asks for."""
    job = resume.requested(sys.argv[1:])
    if job is None:
        cli.run_hydra(train)
    else:
        go_on(job)


def main() -> None:
    """The ``seqrnn-train`` command."""
    cli.run(command)


if __name__ == "__main__":
    main()
