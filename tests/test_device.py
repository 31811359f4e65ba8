"""How much memory there is, and a network that does not fit into it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from helpers import model_settings
from test_resume import values_of

from seqrnn import components, device

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@linux
def test_available_memory_is_no_more_than_there_is() -> None:
    found = device.available_memory()
    assert found is not None
    devices = Path("/proc/swaps").read_text(encoding="ascii").splitlines()[1:]
    swap = sum(1024 * int(line.split()[2]) for line in devices)
    assert 0 < found <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + swap


@linux
def test_a_limit_of_the_address_space_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()

    def limit(which: int) -> tuple[int, int]:
        return taken + 10**6, resource.RLIM_INFINITY

    monkeypatch.setattr(resource, "getrlimit", limit)
    found = device.available_memory()
    assert found is not None
    assert found <= 10**6


@pytest.mark.parametrize(
    ("optimizer", "precision", "copies"),
    [("sgd", "float32", 2), ("adam", "float32", 4), ("adam", "float64", 8)],
)
def test_parameters_gradients_and_what_the_optimizer_remembers_must_fit(
    optimizer: str, precision: str, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = values_of(f"optimizer={optimizer}", precision=precision, device="cpu")
    values["model"] = model_settings("gru", hidden_size=30)
    numbers = 3 * 30 * (1 + 30 + 2) + 31  # of the cell and the head, with one input and one output
    monkeypatch.setattr(device, "available_memory", lambda: 4 * copies * numbers)
    assert components.problems_of(values) == []
    monkeypatch.setattr(device, "available_memory", lambda: 4 * copies * numbers - 1)
    (problem,) = components.problems_of(values)
    assert problem.startswith(
        "model.hidden_size=30 model.num_layers=1: 3,001 parameters with their gradients and what"
    )
    monkeypatch.setattr(device, "available_memory", lambda: None)
    assert components.problems_of(values) == []
