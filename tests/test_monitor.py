"""The account of a run's time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seqrnn.monitor import Monitor
from seqrnn.strategies.protocol import UpdateStats


def test_seconds_of_training_and_of_evaluation_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update takes 2 seconds and an evaluation 30; a row between evaluations has the time at which it ends."""
    now = 100.0
    rows: list[dict[str, Any]] = []
    monkeypatch.setattr("seqrnn.monitor.time.perf_counter", lambda: now)

    def evaluate() -> dict[str, float]:
        nonlocal now
        now += 30
        return {"loss": 1.0}

    monitor = Monitor(8, evaluate, evaluate_every=4, log_every=2, record=lambda row: rows.append(dict(row)))
    monitor.evaluate()  # before the first update
    for _ in range(2):
        now += 8
        ones = np.ones(4)
        monitor.updated(UpdateStats(np.zeros(4, np.int64), ones.astype(int), ones, ones.astype(int), ones, ones))
        assert monitor.evaluation_is_due
        monitor.evaluate()
    assert [row["seconds"] for row in rows] == [30, 34, 68, 72, 106]
    assert (monitor.progress.train_seconds, monitor.progress.evaluate_seconds) == (16, 90)
