"""Runs a sweep: plans its jobs, hands them to a launcher of hydra's, and compares them at the end.

A sweep's directory is named after what all its jobs share and after the keys that vary, not after their values. So
the same line finds the same directory again, and so does the line with another seed: jobs that have finished are
skipped, others are resumed or tried again, new ones are added.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.text import Text

from seqrnn import plugins, settings
from seqrnn.cli import reporting
from seqrnn.errors import ConfigError, UserError, printable
from seqrnn.recording.terminal import Screen
from seqrnn.sweeping.combining import key_of
from seqrnn.sweeping.composing import name_of
from seqrnn.sweeping.directory import FAILED, Job, Plan, SweepDirectory
from seqrnn.sweeping.job import CarryOut
from seqrnn.sweeping.launchers import local, of_hydra
from seqrnn.sweeping.options import SweepOptions, read_options
from seqrnn.sweeping.planning import for_jobs, labels, plan
from seqrnn.sweeping.watching import Watcher, duration

MOST_LISTED = 200  # jobs that a dry run prints
DEFAULT_NAME = "${sweep_name:}"  # in hydra.sweep.dir
DEFAULT_SUBDIR = "${hydra.job.num}"
BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


class SweepFailed(UserError):
    """Jobs have failed, and have been reported."""

    exit_code = 1
    shown = True


def sweep(
    config: DictConfig, context: HydraContext, arguments: Sequence[str], write_report: Callable[[Path], str]
) -> None:
    """Runs the sweep that a command line describes.

    Args:
        config: what hydra has composed for it.
        context: hydra's loader of configs, and callbacks.
        arguments: the overrides for the jobs, and those of the sweep.
        write_report: writes the report of the directory of a sweep, and returns a line about it for the screen.

    Raises:
        ConfigError: everything that is wrong with the configs of all jobs; nothing has been written.
        SweepFailed: a job has failed.
        KeyboardInterrupt: Ctrl-C; jobs that ran have written checkpoints.
    """
    screen = Screen(highlight=False, force_jupyter=False)
    with reporting.importing():
        import torch  # noqa: F401  # what plans the jobs checks their components
    options = read_options(config)
    if OmegaConf.to_container(config.hydra.sweep, resolve=False).get("subdir") != DEFAULT_SUBDIR:  # type: ignore[union-attr]
        raise ConfigError("hydra.sweep.subdir: jobs are named after their overrides; hydra/sweeper=basic uses it")
    if options.resume is not None:
        directory = Path(options.resume).expanduser()
        jobs = _planned_before(directory, arguments, options, config)
    else:
        directory = _directory(config, context, arguments, options)
        jobs = plan(arguments, options, config, context.config_loader)
    if options.dry_run:
        _list(SweepDirectory(directory), jobs, screen)
        return
    runner = _Runner(SweepDirectory(directory), jobs, options, config, context, screen, write_report)
    runner.run(Plan(line=list(arguments), jobs=len(jobs)))


def _directory(config: DictConfig, context: HydraContext, arguments: Sequence[str], options: SweepOptions) -> Path:
    """Returns the directory of a sweep: the user's, or the one that its line has by default."""
    parser = OverridesParser.create(config_loader=context.config_loader)
    texts = {key_of(text): text for text in for_jobs(arguments)}
    swept = [key for key, text in texts.items() if parser.parse_override(text).is_sweep_override()]
    fixed = {key: text.partition("=")[2] for key, text in texts.items() if key not in swept}
    if options.file is not None:
        fixed["file"] = Path(options.file).stem
    written: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    with open_dict(config.hydra.sweep):
        config.hydra.sweep.dir = str(written["dir"]).replace(DEFAULT_NAME, name_of(fixed, swept))
    return Path(str(config.hydra.sweep.dir))


