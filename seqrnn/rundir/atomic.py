"""Writes files whole or not at all."""

from __future__ import annotations

import functools
import os
import re
import secrets
import socket
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".tmp-"  # of the names of temporary files
NAME = re.compile(rf"{re.escape(PREFIX)}(?P<machine>\w+)-(?P<process>\d+)-\w+-(?P<of>.+)", re.DOTALL)


@contextmanager
def replacing(
    path: Path, *, durable: bool = False, check: Callable[[Path], object] = lambda temporary: None
) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, which replaces ``path`` when the block ends without an error.

    The temporary file has the suffix of ``path``, because some libraries choose the format by it. If ``path`` is a
    link, the link is replaced, and the file that it leads to stays as it is. What a process that was killed has
    left of the same file is removed.

    Args:
        durable: whether the file, under its name, must survive a power failure.
        check: called with the temporary path before it replaces ``path``; what it raises leaves ``path`` as it was.

    Raises:
        OSError: the file cannot be written; it names ``path``.
    """
    _remove_left_behind(path)
    temporary = path.with_name(f"{PREFIX}{_machine()}-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        check(temporary)
        temporary.replace(path)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):
            error.filename = str(path)  # which the user knows
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    if durable:
        sync_directory(path.parent)


def _remove_left_behind(path: Path) -> None:
    """Removes the temporary files of ``path`` whose processes were killed; those of other machines stay."""
    with suppress(OSError):
        for left in path.parent.glob(f"{PREFIX}*"):
            name = NAME.fullmatch(left.name)
            if name and name["of"] == path.name and _is_of_ended_process(name):
                left.unlink()


def _is_of_ended_process(name: re.Match[str]) -> bool:
    return name["machine"] == _machine() and has_ended(int(name["process"]))


@functools.cache
def _machine() -> str:
    """Returns a name of all processes whose numbers can be compared: of a machine, or of a container."""
    numbers = ""
    with suppress(OSError):
        numbers = str(Path("/proc/self/ns/pid").readlink())
    return f"{zlib.crc32(f'{socket.gethostname()} {numbers}'.encode()):08x}"


def has_ended(process: int) -> bool:
    """Returns whether a process of this machine is known to have ended."""
    if os.name != "posix":  # elsewhere, asking whether a process runs may end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's; no number of a process
        return False
    return False


def remove_unfinished(directory: Path, own: Collection[str] | None = None) -> None:
    """Removes the temporary files that killed processes have left in ``directory``, which is locked.

    Args:
        own: names of files that are written only by the process that holds the lock, so that what is there of them
            has been left behind; None: those of all files in the directory. Of another file, which a running process
            may be writing, only what is left of a process that is known to have ended is removed.
    """
    for path in directory.glob(f"{PREFIX}*"):
        name = NAME.fullmatch(path.name)
        if own is None or (name and (name["of"] in own or _is_of_ended_process(name))):
            path.unlink(missing_ok=True)  # its process may have removed it in the meantime


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory survive a power failure, where the operating system offers a way."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except PermissionError:  # Windows opens no directories
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
