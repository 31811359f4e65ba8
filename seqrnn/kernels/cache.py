"""Keeps compiled code on disk: in which folder, in which file, with which checksum, and which process compiles it.

Code from the disk runs as it is found. It is therefore kept only where nobody else can write, and each file begins
with a checksum that is verified before anything else is read from it. Nothing here imports the compiler.
"""

from __future__ import annotations

import getpass
import hashlib
import math
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from seqrnn.clock import compiling
from seqrnn.rundir.atomic import has_ended, replacing

Announce = Callable[[str], None]
CHECKSUM_BYTES = 32
MOST_BYTES = 2**28  # of a file, a hundred times the largest one
SILENT_SECONDS = 1.5  # a shorter wait needs no announcement
LONGEST_WAIT = 600.0  # seconds; the slowest machine that was tried, an emulated one, compiles for 120
REMEDY = "set SEQRNN_CACHE_DIR to a folder of your own"

_details_shown: set[str] = set()


@dataclass(frozen=True)
class Folder:
    """Where compiled code is kept.

    Args:
        path: the folder; None if code can be neither read nor kept.
        reason: why code cannot be kept; empty if it can.
    """

    path: Path | None
    reason: str = ""


@cache
def find_folder(version: str) -> Folder:
    """Finds, and if need be makes, the folder for the code of one version of the kernels.

    It lies in SEQRNN_CACHE_DIR where that is set; otherwise in the user's cache directory, or among the temporary
    files where the user's cache directory cannot be used. A folder that can only be read is the last choice.
    """
    readable, reasons = [], []
    for base in _bases():
        path = base / "kernels" / version
        try:
            for folder in (*reversed(path.parents), path):
                folder.mkdir(mode=0o700, exist_ok=True)  # one by one: makedirs would leave the parents to the umask
            for folder in (base, path.parent, path):
                _check_private(folder, folder.stat())
        except OSError as error:
            reasons.append(describe(error, path))
            continue
        if os.access(path, os.W_OK):
            return Folder(path)
        readable.append(path)
        reasons.append(f"{path}: cannot be written")
    return Folder(readable[0] if readable else None, "; ".join([*reasons, REMEDY]))


def _bases() -> list[Path]:
    named = os.environ.get("SEQRNN_CACHE_DIR")
    if named:
        return [Path(named).absolute()]
    bases = [user_cache_path("seqrnn")]
    with suppress(OSError):  # there may be no folder for temporary files
        bases.append(Path(tempfile.gettempdir()) / f"seqrnn-{_user()}")
    return [base for base in bases if base.is_absolute()]  # that of a user without a home begins with "~"


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return str(_user_number() or 0)


def _user_number() -> int | None:
    """Returns the number of this process's user; None where users have none (Windows)."""
    find = getattr(os, "getuid", None)
    return None if find is None else int(find())


