"""Trained runs to predict with, and the command, in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from predicting import MakeRun, Result

import seqrnn
from seqrnn import predict
from seqrnn.results import Run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """Trains a small run, once for each list of overrides. The runs are shared: they must not be written to."""
    runs: dict[tuple[str, ...], Run] = {}

    def make(*overrides: str) -> Run:
        if overrides not in runs:
            directory = tmp_path_factory.mktemp("runs") / "run"
            common = ["smoke=true", "plots.draw=false", "device=cpu", "threads=1", f"hydra.run.dir={directory}"]
            runs[overrides] = seqrnn.run([*common, *overrides], quiet=True)
        return runs[overrides]

    return make


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Runs ``python -m seqrnn.predict`` in an empty directory, with ``stdin`` as its standard input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object, stdin: str | bytes = b"") -> Result:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        capfd.readouterr()
        try:
            predict.main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capfd.readouterr())

    return run
