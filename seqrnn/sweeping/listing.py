"""Lists the jobs of a dry run, and estimates their time."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from seqrnn.recording.terminal import Screen
from seqrnn.sweeping import estimate
from seqrnn.sweeping.directory import Job, SweepDirectory
from seqrnn.sweeping.screen import count_of, print_line, print_text
from seqrnn.sweeping.watching import duration

MOST_LISTED = 200  # jobs


def list_jobs(sweep: SweepDirectory, jobs: Sequence[Job], screen: Screen) -> None:
    """Prints the jobs of a dry run, and an estimate of the time."""
    waiting = [job for job in jobs if sweep.outcome(job.name).status != "finished"]
    updates = estimate.planned_updates(waiting)
    measured = estimate.measured_runs([sweep.path, Path("outputs")])
    for number, job in enumerate(jobs[:MOST_LISTED], 1):
        count = updates.get(job.name)
        what = "finished" if job not in waiting else "updates unknown" if count is None else f"{count:,} updates"
        print_line(screen, f"[{number}/{len(jobs)}] {shlex.join(job.overrides) or 'the defaults'}  {what}")
    if len(jobs) > MOST_LISTED:
        print_text(screen, f"and {len(jobs) - MOST_LISTED} more")
    seconds = {job.name: estimate.seconds_of(job, updates[job.name], measured) for job in waiting}
    known = [value for value in seconds.values() if value is not None]
    print_line(screen, f"{count_of(len(waiting))} to run, in {sweep.path}")
    if known:
        unknown = len(waiting) - len(known)
        print_text(
            screen,
            f"estimate: {duration(sum(known))} for {count_of(len(known))}, one after the other: planned updates "
            "times the seconds for an update of finished runs like them, here and in outputs/",
        )
        if unknown:
            print_text(screen, f"  without {count_of(unknown)}, of which no run like them has finished")
    elif waiting:
        print_text(screen, "no estimate of the time: no run like these has finished, here or in outputs/")
