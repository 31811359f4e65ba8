"""Runs a sweep: plans its jobs, hands them to a launcher of hydra's, and compares them at the end.

A sweep's directory is named after what all its jobs share and after the keys that vary, not after their values. So
the same line finds the same directory again, and so does the line with another seed: jobs that have finished are
skipped, others are resumed or tried again, new ones are added.
"""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from seqrnn import plugins, settings
from seqrnn.cli import workers
from seqrnn.device import available_cores
from seqrnn.errors import ConfigError, UserError, printable, reason_of
from seqrnn.recording.terminal import Screen
from seqrnn.sweeping import ending
from seqrnn.sweeping.combining import key_of
from seqrnn.sweeping.composing import Composer, name_of
from seqrnn.sweeping.directory import FAILED, Job, Plan, SweepDirectory
from seqrnn.sweeping.job import CarryOut
from seqrnn.sweeping.launchers import local, of_hydra
from seqrnn.sweeping.options import SweepOptions, read_options
from seqrnn.sweeping.planning import config_dir, for_jobs, labels, plan
from seqrnn.sweeping.screen import count_of, print_line, print_text
from seqrnn.sweeping.watching import Watcher, validation_score

if TYPE_CHECKING:
    from seqrnn.sweeping.search.searcher import Searcher

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
    print_text(screen, "seqrnn sweep: composing and checking the jobs")  # which takes seconds
    options = read_options(config)
    if OmegaConf.to_container(config.hydra.sweep, resolve=False).get("subdir") != DEFAULT_SUBDIR:  # type: ignore[union-attr]
        raise ConfigError("hydra.sweep.subdir: jobs are named after their overrides; hydra/sweeper=basic uses it")
    if options.resume is not None:
        directory = Path(options.resume).expanduser()
    else:
        directory = _directory(config, context, arguments, options)
    found = _searcher(directory, arguments, options, config, context)
    jobs: list[Job] = []
    if found is None and options.resume is not None:
        jobs = _planned_before(directory, arguments, options, config)
    elif found is None:
        jobs = plan(arguments, options, config, context.config_loader)
    if options.dry_run:
        if found is not None:
            raise ConfigError("sweep.dry_run=true: the trials of a search depend on the results of those before")
        from seqrnn.sweeping import listing

        listing.list_jobs(SweepDirectory(directory), jobs, screen)
        return
    runner = _Runner(SweepDirectory(directory), jobs, options, config, context, screen, found, write_report)
    runner.run(Plan(line=list(arguments), jobs=found.trials if found else len(jobs)))


def _searcher(
    directory: Path, arguments: Sequence[str], options: SweepOptions, config: DictConfig, context: HydraContext
) -> Searcher | None:
    """Returns the search that a command line begins or resumes; None for a sweep over all combinations."""
    if options.search is None and options.resume is None:
        return None
    from seqrnn.sweeping.search import planning, searcher, study

    composer = Composer(context.config_loader, config)
    if options.resume is None:
        found = planning.plan_search(for_jobs(arguments), options, composer, config_dir(config))
        return searcher.Searcher(SweepDirectory(directory), found, options.trials or 0, composer, None)
    before = study.read_plan(directory)
    if before is None:
        return None
    _refuse_overrides(directory, arguments, options)
    planning.check_resumed(before, directory)
    trials = options.trials or SweepDirectory(directory).read_plan().jobs
    allowed = settings.plugins_of({"plugins": OmegaConf.to_container(config.plugins)})
    plugins.load_components(allowed)
    return searcher.Searcher(SweepDirectory(directory), before, trials, composer, allowed)


def _directory(config: DictConfig, context: HydraContext, arguments: Sequence[str], options: SweepOptions) -> Path:
    """Returns the directory of a sweep: the user's, or the one that its line has by default."""
    parser = OverridesParser.create(config_loader=context.config_loader)
    texts = {key_of(text): text for text in for_jobs(arguments)}
    swept = [key for key, text in texts.items() if parser.parse_override(text).is_sweep_override()]
    if options.search is not None:
        swept += [key_of(text) for text in options.space] + ["search"]
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
    _refuse_overrides(directory, arguments, options)
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


