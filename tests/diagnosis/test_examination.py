"""All instruments: what one cannot do is said, and the others are read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqrnn.diagnosis import examination
from seqrnn.diagnosis.examination import INSTRUMENTS, examine
from seqrnn.errors import DataError


def test_an_instrument_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(subject: Any) -> object:
        raise DataError("there is no target")

    def overflows(subject: Any) -> object:
        return torch.linalg.eigvalsh(torch.full((3, 3), torch.inf))

    failing = {"noise": refuses, "states": overflows}
    instruments = {name: (what, failing.get(name, lambda subject: "seen")) for name, (what, _) in INSTRUMENTS.items()}
    monkeypatch.setattr(examination, "INSTRUMENTS", instruments)
    nobody: Any = None
    found = examine(nobody)
    assert (found.noise, found.states) == (None, None)
    assert found.reach is not None
    assert found.missing.keys() == failing.keys()
    assert "no target" in found.missing["noise"]
    assert "too large" in found.missing["states"]
