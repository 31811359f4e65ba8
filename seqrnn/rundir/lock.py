"""One process at a time writes a run directory. A lock is the kernel's: with its owner it is gone."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import filelock

from seqrnn.errors import ConfigError


class Lock:
    """The lock of a run directory.

    Args:
        path: the file that is locked. It stays behind; nobody owns it then.
        owner: a file that says who holds the lock. It goes with an owner who leaves in order.
    """

    def __init__(self, path: Path, owner: Path) -> None:
        self._lock, self._owner = filelock.FileLock(path), owner

    def take(self, patience: float = 0.0) -> None:
        """Takes the lock, and waits for it for so many seconds at most.

        Raises:
            ConfigError: another process holds it.
            OSError: the directory cannot be written.
        """
        try:
            self._lock.acquire(timeout=patience)
        except filelock.Timeout:
            owner = "another process"
            with suppress(OSError, UnicodeDecodeError):
                owner = self._owner.read_text(encoding="utf-8")[:200].strip() or owner
            directory = self._owner.parent.parent
            raise ConfigError(
                f"{directory}: is being written by {owner}; wait until it has ended, or stop it (kill -TERM: it "
                "writes a checkpoint first)"
            ) from None
        self._owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")

    def release(self) -> None:
        """Leaves in order, if it is held."""
        if not self._lock.is_locked:
            return
        with suppress(OSError):  # the directory is gone, or on a disk that is
            self._owner.unlink(missing_ok=True)
        with suppress(OSError):
            self._lock.release()
