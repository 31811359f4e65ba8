"""The package on systems that are not POSIX: without those names of the standard library that only POSIX has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from seqrnn.cli import workers
from seqrnn.kernels.cache import find_folder
from seqrnn.rundir.atomic import replacing

SCRIPT = """
import os, shutil, signal, sys
# Libraries look for the operating system, not for these names, and are imported while they are there.
import filelock, hydra.main, matplotlib.pyplot, numba, scipy.stats, torch
import hydra._internal.core_plugins.basic_launcher, rich.console, rich.progress

NAMES = {
    os: "chown fchmod fchown fork forkpty geteuid getgid getloadavg getpgid getpgrp getuid kill killpg lchown mkfifo "
    "mknod nice openpty register_at_fork sched_getaffinity sched_setaffinity setpgid setsid statvfs sysconf uname",
    signal: "SIGALRM SIGHUP SIGKILL SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 alarm pause pthread_kill setitimer "
    "sigwait siginterrupt",
}
for module, names in NAMES.items():
    for name in names.split():
        delattr(module, name)
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None  # an ImportError
shutil._use_fd_functions = False
opened = os.open

def open_no_directory(path, *rest, **more):
    if not isinstance(path, int) and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, *rest, **more)

os.open = open_no_directory

def run(main, *arguments):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{arguments}: exit code {end.code}")

from seqrnn import diagnose, plots, train
from seqrnn.plots.__main__ import main as draw
TASK = ("task=sine", "model=gru", "device=cpu", "threads=1", "smoke=true", "kernel=torch", "hydra.run.dir=run")
run(train.main, *TASK)
run(train.main, "resume=run", "schedule.epochs=3")
run(lambda: diagnose.main(["run", "--seconds", "0"]))
run(lambda: draw(["run"]))
"""


@pytest.mark.long  # training, resuming, a diagnosis and pictures, in a process of their own
def test_everything_runs_without_what_only_posix_has(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"weights.safetensors", "diagnosis.md", "loss.png"}
    assert '"resumed": 1' in (tmp_path / "run" / "summary.json").read_text("utf-8")


def test_where_users_have_no_numbers_compiled_code_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQRNN_CACHE_DIR", str(tmp_path))
    monkeypatch.delattr(os, "getuid")
    find_folder.cache_clear()
    assert find_folder("v1").path == tmp_path / "kernels" / "v1"
    find_folder.cache_clear()


def test_where_directories_cannot_be_opened_files_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *arguments: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with replacing(tmp_path / "file", durable=True) as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "file").read_text() == "whole"


def test_where_no_process_can_signal_another_a_job_ends_when_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = []
    monkeypatch.setattr(workers, "CAN_SIGNAL", False)
    monkeypatch.setattr(workers, "WATCH_EVERY", 0.01)
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    monkeypatch.setattr(os, "kill", lambda *arguments: pytest.fail("Windows ends the process at once"))
    (tmp_path / "stop").touch()
    workers._watch(os.getppid(), tmp_path / "stop", threading.Event())
    assert raised == [signal.SIGTERM]


def test_where_no_process_can_signal_another_the_command_waits_for_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CAN_SIGNAL", False)
    monkeypatch.setattr(os, "kill", lambda *arguments: pytest.fail("Windows ends the process at once"))
    job = tmp_path / "123"
    job.touch()
    threading.Timer(0.1, job.unlink).start()
    workers._end_jobs(tmp_path)
    assert (tmp_path / "stop").exists()
    assert not job.exists()
