"""Runs the jobs of a sweep on a Slurm cluster: each is a Slurm job, which submitit submits and puts back into the
queue when it is preempted or reaches its time limit.

submitit hands results over in pickles. None is read here: a job writes down how it ended in its own directory, and
Slurm's queue says which jobs are left. So a cluster without accounting will do, and a job that was killed can
be distinguished from one that still waits.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from seqrnn import registry
from seqrnn.bounds import Count
from seqrnn.cli.workers import PATIENCE, raise_if_interrupted
from seqrnn.errors import ConfigError
from seqrnn.sweeping.directory import OWN
from seqrnn.sweeping.job import CarryOut

WHERE = "hydra.launcher"
LARGEST_ARRAY = 1000  # jobs that are submitted together; Slurm's own limit is 1001 where nobody has changed it
QUEUE_EVERY = 2.0  # seconds between two looks at the queue
UNTIL_SEEN = 30.0  # seconds in which a file that a node has written is seen here
ENDED = ("finished", "failed", "diverged")


class SlurmSettings(BaseModel, frozen=True, extra="forbid", strict=True):
    """``hydra.launcher.*`` of ``hydra/launcher=slurm``; conf/hydra/launcher/slurm.yaml says what they mean."""

    partition: str | None
    account: str | None
    timeout_min: Count
    cpus_per_task: Count
    mem_gb: Annotated[int | float, Field(gt=0)] | None
    gpus_per_node: Count | None
    at_once: Count
    signal_delay_s: Count
    max_timeouts: Annotated[int, Field(ge=0)]
    setup: list[str]
    sbatch: dict[str, str | int | bool]


class Submitted:
    """What a Slurm job calls.

    Args:
        task: carries out jobs of the sweep.
    """

    def __init__(self, task: CarryOut) -> None:
        self.task = task

    def __call__(self, name: str) -> None:
        """Carries out a job, or resumes it."""
        self.task.run(name)

    def checkpoint(self, name: str) -> Any:
        """Returns what submitit runs when the job starts again. The run has written its checkpoint before."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, name)


