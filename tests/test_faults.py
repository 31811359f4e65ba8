"""Faults of the machine: a full disk, a directory that cannot be written, no memory, threads that fail."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import Server, assert_same, contents
from helpers import Finished

from seqrnn.kernels import support

Command = Callable[..., Finished]
RUN = (
    "task=integral", "model=gru", "model.hidden_size=8", "task.train_timesteps=3000", "task.test_sequences=2",
    "task.test_timesteps=60", "task.validation_sequences=2", "task.validation_timesteps=60", "schedule=tbptt",
    "schedule.window=10", "schedule.streams=4", "schedule.evaluate_every=10", "log_every=2", "checkpoint.every=10",
    "device=cpu", "threads=1", "hydra.run.dir=run", "plots.draw=false",
)  # fmt: skip
FILL = """
def fill():
    for size in (65536, 4096):  # to the last page
        with open("filler", "ab", buffering=0) as filler:
            try:
                while filler.write(bytes(size)):
                    pass
            except OSError:
                pass
def fill_before(owner, name, number):
    real, calls = getattr(owner, name), 0
    def full(*arguments, **more):
        nonlocal calls
        calls += 1
        if calls == number:
            fill()
        return real(*arguments, **more)
    setattr(owner, name, full)
import seqrnn.checkpoints.file, seqrnn.plots, seqrnn.rundir.writer
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mounts a disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk cannot be mounted here; test_a_file_that_may_not_grow… stands in")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


MOMENTS = {
    "a checkpoint": "fill_before(seqrnn.checkpoints.file, 'write', 3)",
    "rows of metrics": "fill_before(seqrnn.rundir.writer.RunWriter, 'position', 3)",
    "the weights": "fill_before(seqrnn.rundir.writer.RunWriter, 'write_weights', 1)",
    "predictions": "fill_before(seqrnn.rundir.writer.RunWriter, 'write_predictions', 1)",
}


