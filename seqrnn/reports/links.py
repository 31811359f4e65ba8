"""Addresses of files, relative to the report."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def link_to(path: Path, folder: Path) -> str:
    """Returns the address of a path relative to a folder, for an attribute ``href``. It begins with a dot, so that no
    name is taken for a scheme such as ``javascript:``."""
    try:
        relative = os.path.relpath(path.absolute(), folder.absolute())
    except ValueError:  # another drive of Windows
        return path.absolute().as_uri()
    return "./" + quote(Path(relative).as_posix(), errors="surrogateescape")
