"""Names of the columns of predictions."""

from __future__ import annotations

from seqrnn.tables.output_names import OutputNames


def test_a_name_that_is_taken_gets_an_underscore() -> None:
    names = OutputNames(["step"])
    assert [names.add(name) for name in ("y", "step", "y", "step_", "y")] == ["y", "step_", "y_", "step__", "y__"]
