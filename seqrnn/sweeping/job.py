"""Carries out one job of a sweep, in whichever process a launcher of hydra's starts it.

hydra's launchers are given a number of jobs, ask hydra for the config of each, and call a function with it. Here the
config holds only the name of the job, whose config was written to its directory when the sweep was planned. Launchers
in other processes, and on other machines that see the directory, find it there.
"""

from __future__ import annotations

import copy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, open_dict

from seqrnn.cli import reporting, workers
from seqrnn.errors import Diverged, Pruned, UserError
from seqrnn.monitor import Progress
from seqrnn.plots import helper
from seqrnn.rundir.request import RunRequest
from seqrnn.sweeping.directory import FAILED, JOB_LOG, Job, Outcome, SweepDirectory

if TYPE_CHECKING:
    from seqrnn.api import Host

LONGEST_REASON = 2000  # characters


class PlannedConfigs:
    """Stands where launchers look for hydra's loader of configs, and composes nothing."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """Returns the config of a job that is known by its name alone.

        Args:
            master_config: hydra's config of the sweep.
            sweep_overrides: ``job=NAME``.
        """
        (name,) = (text.partition("=")[2] for text in sweep_overrides)
        config = copy.deepcopy(master_config)
        with open_dict(config):
            for key in [key for key in config if key != "hydra"]:
                del config[key]
            config.job = name
            config.hydra.sweep.subdir = name
            config.hydra.overrides.task = list(sweep_overrides)
        return config


class CarryOut:
    """Carries out jobs of a sweep, and writes down how each ended.

    A job that fails does not raise, so that the others run.

    Args:
        path: the directory of the sweep.
        stops: whether no other job begins after one that failed.
        draws: whether pictures are drawn of every job; if not, of those that fail.
    """

    def __init__(self, path: Path, *, stops: bool, draws: bool = True) -> None:
        self.sweep, self.stops, self.draws = SweepDirectory(path), stops, draws

    def __call__(self, config: Any) -> None:
        """Carries out the job that a config of ``PlannedConfigs`` names, in a process of a launcher of hydra's."""
        with workers.in_worker():
            self.run(str(config.job))

    def run(self, name: str, pictures: helper.Helper | None = None, host: Host | None = None) -> None:
        """Carries out a job, if it may begin.

        Args:
            pictures: draws the pictures of the run; None: the job does.
            host: what the run takes from a process that it shares with others; None: it has one to itself.

        Raises:
            KeyboardInterrupt: the job was interrupted, and has written a checkpoint.
        """
        if self.sweep.is_stopped:
            return
        try:
            outcome = _attempt(self.sweep, name, pictures is None and self.draws, host)
        finally:
            if pictures is not None and self.draws:
                pictures.draw(self.sweep.job_directory(name))
        if not self.draws and outcome.status in FAILED:
            helper.draw_pending(self.sweep.job_directory(name))
        if self.stops and outcome.status in FAILED:
            self.sweep.stop()

    def lost(self, name: str, attempts: int, reason: str) -> None:
        """Writes down that the process of a job has ended; the job has failed, unless it had ended before.

        Args:
            attempts: how often it had been started before this process.
            reason: why the process has ended.
        """
        outcome = self.sweep.outcome(name)
        has_begun = outcome.attempts > attempts
        if outcome.status == "finished" or (has_begun and outcome.status in (*FAILED, "pruned")):
            return
        ended = Outcome(status="failed", reason=reason[:LONGEST_REASON], attempts=max(outcome.attempts, attempts + 1))
        self.sweep.write_outcome(name, ended)
        if self.stops:
            self.sweep.stop()


def lost_by(signum: int) -> str:
    """Returns the reason of a job whose process was ended by a signal."""
    try:
        name = signal.Signals(signum).name
    except ValueError:
        name = f"signal {signum}"
    return f"its process was ended by {name}{' (perhaps because memory ran out)' if name == 'SIGKILL' else ''}"


def _attempt(sweep: SweepDirectory, name: str, draws: bool, host: Host | None) -> Outcome:
    """Makes or resumes the run of a job, which ``draws`` its pictures or leaves them; returns how it ended."""
    job, directory = sweep.read_job(name), sweep.job_directory(name)
    attempts, began = sweep.outcome(name).attempts + 1, time.monotonic()

    def write(status: Any, reason: str = "") -> Outcome:
        outcome = Outcome(
            status=status, reason=reason[:LONGEST_REASON], attempts=attempts, seconds=time.monotonic() - began
        )
        sweep.write_outcome(name, outcome)
        return outcome

    write("running")
    try:
        # The process of a sweep has imported it: there, Ctrl-C must not end the process at once.
        with nullcontext() if "seqrnn.api" in sys.modules else reporting.importing():
            from seqrnn import api
        request = RunRequest({**job.values, "resume": "auto"}, directory, job.overrides)
        with _reporting(sweep, job) as evaluated:
            api.carry_out(request, draws=draws, quiet=True, evaluated=evaluated, host=host or api.ALONE)
    except SystemExit:  # a scheduler has put the job back into its queue
        write("waiting")
        raise
    except KeyboardInterrupt:
        write("interrupted")
        raise
    except Pruned as error:
        return write("pruned", "; ".join(error.problems))
    except UserError as error:
        return write("diverged" if isinstance(error, Diverged) else "failed", "; ".join(error.problems))
    except Exception as error:
        (directory / JOB_LOG).unlink(missing_ok=True)
        (directory / JOB_LOG).write_text(traceback.format_exc(), encoding="utf-8")
        return write("failed", f"{type(error).__name__}: {error}")
    return write("finished")


def _reporting(sweep: SweepDirectory, job: Job) -> AbstractContextManager[Callable[[Progress], None]]:
    """Wraps the run of a job; returns what is to be called after each of its evaluations."""
    if job.trial is None:
        return nullcontext(lambda progress: None)
    from seqrnn.sweeping.search import trial

    return trial.reporting(sweep.path, job.trial)
