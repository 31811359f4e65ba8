"""Shared by the tests of the diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from runs import make_run


@pytest.fixture(scope="session")
def diagnosed_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The directory of a run with these overrides, made once; nobody writes to it."""
    made: dict[Sequence[str], Path] = {}

    def run(*overrides: str) -> Path:
        if overrides not in made:
            made[overrides] = make_run(tmp_path_factory.mktemp("run") / "run", *overrides)
        return made[overrides]

    return run
