"""Ctrl-C while a command is imported or compiles: exit code 130, and not a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from seqrnn import api
from seqrnn.cli.interrupts import exiting_at_once

# Sends Ctrl-C in the middle of the import of a module, whose loader then swallows every exception.
INTERRUPTED = """
    import builtins, importlib.abc, os, signal, sys
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == {module!r}:
                sys.meta_path.remove(self)
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                    for _ in range(1000): pass
                except BaseException:
                    raise ImportError("something else") from None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.meta_path.insert(0, Finder())
    sys.argv = {arguments!r}
    import runpy
    runpy.run_module({command!r}, run_name="__main__")
"""


@pytest.mark.long
@pytest.mark.parametrize("module", ["hydra", "torch", "numpy"])
@pytest.mark.parametrize("command", ["seqrnn.train", "seqrnn.diagnose", "seqrnn.plots"])
def test_an_interruption_of_an_import_ends_the_command_in_silence(command: str, module: str, tmp_path: Path) -> None:
    if (command, module) in (("seqrnn.plots", "torch"), ("seqrnn.diagnose", "numpy")):
        pytest.skip("the command does not import it, or not by itself")
    arguments = [command, *(["task=sine"] if command == "seqrnn.train" else ["run"])]
    script = textwrap.dedent(INTERRUPTED).format(module=module, arguments=arguments, command=command)
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (130, "")
    assert list(tmp_path.iterdir()) == []


def test_the_handlers_of_others_are_theirs() -> None:
    def theirs(*_: object) -> None: ...

    before = signal.signal(signal.SIGINT, theirs)
    try:
        with exiting_at_once():
            assert signal.getsignal(signal.SIGINT) is theirs
    finally:
        signal.signal(signal.SIGINT, before)
    failures: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with exiting_at_once():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert failures == []
    assert signal.getsignal(signal.SIGINT) is before


def failing_destructor(filename: str) -> object:
    """Returns an object whose destructor fails in a file of that name."""
    source = "class Unfinished:\n    def __del__(self): raise AttributeError('half made')\n"
    names: dict[str, type] = {}
    exec(compile(source, filename, "exec"), names)
    return names["Unfinished"]()


@pytest.mark.parametrize(
    ("filename", "dropped"), [("/site/llvmlite/binding/ffi.py", True), ("/home/llvmlite.py", False)]
)
def test_an_interrupted_compiler_prints_no_errors_of_its_destructors(
    filename: str, dropped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    hook = sys.unraisablehook
    with api._compiler_errors_dropped():
        pass
    assert sys.unraisablehook == hook

    def interrupted() -> None:
        with api._compiler_errors_dropped():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    failing_destructor(filename)  # dropped at once
    assert bool(printed) != dropped