def launch(task: CarryOut, names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Submits jobs, and returns when all have ended. Jobs of this sweep that are left in the queue from an earlier
    command, which was killed, are ended first.

    Args:
        names: of the jobs.
        settings: ``hydra.launcher.*``.

    Raises:
        ConfigError: the settings are wrong, there is no Slurm, or it refuses the jobs.
        KeyboardInterrupt: the sweep was interrupted; the jobs have written checkpoints, and left the queue.
    """
    problems = registry.problems_with(SlurmSettings, settings, WHERE)
    if problems:
        raise ConfigError(*problems)
    if shutil.which("sbatch") is None:
        raise ConfigError("hydra/launcher=slurm: there is no sbatch here; start it on a login node of a cluster")
    queue = Queue(task.sweep.path)
    if queue.numbers() is None:
        raise ConfigError("hydra/launcher=slurm: Slurm does not answer: see what squeue prints")
    queue.end()
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir=task.sweep.path / OWN))
    attempts = {name: task.sweep.outcome(name).attempts for name in names}
    numbers: dict[str, str] = {}
    try:
        submit = _submitter(folder, queue.name, SlurmSettings.model_validate(settings))
        for start in range(0, len(names), LARGEST_ARRAY):
            some = names[start : start + LARGEST_ARRAY]
            numbers |= dict(zip(submit(Submitted(task), some), some, strict=True))
        _wait(task, queue, numbers, attempts, folder)
    except BaseException:
        queue.end()
        for name in numbers.values():
            outcome = task.sweep.outcome(name)
            if outcome.status not in ENDED and outcome.attempts > attempts[name]:
                task.sweep.write_outcome(name, outcome.model_copy(update={"status": "interrupted"}))
        raise
    if all(task.sweep.outcome(name).status == "finished" for name in names):
        shutil.rmtree(folder, ignore_errors=True)  # else its logs may say why


def _submitter(folder: Path, name: str, settings: SlurmSettings) -> Callable[[Submitted, Sequence[str]], list[str]]:
    """Returns a function that submits jobs and returns their numbers.

    Args:
        folder: new, so that nobody else has put pickles there.
        name: of all Slurm jobs of the sweep.
    """
    try:
        import submitit
    except ImportError:
        raise ConfigError("hydra/launcher=slurm: submitit is missing: pip install 'seqrnn[slurm]'") from None
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=settings.max_timeouts)
    optional = {
        "partition": settings.partition,
        "account": settings.account,
        "gpus_per_node": settings.gpus_per_node,
        "mem": f"{settings.mem_gb * 1024:.0f}M" if settings.mem_gb else None,
    }

    def submit(call: Submitted, names: Sequence[str]) -> list[str]:
        try:
            executor.update_parameters(
                job_name=name,
                time=settings.timeout_min,
                cpus_per_task=settings.cpus_per_task,
                array_parallelism=settings.at_once,
                signal_delay_s=settings.signal_delay_s,
                setup=settings.setup,
                additional_parameters=dict(settings.sbatch),
                **{key: value for key, value in optional.items() if value is not None},
            )
            with redirect_stderr(io.StringIO()):  # submitit prints there what it raises, too
                return [str(job.job_id) for job in executor.map_array(call, names)]
        except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"hydra/launcher=slurm: the jobs were refused: {reason}") from None

    return submit


def _wait(
    task: CarryOut, queue: Queue, numbers: Mapping[str, str], attempts: Mapping[str, int], folder: Path
) -> None:
    """Waits until all Slurm jobs have left the queue and have written down how they ended. One that has not has been
    killed, and is reported.

    Args:
        numbers: the jobs by the numbers of their Slurm jobs.
        attempts: how often each had been started before.
    """
    waiting = dict(numbers)
    left: dict[str, float] = {}  # when they were first seen to have left the queue
    while waiting:
        time.sleep(QUEUE_EVERY)
        raise_if_interrupted()
        queued = queue.numbers()
        if queued is None:
            continue
        for number, name in [*waiting.items()]:
            if number in queued:
                left.pop(number, None)
                continue
            outcome = task.sweep.outcome(name)
            has_ended = outcome.status in ENDED and outcome.attempts > attempts[name]
            first = left.setdefault(number, time.monotonic())
            if has_ended or task.sweep.is_stopped or time.monotonic() - first > UNTIL_SEEN:
                del waiting[number]
                if not has_ended and not (task.sweep.is_stopped and outcome.attempts == attempts[name]):
                    task.lost(name, attempts[name], queue.reason(number, folder))


class Queue:
    """The Slurm jobs of a sweep, which have a name that no other sweep's have.

    Args:
        path: the directory of the sweep.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"seqrnn-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
        self._mine = (f"--user={os.getuid()}", f"--name={self.name}")

    def numbers(self) -> set[str] | None:
        """Returns the numbers of the jobs in the queue; None where Slurm does not answer."""
        answer = _ask("squeue", *self._mine, "--array", "--noheader", "--format=%i")
        return None if answer is None else {*answer.split()}

    def end(self) -> None:
        """Takes waiting jobs out of the queue, and waits until running ones have written checkpoints and ended."""
        if self.numbers() == set():
            return
        _ask("scancel", *self._mine, "--state=PENDING")
        _ask("scancel", *self._mine, "--state=RUNNING", "--signal=USR1")
        until = time.monotonic() + PATIENCE
        while self.numbers() != set() and time.monotonic() < until:
            time.sleep(QUEUE_EVERY / 4)
        _ask("scancel", *self._mine)

    def reason(self, number: str, folder: Path) -> str:
        """Returns why a job has ended that has not written down how.

        Args:
            number: of the Slurm job.
            folder: that submitit writes its logs to.
        """
        found = re.search(r"\bJobState=(\S+)", _ask("scontrol", "show", "job", number, "--oneliner") or "")
        state = f", as {found[1]}" if found else ""
        log = folder / f"{number}_0_log.err"
        printed = f"what it printed is in {log}" if log.exists() else "it was cancelled, or failed, before it began"
        return f"its Slurm job {number} has ended{state}; {printed}"


def _ask(*words: str) -> str | None:
    """Returns what a command of Slurm's prints; None if it fails or takes too long."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
