"""Runs seqrnn's training command, and prints the most memory that it held, in kB, as the last line."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

from seqrnn.train import main

if __name__ == "__main__":
    with contextlib.suppress(SystemExit):
        main()
    status = Path("/proc/self/status")  # rusage counts what the parent held when it started this process
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    print(peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