def _refuse_overrides(directory: Path, arguments: Sequence[str], options: SweepOptions) -> None:
    """Refuses overrides for jobs beside ``sweep.resume``.

    Raises:
        ConfigError: there are some.
    """
    others = [text for text in for_jobs(arguments) if key_of(text) != "plugins"]
    if others or options.file or options.zip or options.exclude or options.space:
        more = others[0] if others else "sweep.file, sweep.zip, sweep.exclude or sweep.space"
        raise ConfigError(
            f"{more}: with sweep.resume, jobs keep the overrides that they were planned with; to add jobs, repeat "
            f"the line with more values, and with hydra.sweep.dir={directory}"
        )


class _Runner:
    """Runs the jobs of a sweep that have not finished.

    Args:
        jobs: those of the command line.
        searcher: of a search, whose jobs come from it.
    """

    def __init__(
        self,
        sweep: SweepDirectory,
        jobs: Sequence[Job],
        options: SweepOptions,
        config: DictConfig,
        context: HydraContext,
        screen: Screen,
        searcher: Searcher | None,
        write_report: Callable[[Path], str],
    ) -> None:
        self.sweep, self.jobs, self.options = sweep, list(jobs), options
        self.config, self.context, self.screen, self.searcher = config, context, screen, searcher
        self.write_report = write_report
        self.has_begun = self.has_compared = False

    def run(self, plan: Plan) -> None:
        """Runs the sweep, from its lock to its tables."""
        if self.options.jobs != "auto" and not self._is_local and self.searcher is None:
            raise ConfigError(
                f"sweep.jobs={self.options.jobs}: is for processes of this machine, without hydra/launcher, "
                "hydra.callbacks, hydra.job.env_set and hydra.job.chdir; leave it or these out"
            )
        self.sweep.lock()
        try:
            with workers.finishing():
                self._begin(plan)
            try:
                self._run_jobs()
            except Exception:
                workers.raise_if_interrupted()  # of which a package may have made this error
                with suppress(Exception):
                    ending.write_tables(self.sweep, self.searcher)  # of the jobs that have ended
                raise
            with workers.finishing():
                failed = self._compare()
        except KeyboardInterrupt:
            if self.has_begun and not self.has_compared:
                self._end_early()
            raise
        else:
            if failed:
                raise SweepFailed(f"{self.sweep.path}: jobs have failed")
        finally:
            if self.searcher is not None:
                self.searcher.close()
            self.sweep.release()

    def _begin(self, plan: Plan) -> None:
        """Writes what the jobs need."""
        if self.searcher is None:
            self._write(plan)
        else:
            self._begin_search(plan)
        self.has_begun = True

    def _end_early(self) -> None:
        """Compares the jobs of a sweep that was interrupted, as far as they got; prints the line that resumes it."""
        with workers.finishing():
            try:
                self._compare()
            except Exception as error:  # the exit code tells of the interruption
                print_text(self.screen, f"the comparison is not complete: {reason_of(error)}")
            print_text(self.screen, "resume the sweep with:")
            print_line(self.screen, self._line())

    def _begin_search(self, plan: Plan) -> None:
        """Opens the study of a search."""
        assert self.searcher is not None
        self.ended = self.searcher.begin(is_local=self._is_local)
        self.sweep.write_plan(plan)
        print_text(
            self.screen,
            f"seqrnn search: {self.searcher.trials:,} trials for the best {self.searcher.plan.metric} on the "
            "validation data",
        )
        print_line(self.screen, f"  in {self.sweep.path}")
        if self.ended:
            print_text(self.screen, f"  {self.ended:,} trials ended before")

    def _write(self, plan: Plan) -> None:
        """Writes the configs of new jobs; a job that was planned before keeps its own, and its number."""
        known = {job.name: job for job in self.sweep.read_jobs()}
        number = 1 + max((job.number for job in known.values()), default=-1)
        changed = 0
        for index, job in enumerate(self.jobs):
            if job.name in known:
                changed += known[job.name].values != _as_read(job).values
                self.jobs[index] = known[job.name]
                continue
            self.jobs[index] = job.model_copy(update={"number": number})
            self.sweep.write_job(self.jobs[index])
            number += 1
        self.sweep.write_plan(plan)
        print_line(self.screen, f"seqrnn sweep: {count_of(len(self.jobs))} in {self.sweep.path}")
        if changed:
            print_text(
                self.screen,
                f"  note: the config files have changed since {count_of(changed)} of these were planned, and they "
                "keep the configs that they were planned with; another hydra.sweep.dir=DIR plans them anew",
            )

    def _run_jobs(self) -> None:
        """Runs the jobs that have not finished; a second time those that failed, if sweep.on_failure=retry."""
        if self.searcher is not None:
            self._search(self.searcher)
            return
        waiting = self._unfinished()
        before = len(self.jobs) - len(waiting)
        if before:
            print_text(self.screen, f"  {count_of(before)} finished before")
        self._launch(waiting, len(self.jobs), before)
        failed = [job for job in waiting if self.sweep.outcome(job.name).status in FAILED]
        if self.options.on_failure == "retry" and failed:
            print_text(self.screen, f"trying {count_of(len(failed))} once more")
            self._launch(failed, len(failed), 0)

    def _unfinished(self) -> list[Job]:
        return [job for job in self.jobs if self.sweep.outcome(job.name).status != "finished"]

    def _launch(self, jobs: Sequence[Job], total: int, before: int) -> None:
        """Runs jobs, in processes of this machine or by the launcher that was chosen.

        Args:
            total: the jobs of the sweep.
            before: those that have ended before.
        """
        if not jobs:
            return
        labels, task = self._labels(), self._task
        with Watcher(self.sweep, self.screen, lambda job: labels[job.name], total, before) as watcher:
            watcher.expect(jobs)
            names = [job.name for job in jobs]
            if self._is_local:
                local.launch(task, names, self._processes([job.values for job in jobs]), self._announce)
            else:
                of_hydra.launch(task, names, self.config, self.context)

    def _search(self, searcher: Searcher) -> None:
        """Runs the trials of a search: in processes of this machine each as soon as one is free; by another launcher
        as many together as it runs side by side."""
        task = self._task
        with Watcher(
            self.sweep, self.screen, searcher.label, searcher.trials, self.ended, validation_score
        ) as watcher:

            def names() -> Iterator[str]:
                for job in searcher.jobs():
                    watcher.expect([job])
                    yield job.name

            waiting = names()
            if self._is_local:
                local.launch(task, waiting, self._processes(searcher.examples()), self._announce)
                return
            while together := list(itertools.islice(waiting, self._side_by_side)):
                of_hydra.launch(task, together, self.config, self.context)

    @property
    def _task(self) -> CarryOut:
        return CarryOut(
            self.sweep.path.absolute(),
            stops=self.options.on_failure == "stop",
            draws=self.options.draws_all(self.total),
        )

    @property
    def _is_local(self) -> bool:
        """Whether jobs run in processes of ours: no launcher was chosen, and nothing that hydra does around jobs."""
        own = self.config.hydra
        of_hydra = bool(own.callbacks) or bool(own.job.env_set) or bool(own.job.chdir)
        return own.launcher.get("_target_") == BASIC_LAUNCHER and not of_hydra

    def _processes(self, configs: Sequence[settings.Values]) -> int:
        """Returns how many jobs run at the same time, if they have these configs."""
        asked = self.options.jobs
        return asked if asked != "auto" else local.automatic_processes(configs)

    @property
    def _side_by_side(self) -> int:
        """How many trials are proposed together for a launcher of hydra's.

        Raises:
            ConfigError: it is not known how many it runs at the same time.
        """
        launcher = self.config.hydra.launcher
        asked = self.options.jobs if self.options.jobs != "auto" else launcher.get("n_jobs")  # joblib's
        if launcher.get("_target_") == BASIC_LAUNCHER:
            return 1
        if not isinstance(asked, int) or asked == 0:
            raise ConfigError(
                "sweep.jobs=auto: say how many trials the launcher runs at the same time, as sweep.jobs=8"
            )
        return asked if asked > 0 else available_cores()

    @property
    def total(self) -> int:
        """How many jobs the sweep has."""
        return len(self.jobs) if self.searcher is None else self.searcher.trials

    def _labels(self) -> dict[str, str]:
        """Returns what is printed of each job: the overrides that the others do not all have."""
        texts = labels([job.overrides for job in self.jobs])
        return {job.name: printable(text) for job, text in zip(self.jobs, texts, strict=True)}

    def _compare(self) -> int:
        """Writes and prints the comparison of all jobs in the directory; returns how many have failed."""
        self.has_compared = True
        return ending.compare(
            self.sweep, self.searcher, self.screen, self.write_report if self.options.report else None
        )

    def _announce(self, text: str) -> None:
        print_text(self.screen, text)

    def _line(self) -> str:
        return shlex.join(["python", "-m", "seqrnn.train", *sys.argv[1:]])


def _as_read(job: Job) -> Job:
    """Returns a job as it would be read from its file."""
    return Job.model_validate_json(job.model_dump_json())
