"""python -m benchmarks.large_table: memory that one epoch on a large CSV file takes, beyond that of a small one.

It writes a file of random walks, trains on a small one of the same form, so that everything is imported and compiled,
and then trains an epoch on the large one with the default settings of task=csv. What is counted is the growth of the
resident memory from before that run to its peak.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

BLOCK = 500_000  # rows that are written at a time


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_table", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--columns", type=int, default=4, help="of numbers")
    parser.add_argument("--folder", type=Path, help="where the files are written (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps(measure(Path(folder), options.rows, options.columns), indent=1))


def measure(folder: Path, rows: int, columns: int) -> dict[str, float]:
    """Returns rows, columns, seconds, and bytes: of the file, of the numbers in it, and by which memory has grown."""
    write_walks(folder / "small.csv", 5_000, columns)
    write_walks(folder / "large.csv", rows, columns)
    train(folder, "small")
    before = resident("VmRSS")
    reset_peak()
    began = time.perf_counter()
    train(folder, "large")
    growth = resident("VmHWM") - before
    numbers = 8 * rows * columns
    return {
        "rows": rows,
        "columns": columns,
        "file_bytes": (folder / "large.csv").stat().st_size,
        "number_bytes": numbers,
        "growth_bytes": growth,
        "growth_per_number_byte": growth / numbers,
        "seconds": time.perf_counter() - began,
    }


def write_walks(path: Path, rows: int, columns: int) -> None:
    """Writes a header and ``rows`` rows of random walks."""
    import pyarrow as pa
    import pyarrow.csv

    rng = np.random.default_rng(0)
    names = [f"x{number}" for number in range(columns)]
    with pyarrow.csv.CSVWriter(str(path), pa.schema([(name, pa.float64()) for name in names])) as writer:
        for first in range(0, rows, BLOCK):
            walks = 0.01 * np.cumsum(rng.standard_normal((min(BLOCK, rows - first), columns)), axis=0)
            writer.write_table(pa.table([pa.array(np.round(column, 4)) for column in walks.T], names=names))


def train(folder: Path, name: str) -> None:
    """Trains one epoch on a file."""
    import seqrnn

    seqrnn.run(
        ["task=csv", f"task.path={folder / name}.csv", "schedule.epochs=1", "threads=1", "plots.draw=false",
         "device=cpu", f"hydra.run.dir={folder / name}"],
        quiet=True,
    )  # fmt: skip


def resident(name: str) -> int:
    """Returns VmRSS (the resident memory) or VmHWM (its peak) of this process in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")


def reset_peak() -> None:
    """Lets VmHWM begin anew at the present resident memory."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


if __name__ == "__main__":
    main()
