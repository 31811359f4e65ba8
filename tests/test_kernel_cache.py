"""The files that keep compiled code: damaged ones, disks that are full or cannot be written, many processes."""

from __future__ import annotations

import ast
import errno
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers import Finished, make_network

import seqrnn
from seqrnn.clock import working_seconds
from seqrnn.kernels import cache, compiler, support
from seqrnn.kernels.cache import CodeFile, Folder, fetch, find_folder
from seqrnn.kernels.compiler import Entry

needs_compiler = pytest.mark.skipif(support.machine_obstacle() is not None, reason=str(support.machine_obstacle()))
only_posix = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are POSIX's")
PACKAGE = Path(seqrnn.__file__).parent
CODE, KEY = b"the code, some bytes of it", b"all that it depends on"


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing has been found, announced or compiled yet."""
    monkeypatch.setattr(cache, "_details_shown", set())
    monkeypatch.setattr(cache, "_record", lambda folder, name: tmp_path.with_name(f"{tmp_path.name}-{name}.seconds"))
    find_folder.cache_clear()
    yield
    find_folder.cache_clear()


class Process:
    """What one process announces and compiles."""

    def __init__(self, folder: Path | Folder, code: bytes = CODE) -> None:
        self.folder = Folder(folder) if isinstance(folder, Path) else folder
        self.lines: list[str] = []
        self.compiled = 0
        self.code = code

    def fetch(self, name: str = "forward") -> bytes:
        found = fetch(self.folder, name, KEY, self._compile, self.lines.append)
        return self.code if found is None else found

    def _compile(self) -> bytes:
        self.compiled += 1
        return self.code

    @property
    def printed(self) -> str:
        return "\n".join(re.sub(r"in \d+\.\d s", "in N s", line.removeprefix("  ")) for line in self.lines)


def file_in(folder: Path) -> Path:
    (path,) = folder.glob("*.code")
    return path


def test_the_first_process_compiles_and_says_so_and_the_next_one_reads(tmp_path: Path) -> None:
    first, second = Process(tmp_path), Process(tmp_path, b"something else")
    assert first.fetch() == second.fetch() == CODE
    assert (first.compiled, second.compiled) == (1, 0)
    assert first.printed == (
        f"compiling forward for this processor (once; will be kept in {tmp_path})\ncompiled forward in N s"
    )
    assert not second.lines
    assert not [*tmp_path.glob(".tmp-*"), *tmp_path.glob("*.tmp")]


def test_the_clock_of_working_time_stands_still_while_code_is_compiled(tmp_path: Path) -> None:
    clock = [working_seconds()]

    def compile_slowly() -> bytes:
        for _ in range(2):
            time.sleep(0.05)
            clock.append(working_seconds())
        return CODE

    fetch(Folder(tmp_path), "forward", b"key", compile_slowly, None)
    clock.append(working_seconds())
    assert clock[-1] - clock[0] < 0.05
    time.sleep(0.01)
    assert working_seconds() >= clock[-1] + 0.01


def test_a_detail_is_announced_once_in_a_process(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.fetch("forward")
    process.fetch("backward")
    assert process.printed.splitlines()[2:] == ["compiling backward for this processor", "compiled backward in N s"]


def test_a_later_compilation_says_how_long_the_last_one_took(tmp_path: Path) -> None:
    Process(tmp_path / "v1").fetch()  # no such folder: the code is not kept, and the time is remembered all the same
    cache._record(tmp_path, "forward").write_text("12.34")
    again = Process(tmp_path)
    again.fetch()
    assert again.lines[0].startswith("  compiling forward for this processor, which took 12.3 s the last time (once;")
    assert float(cache._record(tmp_path, "forward").read_text()) < 12
    for damaged in ("", "nan", "soon"):
        cache._record(tmp_path, "backward").write_text(damaged)
        assert cache._seconds_before(Folder(tmp_path), "backward") is None


def damages(content: bytes) -> Iterator[bytes]:
    """Each bit flipped, each shorter length, and one byte more."""
    for index in range(len(content)):
        for bit in range(8):
            yield content[:index] + bytes([content[index] ^ 1 << bit]) + content[index + 1 :]
        yield content[:index]
    yield content + b"\0"


def test_a_damaged_file_is_announced_and_compiled_again_wherever_the_damage_is(tmp_path: Path) -> None:
    Process(tmp_path).fetch()
    path = file_in(tmp_path)
    sound = path.read_bytes()
    for damaged in damages(sound):
        path.write_bytes(damaged)
        process = Process(tmp_path)
        assert process.fetch() == CODE
        assert process.compiled == 1
        assert process.lines[0] == (
            f"  {path}: damaged (its checksum does not match); discarded, to be compiled again"
        )
        assert path.read_bytes() == sound


@only_posix
@pytest.mark.parametrize("what", ["pipe", "directory", "huge"])
def test_what_is_no_file_of_code_is_neither_read_nor_waited_for(tmp_path: Path, what: str) -> None:
    path = CodeFile(tmp_path, "forward", KEY).path
    if what == "pipe":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    else:
        path.touch(mode=0o600)
        os.truncate(path, 2**36)
    process = Process(tmp_path)
    assert process.fetch() == CODE
    assert process.printed.startswith(f"{path}: is no file of compiled code; discarded, to be compiled again")
    assert "for this process only" in process.printed or Process(tmp_path, b"").fetch() == CODE


@only_posix
@pytest.mark.parametrize("what", ["pipe", "link"])
@pytest.mark.parametrize("of", ["owner", "seconds"])
def test_nothing_is_written_through_a_link_and_no_pipe_is_waited_for(tmp_path: Path, what: str, of: str) -> None:
    path = CodeFile(tmp_path, "forward", KEY).owner if of == "owner" else cache._record(tmp_path, "forward")
    mine = tmp_path / "mine"
    mine.write_text("mine")
    os.mkfifo(path) if what == "pipe" else path.symlink_to(mine)
    process = Process(tmp_path)
    assert process.fetch() == Process(tmp_path, b"").fetch() == CODE
    assert process.compiled == 1
    assert mine.read_text() == "mine"


def test_the_code_of_one_function_is_not_taken_for_that_of_another(tmp_path: Path) -> None:
    Process(tmp_path).fetch()
    other = CodeFile(tmp_path, "forward", b"another key")
    shutil.copy(file_in(tmp_path), other.path)
    with pytest.raises(OSError, match="checksum"):
        other.read()


def make_function(power: int) -> Any:
    def mean_of_powers(values: Any) -> Any:
        total = 0.0
        for value in values:
            total += value**power
        return total / len(values)

    return mean_of_powers


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where entries keep their code."""
    monkeypatch.setattr(compiler, "code_folder", lambda: Folder(tmp_path))
    return tmp_path


