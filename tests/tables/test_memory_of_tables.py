"""What tables take of memory: as much as their numbers need, and little more."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from tables import days, make_csv, write_csv

ROOT = Path(__file__).parent.parent.parent


def test_many_columns_take_no_room_for_rows_that_are_not_there(tmp_path: Path) -> None:
    names = [f"x{n}" for n in range(400)]
    rows = [f"{day}," + ",".join(str((n + number) % 7) for number in range(400)) for n, day in enumerate(days(40))]
    path = write_csv(tmp_path / "a.csv", "date," + ",".join(names), rows)
    tracemalloc.start()
    try:
        assert make_csv(path).input_size == 400 + 2  # and the phase of the week
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from Linux's /proc"
)
def test_ten_million_rows_take_at_most_three_times_the_memory_of_their_numbers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.large_table", "--folder", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    assert found["rows"] == 10_000_000
    assert found["growth_per_number_byte"] <= 3
