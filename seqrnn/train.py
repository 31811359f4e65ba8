"""python -m seqrnn.train task=integral model=gru: one run, from its config to its plots."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from seqrnn import cli


@hydra.main(version_base="1.3", config_path=cli.config_directory(), config_name="config")
def train(config: DictConfig) -> float:
    """Trains and tests what ``config`` describes; returns the test loss."""
    with cli.reporting():
        with cli.importing():  # late, so that --help, --cfg and tab completion need not wait for torch
            from seqrnn import loop, registry, settings, smoke
            from seqrnn.monitor import Monitor
            from seqrnn.recording.recorder import Recorder
            from seqrnn.strategies.choice import choose

        values = settings.plain(config)
        registry.load(settings.plugins_of(values))
        settings.check(values)  # every problem at once
        run = settings.assemble(smoke.shrink(values) if values["smoke"] else values)
        planned = run.schedule.count_updates(run.task.train(0, run.schedule.streams))
        strategy = choose(run)
        validation, test = run.task.validation(), run.task.test()  # damaged data is found before training

        job = HydraConfig.get()
        with Recorder(Path(job.runtime.output_dir), run, job.overrides.task) as recorder:
            monitor = Monitor(
                planned,
                lambda: loop.score(loop.predict(run.network, validation, run.place), run.task, run.loss),
                evaluate_every=run.schedule.evaluate_every,
                log_every=run.settings.log_every,
                patience=run.schedule.patience,
                record=recorder.record,
                observe=recorder.observe,
            )
            recorder.begin(monitor)
            strategy.ready(recorder.terminal.say)
            loop.train(run.task, run.schedule, strategy, monitor)
            return recorder.finish(loop.predict(run.network, test, run.place))


def main() -> None:
    """The ``seqrnn-train`` command."""
    cli.run(lambda: cli.run_hydra(train))


if __name__ == "__main__":
    main()
