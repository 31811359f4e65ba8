"""Writes files whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".tmp-"  # of the names of temporary files


@contextmanager
def replacing(
    path: Path, *, durable: bool = False, check: Callable[[Path], object] = lambda temporary: None
) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, which replaces ``path`` when the block ends without an error.

    The temporary file has the suffix of ``path``, because some libraries choose the format by it. If ``path`` is a
    link, the link is replaced, and the file that it leads to stays as it is.

    Args:
        durable: whether the file, under its name, must survive a power failure.
        check: called with the temporary path before it replaces ``path``; what it raises leaves ``path`` as it was.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f"{PREFIX}{secrets.token_hex(8)}-{path.name}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        check(temporary)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    if durable:
        sync_directory(path.parent)


def remove_unfinished(directory: Path) -> None:
    """Removes the temporary files that a killed process has left in ``directory``."""
    for path in directory.glob(f"{PREFIX}*"):
        path.unlink()


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
