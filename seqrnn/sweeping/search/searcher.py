"""Hands out the trials of a search one by one, reports to the study how each ended, and ranks them."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser

from seqrnn import registry, settings
from seqrnn.errors import ConfigError, UserError
from seqrnn.rundir.reader import RunReader
from seqrnn.sweeping.combining import key_of
from seqrnn.sweeping.comparison import SEED
from seqrnn.sweeping.composing import Composer
from seqrnn.sweeping.directory import Job, SweepDirectory
from seqrnn.sweeping.search.planning import job_of
from seqrnn.sweeping.search.study import JOB, SearchPlan, Study
from seqrnn.sweeping.search_record import SearchRecord, SearchTrial, Value, write_search
from seqrnn.sweeping.tables import Ranking, number

State = Literal["complete", "pruned", "failed"]
ENDED: dict[str, State] = {"finished": "complete", "pruned": "pruned", "diverged": "failed", "failed": "failed"}
SEEDS = "seed=range(1,6)"  # of the line that repeats the best trial


class Searcher:
    """The trials of a search.

    Args:
        trials: how many there are to be, with those that were made before.
        allowed: the modules that a trial may import; None: any, because the plan is that of the user's own line.
    """

    def __init__(
        self, sweep: SweepDirectory, plan: SearchPlan, trials: int, composer: Composer, allowed: Sequence[str] | None
    ) -> None:
        self.sweep, self.plan, self.trials = sweep, plan, trials
        self._composer, self._allowed = composer, allowed
        self._study: Study | None = None
        self._open: dict[int, str] = {}  # trials that have not been reported, with their jobs
        self._resumed: list[int] = []  # those of an earlier command that are to run
        self._handed_out: set[str] = set()
        self._record: SearchRecord | None = None

    @property
    def study(self) -> Study:
        """The study, which ``begin`` opens."""
        assert self._study is not None
        return self._study

    def begin(self, *, is_local: bool) -> int:
        """Opens the study; returns how many trials have ended before. The sweep is locked.

        Args:
            is_local: whether all jobs run on this machine.
        """
        self._study = Study.begin(self.sweep.path, self.plan, is_local=is_local)
        found = self.study.trials()
        for trial in found:
            if not trial.state.is_finished():
                self._open[trial.number] = str(trial.user_attrs.get(JOB, ""))
        self._report_ended()
        self._resumed = sorted(self._open)
        return len(found) - len(self._open)

    def close(self) -> None:
        """Reports to the study how the last trials ended, and closes it."""
        if self._study is not None:
            self._report_ended()
            self._study.close()

    def jobs(self) -> Iterator[Job]:
        """Yields the job of one trial after another. By the time that the next one is asked for, what has ended until
        then is reported to the study, so that it proposes by it."""
        while not self.sweep.is_stopped:
            self._report_ended()
            if self._resumed:
                trial = self._resumed.pop(0)
            elif len(self.study.trials()) < self.trials:
                trial = self.study.ask()
            else:
                return
            job = self._job(trial)
            # A job that another trial has, because it has the same values, is that of both.
            if job.name not in self._handed_out and self.sweep.outcome(job.name).status not in ENDED:
                self._handed_out.add(job.name)
                yield job

    def examples(self) -> list[settings.Values]:
        """Returns as many configs as there are trials: those with the first values of the keys that are searched, and
        with the last ones."""
        ends = [
            self._composer.values(
                [*self.plan.overrides, *(f"{one.key}={one.ends[place]}" for one in self.plan.space)]
            )
            for place in (0, -1)
        ]
        return list(itertools.islice(itertools.cycle(ends), self.trials))

    def _job(self, trial: int) -> Job:
        """Returns the job of a trial, which is written if it is new."""
        name = self._open.get(trial)
        if not name:
            job = job_of(self.plan, trial, self.study.values(trial), self._composer)
            self._check_plugins(job)
            name = job.name
            if name not in self.sweep.job_names():
                self.sweep.write_job(job)
            self.study.set_job(trial, name)
            self._open[trial] = name
        job = self.sweep.read_job(name)
        self._check_plugins(job)
        return job

    def _check_plugins(self, job: Job) -> None:
        named = {*settings.plugins_of(job.values)} - {*(self._allowed or ())}
        if self._allowed is not None and named:
            raise ConfigError(
                f"plugins: the search uses {', '.join(sorted(named))}, and modules are code: write "
                f"'plugins=[{','.join(sorted(named))}]' to import them"
            )

    def _report_ended(self) -> None:
        """Reports to the study how trials ended."""
        for trial, name in [*self._open.items()]:
            state = ENDED.get(self.sweep.outcome(name).status) if name else None
            if state is None:
                continue
            value = objective(self.sweep.job_directory(name), self.plan.metric) if state == "complete" else None
            if state == "complete" and value is None:
                state = "failed"
            owner = self.sweep.read_job(name).trial
            if state == "pruned" and owner is not None and owner != trial:  # its values are those of another trial
                self.study.copy_evaluations(owner, trial)
            self.study.tell(trial, state, value)
            del self._open[trial]

    def label(self, job: Job) -> str:
        """Returns what tells the job of a trial from the others."""
        keys = {one.key for one in self.plan.space}
        return " ".join(text for text in job.overrides if key_of(text) in keys)

    def ranking(self) -> Ranking:
        """Returns the trials so far as a table, the best first, and writes them to search.json."""
        self._report_ended()
        self._record = self._write_record()
        return ranking(self._record, self.sweep)

    def closing_lines(self) -> Iterator[str]:
        """Yields what the terminal says below the table: the importance of the keys, and the best trial."""
        record = self._record
        if record is None or (best := best_of(record)) is None:
            yield "no trial has run to its end"
            return
        if len(record.importance) > 1:
            shares = sorted(record.importance.items(), key=lambda item: -item[1])
            yield "importance: " + ", ".join(f"{key} {share:.0%}" for key, share in shares)
        test = _summary(self.sweep.job_directory(best.job)).get("test") or {}
        on_test = f" ({number(test[record.metric])} on the test data)" if record.metric in test else ""
        job = self.sweep.read_job(best.job)
        what = (
            "validation data, which is the test data of this task" if _tests_on_validation(job) else "validation data"
        )
        yield f"best: trial {best.number}, {record.metric} {number(best.value)} on the {what}{on_test}"
        yield "repeat it with several seeds:"
        yield f"  {repeat_line(job)}"

    def _write_record(self) -> SearchRecord:
        """Returns what has been tried, and writes it to search.json."""
        states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        jobs: dict[str, Job] = {}
        trials = []
        for trial in self.study.trials():
            name = str(trial.user_attrs.get(JOB, ""))
            if trial.state.name not in states or not name:
                continue
            if name not in jobs:
                jobs[name] = self.sweep.read_job(name)
            trials.append(
                SearchTrial(
                    number=trial.number,
                    job=name,
                    state=states[trial.state.name],
                    value=trial.value,
                    parameters=self._parameters(jobs[name]),
                )
            )
        record = SearchRecord(
            metric=self.plan.metric,
            direction=self.plan.direction,
            trials=trials,
            importance=self.study.importance(),
        )
        write_search(self.sweep.path, record)
        return record

    def _parameters(self, job: Job) -> dict[str, Value]:
        parser = OverridesParser.create()
        typed = {key_of(text): text for text in job.overrides}
        found: dict[str, Value] = {}
        for one in self.plan.space:
            value: Any = parser.parse_override(typed[one.key]).value()
            found[one.key] = value if isinstance(value, str | int | float | bool | None) else str(value)
        return found


def objective(directory: Path, metric: str) -> float | None:
    """Returns a metric of the validation data, of the weights that a finished run has kept; None where it is not
    finite."""
    reader = RunReader(directory)
    columns, updates = reader.metrics(), reader.summary().get("scored_updates")
    values = columns.get(f"eval_{metric}")
    if values is None:
        raise ConfigError(f"{directory}: its evaluations have no {metric}, by which a search ranks runs")
    found = [float(value) for value in values[columns["updates"] == updates] if math.isfinite(value)]
    return found[-1] if found else None


def best_of(record: SearchRecord) -> SearchTrial | None:
    """Returns the best trial that has run to its end."""
    complete = [trial for trial in record.trials if trial.state == "complete" and trial.value is not None]
    return min(complete, key=lambda trial: _rank(trial, record), default=None)


def _rank(trial: SearchTrial, record: SearchRecord) -> tuple[int, float, int]:
    sign = -1 if record.direction == "maximize" else 1
    value = trial.value if trial.value is not None else math.inf
    return ("complete", "pruned", "failed").index(trial.state), sign * value, trial.number


def ranking(record: SearchRecord, sweep: SweepDirectory) -> Ranking:
    """Returns the trials as a table, the best first."""
    task, keys = "", list(record.trials[0].parameters) if record.trials else []
    rows = []
    for place, trial in enumerate(sorted(record.trials, key=lambda one: _rank(one, record)), 1):
        job, summary = sweep.read_job(trial.job), _summary(sweep.job_directory(trial.job))
        task = task or str(job.values["task"]["name"])
        typed = {key_of(text): text.partition("=")[2] for text in job.overrides}
        rows.append(
            [
                str(place) if trial.state == "complete" else "",
                *(typed[key] for key in keys),
                str(trial.number),
                trial.state if trial.state != "failed" else sweep.outcome(trial.job).status,
                number(trial.value),
                f"{summary['updates']:,}" if isinstance(summary.get("updates"), int) else "",
                number(summary.get("train_seconds")),
            ]
        )
    better = "higher" if record.direction == "maximize" else "lower"
    return Ranking(
        f"{task}: {record.metric} on the validation data, {better} is better; pruned: at its last evaluation",
        ["", *keys, "trial", "status", record.metric, "updates", "train s"],
        rows,
        texts={*range(1, len(keys) + 1), len(keys) + 2},
    )


def _summary(directory: Path) -> dict[str, Any]:
    try:
        return RunReader(directory).summary()
    except UserError:
        return {}


def _tests_on_validation(job: Job) -> bool:
    """Returns whether the validation data of a job is its test data, so that the best score is too good."""
    try:
        task = registry.build("task", job.values["task"], job.values["seed"])
    except UserError:
        return False
    return bool(getattr(task, "validation_is_test", False))


def repeat_line(job: Job) -> str:
    """Returns the command line that repeats a trial with several seeds."""
    others = [text for text in job.overrides if key_of(text) != SEED]
    return shlex.join(["python", "-m", "seqrnn.train", "-m", *others, SEEDS])
