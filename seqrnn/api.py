"""A run from Python: what the commands, notebooks, studies and benchmarks call."""

from __future__ import annotations

from seqrnn import components, evaluation, plugins, settings, smoke, training
from seqrnn.checkpoints.init_from import start_from
from seqrnn.checkpoints.signals import Signals
from seqrnn.checkpoints.training import Training
from seqrnn.diagnosis.vitals import Vitals
from seqrnn.monitor import Monitor
from seqrnn.recording.recorder import Recorder
from seqrnn.rundir.request import RunRequest
from seqrnn.settings import Values
from seqrnn.strategies.choice import choose
from seqrnn.tasks import checks


def checked(values: Values) -> Values:
    """Checks a config, and returns it as it will be run: shrunk, if ``smoke`` is set. Imports its plugins.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    plugins.load_components(settings.plugins_of(values))
    components.check_config(values)
    return smoke.shrink(values) if values["smoke"] else values


def execute(request: RunRequest) -> float:
    """Makes or resumes the run of a checked config, from its data to its plots; returns its test loss."""
    run = components.build_components(request.values)
    checks.check_data(run.task, run.schedule.streams, run.context.dtype)
    source = run.settings.init_from if not request.resuming else None
    origin = start_from(source, run.network) if source else None
    planned = training.planned_updates(run)
    strategy = choose(run)
    score, test = training.validation_scorer(run), run.task.test()
    vitals = Vitals(run) if run.settings.diagnose else dict

    def evaluate() -> dict[str, float]:
        return score() | vitals()

    with Signals() as signals, Recorder(run, request, signals.deferred) as recorder:
        monitor = Monitor(
            planned,
            evaluate,
            evaluate_every=run.schedule.evaluate_every,
            log_every=run.settings.log_every,
            patience=run.schedule.patience,
            record=recorder.record,
            observe=recorder.observe,
        )
        trained = Training(run, strategy, monitor, recorder, signals)
        trained.begin(request.resuming, request.reason, origin)
        strategy.prepare(recorder.terminal.say)
        trained.train()
        loss = recorder.finish(evaluation.predict(run.network, test, run.context))
    if run.settings.diagnose:
        from seqrnn.diagnosis.session import diagnose_finished_run

        diagnose_finished_run(request.directory, run.settings.plugins, run.settings.smoke)
    return loss
