"""Compiles Python functions for this processor, once, and keeps the result on disk.

The kept code is keyed by the source of all kernels and the versions of what compiles them, so an upgrade never meets
code that is older than itself.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite.binding import address_of_symbol
from numba.core import codegen, config, types
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from seqrnn.errors import ConfigError
from seqrnn.kernels.cache import Announce, Folder, describe, fetch, find_folder
from seqrnn.kernels.specification import compiled_modules, is_from_outside

OPTIONS = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}
# Settings of numba's that change what it makes of a function.
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")
AROUND = ("During:", "File ", "There are ", "Enable logging")  # lines of numba's messages that follow the reason
_depth = 0  # how many kernels are being compiled for the sake of another


def kernel(function: Any) -> Any:
    """A function that compiled functions call.

    It is compiled for the types of its arguments, but not once more for each number that it is called with, and
    optimised only as part of what calls it.

    Raises, when what calls it is compiled:
        ConfigError: it is part of the compiled twin of a cell from outside this package, and cannot be compiled.
    """
    compiled = numba.njit(**OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    resolve = compiled.get_call_template

    def resolve_for_any_number(arguments: Any, keywords: Any) -> Any:
        kinds = tuple(types.unliteral(argument) for argument in arguments)  # type: ignore[attr-defined]
        try:
            with _as_a_part():
                return resolve(kinds, keywords)
        except ConfigError:  # of a kernel that this one calls
            raise
        except Exception as error:  # numba's own errors, and TypeErrors of the functions that it calls
            module = function.__module__
            if module not in compiled_modules() or not is_from_outside(module):
                raise
            raise ConfigError(_not_compiled(function, kinds, error)) from error

    compiled.get_call_template = resolve_for_any_number
    return compiled


def _not_compiled(function: Any, kinds: Sequence[Any], error: Exception) -> str:
    """Returns which kernel of a twin cannot be compiled, for arguments of which types, where, and what numba says,
    whose own messages have a page and describe the calls that led to it."""
    code = function.__code__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    reason: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith(AROUND) and reason:
            break
        if not line.startswith((*AROUND, "Failed in nopython mode")):
            reason.append(line.removeprefix(">>> "))
    file = re.escape(Path(code.co_filename).name)
    place = re.search(rf'File "(?:[^"\n]*/)?{file}", line (\d+)', text)
    names = inspect.signature(function).parameters
    arguments = ", ".join(f"{name}: {kind}" for name, kind in zip(names, kinds, strict=False))
    return (
        f"{function.__module__}.{function.__name__}({arguments}): this kernel of a compiled twin cannot be compiled: "
        f"{' '.join(reason) or type(error).__name__} "
        f"({code.co_filename}, line {place[1] if place else code.co_firstlineno}); mend it, or set kernel=torch"
    )


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
        self._compile_by_numba: Any = None

    def ready(self, *arguments: Any, announce: Announce | None = None) -> Any:
        """The function compiled for arguments like these; from the disk if it has been compiled before.

        Args:
            announce: called with a line for the user before and after whatever takes a while.
        """
        compiled = self._dispatcher()
        self._compile(tuple(numba.typeof(argument) for argument in arguments), announce)
        return compiled

    def __call__(self, *arguments: Any) -> Any:
        return self._dispatcher()(*arguments)

    def _dispatcher(self) -> Any:
        if self._compiled is None:
            self._compiled = numba.njit(**OPTIONS)(self.function)
            self._compile_by_numba = self._compiled.compile
            self._compiled.compile = self._compile  # numba calls it for arguments that nothing was made ready for
        return self._compiled

    def _compile(self, kinds: tuple[Any, ...], announce: Announce | None = None) -> Any:
        """Loads the code for these types of arguments, or compiles and keeps it; returns what numba's own does."""
        compiled = self._compiled
        with global_compiler_lock:
            if kinds not in compiled.overloads:
                folder, key = self._folder_and_key(kinds)
                code = fetch(folder, self.name, key, lambda: self._code_for(kinds), announce)
                if code is not None:
                    self._load(code)
            return self._compile_by_numba(kinds)

    def _code_for(self, kinds: tuple[Any, ...]) -> bytes:
        self._compile_by_numba(kinds)
        result = self._compiled.overloads[kinds]
        if result.library.has_dynamic_globals:
            raise ValueError(f"{self.name} contains addresses of this process: hand over large arrays as arguments")
        code: bytes = dumps((_called_names(result.library), result._reduce()))
        return code

    def _load(self, code: bytes) -> None:
        """Does what numba does with code from its own cache. numba first imports everything that it could compile,
        and scipy.linalg with it, which takes as long as all else here; code that calls none of that does not need it.
        """
        context = self._compiled.targetctx
        called, parts = pickle.loads(code)
        rtsys.initialize(context)
        if any(address_of_symbol(name) is None for name in called):
            context.refresh()
        result = CompileResult._rebuild(context, *parts)
        context.insert_user_function(result.entry_point, result.fndesc, [result.library])
        self._compiled.add_overload(result)

    def _folder_and_key(self, kinds: tuple[Any, ...]) -> tuple[Folder, bytes]:
        """Where the code is kept, and all that it depends on apart from the kernels and their compiler."""
        function = self.function
        path = Path(function.__code__.co_filename)
        try:
            source = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            return Folder(None, f"{describe(error, path)}, so a change of it would not be noticed"), b""
        place = function.__module__, function.__qualname__, function.__code__.co_firstlineno, source
        captured = dumps([cell.cell_contents for cell in function.__closure__ or ()])
        processor = self._compiled.targetctx.codegen().magic_tuple()
        settings = [getattr(config, name) for name in SETTINGS]
        return code_folder(), repr((place, captured, kinds, processor, sorted(OPTIONS.items()), settings)).encode()


entry = Entry


def _called_names(library: Any) -> list[str]:
    """Returns the names of the functions and variables that compiled code takes from elsewhere."""
    module = library._final_module
    parts = [*module.functions, *module.global_variables]
    return sorted(part.name for part in parts if part.is_declaration and not part.name.startswith("llvm."))


@cache
def code_folder() -> Folder:
    """Where the code of these kernels is kept, by this version of what compiles them."""
    sources = [path for path in _sources() if path.exists()]
    if not sources:
        return Folder(None, f"{Path(__file__).parent}: no source files, so a change of them would not be noticed")
    digest = hashlib.sha256()
    for version in (sys.version, numba.__version__, llvmlite.__version__, np.__version__):
        digest.update(version.encode())
    for path in sources:
        digest.update(path.read_bytes())
    return find_folder(digest.hexdigest()[:16])


def _sources() -> list[Path]:
    """Returns the files of all kernels: those of this package, and the compiled twins of cells from outside."""
    outside = (find_spec(name) for name in compiled_modules())
    found = {Path(spec.origin) for spec in outside if spec is not None and spec.origin is not None}
    return sorted(found.union(Path(__file__).parent.rglob("*.py")))
