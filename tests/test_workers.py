"""A sweep that runs its jobs in other processes ends in order, however its command ends."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import Finished

from seqrnn.cli import reporting, workers
from seqrnn.errors import Interrupted
from seqrnn.rundir.atomic import replacing

OURS, JOBLIB = ("sweep.jobs=2",), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
LINE = (
    "-m", "seed=1,2,3", "hydra.sweep.dir=sweep",
    "task=integral", "schedule=online", "task.train_timesteps=100000000", "device=cpu", "plots.draw=false",
    "kernel=torch", "model=elman", "model.hidden_size=4", "log_every=100", "schedule.evaluate_every=10000000",
)  # fmt: skip


def job(tmp_path: Path, seed: int) -> Path:
    """The run directory of the job with this seed."""
    return next((tmp_path / "sweep").glob(f"seed-{seed}_*"), tmp_path / "none")


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


def as_in_a_terminal() -> None:
    """Sets signals to what they are in a terminal; in the background of a shell, or below nohup, some are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(params=[OURS, JOBLIB], ids=["ours", "joblib"])
def sweep(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A sweep of three jobs of which two train in workers, in a session of its own; and the workers' processes."""
    if request.param is JOBLIB:
        pytest.importorskip("joblib")
    process = subprocess.Popen(
        [sys.executable, "-m", "seqrnn.train", *LINE, *request.param],
        cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=as_in_a_terminal,
    )  # fmt: skip

    def is_training(seed: int) -> bool:
        metrics = job(tmp_path, seed) / "metrics.jsonl"
        return metrics.is_file() and metrics.stat().st_size > 1000

    try:
        assert wait_until(lambda: is_training(1) and is_training(2))
        owners = [int((job(tmp_path, seed) / "checkpoints" / ".owner").read_text().split()[1]) for seed in (1, 2)]
        yield process, owners
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="tells by /proc which processes run")
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_every_job_writes_a_checkpoint_and_none_trains_on(
    how: str, sweep: tuple[subprocess.Popen[str], list[int]], tmp_path: Path
) -> None:
    process, owners = sweep
    assert process.pid not in owners
    if how in ("Ctrl-C", "SIGHUP"):  # a terminal sends them to the whole group
        os.killpg(process.pid, signal.SIGINT if how == "Ctrl-C" else signal.SIGHUP)
    else:
        process.send_signal(getattr(signal, how))
    _, err = process.communicate(timeout=100)
    assert process.returncode == {"Ctrl-C": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -9}[how], err
    if how != "SIGHUP" or OURS[0] in process.args:  # nobody reads what joblib prints when the terminal is closed
        assert "Traceback" not in err
    assert wait_until(lambda: not any(is_alive(owner) for owner in owners))
    for directory in (job(tmp_path, 1), job(tmp_path, 2)):
        summary = json.loads((directory / "summary.json").read_text())
        assert summary["status"] == "interrupted"
        (checkpoint, *_) = sorted((directory / "checkpoints").glob("*.safetensors"), reverse=True)
        assert int(checkpoint.stem) == summary["position"] > 0
        assert json.loads((directory / "status.json").read_text())["status"] == "interrupted"
    assert not (job(tmp_path, 3) / "config.yaml").exists()
    assert (job(tmp_path, 3) / "job.json").exists()


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


@pytest.fixture
def no_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']")

    monkeypatch.setattr(tempfile, "mkdtemp", fail)


@pytest.mark.usefixtures("no_temporary_files")
def test_where_no_temporary_file_can_be_written_runs_and_sweeps_run(command: Callable[..., Finished]) -> None:
    line = ("task=sincos", "model=elman", "device=cpu", "smoke=true", "plots.draw=false")
    assert command(*line).exit_code == 0
    swept = command("-m", *line, "seed=1,2", "sweep.jobs=1", "hydra.sweep.dir=sweep")
    assert swept.exit_code == 0, swept.out + swept.err
    assert workers.VARIABLE not in os.environ


@pytest.mark.usefixtures("no_temporary_files")
def test_what_needs_temporary_files_names_the_variable_that_chooses_their_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def command() -> None:
        with replacing(tmp_path / "model.onnx"):
            tempfile.mkdtemp()

    with pytest.raises(SystemExit) as caught:
        reporting.run(command)
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "error: TMPDIR: No usable temporary directory found in ['/tmp', '/var/tmp']; is the path right, may it be "
        "written, and is there room?\n"
    )


def test_jobs_end_in_order_where_the_folder_that_they_share_is_gone() -> None:
    def ends() -> None:
        with workers.ending_with_us():
            shutil.rmtree(os.environ[workers.VARIABLE].partition(":")[2])
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        ends()