def _planned_before(
    directory: Path, arguments: Sequence[str], options: SweepOptions, config: DictConfig
) -> list[Job]:
    """Returns the jobs of a sweep that is resumed by its directory.

    Raises:
        ConfigError: the line has overrides for jobs, or their configs name modules that the user has not named.
        DataError: it is not the directory of a sweep.
    """
    others = [text for text in for_jobs(arguments) if key_of(text) != "plugins"]
    if others or options.file or options.zip or options.exclude:
        more = others[0] if others else "sweep.file, sweep.zip or sweep.exclude"
        raise ConfigError(
            f"{more}: with sweep.resume, jobs keep the overrides that they were planned with; to add jobs, repeat "
            f"the line with more values, and with hydra.sweep.dir={directory}"
        )
    sweep = SweepDirectory(directory)
    sweep.read_plan()
    jobs = sweep.read_jobs()
    allowed = settings.plugins_of({"plugins": OmegaConf.to_container(config.plugins)})
    named = sorted({name for job in jobs for name in settings.plugins_of(job.values)} - {*allowed})
    if named:
        raise ConfigError(
            f"plugins: the sweep uses {', '.join(named)}, and modules are code: write 'plugins=[{','.join(named)}]' "
            "to import them"
        )
    plugins.load_components(allowed)
    return jobs


class _Runner:
    """Runs the jobs of a sweep that have not finished.

    Args:
        jobs: those of the command line.
    """

    def __init__(
        self,
        sweep: SweepDirectory,
        jobs: Sequence[Job],
        options: SweepOptions,
        config: DictConfig,
        context: HydraContext,
        screen: Screen,
        write_report: Callable[[Path], str],
    ) -> None:
        self.sweep, self.jobs, self.options = sweep, list(jobs), options
        self.config, self.context, self.screen = config, context, screen
        self.write_report = write_report

    def run(self, plan: Plan) -> None:
        """Runs the sweep, from its lock to its tables."""
        if self.options.jobs != "auto" and not self._is_local:
            raise ConfigError(
                f"sweep.jobs={self.options.jobs}: is for processes of this machine, without hydra/launcher, "
                "hydra.callbacks, hydra.job.env_set and hydra.job.chdir; leave it or these out"
            )
        self.sweep.lock()
        try:
            self._write(plan)
            try:
                self._run_jobs()
            except KeyboardInterrupt:
                self._report()
                self._print("resume the sweep with:")
                self._print_whole(self._line())
                raise
            if self._report():
                raise SweepFailed(f"{self.sweep.path}: jobs have failed")
        finally:
            self.sweep.release()

    def _write(self, plan: Plan) -> None:
        """Writes the configs of new jobs; a job that was planned before keeps its own, and its number."""
        known = {job.name: job for job in self.sweep.read_jobs()}
        number = 1 + max((job.number for job in known.values()), default=-1)
        changed = 0
        for place, job in enumerate(self.jobs):
            if job.name in known:
                changed += known[job.name].values != _as_read(job).values
                self.jobs[place] = known[job.name]
                continue
            self.jobs[place] = job.model_copy(update={"number": number})
            self.sweep.write_job(self.jobs[place])
            number += 1
        self.sweep.write_plan(plan)
        self._print_whole(f"seqrnn sweep: {_count(len(self.jobs))} in {self.sweep.path}")
        if changed:
            self._print(
                f"  note: the config files have changed since {_count(changed)} of these were planned, and they keep "
                "the configs that they were planned with; another hydra.sweep.dir=DIR plans them anew"
            )

    def _run_jobs(self) -> None:
        """Runs the jobs that have not finished; a second time those that failed, if sweep.on_failure=retry."""
        waiting = self._unfinished()
        if len(waiting) < len(self.jobs):
            self._print(f"  {_count(len(self.jobs) - len(waiting))} finished before")
        self._launch(waiting)
        if self.options.on_failure == "retry":
            failed = [job for job in waiting if self.sweep.outcome(job.name).status in FAILED]
            if failed:
                self._print(f"trying {_count(len(failed))} once more")
                self._launch(failed)

    def _unfinished(self) -> list[Job]:
        return [job for job in self.jobs if self.sweep.outcome(job.name).status != "finished"]

    def _launch(self, jobs: Sequence[Job]) -> None:
        """Runs jobs, in processes of this machine or by the launcher that was chosen."""
        if not jobs:
            return
        task = CarryOut(self.sweep.path.absolute(), self.options.on_failure == "stop")
        show = self._print_whole if not self.screen.is_terminal else self._print
        with Watcher(self.sweep, jobs, self._labels(), len(self.jobs), show):
            if self._is_local:
                local.launch(task, [job.name for job in jobs], self._processes(jobs), show)
            else:
                of_hydra.launch(task, [job.name for job in jobs], self.config, self.context)

    @property
    def _is_local(self) -> bool:
        """Whether jobs run in processes of ours: no launcher was chosen, and nothing that hydra does around jobs."""
        own = self.config.hydra
        of_hydra = bool(own.callbacks) or bool(own.job.env_set) or bool(own.job.chdir)
        return own.launcher.get("_target_") == BASIC_LAUNCHER and not of_hydra

    def _processes(self, jobs: Sequence[Job]) -> int:
        """Returns how many of the jobs run at the same time."""
        asked = self.options.jobs
        return asked if asked != "auto" else local.automatic_processes([job.values for job in jobs])

    def _labels(self) -> dict[str, str]:
        """Returns what is printed of each job: the overrides that the others do not all have."""
        texts = labels([job.overrides for job in self.jobs])
        return {job.name: printable(text) for job, text in zip(self.jobs, texts, strict=True)}

    def _report(self) -> int:
        """Writes and prints the comparison of all jobs in the directory; returns how many have failed."""
        from seqrnn.sweeping import comparison, tables

        results = comparison.results_of(self.sweep, self.sweep.read_jobs())
        tables.write_tables(results, self.sweep.path)
        for part in tables.screen_tables(results):
            self.screen.print(part, soft_wrap=isinstance(part, Text))
        failed = tables.failures(results, self.sweep.path)
        if failed:
            self._print(f"{_count(len(failed))} failed:")
        for name, lines in failed:
            self._print_whole(f"  {name}")
            for line in lines:
                self._print_whole(f"    {line}")
        self._print(tables.closing_line(results))
        self._print_whole(f"{self.sweep.path} ({tables.CSV}, {tables.MARKDOWN}, {tables.TEX})")
        if self.options.report:
            self._print_whole(self.write_report(self.sweep.path))
        return len(failed)

    def _line(self) -> str:
        return shlex.join(["python", "-m", "seqrnn.train", *sys.argv[1:]])

    def _print(self, text: str) -> None:
        self.screen.print(Text(printable(text)))

    def _print_whole(self, text: str) -> None:
        """Prints a line that can be copied, however long it is."""
        self.screen.print(Text(printable(text)), soft_wrap=True)


