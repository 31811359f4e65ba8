"""Makes tests/fixtures/run: a small run that was stopped in the middle, in the present format of checkpoints.

Run it from the repository's root when the format changes, after removing the old directory:

    PYTHONPATH=.:tests python tests/make_fixture.py tests/fixtures/run
"""

from __future__ import annotations

import sys
from pathlib import Path

from faults import part
from test_resume import SCHEDULES, values_of

ARGUMENTS = {
    "schedule": SCHEDULES["overlapping windows"],
    "model": {"hidden_size": 3},
    "kernel": "torch",
    "checkpoint": {"every": None, "keep": 1, "best": "loss"},
}


def main() -> None:
    part(values_of("task=integral", "model=lstm", **ARGUMENTS), Path(sys.argv[1]), stop_at=9)


if __name__ == "__main__":
    main()
