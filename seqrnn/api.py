"""Runs from Python: ``seqrnn.run([...])`` trains, ``seqrnn.load(RUN_DIR)`` reads, and both return a ``Run``.

The commands call the same functions. Mistakes are exceptions here (``seqrnn.ConfigError`` and others), never exits.
"""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console

from seqrnn import components, composition, evaluation, plugins, resuming, settings, smoke, training
from seqrnn.checkpoints.init_from import start_from
from seqrnn.checkpoints.signals import Signals
from seqrnn.checkpoints.training import Training
from seqrnn.components import Components
from seqrnn.errors import ConfigError, explained, printable
from seqrnn.monitor import Monitor, Pace, Progress
from seqrnn.recording import best
from seqrnn.recording.recorder import Recorder
from seqrnn.results import Run
from seqrnn.rundir.names import DIAGNOSIS
from seqrnn.rundir.request import RunRequest
from seqrnn.strategies.choice import choose
from seqrnn.strategies.protocol import Strategy
from seqrnn.tasks import checks


@dataclass(frozen=True)
class Host:
    """What a run takes from the process in which it runs; the defaults are those of a run that has it to itself.

    Args:
        strategy: returns what computes the updates.
        build: builds the objects of the run from its config.
        signals: returns what receives the signals that ask the run to end.
        pace: returns what decides how many updates make a block.
    """

    strategy: Callable[[Components], Strategy] = choose
    signals: Callable[[], Signals] = Signals
    build: Callable[[settings.Values], Components] = components.build_components
    pace: Callable[[], Pace] = Pace


ALONE = Host()


def run(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None, quiet: bool = False) -> Run:
    """Trains what ``overrides`` describe, as ``python -m seqrnn.train`` does, and returns the finished run.

        run = seqrnn.run(["task=integral", "model=gru", "seed=3"])

    ``resume=RUN_DIR`` and ``resume=auto`` resume a run. The generator of random numbers and the number of threads of
    this process are the same afterwards as before.

    Args:
        overrides: as on the command line, without the shell's quotes; ``hydra.run.dir=DIR`` chooses the directory.
        config_dir: a directory with more config files, as the flag ``--config-dir``.
        quiet: prints nothing.

    Raises:
        ConfigError: everything that is wrong with the overrides, before anything is written.
        DataError: data, or the run to be resumed, is missing or damaged.
        Diverged: the loss became NaN or infinite; the run directory holds everything up to there.
        UserError: there is not enough memory, or a file cannot be written.
        KeyboardInterrupt: Ctrl-C; the run directory holds a checkpoint, and ``resume=RUN_DIR`` resumes it.
    """
    if isinstance(overrides, str):
        raise TypeError(f"seqrnn.run takes a list of overrides, such as [{overrides!r}], not one string")
    flags = [text for text in overrides if text.startswith("-")]
    if flags:
        raise ConfigError(
            f"{' '.join(flags)}: seqrnn.run takes no flags of the command line; its argument config_dir is "
            "--config-dir, and a sweep (-m) is a call for each value"
        )
    request = resuming.named_run(overrides, ["config_dir"] if config_dir is not None else ())
    if request is None:
        settings.refuse_sweep_options(overrides)
        config = composition.compose(overrides, config_dir)
        directory = Path(config.hydra.run.dir).absolute()
        request = RunRequest(settings.plain(config), directory, typed_overrides(config.hydra))
    with _process_state_kept():
        request, _ = carry_out(request, quiet=quiet)
    return load(request.directory, plugins=settings.plugins_of(request.values))


def load(directory: str | Path, *, plugins: Sequence[str] = ()) -> Run:
    """Returns a run that was trained before, from its directory alone. Nothing in the directory is executed.

    Args:
        plugins: modules to import that register the run's own task, model or optimizer, where its network is built;
            they are code, so a run directory cannot ask for them itself.

    Raises:
        DataError: it is not a run directory.
    """
    return Run(Path(directory).expanduser(), plugins)


def typed_overrides(hydra_config: Any) -> list[str]:
    """Returns the overrides of a composed config, as they were typed, without those of hydra's own keys.

    Args:
        hydra_config: hydra's own part of the config.
    """
    overrides: Any = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    return list(overrides)


