"""A sweep whose launcher runs its jobs in other processes ends in order, however its command ends."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seqrnn.cli import workers
from seqrnn.errors import Interrupted

pytest.importorskip("joblib")
LINE = (
    "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1,2", "hydra.sweep.dir=sweep",
    "task=integral", "schedule=online", "task.train_timesteps=100000000", "device=cpu", "plots.draw=false",
    "kernel=torch", "model=elman", "model.hidden_size=4", "log_every=100", "schedule.evaluate_every=10000000",
)  # fmt: skip


def wait_until(condition: Callable[[], bool], seconds: float = 90.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
    return condition()


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A sweep of three jobs of which two train in workers, in a session of its own; and the workers' processes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "seqrnn.train", *LINE],
        cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    jobs = [tmp_path / "sweep" / str(number) for number in (0, 1)]
    metrics = [job / "metrics.jsonl" for job in jobs]
    try:
        assert wait_until(lambda: all(path.is_file() and path.stat().st_size > 1000 for path in metrics))
        owners = [int((job / "checkpoints" / ".owner").read_text().split()[1]) for job in jobs]
        yield process, owners
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="tells by /proc which processes run")
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGKILL"])
def test_every_job_writes_a_checkpoint_and_none_trains_on(
    how: str, sweep: tuple[subprocess.Popen[str], list[int]], tmp_path: Path
) -> None:
    process, owners = sweep
    assert process.pid not in owners
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.send_signal(getattr(signal, how))
    _, err = process.communicate(timeout=100)
    assert process.returncode == {"Ctrl-C": 130, "SIGTERM": 143, "SIGKILL": -9}[how], err
    if how != "SIGKILL":
        assert "Traceback" not in err
    assert wait_until(lambda: not any(is_alive(owner) for owner in owners))
    for job in (tmp_path / "sweep" / "0", tmp_path / "sweep" / "1"):
        summary = json.loads((job / "summary.json").read_text())
        assert summary["status"] == "interrupted"
        (checkpoint, *_) = sorted((job / "checkpoints").glob("*.safetensors"), reverse=True)
        assert int(checkpoint.stem) == summary["position"] > 0
    assert not (tmp_path / "sweep" / "2" / "config.yaml").exists()


def test_a_job_elsewhere_than_in_a_worker_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    for command in (os.getpid(), 1):
        monkeypatch.setenv(workers.VARIABLE, f"{command}:{tmp_path}")
        with workers.in_worker():
            assert signal.getsignal(signal.SIGTERM) is before
            assert list(tmp_path.iterdir()) == []


def test_an_interruption_can_be_sent_between_processes() -> None:
    interrupted = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM)))
    assert (interrupted.exit_code, str(interrupted)) == (143, "interrupted by signal 15")
