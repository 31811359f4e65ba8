"""What the tests of predictions share: types of fixtures, and what the command did."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from seqrnn.results import Run


@dataclass
class Result:
    """What the command did."""

    code: int
    out: str
    err: str

    @property
    def answers(self) -> list[Any]:
        """The lines of the output, each as JSON."""
        return [json.loads(line, parse_constant=pytest.fail) for line in self.out.splitlines()]

    def refused(self, *words: str) -> None:
        assert self.code == 2, self.out + self.err
        assert "Traceback" not in self.out + self.err
        for word in words:
            assert word in self.err


MakeRun = Callable[..., Run]
Command = Callable[..., Result]
