"""A large file trains an epoch in memory that is a small multiple of its numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


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