def carry_out(
    request: RunRequest,
    *,
    draws: bool = True,
    quiet: bool = False,
    evaluated: Callable[[Progress], None] = lambda progress: None,
    host: Host = ALONE,
) -> tuple[RunRequest, float]:
    """Checks the config of a request, and makes, resumes or, where it has finished, only reports the run.

    Args:
        draws: whether the run draws its pictures; if not, ``seqrnn.plots.helper.draw_pending`` draws them.
        evaluated: called after each evaluation; an exception that it raises ends the run.
        host: the process in which the run runs.

    Returns:
        The request as it was carried out, and the test loss.

    Raises:
        UserError: what ``run`` raises.
    """
    with _explained(request.directory):
        plugins.load_components(settings.plugins_of(request.values))
        components.check_config(request.values)
        if not request.resuming:  # the config of a run that is resumed by name has been shrunk already
            values = components.resolve_suggestions(request.values)
            values = smoke.shrink(values) if values["smoke"] else values
            request = resuming.follow_setting(replace(request, values=values))
        summary = resuming.finished_summary(request)
        if summary is None:
            loss = execute(request, draws=draws, quiet=quiet, evaluated=evaluated, host=host)
        else:
            tested = summary.get("test", {}).get("loss")
            loss = math.nan if tested is None else float(tested)
            if not quiet:
                updates = summary.get("updates", 0)
                print(
                    f"{printable(str(request.directory))}: finished after {updates:,} updates; nothing to do (a "
                    "larger schedule.epochs or schedule.max_updates would resume it)"
                )
        if request.values["diagnose"] and (summary is None or not (request.directory / DIAGNOSIS).exists()):
            from seqrnn.diagnosis.session import diagnose_finished_run

            names = settings.plugins_of(request.values)
            console = Console(quiet=True) if quiet else None
            diagnose_finished_run(request.directory, names, bool(request.values["smoke"]), console)
        return request, loss


def execute(
    request: RunRequest,
    *,
    draws: bool = True,
    quiet: bool = False,
    evaluated: Callable[[Progress], None] = lambda progress: None,
    host: Host = ALONE,
) -> float:
    """Makes or resumes the run of a checked config, from its data to its pictures; returns its test loss.

    Args:
        draws, evaluated, host: as for ``carry_out``.
    """
    run = host.build(request.values)
    checks.check_data(run.task, run.schedule.streams, run.context.dtype)
    source = run.settings.init_from if not request.resuming else None
    origin = start_from(source, run.network) if source else None
    planned = training.planned_updates(run)
    strategy = host.strategy(run)
    score, test = training.validation_scorer(run), run.task.test()
    best.check_metric(run.settings.checkpoint.best, run.task, score)
    vitals = _vitals(run)

    def evaluate() -> dict[str, float]:
        return score() | vitals()

    with host.signals() as signals, Recorder(run, request, signals.deferred, draws=draws, quiet=quiet) as recorder:
        monitor = Monitor(
            planned,
            evaluate,
            evaluate_every=run.schedule.evaluate_every,
            log_every=run.settings.log_every,
            patience=run.schedule.patience,
            advice=run.schedule.divergence_advice,
            record=recorder.record,
            observe=recorder.observe,
            evaluated=evaluated,
            pace=host.pace(),
        )
        trained = Training(run, strategy, monitor, recorder, signals)
        trained.begin(request.resuming, request.reason, origin)
        with _compiler_errors_dropped():
            strategy.prepare(recorder.terminal.print)
        trained.train()
        recorder.load_scored_weights()
        return recorder.finish(evaluation.predict(run.network, test, run.context))


def _vitals(run: Components) -> Callable[[], dict[str, float]]:
    """Returns what measures the vital signs of a run at each evaluation; nothing, unless its config asks for them."""
    if not run.settings.diagnose:
        return dict
    from seqrnn.diagnosis.vitals import Vitals  # late: its instruments import matplotlib

    return Vitals(run)


@contextmanager
def _compiler_errors_dropped() -> Iterator[None]:
    """Drops what the destructors of the compiler's unfinished objects print, if Ctrl-C interrupts the compiler within
    the block: then, and until the process ends."""

    def drop(unraisable: Any) -> None:
        frames = traceback.extract_tb(unraisable.exc_traceback)
        if not frames or "llvmlite" not in Path(frames[-1].filename).parts:
            before(unraisable)

    before, sys.unraisablehook = sys.unraisablehook, drop
    is_interrupted = False
    try:
        yield
    except KeyboardInterrupt:
        is_interrupted = True
        raise
    finally:
        if not is_interrupted:
            sys.unraisablehook = before


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Turns errors of the machine within its block, such as a full disk, into errors that say what to do.

    Raises:
        UserError: there is not enough memory, or a file cannot be read or written.
    """
    try:
        yield
    except Exception as error:
        found = explained(error, directory)
        if found is error:
            raise
        raise found from error


@contextmanager
def _process_state_kept() -> Iterator[None]:
    """Restores torch's generator of random numbers and its number of threads, which a run sets, after its block."""
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    generators = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        torch.set_rng_state(generator)
        torch.set_num_threads(threads)
        if generators:
            torch.cuda.set_rng_state_all(generators)
