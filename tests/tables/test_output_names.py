"""Names of the columns of predictions."""

from __future__ import annotations

from pathlib import Path

import pytest
from tables import make_csv, write_csv

from seqrnn.streaming.table_stream import TableRows
from seqrnn.tables.output_names import OutputNames


def test_a_name_that_is_taken_gets_an_underscore() -> None:
    names = OutputNames(["step"])
    assert [names.add(name) for name in ("y", "step", "y", "step_", "y")] == ["y", "step_", "y_", "step__", "y__"]


@pytest.mark.parametrize(("group", "key"), [("shop", "shop"), ("skipped", "skipped_")])
def test_the_answer_to_a_row_that_is_left_out_names_its_sequence(group: str, key: str, tmp_path: Path) -> None:
    rows = (f"{shop},{(7 * n) % 5}" for shop in ("north", "south") for n in range(60))
    task = make_csv(
        write_csv(tmp_path / "t.csv", f"{group},sales", rows), target="sales", group=group, missing="drop"
    )
    stream = TableRows(task.preprocessing, None)
    answer = stream.skipped(stream.encode({group: "south", "sales": None}))
    assert set(answer) == {key, "skipped"}
    assert answer[key] == "south"
