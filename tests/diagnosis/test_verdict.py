"""The verdict's first sentence: no more than what its interval says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from seqrnn.diagnosis.instrument import Examination
from seqrnn.diagnosis.instruments.baselines import Baselines
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.verdict import _headline


@pytest.mark.parametrize(
    ("ratio", "causes", "says"),
    [
        (Interval(1.32, 0.893, 1.81), [], "It is not certain that it has learned anything: its loss is 1.32 [0.893"),
        (Interval(0.5, 0.4, 0.6), [], "It has learned a part: its loss is 0.500"),
        (Interval(1.01, 1.0, 1.02), ["nothing_learned"], "It has learned nothing: its loss is 1.01"),
        (Interval(0.937, 0.929, 0.945), ["nothing_learned"], "It has learned next to nothing: its loss is 0.937"),
    ],
)
def test_a_headline_is_as_sure_as_its_interval(ratio: Interval, causes: list[str], says: str) -> None:
    baselines = Baselines(
        sequences=9, all_sequences=9, independent="9 sequences", loss=ratio, metric=1.0, metric_name="mae",
        baselines=[], best="persistence", ratio=ratio,
    )  # fmt: skip
    found = Examination({"baselines": baselines}, {})
    named: Any = [SimpleNamespace(finding=SimpleNamespace(name=name)) for name in causes]
    assert _headline(found, False, named).startswith(says)
