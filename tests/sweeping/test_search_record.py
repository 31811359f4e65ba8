"""The record of a search, which the report reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqrnn.errors import DataError
from seqrnn.sweeping.search_record import SEARCH, SearchRecord, SearchTrial, read_search, write_search


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_search(tmp_path) is None
    trials = [
        SearchTrial(number=0, job="a", state="complete", value=0.5, parameters={"model": "gru", "optimizer.lr": 0.1}),
        SearchTrial(number=1, job="b", state="failed", value=None, parameters={"optimizer.lr": 1, "carry": True}),
    ]
    record = SearchRecord(metric="mse", direction="minimize", trials=trials, importance={"optimizer.lr": 0.9})
    write_search(tmp_path, record)
    assert read_search(tmp_path) == record


def test_a_record_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / SEARCH).write_text('{"metric": "mse", "direction": "sideways", "trials": [], "importance": {}}')
    with pytest.raises(DataError, match="direction should be 'minimize' or 'maximize'"):
        read_search(tmp_path)
