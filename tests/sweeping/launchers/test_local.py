"""Jobs of a sweep in processes of this machine."""

from __future__ import annotations

import csv
import os
import signal
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import Finished

from seqrnn import device
from seqrnn.cli import workers
from seqrnn.errors import Interrupted
from seqrnn.sweeping.directory import Job, Outcome, SweepDirectory
from seqrnn.sweeping.job import CarryOut, lost_by
from seqrnn.sweeping.launchers import local

Command = Callable[..., Finished]
QUICK = ("-m", "experiment=sine_online", "smoke=true", "plots.draw=false", "schedule.epochs=1", "kernel=torch")


def values(threads: int | str = "auto", hidden: int = 50, streams: Any = 16, where: str = "cpu") -> dict[str, Any]:
    return {
        "threads": threads, "device": where, "model": {"hidden_size": hidden}, "schedule": {"streams": streams},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([values()], 1),
        ([values()] * 3, 3),
        ([values()] * 100, 8),
        ([values(threads=3)] * 100, 2),
        ([values(), values(threads=8)] * 50, 1),
        ([values(hidden=2048)] * 100, 1),  # so much work has a thread for each core
        ([values(streams="auto")] * 100, 1),  # as much as its data has
        ([values(streams="auto", threads=2)] * 100, 4),
        ([values(threads=16)] * 100, 1),
    ],
)
def test_as_many_jobs_run_as_there_are_cores_for_their_threads(
    jobs: list[dict[str, Any]], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "available_cores", lambda: 8)
    monkeypatch.setattr(device, "available_memory", lambda: 2**40)
    assert local.automatic_processes(jobs) == expected


def test_jobs_that_share_a_gpu_or_little_memory_run_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available_cores", lambda: 8)
    monkeypatch.setattr(device, "available_memory", lambda: 3 * 2**30)
    assert local.automatic_processes([values()] * 100) == 3
    monkeypatch.setattr(device, "available_memory", lambda: 1)
    assert local.automatic_processes([values()] * 100) == 1
    monkeypatch.setattr(device, "available_memory", lambda: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert local.automatic_processes([values(where="auto")] * 100) == 1
    assert local.automatic_processes([values(where="cpu")] * 100) == 8


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Outcome(status="running", attempts=3), ("failed", 3)),
        (Outcome(status="failed", reason="of the attempt before", attempts=2), ("failed", 3)),
        (Outcome(status="interrupted", attempts=3), ("failed", 3)),
        (None, ("failed", 3)),
    ],
    ids=str,
)
def test_a_job_whose_process_is_lost_has_failed(
    found: Outcome | None, expected: tuple[str, int], tmp_path: Path
) -> None:
    task = CarryOut(tmp_path, stops=True)
    task.sweep.lock()
    task.sweep.write_job(Job(name="a", number=0, identity={}, overrides=[], values={}))
    if found:
        task.sweep.write_outcome("a", found)
    task.lost("a", 2, lost_by(9))
    outcome = task.sweep.outcome("a")
    assert (outcome.status, outcome.attempts) == expected
    assert "SIGKILL (perhaps because memory ran out)" in outcome.reason
    assert task.sweep.is_stopped
    task.sweep.release()


def test_a_job_that_had_failed_before_its_process_was_lost_keeps_its_reason(tmp_path: Path) -> None:
    task = CarryOut(tmp_path, stops=False)
    task.sweep.write_job(Job(name="a", number=0, identity={}, overrides=[], values={}))
    task.sweep.write_outcome("a", Outcome(status="diverged", reason="NaN", attempts=3))
    task.lost("a", 2, lost_by(15))
    assert task.sweep.outcome("a").reason == "NaN"
    assert lost_by(15) == "its process was ended by SIGTERM"
    assert not SweepDirectory(tmp_path).is_stopped


def send_signal_whose_exception_is_lost() -> None:
    class Referent:
        pass

    referent = Referent()
    reference = weakref.ref(referent, lambda _: signal.raise_signal(signal.SIGTERM))
    del referent  # Python drops what the handler raises within the callback
    assert reference() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_is_lost_lets_no_other_job_begin() -> None:
    ran: list[str] = []

    class Task:
        draws = False

        def run(self, name: str, pictures: object) -> None:
            ran.append(name)
            send_signal_whose_exception_is_lost()

    task: Any = Task()
    with pytest.raises(Interrupted), workers.ending_with_us():
        local.launch(task, ["a", "b"], 1, print)
    assert ran == ["a"]
    workers.raise_if_interrupted()  # the next command of this process is not interrupted


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_is_lost_ends_the_jobs_that_run_in_other_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost: list[str] = []

    def outcome(name: str) -> Outcome:
        if name == "b":
            send_signal_whose_exception_is_lost()
        return Outcome(status="waiting")

    class InThread(threading.Thread):
        """Stands in for a process, with a descriptor of its own of the connection."""

        exitcode = 0

        def __init__(self, target: Callable[..., None], args: tuple[Connection, object], daemon: bool) -> None:
            connection = Connection(os.dup(args[0].fileno()))
            super().__init__(target=target, args=(connection,), daemon=daemon)

    def work(connection: Connection) -> None:
        """Trains until the command asks it to end, or for 10 seconds."""
        connection.recv()
        connection.poll(10)
        connection.close()

    monkeypatch.setattr(local, "_context", lambda: SimpleNamespace(Process=InThread))
    monkeypatch.setattr("seqrnn.sweeping.launchers.worker.work", work)
    monkeypatch.setattr(local, "LOOK_EVERY", 0.05)
    task: Any = SimpleNamespace(sweep=SimpleNamespace(outcome=outcome), lost=lambda name, *_: lost.append(name))
    with pytest.raises(Interrupted), workers.ending_with_us():
        local.launch(task, ["a", "b", "c"], 2, print)
    assert not lost


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="the plugin kills its process as POSIX does")
def test_a_worker_that_is_killed_loses_its_job_alone_and_the_others_give_the_results_of_a_serial_sweep(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    Path("dies.py").write_text(
        "import multiprocessing, os, signal\n"
        "if multiprocessing.parent_process():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    swept = command(*QUICK, "seed=1,2,3", "plugins=[],[dies]", "hydra.sweep.dir=parallel", "sweep.jobs=2",
                    "sweep.report=false")  # fmt: skip
    assert swept.exit_code == 1, swept.err
    assert swept.out.count("] finished") == swept.out.count("] failed") == 3
    assert swept.out.count("its process was ended by SIGKILL") >= 3
    assert "Traceback" not in swept.err
    assert command(*QUICK, "seed=1,2,3", "hydra.sweep.dir=serial", "sweep.jobs=1").exit_code == 0
    with Path("parallel", "sweep.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["seed"], row["plugins"]): row for row in csv.DictReader(file)}
    assert {row["attempts"] for row in rows.values()} == {"1"}
    for seed in "123":
        (one,) = Path("serial").glob(f"*seed-{seed}_*/weights.safetensors")
        (other,) = Path("parallel").glob(f"*seed-{seed}_*/weights.safetensors")
        assert one.read_bytes() == other.read_bytes()