@pytest.mark.long
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_full_disk_is_named_and_the_run_can_be_resumed_when_there_is_space(
    moment: str, server: Server, disk: Path, tmp_path: Path
) -> None:
    assert server.run(*RUN, cwd=tmp_path).exit_code == 0
    ended = server.run(*RUN, cwd=disk, before=FILL + MOMENTS[moment])
    printed = " ".join((ended.out + ended.err).split())
    assert ended.exit_code == 2, printed
    assert "No space left on device" in printed
    assert "Traceback" not in ended.err
    assert ended.out.splitlines()[-1] == "python -m seqrnn.train resume=run"
    summary = json.loads((disk / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "failed"
    assert "No space left" in summary["problems"][0]
    files = re.findall("([^/]+):Nospaceleftondevice", "".join(printed.split()))
    assert len(set(files)) == len(files) > 0, printed  # each file is named once
    assert list((disk / "run" / "checkpoints").glob("*.safetensors"))
    assert not list((disk / "run").rglob("*.tmp*"))
    (disk / "filler").unlink()
    second = server.run("resume=run", cwd=disk)
    assert second.exit_code == 0, second.err
    assert_same(contents(disk / "run"), contents(tmp_path / "run"))


def test_a_full_disk_for_a_picture_is_named_and_the_run_is_finished(server: Server, disk: Path) -> None:
    line = [*RUN[:-1], "plots.draw=true"]
    ended = server.run(*line, cwd=disk, before=FILL + "fill_before(seqrnn.plots, 'draw', 1)")
    assert ended.exit_code == 0, ended.err
    assert "No space left on device" in " ".join((ended.out + ended.err).split())
    summary = json.loads((disk / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished"


def test_a_file_that_may_not_grow_is_named_and_the_earlier_checkpoint_stays(server: Server, tmp_path: Path) -> None:
    """Uses a limit on the size of files, which works where no disk can be mounted."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, resource.RLIM_INFINITY))"
    before = f"{FILL}\ndef fill():\n    {limit}\nfill_before(seqrnn.checkpoints.file, 'write', 3)"
    ended = server.run(*RUN, cwd=tmp_path, before=before)
    printed = " ".join((ended.out + ended.err).split())
    assert ended.exit_code == 2, printed
    assert "File too large" in printed
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
    assert [path.stem for path in sorted((tmp_path / "run" / "checkpoints").glob("*.safetensors"))] == [
        "000000000010", "000000000020",
    ]  # fmt: skip
    assert server.run("resume=run", cwd=tmp_path).exit_code == 0


def test_a_directory_that_is_removed_is_named(server: Server, tmp_path: Path) -> None:
    gone = "import shutil\ndef fill():\n    shutil.rmtree('run')\n"
    ended = server.run(*RUN, cwd=tmp_path, before=FILL + gone + "fill_before(seqrnn.checkpoints.file, 'write', 2)")
    assert ended.exit_code == 2
    printed = " ".join((ended.out + ended.err).split())
    assert "No such file or directory" in printed
    assert "what was written before is there" in printed
    assert "Traceback" not in ended.err
    assert ended.out.splitlines()[-1] == "no longer there: run"


def test_of_a_run_that_was_moved_no_line_is_printed_that_resumes_it_where_it_was(
    server: Server, tmp_path: Path
) -> None:
    gone = "import os\ndef fill():\n    os.rename('run', 'moved')\n"
    ended = server.run(*RUN, cwd=tmp_path, before=FILL + gone + "fill_before(seqrnn.checkpoints.file, 'write', 3)")
    assert ended.exit_code == 2
    printed = " ".join(ended.out.split())
    assert "if it was moved, resume the run where it lies now: resume=DIR" in printed
    assert "resume=run" not in printed
    assert ended.out.splitlines()[-1] == "no longer there: run"
    assert not (tmp_path / "run").exists()
    assert server.run("resume=moved", cwd=tmp_path).exit_code == 0


WITHOUT_PRIVILEGE = """
import ctypes, sys
if sys.platform == "linux":  # CAP_DAC_OVERRIDE, with which root may write where modes forbid it
    capabilities = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert capabilities.capget(header, sets) == 0
    sets[0] &= ~2
    assert capabilities.capset(header, sets) == 0
"""


def test_a_directory_that_becomes_read_only_is_named(server: Server, tmp_path: Path) -> None:
    closed = f"{WITHOUT_PRIVILEGE}\ndef fill():\n    os.chmod('run', 0o555); os.chmod('run/checkpoints', 0o555)\n"
    if os.getuid() == 0 and sys.platform != "linux":
        pytest.skip("root may write anywhere, and only on Linux is it known here how it gives that up")
    before = FILL + closed + "fill_before(seqrnn.checkpoints.file, 'write', 2)"
    ended = server.run(*RUN, cwd=tmp_path, before=before)
    printed = " ".join((ended.out + ended.err).split())
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoints"):
        folder.chmod(0o777)
    assert ended.exit_code == 2, printed
    assert "Permission denied" in printed
    assert "Traceback" not in ended.err
    assert [path.stem for path in (tmp_path / "run" / "checkpoints").glob("*.safetensors")] == ["000000000010"]


def test_a_batch_too_large_says_how_much_was_asked_for_and_the_checkpoint_stays(
    server: Server, tmp_path: Path
) -> None:
    before = (
        "import torch, seqrnn.strategies.plain as plain\n"
        "real, calls = plain.Plain.__call__, 0\n"
        "def hungry(self, parts, factors):\n"
        "    if self._step and len(os.listdir('run/checkpoints')) > 3:\n"
        "        torch.empty(2**50)\n"
        "    return real(self, parts, factors)\n"
        "plain.Plain.__call__ = hungry\n"
    )
    ended = server.run(*RUN, "kernel=torch", cwd=tmp_path, before=before)
    printed = " ".join((ended.out + ended.err).split())
    assert ended.exit_code == 2, printed
    assert "out of memory: " in printed
    assert f"{2**52} bytes" in printed
    assert "Traceback" not in ended.err
    assert len(list((tmp_path / "run" / "checkpoints").glob("*.safetensors"))) == 2
    second = server.run("resume=run", cwd=tmp_path)
    assert second.exit_code == 0, second.err


@pytest.mark.skipif(support.machine_obstacle() is not None, reason=str(support.machine_obstacle()))
def test_a_thread_that_fails_ends_the_run_and_the_checkpoint_stays(server: Server, tmp_path: Path) -> None:
    before = (
        "import seqrnn.strategies.compiled as compiled\n"
        "real = compiled.Compiled._compute\n"
        "def failing(self, workspace, *more):\n"
        "    if workspace is not self.workspaces[0] and len(os.listdir('run/checkpoints')) > 3:\n"
        "        raise ArithmeticError('a thread failed')\n"
        "    return real(self, workspace, *more)\n"
        "compiled.Compiled._compute = failing\n"
    )
    shared = [word.replace("threads=1", "threads=2") for word in RUN]
    ended = server.run(*shared, "kernel=compiled", cwd=tmp_path, before=before)
    assert ended.exit_code == 1
    assert "a thread failed" in ended.err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
    assert ended.out.splitlines()[-1] == "python -m seqrnn.train resume=run"
    assert server.run(*[word.replace("dir=run", "dir=whole") for word in shared], cwd=tmp_path).exit_code == 0
    assert server.run("resume=run", cwd=tmp_path).exit_code == 0
    assert contents(tmp_path / "run")["weights.safetensors"] == contents(tmp_path / "whole")["weights.safetensors"]
