"""Signals that ask a run to end, two processes that write one run, and jobs that a scheduler requeues."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import Server, assert_same, contents, wait_for
from helpers import Finished

from seqrnn.checkpoints.signals import Signals
from seqrnn.errors import Interrupted

RUN = (
    "task=integral", "model=gru", "model.hidden_size=8", "task.train_timesteps=1200", "task.test_sequences=2",
    "task.test_timesteps=60", "task.validation_sequences=2", "task.validation_timesteps=60", "schedule=online",
    "schedule.streams=1", "schedule.evaluate_every=200", "log_every=50", "device=cpu", "threads=1",
    "plots.draw=false", "schedule.lr_decay=constant", "kernel=torch",
)  # fmt: skip


def stopping_at(*updates: int) -> str:
    """Code for a child: before the first block of updates that begins at or beyond each of these numbers, it writes
    a file ``at NUMBER`` and waits for a file ``beyond NUMBER``, so that tests depend on no clock."""
    return f"""
import time
import seqrnn.strategies.plain as plain
real, stops, made = plain.Plain.__call__, list({updates}), 0
def stopping(self, ranges, factors):
    global made
    while stops and made >= stops[0]:
        number = stops.pop(0)
        with open(f"at {{number}}", "w") as file:
            file.write("here")
        while not os.path.exists(f"beyond {{number}}"):
            time.sleep(0.005)
    made += len(factors)
    return real(self, ranges, factors)
plain.Plain.__call__ = stopping
"""


@pytest.fixture(scope="module")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Returns the files of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    assert server.run(*RUN, "hydra.run.dir=run", cwd=folder).exit_code == 0
    return contents(folder / "run")


def printed(text: str) -> str:
    """Returns a text without the line breaks of a narrow screen."""
    return " ".join(text.split())


def summary_of(directory: Path) -> dict[str, object]:
    summary: dict[str, object] = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    return summary


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGUSR2, 140)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_signal_ends_the_run_after_a_checkpoint_and_the_last_line_resumes_it(
    signum: signal.Signals, code: int, server: Server, whole: dict[str, Any], tmp_path: Path
) -> None:
    child = server.start(*RUN, "hydra.run.dir=a run", cwd=tmp_path, before=stopping_at(50))
    wait_for(tmp_path / "at 50")
    child.send(signum)
    (tmp_path / "beyond 50").touch()
    ended = child.wait()
    assert ended.exit_code == code
    assert ended.err == ""
    summary = summary_of(tmp_path / "a run")
    assert summary["status"] == "interrupted"
    assert isinstance(summary["updates"], int)
    assert 0 < summary["updates"] < 1200
    assert list((tmp_path / "a run" / "checkpoints").glob("*.safetensors"))
    last = ended.out.splitlines()[-1]
    assert last == "python -m seqrnn.train 'resume=a run'"
    assert server.run("resume=a run", cwd=tmp_path).exit_code == 0
    assert_same(contents(tmp_path / "a run"), whole)


@pytest.mark.long
def test_a_second_ctrl_c_stops_at_once_and_leaves_the_earlier_checkpoint(server: Server, tmp_path: Path) -> None:
    record = """
import seqrnn.checkpoints.signals as signals
real_receive = signals.Signals._receive
def receive(self, signum, frame):
    real_receive(self, signum, frame)
    with open("received", "w") as file:
        file.write("once")
signals.Signals._receive = receive
"""
    every = (*RUN, "checkpoint.every=50")
    child = server.start(*every, "hydra.run.dir=run", cwd=tmp_path, before=stopping_at(50) + record)
    wait_for(tmp_path / "at 50")  # where it stays
    child.send(signal.SIGINT)
    wait_for(tmp_path / "received")
    child.send(signal.SIGINT)
    assert child.wait().exit_code == 130
    assert summary_of(tmp_path / "run")["status"] == "interrupted"
    assert [path.stem for path in (tmp_path / "run" / "checkpoints").glob("*.safetensors")] == ["000000000050"]
    assert server.run("resume=run", cwd=tmp_path).exit_code == 0
    assert server.run(*every, "hydra.run.dir=whole", cwd=tmp_path).exit_code == 0
    assert_same(contents(tmp_path / "run"), contents(tmp_path / "whole"))


def test_a_signal_that_comes_while_results_are_written_waits(server: Server, tmp_path: Path) -> None:
    before = (
        "import seqrnn.rundir.writer as run\n"
        "real = run.RunWriter.write_weights\n"
        "def signalled(self, weights):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    real(self, weights)\n"
        "run.RunWriter.write_weights = signalled\n"
    )
    ended = server.run(*RUN, "schedule.max_updates=50", "hydra.run.dir=run", cwd=tmp_path, before=before)
    assert ended.exit_code == 143
    assert summary_of(tmp_path / "run")["status"] == "finished"
    assert (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.long
def test_two_processes_cannot_resume_one_run(
    server: Server, command: Callable[..., Finished], tmp_path: Path
) -> None:
    child = server.start(*RUN, "hydra.run.dir=run", cwd=tmp_path, before=stopping_at(50))
    wait_for(tmp_path / "at 50")
    for _ in range(2):  # being refused changes nothing
        ended = command("resume=run")
        assert ended.exit_code == 2
        assert f"run: is being written by process {child.pid} on" in ended.err
        assert "Traceback" not in ended.err
    child.send(signal.SIGTERM)
    (tmp_path / "beyond 50").touch()
    assert child.wait().exit_code == 143
    assert command("resume=run").exit_code == 0
    assert summary_of(tmp_path / "run")["status"] == "finished"


QUEUE = """
previous = []
def requeue(signum, frame):
    previous.append(signum)
    open("requeued", "w").write(" ".join(sorted(os.listdir("run/checkpoints"))))
    if signum == signal.SIGUSR1:
        sys.exit(144)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, requeue)
