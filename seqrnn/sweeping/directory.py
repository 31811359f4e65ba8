"""The files of a sweep. They may come from anyone: they are read within bounds, and nothing in them is run.

.sweep/plan.json   the command line, written when all jobs have been planned
.sweep/stop        no other job may begin (sweep.on_failure=stop)
NAME/              a run directory for each job, with two files more:
  job.json         its overrides and its config, written before the first job starts
  status.json      how it ended, or that it runs
  job.log          the traceback of an error that seqrnn did not expect
sweep.csv, sweep.md, sweep.tex
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from seqrnn.errors import ConfigError, DataError, UserError
from seqrnn.rundir.atomic import remove_unfinished, replacing
from seqrnn.rundir.bounded import Items, Name, read_model, resolve_inside
from seqrnn.rundir.lock import Lock, refuse_links
from seqrnn.rundir.names import CONFIG
from seqrnn.rundir.reader import RunReader, was_not_closed
from seqrnn.rundir.strict_json import to_json

OWN, PLAN, STOP = ".sweep", "plan.json", "stop"
JOB, STATUS, JOB_LOG = "job.json", "status.json", "job.log"
JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,150}")

Status = Literal["waiting", "running", "finished", "failed", "diverged", "pruned", "interrupted"]
FAILED = ("failed", "diverged")
Text = Annotated[str, Field(max_length=10_000)]


class Plan(BaseModel, frozen=True):
    """plan.json: the overrides of the command line, and how many jobs they made."""

    line: Items[Text]
    jobs: int


class Job(BaseModel, frozen=True):
    """job.json.

    Args:
        name: of its directory.
        number: its place in the sweep, from 0. It never changes.
        identity: the overrides that differ from the defaults, as values by key.
        overrides: as on a command line.
        values: its config, composed when it was planned.
        trial: its number in a search; None: it is no trial.
    """

    name: Name
    number: int
    identity: dict[Text, Text]
    overrides: Items[Text]
    values: dict[Name, Any]
    trial: int | None = None


class Outcome(BaseModel, frozen=True):
    """status.json.

    Args:
        status: how the last attempt ended, or ``running``.
        reason: why it failed.
        attempts: how often it was started.
        seconds: how long the last attempt took.
    """

    status: Status
    reason: Text = ""
    attempts: int = 0
    seconds: float = 0.0


class SweepDirectory:
    """The directory of a sweep.

    Args:
        path: it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: Lock | None = None

    def lock(self) -> None:
        """Creates the directory and locks it, so that one command at a time runs this sweep.

        Raises:
            ConfigError: another command runs it, or the directory cannot be written.
        """
        own = self.path / OWN
        try:
            refuse_links([own, own / STOP])
            own.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(own / "lock", own / "owner")
            self._lock.acquire()
            remove_unfinished(own)
            (own / STOP).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(
                f"hydra.sweep.dir={self.path}: cannot be written: {error.strerror or error}; choose another"
            ) from None

    def release(self) -> None:
        """Releases the lock."""
        if self._lock:
            self._lock.release()

    def job_directory(self, name: str) -> Path:
        """Returns the run directory of a job."""
        return self.path / name

    def write_plan(self, plan: Plan) -> None:
        """Writes plan.json."""
        self._write(self.path / OWN / PLAN, plan)

    def read_plan(self) -> Plan:
        """Reads plan.json.

        Raises:
            DataError: it is missing or damaged.
        """
        if not (self.path / OWN).is_dir():
            raise DataError(f"{self.path}: not the directory of a sweep: it has no {OWN}")
        if not (self.path / OWN / PLAN).is_file():
            raise DataError(f"{self.path}: the sweep was stopped before all jobs were planned; repeat its line")
        return read_model(resolve_inside(self.path / OWN, PLAN), Plan)

    def write_job(self, job: Job) -> None:
        """Writes job.json into the directory of a job, which is created."""
        directory = self.job_directory(job.name)
        directory.mkdir(exist_ok=True)
        self._write(directory / JOB, job)

    def read_job(self, name: str) -> Job:
        """Reads the job.json of a job.

        Raises:
            DataError: it is missing or damaged.
        """
        directory = self.job_directory(name)
        if directory.is_symlink() or not JOB_NAME.fullmatch(name):
            raise DataError(f"{directory}: is a link, or not a name of a job")
        job = read_model(resolve_inside(directory, JOB), Job)
        if job.name != name:
            raise DataError(f"{directory / JOB}: is that of {job.name}; a directory of a job keeps its name")
        return job

    def job_names(self) -> list[str]:
        """Returns the names of the directories that hold jobs."""
        return sorted(path.parent.name for path in self.path.glob(f"*/{JOB}") if JOB_NAME.fullmatch(path.parent.name))

    def read_jobs(self) -> list[Job]:
        """Reads all jobs, in the order in which they were planned.

        Raises:
            DataError: the job.json of one is damaged.
        """
        return sorted((self.read_job(name) for name in self.job_names()), key=lambda job: (job.number, job.name))

    def write_outcome(self, name: str, outcome: Outcome) -> None:
        """Writes the status.json of a job."""
        self._write(self.job_directory(name) / STATUS, outcome)

    def read_outcome(self, name: str) -> Outcome | None:
        """Reads the status.json of a job; None if there is none that can be read: the job is to run."""
        directory = self.job_directory(name)
        if not os.path.lexists(directory / STATUS):
            return None
        with suppress(DataError):
            return read_model(resolve_inside(directory, STATUS), Outcome)
        return None

    def outcome(self, name: str) -> Outcome:
        """Returns how a job ended, or that it waits or runs. Whether it has finished is decided by its run directory,
        so that a job whose process was killed after its last file is not run once more."""
        directory = self.job_directory(name)
        found = self.read_outcome(name) or Outcome(status="waiting")
        if is_finished(directory):
            return found.model_copy(update={"status": "finished", "reason": ""})
        if found.status == "finished":  # a file of the run has been removed since
            return found.model_copy(update={"status": "interrupted"})
        return found

    def stop(self) -> None:
        """Lets no other job begin."""
        (self.path / OWN / STOP).touch()

    @property
    def is_stopped(self) -> bool:
        """Whether no other job may begin."""
        return (self.path / OWN / STOP).exists()

    @staticmethod
    def _write(path: Path, content: BaseModel) -> None:
        with replacing(path, durable=False) as temporary:
            temporary.write_text(to_json(content.model_dump(mode="json")) + "\n", encoding="utf-8")


def is_finished(directory: Path) -> bool:
    """Returns whether the run in a directory has finished, and its process has ended."""
    if not os.path.lexists(directory / CONFIG) or was_not_closed(directory):
        return False
    try:
        return bool(RunReader(directory).summary().get("status") == "finished")
    except UserError:
        return False  # the process was killed before it wrote one
