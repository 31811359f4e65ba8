"""Compiles Python functions for this processor, once, and keeps the result on disk.

The kept code is keyed by the source of all kernels and the versions of what compiles them, so an upgrade never meets
code that is older than itself.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from filelock import FileLock
from numba.core import codegen, config, event, types
from platformdirs import user_cache_path

from seqrnn.kernels.specification import compiled_modules

OPTIONS = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}
_announced_before = False  # once in a process is enough
_depth = 0  # how many kernels are being compiled for the sake of another


def kernel(function: Any) -> Any:
    """A function that compiled functions call.

    It is compiled for the types of its arguments, but not once more for each number that it is called with, and
    optimised only as part of what calls it.
    """
    compiled = numba.njit(**OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    resolve = compiled.get_call_template

    def resolve_for_any_number(arguments: Any, keywords: Any) -> Any:
        with _as_a_part():
            return resolve(tuple(types.unliteral(argument) for argument in arguments), keywords)  # type: ignore[attr-defined]

    compiled.get_call_template = resolve_for_any_number
    return compiled


@contextmanager
def _as_a_part() -> Iterator[None]:
    """Within it, numba neither optimises what it compiles nor makes it callable from outside. By itself it does both
    again for every function on the way up, which takes four times as long; it holds a lock meanwhile."""
    global _depth
    library, generator = codegen.JITCodeLibrary, codegen.JITCPUCodegen
    if not _depth:
        saved = library._optimize_final_module, generator._add_module, generator.set_env
        library._optimize_final_module = lambda self: None
        generator._add_module = lambda self, module: None
        generator.set_env = lambda self, name, environment: None
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            library._optimize_final_module, generator._add_module, generator.set_env = saved


class Entry:
    """A compiled function that Python calls. Its arguments are numbers and arrays, always of the same types but for
    the precision."""

    def __init__(self, function: Any) -> None:
        self.function, self.name = function, function.__name__
        self._compiled: Any = None

    def ready(self, *arguments: Any, announce: Callable[[str], None] | None = None) -> Any:
        """The function compiled for arguments like these; from the disk if it has been compiled before.

        Args:
            announce: is told before a compilation that takes a while.
        """
        compiled = self._dispatcher()
        kinds = tuple(numba.typeof(argument) for argument in arguments)
        if kinds in compiled.overloads:
            return compiled
        with _announced(announce):
            compiled.compile(kinds)
        return compiled

    def __call__(self, *arguments: Any) -> Any:
        return self._dispatcher()(*arguments)

    def _dispatcher(self) -> Any:
        if self._compiled is None:
            directory = cache_directory()
            config.CACHE_DIR, before = str(directory or ""), config.CACHE_DIR
            try:
                self._compiled = numba.njit(**OPTIONS, cache=directory is not None)(self.function)
            finally:
                config.CACHE_DIR = before
            self._compiled.compile = _alone(self._compiled.compile)  # whether made ready or called as it is
        return self._compiled


entry = Entry


@cache
def cache_directory() -> Path | None:
    """Where compiled code is kept: SEQRNN_CACHE_DIR, or the user's cache directory, or a private one among the
    temporary files. None: nowhere, so it is compiled in every process."""
    temporary = Path(tempfile.gettempdir()) / f"seqrnn-{_user()}"
    bases = [Path(named)] if (named := os.environ.get("SEQRNN_CACHE_DIR")) else [user_cache_path("seqrnn"), temporary]
    for base in bases:
        directory = base / "kernels" / _digest()
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=directory):
                pass
        except OSError:
            continue
        if _is_private(base):
            return directory
    return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(getattr(os, "getuid", int)())


def _is_private(directory: Path) -> bool:
    """Whether nobody else can put code there: kept code is run as it is found."""
    if sys.platform == "win32":
        return True
    status = directory.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _digest() -> str:
    digest = hashlib.sha256()
    for version in (sys.version, numba.__version__, llvmlite.__version__, np.__version__):
        digest.update(version.encode())
    for path in _sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> list[Path]:
    """The files of all kernels: those of this package, and the compiled twins of cells from outside."""
    outside = (find_spec(name) for name in compiled_modules())
    found = {Path(spec.origin) for spec in outside if spec is not None and spec.origin is not None}
    return sorted(found.union(Path(__file__).parent.rglob("*.py")))


def _alone(compile_: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def compile_alone(signature: Any) -> Any:
        with _only_one_at_a_time():
            return compile_(signature)

    return compile_alone


@contextmanager
def _only_one_at_a_time() -> Iterator[None]:
    """Many processes that start together compile once: one does, the others wait and then read."""
    directory = cache_directory()
    if directory is None:
        yield
        return
    with FileLock(directory / "lock"):
        yield


@contextmanager
def _announced(announce: Callable[[str], None] | None) -> Iterator[None]:
    if announce is None:
        yield
        return
    with event.install_listener("numba:compile", _Listener(announce)):
        yield


class _Listener(event.Listener):  # type: ignore[misc]
    def __init__(self, announce: Callable[[str], None]) -> None:
        self.announce = announce

    def on_start(self, event: Any) -> None:
        global _announced_before
        if not _announced_before:
            _announced_before = True
            place = "once" if cache_directory() else "as there is no writable cache directory (SEQRNN_CACHE_DIR)"
            self.announce(f"  compiling for this processor, {place}: takes some 10 seconds")

    def on_end(self, event: Any) -> None:
        pass