def _check_private(path: Path, status: os.stat_result) -> None:
    """Checks that only this user can write to a file or folder.

    Raises:
        PermissionError: others can.
    """
    user = _user_number()
    if user is None:  # neither does a mode say there who may write
        return
    if status.st_uid != user:
        raise PermissionError(0, f"belongs to user {status.st_uid}, who could put code there", str(path))
    mode = stat.S_IMODE(status.st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        what = f"others could put code there, as its mode is {mode:04o} (chmod go-w {path})"
        raise PermissionError(0, what, str(path))


def describe(error: OSError, path: Path) -> str:
    """Says what went wrong, and where: at ``path`` if the error does not know."""
    return f"{error.filename or path}: {error.strerror or error}"


def fetch(
    folder: Folder, name: str, key: bytes, compile_: Callable[[], bytes], announce: Announce | None
) -> bytes | None:
    """Reads a piece of compiled code; where there is none, compiles and keeps it.

    Args:
        name: of the function.
        key: what the code depends on, apart from the version that ``folder`` belongs to.
        compile_: compiles the function, and returns the code to keep.
        announce: called with a line for the user about whatever takes time or goes wrong.

    Returns:
        The code that was read; None if ``compile_`` was called.
    """
    file = CodeFile(folder.path, name, key) if folder.path else None
    if file is not None:
        with suppress(OSError):  # announced below, if it is still wrong when no other process can be writing
            code = file.read()
            if code is not None:
                return code
    with compiling, file.locked(announce) if file is not None and not folder.reason else nullcontext():
        code = file.read_or_discard(announce) if file is not None else None
        if code is None:
            _compile_and_keep(folder, file, name, compile_, announce)
        return code


def _compile_and_keep(
    folder: Folder, file: CodeFile | None, name: str, compile_: Callable[[], bytes], announce: Announce | None
) -> None:
    before = _seconds_before(folder, name)
    took = f", which took {before:.1f} s the last time" if before is not None else ""
    if folder.reason:
        _tell(announce, f"compiling {name} for this process only{took}", f": {folder.reason}")
    else:
        _tell(announce, f"compiling {name} for this processor{took}", f" (once; will be kept in {folder.path})")
    began = time.perf_counter()
    code = compile_()
    duration = time.perf_counter() - began
    seconds = f"compiled {name} in {duration:.1f} s"
    if folder.path is not None:
        with suppress(OSError), replacing(_record(folder.path, name)) as temporary:
            temporary.write_text(f"{duration:.3f}", encoding="utf-8")
    if file is not None and not folder.reason:
        try:
            file.write(code)
        except OSError as error:
            problem = f"{file.path.parent}: {error.strerror or error}"
            _tell(announce, f"{seconds}, for this process only", f": it cannot be kept, {problem}; {REMEDY}")
            return
    _tell(announce, seconds)


def _record(folder: Path, name: str) -> Path:
    """Returns the file that remembers how long a function took to compile; it lies beside the folders of versions."""
    return folder.parent / f"{name}.seconds"


def _seconds_before(folder: Folder, name: str) -> float | None:
    """Returns how long the function took the last time on this machine; None if nobody knows."""
    record = _record(folder.path, name) if folder.path else None
    if record is None or not record.is_file():
        return None
    try:
        found = float(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _tell(announce: Announce | None, text: str, detail: str = "") -> None:
    """Announces a line. The detail at its end is announced only once in a process."""
    if announce is not None:
        announce(f"  {text}" if detail in _details_shown else f"  {text}{detail}")
        _details_shown.add(detail)


class CodeFile:
    """A file with a piece of compiled code: first a checksum, then the code.

    The file is only ever replaced as a whole, so reading it needs no lock.
    """

    def __init__(self, folder: Path, name: str, key: bytes) -> None:
        self.name, self.key = name, key
        self.path = folder / f"{name}-{hashlib.sha256(key).hexdigest()[:16]}.code"
        self.owner = self.path.with_suffix(".owner")

    def read(self) -> bytes | None:
        """Reads the code, if there is any.

        Raises:
            OSError: the file cannot be read, or what it holds must not be run.
        """
        try:
            found = self.path.stat()  # before it is opened: a pipe would wait for whoever writes to it
            if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
                raise OSError(0, "is no file of compiled code", str(self.path))
            with self.path.open("rb") as file:
                _check_private(self.path, os.fstat(file.fileno()))
                content = file.read()
        except FileNotFoundError:
            return None
        checksum, code = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
        if checksum != self._checksum(code):
            raise OSError(0, "damaged (its checksum does not match)", str(self.path))
        return code

    def read_or_discard(self, announce: Announce | None) -> bytes | None:
        """Reads the code, if there is any; removes and announces a file that cannot be used."""
        try:
            return self.read()
        except OSError as error:
            _tell(announce, f"{describe(error, self.path)}; discarded, to be compiled again")
        with suppress(OSError):
            self.path.unlink()
        return None

    def write(self, code: bytes) -> None:
        """Replaces the file; removes what processes that were killed have left of it.

        Raises:
            OSError: it is as it was.
        """
        with replacing(self.path) as temporary:
            temporary.touch(mode=0o600)  # whatever the umask is: a file that others can write is not read
            temporary.write_bytes(self._checksum(code) + code)

    @contextmanager
    def locked(self, announce: Announce | None) -> Iterator[None]:
        """Keeps other processes from compiling the same code meanwhile; first waits for one that does.

        The lock only saves work: without it, two processes would write the same. So where the disk knows no locks,
        or the owner of the lock does not release it, the block runs without the lock.
        """
        lock = FileLock(self.path.with_suffix(".lock"))
        if not self._acquire(lock, announce):
            yield
            return
        try:
            with suppress(OSError), replacing(self.owner) as temporary:
                temporary.write_text(f"{os.getpid()} {socket.gethostname()}", encoding="utf-8")
            yield
        finally:
            with suppress(OSError):
                self.owner.unlink()
            with suppress(OSError):
                lock.release()

    def _acquire(self, lock: FileLock, announce: Announce | None) -> bool:
        began, is_announced, ended_before = time.monotonic(), False, ""
        while True:
            try:
                lock.acquire(timeout=SILENT_SECONDS)
                return True
            except Timeout:  # which is an OSError too
                pass
            except (OSError, NotImplementedError):
                return False
            owner, has_ended = self._find_owner()
            if has_ended and owner == ended_before:  # found twice: a new owner has had the time to say so
                _tell(
                    announce, f"{owner} has ended, but {lock.lock_file} is still locked: continuing without the lock"
                )
                return False
            ended_before = owner if has_ended else ""
            waited = time.monotonic() - began
            if waited >= LONGEST_WAIT:
                minutes = f"{waited / 60:.0f} minutes"
                _tell(announce, f"{owner} has been compiling {self.name} for {minutes}: continuing without waiting")
                return False
            if not is_announced:
                _tell(announce, f"waiting for {owner}, which compiles the same code ({self.name})")
                is_announced = True

    def _find_owner(self) -> tuple[str, bool]:
        """Finds which process holds the lock, and whether it is known to have ended."""
        try:
            number, host = self.owner.read_text(encoding="utf-8").split()
            pid = int(number)
        except (OSError, ValueError):
            return "another process", False
        if host != socket.gethostname():
            return f"process {pid} on {host}", False
        return f"process {pid}", has_ended(pid)

    def _checksum(self, code: bytes) -> bytes:
        return hashlib.sha256(hashlib.sha256(self.key).digest() + code).digest()
