"""The lock of a run directory, or of a file. The operating system releases it when its process ends in any way."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import filelock

from seqrnn.errors import ConfigError


def refuse_links(paths: Iterable[Path]) -> None:
    """Refuses to write through links.

    Raises:
        ConfigError: one of the paths is a link: what is written would be written where it leads.
    """
    for path in paths:
        if path.is_symlink():
            raise ConfigError(f"{path}: is a link, and nothing is written through links; copy the file there")


class Lock:
    """The lock of a run directory, or of a file that one process at a time may continue and replace.

    Args:
        path: the file that is locked. It is left behind, unlocked.
        owner: a file that names the process that holds the lock. It is removed when the lock is released, and left
            behind when the process is killed.
        what: what is written, as an error names it; by default the directory that holds the folder of ``owner``.
        saves: what its process writes before it ends, as an error names it.
    """

    def __init__(self, path: Path, owner: Path, what: str = "", saves: str = "a checkpoint") -> None:
        self._lock, self._path, self._owner = filelock.FileLock(path), path, owner
        self._what, self._saves = what or str(owner.parent.parent), saves
        self._holder = ""  # what the file of the owner says while this process holds the lock

    def acquire(self, timeout: float = 0.0) -> None:
        """Acquires the lock; waits for it for ``timeout`` seconds at most.

        Raises:
            ConfigError: another process holds it, or one of its files is a link.
            OSError: the directory cannot be written.
        """
        refuse_links([self._path, self._owner])
        self._take(timeout)
        self._holder = f"process {os.getpid()} on {socket.gethostname()}\n"
        self._owner.write_text(self._holder, encoding="utf-8")

    def check(self) -> None:
        """Checks that no other process holds the lock. Writes nothing.

        Raises:
            ConfigError: another process holds it.
        """
        with suppress(OSError):  # whoever may not write here can do no harm
            if self._path.is_file() and not self._path.is_symlink():
                self._take(0.0)
                self._lock.release()

    def _take(self, timeout: float) -> None:
        try:
            self._lock.acquire(timeout=timeout)
        except filelock.Timeout:
            owner = "another process"
            with suppress(OSError, UnicodeDecodeError):
                owner = self._owner.read_text(encoding="utf-8")[:200].strip() or owner
            raise ConfigError(
                f"{self._what}: is being written by {owner}; wait until it has ended, or stop it (kill -TERM: it "
                f"writes {self._saves} first)"
            ) from None

    def release(self) -> None:
        """Releases the lock, if it is held."""
        if not self._lock.is_locked:
            return
        with suppress(OSError, UnicodeDecodeError):  # the directory has been removed, or its disk has failed
            # Another run may have taken its place; on a full disk, less than everything was written.
            if self._holder.startswith(self._owner.read_text(encoding="utf-8")):
                self._owner.unlink()
        with suppress(OSError):
            self._lock.release()