@needs_compiler
@pytest.mark.parametrize("place", [0, 40, 0.01, 0.5, 0.999, "truncated"])
def test_compiled_code_that_was_damaged_computes_the_same(kept: Path, place: float | str) -> None:
    numbers, lines = np.linspace(0, 1, 101), []
    expected = Entry(make_function(2))(numbers)
    path = file_in(kept)
    content = bytearray(path.read_bytes())
    if isinstance(place, str):
        del content[len(content) // 2 :]
    else:
        content[int(place if place >= 1 else place * len(content))] ^= 4
    path.write_bytes(content)
    for expected_lines in (3, 0):  # damaged, compiling, compiled; and then it is repaired
        lines.clear()
        assert Entry(make_function(2)).ready(numbers, announce=lines.append)(numbers) == expected
        assert len(lines) == expected_lines


@needs_compiler
def test_nothing_is_unpickled_before_its_checksum_matches(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Entry(make_function(2))(np.ones(3))
    path = file_in(kept)
    path.write_bytes(path.read_bytes()[:32] + pickle.dumps("not what numba has written"))
    monkeypatch.setattr(pickle, "loads", lambda data: pytest.fail("unpickled"))
    assert Entry(make_function(2))(np.ones(3)) == 1


@needs_compiler
def test_code_is_kept_by_types_closures_and_settings_of_numba(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    numbers = np.array([1.0, 3.0])

    def mean(power: int, values: Any) -> Any:
        return Entry(make_function(power)).ready(values, announce=lines.append)(values)

    assert (mean(1, numbers), mean(2, numbers), mean(2, numbers.astype(np.float32))) == (2, 5, 5)
    assert len(list(kept.glob("*.code"))) == 3
    assert len(lines) == 6
    assert (mean(1, numbers), mean(2, numbers), mean(2, numbers.astype(np.float32))) == (2, 5, 5)
    assert len(lines) == 6
    monkeypatch.setattr(compiler.config, "BOUNDSCHECK", 1)
    assert mean(1, numbers) == 2
    assert len(list(kept.glob("*.code"))) == 4


@needs_compiler
def test_a_function_whose_source_is_unknown_is_compiled_in_each_process(kept: Path) -> None:
    lines: list[str] = []
    names: dict[str, Any] = {"__name__": "typed"}
    exec(compile("def double(x): return 2 * x", "<typed>", "exec"), names)
    assert Entry(names["double"]).ready(3, announce=lines.append)(3) == 6
    assert lines[0].startswith("  compiling double for this process only: <typed>: No such file")
    assert not list(kept.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("when", ["touch", "write_bytes", "replace"])
def test_code_that_cannot_be_written_is_used_and_the_reason_announced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, number: int
) -> None:
    def fail(*arguments: Any, **more: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, when, fail)
    process = Process(tmp_path)
    assert process.fetch("forward") == process.fetch("backward") == CODE
    assert process.compiled == 2
    assert process.printed.splitlines()[1::2] == [
        f"compiled forward in N s, for this process only: it cannot be kept, {tmp_path}: {os.strerror(number)}; "
        "set SEQRNN_CACHE_DIR to a folder of your own",
        "compiled backward in N s, for this process only",
    ]
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock"}


@only_posix
def test_what_a_process_left_that_was_killed_while_it_wrote_code_is_removed_by_the_next(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        Path.replace = lambda *arguments: os._exit(9)  # type: ignore[method-assign]  # as SIGKILL: nothing is cleaned up
        Process(tmp_path).fetch()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list(tmp_path.glob("*tmp*"))) == 1
    assert Process(tmp_path).fetch() == CODE
    assert not list(tmp_path.glob("*tmp*"))
    assert Process(tmp_path, b"").fetch() == CODE


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 64 kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk cannot be mounted here; the tests with monkeypatch stand in")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_keeps_no_code_and_the_old_code_stays_readable(disk: Path) -> None:
    Process(disk).fetch()
    large = Process(disk, bytes(2**17))
    assert large.fetch("backward") == bytes(2**17)
    assert "for this process only: it cannot be kept" in large.printed
    assert "No space left on device" in large.printed
    assert not list(disk.glob(".tmp-*"))
    assert Process(disk, b"").fetch() == CODE


def test_a_disk_that_is_mounted_to_be_read_serves_what_it_has(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQRNN_CACHE_DIR", str(disk))
    Process(find_folder("v1")).fetch()
    find_folder.cache_clear()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    process = Process(find_folder("v1"), b"new")
    assert process.fetch("forward") == CODE
    assert process.fetch("backward") == b"new"
    path = disk / "kernels" / "v1"
    assert process.printed == (
        f"compiling backward for this process only: {path}: cannot be written; "
        "set SEQRNN_CACHE_DIR to a folder of your own\ncompiled backward in N s"
    )


def test_a_folder_that_cannot_be_written_serves_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQRNN_CACHE_DIR", str(tmp_path))
    Process(find_folder("v1")).fetch()
    find_folder.cache_clear()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    process = Process(find_folder("v1"), b"new")
    assert process.fetch("forward") == CODE
    assert process.fetch("backward") == b"new"
    assert "for this process only: " in process.printed
    assert "cannot be written" in process.printed
    assert len(list((tmp_path / "kernels" / "v1").glob("*.code"))) == 1


def test_a_folder_that_can_be_written_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEQRNN_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache, "user_cache_path", lambda name: tmp_path / "home")
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.setattr(os, "access", lambda path, mode: "home" not in str(path))
    folder = find_folder("v1")
    assert folder.path is not None
    assert folder.path.is_relative_to(tmp_path / "temporary")
    assert not folder.reason


def test_a_user_without_a_home_gets_no_folder_named_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEQRNN_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache, "user_cache_path", lambda name: Path("~/.cache") / name)
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    path = find_folder("v1").path
    assert path is not None
    assert path.is_relative_to(tmp_path / "temporary")
    assert not (tmp_path / "~").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEQRNN_CACHE_DIR", str(tmp_path / "file" / "below"))
    process = Process(find_folder("v1"))
    assert process.fetch() == CODE
    assert process.printed.startswith(f"compiling forward for this process only: {tmp_path / 'file'}")
    assert process.printed.endswith("; set SEQRNN_CACHE_DIR to a folder of your own\ncompiled forward in N s")


@only_posix
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_folders_and_files_are_made_so_that_they_are_accepted_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    monkeypatch.setenv("SEQRNN_CACHE_DIR", str(tmp_path / "made" / "here"))
    before = os.umask(umask)
    try:
        folder = find_folder("v1")
        Process(folder).fetch()
    finally:
        os.umask(before)
    assert not folder.reason
    for path in ("made", "made/here", "made/here/kernels", "made/here/kernels/v1"):
        assert (tmp_path / path).stat().st_mode & 0o777 == 0o700
    assert folder.path is not None
    assert file_in(folder.path).stat().st_mode & 0o777 == 0o600
    find_folder.cache_clear()
    assert find_folder("v1") == folder
    assert Process(folder, b"").fetch() == CODE


@only_posix
@pytest.mark.parametrize("path", ["", "kernels", "kernels/v1"])
def test_a_folder_to_which_others_can_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("SEQRNN_CACHE_DIR", str(tmp_path / "base"))
    find_folder("v1")
    find_folder.cache_clear()
    open_folder = tmp_path / "base" / path
    open_folder.chmod(0o775)
    process = Process(find_folder("v1"))
    assert process.fetch() == CODE
    assert process.printed.startswith(
        f"compiling forward for this process only: {open_folder}: others could put code there, as its mode is 0775 "
        f"(chmod go-w {open_folder}); set"
    )
    assert not list((tmp_path / "base" / "kernels" / "v1").iterdir())


@only_posix
def test_a_file_to_which_others_can_write_is_discarded(tmp_path: Path) -> None:
    Process(tmp_path).fetch()
    file_in(tmp_path).chmod(0o666)
    process = Process(tmp_path)
    assert process.fetch() == CODE
    assert "others could put code there" in process.lines[0]
    assert "discarded" in process.lines[0]
    assert file_in(tmp_path).stat().st_mode & 0o777 == 0o600


@only_posix
def test_a_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQRNN_CACHE_DIR", str(tmp_path))
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    folder = find_folder("v1")
    assert folder.path is None
    assert folder.reason.startswith(f"{tmp_path}: belongs to user {user}, who could put code there")


def test_where_numba_compiles_nothing_compiled_code_is_refused_and_auto_takes_torch(
    command: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    support.machine_obstacle.cache_clear()
    try:
        finished = command("task=sine", "model=gru", "kernel=compiled", "device=cpu", "smoke=true")
        auto = make_network("gru", kernel="auto")
        assert auto.compiled_recurrence(torch.device("cpu"), torch.float64, 2, gradients=True) is None
    finally:
        support.machine_obstacle.cache_clear()
    assert finished.exit_code == 2
    shown = " ".join((finished.out + finished.err).split())
    assert "kernel=compiled: numba compiles nothing, as NUMBA_DISABLE_JIT=1 is set" in shown
    assert "set kernel=auto or kernel=torch" in shown


# Locks: a process that compiles, and those that wait for it.

CHILD = """
import os, sys, time
from pathlib import Path
from seqrnn.kernels.cache import Folder, fetch
folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
def compile_():
    with open(folder / "compiled", "a") as log:
        log.write(f"{os.getpid()}\\n")
    time.sleep(seconds)
    return b"code"
found = fetch(Folder(folder), "forward", b"key", compile_, lambda line: print(line, flush=True))
print("read" if found == b"code" else "compiled")
"""


def start_child(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_of_the_processes_that_start_together_one_compiles_and_the_others_read(tmp_path: Path) -> None:
    children = [start_child(tmp_path, 0.5) for _ in range(5)]
    ends = sorted(child.communicate()[0].splitlines()[-1] for child in children)
    assert ends == ["compiled"] + ["read"] * 4
    assert len((tmp_path / "compiled").read_text().split()) == 1


def test_a_process_that_is_killed_while_it_compiles_lets_the_next_one_go_on(tmp_path: Path) -> None:
    first = start_child(tmp_path, 1000)
    wait_for(tmp_path / "compiled")
    second = start_child(tmp_path, 0)
    assert second.stdout
    line = second.stdout.readline()
    assert line.strip() == f"waiting for process {first.pid}, which compiles the same code (forward)"
    first.kill()
    first.wait()
    assert second.communicate()[0].splitlines()[-1] == "compiled"
    assert start_child(tmp_path, 0).communicate()[0] == "read\n"


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CodeFile]:
    """A piece of code whose lock is held throughout."""
    monkeypatch.setattr(cache, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(cache, "LONGEST_WAIT", 0.5)
    file = CodeFile(tmp_path, "forward", KEY)
    lock = FileLock(file.path.with_suffix(".lock"))
    with lock:
        yield file


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("OWN HERE", "process OWN"),
        ("123 another-machine", "process 123 on another-machine"),
        ("", "another process"),
        ("no number", "another process"),
        (f"{10**30} HERE", f"process {10**30}"),
        (None, "another process"),
    ],
    ids=str,
)
def test_waiting_is_announced_and_has_an_end(locked: CodeFile, owner: str | None, name: str) -> None:
    name = name.replace("OWN", str(os.getpid()))
    if owner is not None:
        owner = owner.replace("OWN", str(os.getpid())).replace("HERE", cache.socket.gethostname())
        locked.owner.write_text(owner)
    process = Process(locked.path.parent)
    assert process.fetch() == CODE
    assert process.lines[:2] == [
        f"  waiting for {name}, which compiles the same code (forward)",
        f"  {name} has been compiling forward for 0 minutes: continuing without waiting",
    ]
    assert Process(locked.path.parent, b"").fetch() == CODE, "what is kept can be read while the lock is held"
    assert owner is None or locked.owner.read_text() == owner


@only_posix
def test_a_lock_that_has_outlived_its_process_is_not_waited_for(locked: CodeFile) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    locked.owner.write_text(f"{ended.pid} {cache.socket.gethostname()}")
    process = Process(locked.path.parent)
    assert process.fetch() == CODE
    assert process.lines[1] == (
        f"  process {ended.pid} has ended, but {locked.path.with_suffix('.lock')} is still locked: "
        "continuing without the lock"
    )


def test_code_that_another_process_has_compiled_meanwhile_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SILENT_SECONDS", 0.05)
    file = CodeFile(tmp_path, "forward", KEY)
    process = Process(tmp_path, b"other")
    with file.locked(None):
        waiting = threading.Thread(target=lambda: results.append(process.fetch()))
        results: list[bytes] = []
        waiting.start()
        while not process.lines:  # it has announced that it waits
            time.sleep(0.01)
        file.write(CODE)
    waiting.join()
    assert results == [CODE]
    assert process.compiled == 0
    assert process.printed == f"waiting for process {os.getpid()}, which compiles the same code (forward)"


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_a_disk_without_locks_keeps_code_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", fail)
    process = Process(tmp_path)
    assert process.fetch() == process.fetch() == CODE
    assert process.compiled == 1


def test_an_error_while_compiling_leaves_neither_a_lock_nor_a_file(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise ArithmeticError("cannot be compiled")

    with pytest.raises(ArithmeticError):
        fetch(Folder(tmp_path), "forward", KEY, fail, None)
    assert not list(tmp_path.glob("*.owner"))
    process = Process(tmp_path)
    assert process.fetch() == CODE
    assert len(process.lines) == 2


# The whole program.

PURE = {"all", "any", "isinstance", "issubclass", "len", "set", "sorted", "tuple", "type"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_assertion_does_anything_since_optimised_python_leaves_it_out(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for part in ast.walk(node.test) if isinstance(node, ast.Assert) else ():
            is_pure = not isinstance(part, ast.Call) or getattr(part.func, "id", None) in PURE
            is_free = not isinstance(part, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom)
            assert (is_pure, is_free) == (True, True), f"{path.name}:{part.lineno}: assert {ast.unparse(part)}"


RUN = (
    "task=sine", "model=gru", "kernel=compiled", "model.hidden_size=8", "device=cpu", "threads=1", "smoke=true",
    "hydra.run.dir=run",
)  # fmt: skip


def train(folder: Path, *options: str, **environment: str) -> tuple[str, bytes]:
    """Runs ``python -m seqrnn.train`` in a new folder; returns what it says and the weights."""
    folder.mkdir()
    ended = subprocess.run(
        [sys.executable, *options, "-m", "seqrnn.train", *RUN],
        cwd=folder, env={**os.environ, "COLUMNS": "500", **environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout + ended.stderr, (folder / "run" / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights that training ends with; its compiled code is then kept in the usual place."""
    return train(tmp_path_factory.mktemp("usual") / "run")[1]


@needs_compiler
@pytest.mark.long
def test_optimised_python_trains_to_the_same_bit(tmp_path: Path, usual: bytes) -> None:
    assert train(tmp_path / "optimised", "-O")[1] == usual


@needs_compiler
@pytest.mark.long
def test_training_after_the_kept_code_was_damaged_gives_the_same_and_repairs_it(tmp_path: Path, usual: bytes) -> None:
    warm = compiler.code_folder().path
    assert warm is not None, compiler.code_folder().reason
    folder = tmp_path / "cache" / "kernels" / warm.name
    shutil.copytree(warm, folder)
    for path in (tmp_path / "cache", folder.parent, folder):
        path.chmod(0o700)
    for path in folder.glob("forward-*.code"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    place = {"SEQRNN_CACHE_DIR": str(tmp_path / "cache")}
    printed, found = train(tmp_path / "damaged", **place)
    assert found == usual
    assert printed.count("damaged (its checksum does not match); discarded, to be compiled again") == 1
    assert printed.count("compiled forward in ") == 1
    assert printed.count("compiling ") == 1
    printed, found = train(tmp_path / "repaired", **place)
    assert found == usual
    assert "compil" not in printed
