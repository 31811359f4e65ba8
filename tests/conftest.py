"""Shared by all tests: the command, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch
from helpers import STRATEGIES, Finished, MakeStrategy

from seqrnn import train

hypothesis.settings.register_profile("seqrnn", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("seqrnn")


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """Runs ``python -m seqrnn.train`` with these overrides in an empty directory; the results go to ``run``."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Finished:
        directory = tmp_path / "run"
        where = (
            []
            if any(
                "dir=" in argument or argument in ("-m", "--version") or "resume=run" in argument
                for argument in arguments
            )
            else [f"hydra.run.dir={directory}"]
        )
        monkeypatch.setattr(sys, "argv", ["seqrnn-train", *arguments, *where])
        capfd.readouterr()
        try:
            train.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return Finished(code, out, err, directory)

    return run


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two test workers share two cores."""
    torch.set_num_threads(1)


@pytest.fixture(params=STRATEGIES, scope="session")
def make_strategy(request: pytest.FixtureRequest) -> MakeStrategy:
    """Makes one after another of the ways to compute updates."""
    return STRATEGIES[request.param]
