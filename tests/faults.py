"""Runs in processes that can be killed at any instant, whose files are compared bit for bit.

A server imports and compiles everything once and forks a child for each run, so that a run costs none of it. The
server has no thread, and each child is a process of its own that may be killed.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqrnn.api import Host, execute
from seqrnn.errors import Interrupted
from seqrnn.rundir.request import RunRequest

ROOT = Path(__file__).parent.parent
TIMES = {  # of a summary: what takes time, and what tells of it
    "train_seconds", "evaluate_seconds", "wall_seconds", "cpu_seconds", "resumed", "job", "git_revision",
}  # fmt: skip
SERVER = r"""
import json, os, signal, sys, tempfile, warnings
warnings.simplefilter("ignore")
from seqrnn import train
import torch
torch.set_num_threads(1)  # no threads, which a fork would lose

def quietly(*arguments):
    saved = os.dup(1), sys.argv
    os.dup2(2, 1)
    sys.argv = ["seqrnn-train", *arguments]
    try:
        train.main()
    finally:
        sys.stdout.flush()
        os.dup2(saved[0], 1)
        sys.argv = saved[1]

with tempfile.TemporaryDirectory() as folder:  # what is imported, loaded and compiled here need not be in each child
    for task in ("integral", "mnist"):
        quietly(f"task={task}", "model=gru", "device=cpu", "threads=1", "smoke=true", "plots.animation=true",
                "kernel=compiled", f"hydra.run.dir={folder}/{task}")

def killed_at(name, number):
    # The process is killed right before its call `number` of a function of os, such as replace or fsync.
    real, calls = getattr(os, name), 0
    def counted(*arguments, **more):
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **more)
    setattr(os, name, counted)

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.stdin.close()
    os.chdir(order["cwd"])
    os.environ.update(order["environment"])
    for target, path in ((1, order["out"]), (2, order["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), target)
    sys.argv = ["seqrnn-train", *order["arguments"]]
    exec(order["before"])
    try:
        train.main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 1
    sys.stdout.flush(); sys.stderr.flush()
    os._exit(code)
os._exit(0)
"""


@dataclass
class Ended:
    """A process that has ended; its exit code is negative if a signal ended it."""

    exit_code: int
    out: str
    err: str


class Child:
    """A run in a process of its own."""

    def __init__(self, server: Server, pid: int, files: tuple[Path, Path]) -> None:
        self.server, self.pid, self.files = server, pid, files

    def send(self, signum: int) -> None:
        with suppress(ProcessLookupError):  # it has ended already
            os.kill(self.pid, signum)

    def wait(self) -> Ended:
        code = int(self.server.read())
        self.server.child = None
        return Ended(code, *(path.read_text(encoding="utf-8", errors="replace") for path in self.files))


class Server:
    """Forks runs, one at a time."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.child: Child | None = None
        assert self.read() == "ready"

    def read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def start(
        self, *arguments: str, cwd: Path, before: str = "", environment: Mapping[str, str] | None = None
    ) -> Child:
        """Starts ``python -m seqrnn.train ARGUMENTS``; ``before`` is run in the child first."""
        self._end_child()  # which a test that failed has left
        files = cwd / ".out", cwd / ".err"
        order = {
            "arguments": arguments, "cwd": str(cwd), "out": str(files[0]), "err": str(files[1]), "before": before,
            "environment": environment or {},
        }  # fmt: skip
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        self.child = Child(self, int(self.read()), files)
        return self.child

    def run(self, *arguments: str, cwd: Path, **more: Any) -> Ended:
        return self.start(*arguments, cwd=cwd, **more).wait()

    def _end_child(self) -> None:
        if self.child is not None:
            self.child.send(signal.SIGKILL)
            self.child.wait()

    def stop(self) -> None:
        self._end_child()
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(60)


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.stop()


def wait_for(path: Path, child: Child | None = None, seconds: float = 30.0) -> None:
    """Waits until a file is there and not empty."""
    end = time.monotonic() + seconds
    while not (path.is_file() and path.stat().st_size):
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.002)


def contents(directory: Path) -> dict[str, Any]:
    """Returns the content of a run's files without times: what must be the same, bit for bit, however often it was
    stopped."""
    found: dict[str, Any] = {}
    for path in sorted(directory.iterdir()):
        match path.name:
            case "checkpoints":
                continue
            case "train.log" | "diagnosis.json" | "diagnosis.md" | "diagnosis.png":  # tell of times and places
                found[path.name] = None
            case "summary.json":
                summary = json.loads(path.read_text(encoding="utf-8"))
                found[path.name] = {key: value for key, value in summary.items() if key not in TIMES}
            case "metrics.csv":
                with path.open(newline="") as file:
                    rows = list(csv.DictReader(file))
                found[path.name] = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
            case "metrics.jsonl":
                rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
                found[path.name] = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
            case _:
                found[path.name] = path.read_bytes()
    return found


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert sorted(found) == sorted(expected)
    for name in expected:
        assert found[name] == expected[name], f"{name} differs"


class StopAt:
    """Stands in for ``seqrnn.checkpoints.signals.Signals``: asks a run in this process to end at its checkpoint of
    update ``position`` of the schedule; None: never."""

    def __init__(self, checkpoints: Path, position: int | None) -> None:
        self.checkpoints, self.position = checkpoints, position
        self.pending = False
        self.deferred = nullcontext

    def __enter__(self) -> StopAt:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        if self.position is not None and (self.checkpoints / f"{self.position:012d}.safetensors").exists():
            raise Interrupted(signal.SIGTERM)


def part(
    values: Mapping[str, Any], directory: Path, *, stop_at: int | None = None, resuming: bool = False, **changes: Any
) -> None:
    """Makes a run in this process, from the beginning or (``resuming``) its newest checkpoint to its end, or to the
    checkpoint of update ``stop_at`` of the schedule. ``changes`` are keys at the top of the config."""
    changed = {**values, **changes}
    if stop_at is not None:
        changed = {**changed, "checkpoint": {**changed["checkpoint"], "every": stop_at}}
    host = Host(signals=lambda: StopAt(directory / "checkpoints", stop_at))  # type: ignore[arg-type, return-value]
    try:
        execute(RunRequest(changed, directory, [], resuming=resuming), host=host)
    except Interrupted:
        assert stop_at is not None
    else:
        assert stop_at is None