def _as_read(job: Job) -> Job:
    """Returns a job as it would be read from its file."""
    return Job.model_validate_json(job.model_dump_json())


def _list(sweep: SweepDirectory, jobs: Sequence[Job], screen: Screen) -> None:
    """Prints the jobs of a dry run, and an estimate of the time."""
    from seqrnn.sweeping import estimate

    waiting = [job for job in jobs if sweep.outcome(job.name).status != "finished"]
    updates = estimate.planned_updates(waiting)
    measured = estimate.measured_runs([sweep.path, Path("outputs")])
    for number, job in enumerate(jobs[:MOST_LISTED], 1):
        count = updates.get(job.name)
        what = "finished" if job not in waiting else "updates unknown" if count is None else f"{count:,} updates"
        screen.print(
            Text(printable(f"[{number}/{len(jobs)}] {shlex.join(job.overrides) or 'the defaults'}  {what}")),
            soft_wrap=True,
        )
    if len(jobs) > MOST_LISTED:
        screen.print(f"and {len(jobs) - MOST_LISTED} more")
    seconds = {job.name: estimate.seconds_of(job, updates[job.name], measured) for job in waiting}
    known = [value for value in seconds.values() if value is not None]
    screen.print(Text(f"{_count(len(waiting))} to run, in {sweep.path}"), soft_wrap=True)
    if known:
        unknown = len(waiting) - len(known)
        screen.print(
            f"estimate: {duration(sum(known))} for {_count(len(known))}, one after the other: planned updates times "
            "the seconds for an update of finished runs like them, here and in outputs/"
        )
        if unknown:
            screen.print(f"  without {_count(unknown)}, of which no run like them has finished")
    elif waiting:
        screen.print("no estimate of the time: no run like these has finished, here or in outputs/")


def _count(number: int) -> str:
    return f"{number:,} job{'s' * (number != 1)}"