"""


def test_a_handler_of_a_scheduler_is_called_after_the_checkpoint(
    server: Server, whole: dict[str, Any], tmp_path: Path
) -> None:
    job = {"SUBMITIT_LOCAL_JOB_ID": "4711"}
    before = stopping_at(50, 300) + QUEUE
    child = server.start(*RUN, "hydra.run.dir=run", cwd=tmp_path, before=before, environment=job)
    for number, signum in ((50, signal.SIGTERM), (300, signal.SIGUSR1)):  # it lets the first one pass
        wait_for(tmp_path / f"at {number}")
        child.send(signum)
        (tmp_path / f"beyond {number}").touch()
    assert child.wait().exit_code == 144
    assert ".safetensors" in (tmp_path / "requeued").read_text()
    assert summary_of(tmp_path / "run")["status"] == "interrupted"

    other = server.run(*RUN, "hydra.run.dir=run", cwd=tmp_path)  # by hand, in no queue
    assert other.exit_code == 2
    assert "already holds a run" in other.err
    changed = server.run(*RUN, "seed=1", "hydra.run.dir=run", cwd=tmp_path, environment=job)
    assert changed.exit_code == 2
    assert "seed is 1, and was 0" in changed.err
    second = server.run(*RUN, "hydra.run.dir=run", cwd=tmp_path, environment=job)
    assert second.exit_code == 0, second.err
    assert "requeued as submitit job 4711" in printed(second.out)
    assert_same(contents(tmp_path / "run"), whole)
    assert "nothing to do" in server.run(*RUN, "hydra.run.dir=run", cwd=tmp_path, environment=job).out


def test_a_job_that_slurm_requeued_is_resumed(server: Server, tmp_path: Path) -> None:
    queue = {"SLURM_JOB_ID": "12"}
    short = (*RUN, "schedule.max_updates=50", "checkpoint.every=10", "hydra.run.dir=run")
    killed = server.run(*short, cwd=tmp_path, environment=queue, before="killed_at('fsync', 12)")
    assert killed.exit_code == -signal.SIGKILL
    assert server.run(*short, cwd=tmp_path, environment=queue).exit_code == 2  # the same allocation, by hand
    second = server.run(*short, cwd=tmp_path, environment={**queue, "SLURM_RESTART_COUNT": "1"})
    assert second.exit_code == 0, second.err
    assert "requeued as slurm job 12" in printed(second.out)


def test_auto_resumes_only_a_run_with_the_same_config(server: Server, tmp_path: Path) -> None:
    short = (*RUN, "schedule.max_updates=50", "checkpoint.every=10", "resume=auto", "hydra.run.dir=run")
    assert server.run(*short, cwd=tmp_path, before="killed_at('fsync', 12)").exit_code == -signal.SIGKILL
    other = server.run(*short, "optimizer.lr=0.1", cwd=tmp_path)
    assert other.exit_code == 2
    assert "holds another run" in other.err
    assert "optimizer.lr is 0.1" in other.err
    second = server.run(*short, cwd=tmp_path)
    assert second.exit_code == 0, second.err
    assert "resumes from update" in printed(second.out)
    assert ": resume=auto" in printed(second.out)


def test_ignored_signals_stay_ignored_and_handlers_are_restored() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with Signals() as signals, signals.deferred():
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not signals.pending
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.pending
            with pytest.raises(Interrupted) as interrupted:
                signals.answer()
        assert interrupted.value.exit_code == 143
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before[signal.SIGUSR1])
    assert all(signal.getsignal(number) is handler for number, handler in before.items())


def test_in_another_thread_no_handler_is_installed() -> None:
    def run() -> None:
        with Signals() as signals, signals.deferred():
            found.append(signal.getsignal(signal.SIGTERM) is before)

    before, found = signal.getsignal(signal.SIGTERM), []  # type: ignore[var-annotated]
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [True]
