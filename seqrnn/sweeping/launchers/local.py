"""Runs the jobs of a sweep in processes of this machine.

hydra's launcher for that (joblib) hands all jobs to one pool: a worker that is killed takes the pool and the running
jobs of the others with it, and nobody can tell whose fault it was. Here each worker is a process of its own, with a
connection to the command. So a worker that is killed loses its job alone, workers end when the command has gone, and
nothing is kept of jobs that have ended.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

from seqrnn import device
from seqrnn.cli.workers import LOOK_EVERY, PATIENCE, raise_if_interrupted
from seqrnn.plots.helper import Helper
from seqrnn.settings import Values
from seqrnn.sweeping.job import CarryOut, lost_by
from seqrnn.sweeping.launchers import worker as worker_process

MEMORY = 2**30  # bytes that a worker is taken to need; importing torch takes a third of it


@dataclass
class Worker:
    """A process, and the job that it was given.

    Args:
        attempts: how often the job had been started before.
    """

    process: BaseProcess
    connection: Connection
    job: str = ""
    attempts: int = 0


def launch(task: CarryOut, names: Iterable[str], processes: int, announce: Callable[[str], object]) -> None:
    """Runs jobs, and returns when all have ended.

    Args:
        names: of the jobs; each is asked for when there is a process for it.
        processes: how many jobs run at the same time; with 1, they run in this process, and where another core is
            free, a helper draws the pictures of a run while the next one trains.
        announce: called with a line for the user.

    Raises:
        KeyboardInterrupt: the sweep was interrupted; the jobs have written checkpoints.
    """
    if processes == 1:
        is_one = isinstance(names, Sequence) and len(names) == 1
        has_helper = task.draws and not is_one and device.available_cores() > 1
        with Helper(announce) if has_helper else nullcontext() as pictures:
            for name in names:
                raise_if_interrupted()
                task.run(name, pictures)
        return
    _Pool(task, names).run(processes)


class _Pool:
    """Some workers, and the jobs that wait for one."""

    def __init__(self, task: CarryOut, names: Iterable[str]) -> None:
        self._task, self._waiting = task, iter(names)
        self._workers: dict[Connection, Worker] = {}
        self._context = _context()

    def run(self, processes: int) -> None:
        """Runs the jobs in so many processes."""
        try:
            while True:
                while len(self._workers) < processes and (job := next(self._waiting, "")):
                    self._start(job)
                if not self._workers:
                    return
                ready = self._ready(LOOK_EVERY)
                raise_if_interrupted()
                for worker in ready:
                    self._answer(worker)
        finally:
            self._end()

    def _start(self, job: str) -> None:
        ours, theirs = multiprocessing.Pipe()
        process = self._context.Process(target=worker_process.work, args=(theirs, self._task), daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()  # so that the connection ends with the process
        self._workers[ours] = Worker(process, ours)
        self._hand_out(self._workers[ours], job)

    def _hand_out(self, worker: Worker, job: str) -> None:
        """Gives a worker its next job, or lets it end."""
        worker.job = job
        if worker.job:
            worker.attempts = self._task.sweep.outcome(worker.job).attempts
        with suppress(OSError):  # it has been killed: its connection ends, which is answered next
            worker.connection.send(worker.job or None)

    def _answer(self, worker: Worker) -> None:
        """Receives that a job has ended, or that its worker has."""
        try:
            worker.connection.recv()
        except (EOFError, OSError):
            self._remove(worker)
            if worker.job:
                self._task.lost(worker.job, worker.attempts, _reason(worker.process.exitcode))
        else:
            self._hand_out(worker, next(self._waiting, ""))

    def _ready(self, seconds: float) -> list[Worker]:
        """Waits, for some seconds at most, until there are workers that have sent something or ended."""
        ready = wait([*self._workers], seconds)
        return [worker for connection, worker in self._workers.items() if connection in ready]

    def _remove(self, worker: Worker) -> None:
        """Forgets a worker that has ended."""
        del self._workers[worker.connection]
        worker.connection.close()
        worker.process.join()

    def _end(self) -> None:
        """Asks the workers that are left to end, and waits until they have written their checkpoints."""
        for connection in self._workers:
            with suppress(OSError):
                connection.send(None)
        until = time.monotonic() + PATIENCE
        while self._workers and time.monotonic() < until:
            for worker in self._ready(until - time.monotonic()):
                try:
                    worker.connection.recv()
                except (EOFError, OSError):
                    self._remove(worker)


def _context() -> BaseContext:
    """Returns how workers are started: where the system can, by forking a process that has imported torch once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([worker_process.__name__])
    return context


def _reason(exit_code: int | None) -> str:
    """Returns why a process has ended without a word."""
    if exit_code is not None and exit_code < 0:
        return lost_by(-exit_code)
    if exit_code is not None and exit_code > 128:
        return lost_by(exit_code - 128)
    return f"its process ended with exit code {exit_code}"


def automatic_processes(jobs: Sequence[Values]) -> int:
    """Returns how many jobs run at the same time with ``sweep.jobs=auto``: as many as there are cores for their
    threads and memory for their processes; one where jobs share a GPU.

    The number of threads of a job does not depend on it, because results differ with it in their last digits.

    Args:
        jobs: their configs.
    """
    if len(jobs) < 2 or any(device.uses_gpu(values["device"]) for values in jobs):
        return 1
    cores = device.available_cores()
    threads = max(_threads(values, cores) for values in jobs)
    memory = device.available_memory()
    most = cores // threads if memory is None else min(cores // threads, memory // MEMORY)
    return max(1, min(most, len(jobs)))


def _threads(values: Values, cores: int) -> int:
    """Returns how many threads a job will have; all cores where that depends on its data."""
    work = [values["model"].get("hidden_size", 0), values["schedule"].get("streams")]
    if not all(isinstance(number, int) for number in work):
        return cores if values["threads"] == "auto" else int(values["threads"])
    return device.threads_for(values["threads"], work[0] * work[1], cores)
