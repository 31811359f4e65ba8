"""What sweeps cost: python -m benchmarks.sweeps thousand | speedup | population | killed [--jobs N] [OVERRIDE ...].

thousand  so many short jobs (sine_online): seconds, seconds of CPU time for a job, and memory while they run; with
          sweep.plots=all, each draws its pictures
speedup   jobs that train about ten seconds, in two processes and in one: the share of the time
population  jobs that torch computes, one after another and as a population, with evaluations, files and pictures: the
          time and the CPU time of both
killed    a sweep, of which every 14th job fails, is killed with SIGKILL half-way, repeated, and repeated with two
          more jobs
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHORT = ("experiment=sine_online", "sweep.report=false")
# About ten seconds on one core.
TEN_SECONDS = ("task=integral", "schedule=online", "model=elman", "kernel=torch", "device=cpu", "plots.draw=false",
               "task.train_timesteps=29000", "task.sequence_length=1000", "sweep.report=false")  # fmt: skip

POPULATION = ("experiment=integral_forgetting", "schedule.max_updates=5000", "device=cpu", "threads=1",
              "kernel=torch", "sweep.report=false")  # fmt: skip


class Memory:
    """Within its block, measures the resident memory (MB) and the CPU time (seconds, by process) of a process and of
    all that it has started, twice a second."""

    def __init__(self, process: int) -> None:
        self.process, self.samples, self.used = process, list[float](), dict[int, float]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._measure)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._ended.wait(0.5):
            parents, sizes, used = {}, {}, {}
            for path in Path("/proc").glob("[0-9]*"):
                try:
                    fields = (path / "stat").read_text().rpartition(")")[2].split()
                    parents[int(path.name)], sizes[int(path.name)] = int(fields[1]), int(fields[21])
                    used[int(path.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                except (OSError, IndexError):
                    continue
            family = {self.process}
            while more := {child for child, parent in parents.items() if parent in family} - family:
                family |= more
            self.used |= {member: used[member] for member in family if member in used}
            pages = sum(sizes.get(member, 0) for member in family)
            self.samples.append(pages * resource.getpagesize() / 2**20)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Starts a sweep in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "seqrnn.train", "-m", *words],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def rows(sweep: Path) -> list[dict[str, str]]:
    """Returns the rows of sweep.csv."""
    with (sweep / "sweep.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def thousand(folder: Path, jobs: int, words: Sequence[str]) -> None:
    """Prints what many short jobs cost."""
    began = time.perf_counter()
    process = start(folder, *SHORT, f"seed=range({jobs})", "hydra.sweep.dir=sweep", *words)
    with Memory(process.pid) as memory:
        printed, _ = process.communicate()
    seconds = time.perf_counter() - began
    statuses = Counter(row["status"] for row in rows(folder / "sweep"))
    print(f"{jobs:,} jobs of sine_online {' '.join(words)}: {seconds:.1f} s; {dict(statuses)}")
    used = sum(memory.used.values())
    print(f"CPU time of all its processes: {used:.1f} s, {1000 * used / jobs:.0f} ms for a job")
    running = [megabytes for megabytes in memory.samples if megabytes]
    quarters = ", ".join(f"{running[(len(running) - 1) * share // 4]:.0f}" for share in (1, 2, 3, 4))
    print(f"resident memory of all its processes after each quarter of the time: {quarters} MB")
    if process.returncode:
        sys.exit(printed[-2000:])


def speedup(folder: Path, jobs: int, words: Sequence[str]) -> None:
    """Prints the time in two processes as a share of the time in one."""
    seconds = {}
    for name, how in {"serial": ("sweep.jobs=1",), "parallel": words or ("sweep.jobs=2",)}.items():
        began = time.perf_counter()
        process = start(folder, *TEN_SECONDS, f"seed=range({jobs})", f"hydra.sweep.dir={name}", *how)
        printed, _ = process.communicate()
        seconds[name] = time.perf_counter() - began
        if process.returncode:
            sys.exit(printed[-2000:])
        of_jobs = [json.loads(path.read_text())["seconds"] for path in (folder / name).glob("*/status.json")]
        print(f"{name} {' '.join(how)}: {seconds[name]:.1f} s for {jobs} jobs of {sum(of_jobs) / jobs:.1f} s")
    print(f"{seconds['parallel'] / seconds['serial']:.2f} of the serial time")
    same = all(
        (folder / "parallel" / path.parent.name / path.name).read_bytes() == path.read_bytes()
        for path in (folder / "serial").glob("*/weights.safetensors")
    )
    print(f"the weights are {'the same' if same else 'DIFFERENT'}, bit for bit")


def population(folder: Path, jobs: int, words: Sequence[str]) -> None:
    """Prints what jobs cost one after another and as a population."""
    found = []
    for name, how in {"serial": "sweep.jobs=1", "population": "hydra/launcher=population"}.items():
        before, began = os.times(), time.perf_counter()
        process = start(folder, *(words or POPULATION), f"seed=range({jobs})", f"hydra.sweep.dir={name}", how)
        printed, _ = process.communicate()
        if process.returncode:
            sys.exit(printed[-2000:])
        seconds, after = time.perf_counter() - began, os.times()
        used = sum(after[2:4]) - sum(before[2:4])  # of processes that have ended
        found.append((seconds, used))
        print(f"{how}: {seconds:.1f} s for {jobs} jobs, {used:.1f} s of CPU time")
    (serial, serial_used), (together, together_used) = found
    print(
        f"a population is {serial / together:.2f} times as fast, by CPU time {serial_used / together_used:.2f} times"
    )


def killed(folder: Path, jobs: int, words: Sequence[str]) -> None:
    """Prints how a sweep ends that was killed half-way and repeated, and what a longer one adds."""
    failing = range(7, jobs, 14)

    def sets(count: int) -> list[str]:
        lines = [f"seed={seed}{' init_from=empty' if seed in failing else ''}" for seed in range(count)]
        (folder / "empty").mkdir(exist_ok=True)  # no run: a job that starts from it fails
        (folder / "jobs.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [*SHORT, "plots.draw=false", "sweep.file=jobs.txt", "hydra.sweep.dir=sweep", *words]

    process = start(folder, *sets(jobs))
    while len([*(folder / "sweep").glob("*/summary.json")]) < jobs // 2 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(2.0)  # its workers see that it has gone
    at_kill = finished(folder / "sweep")
    print(f"killed when {len(at_kill)} of {jobs} had finished")
    for count in (jobs, jobs + 2):
        process = start(folder, *sets(count))
        printed, _ = process.communicate()
        if process.returncode != 1:
            sys.exit(printed[-2000:])
        found = rows(folder / "sweep")
        statuses = Counter(row["status"] for row in found)
        attempts = Counter(row["attempts"] for row in found if row["status"] == "finished")
        reasons = Counter(row["reason"][:60] for row in found if row["status"] == "failed")
        print(f"{count} jobs: {dict(statuses)}; finished ones by their attempts: {dict(attempts)}")
        print(f"  reasons: {dict(reasons)}")
        after = finished(folder / "sweep")
        changed = [name for name, when in at_kill.items() if after[name] != when]
        new = len(after) - len(at_kill)
        print(f"  of the {len(at_kill)} that had finished before, {len(changed)} were made again; {new} new")
        at_kill = after


def finished(sweep: Path) -> dict[str, int]:
    """Returns when the summaries of the finished runs of a sweep were written, by the names of their jobs."""
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in sweep.glob("*/summary.json")
        if json.loads(path.read_text())["status"] == "finished"
    }


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweeps", description=__doc__)
    parser.add_argument("what", choices=("thousand", "speedup", "population", "killed"))
    parser.add_argument("--jobs", type=int, help="default: 1000, 8, 32 and 100")
    parser.add_argument("words", nargs="*", help="overrides, such as plots.draw=false or hydra/launcher=joblib")
    options = parser.parse_intermixed_args()
    functions = {
        "thousand": (thousand, 1000),
        "speedup": (speedup, 8),
        "population": (population, 32),
        "killed": (killed, 100),
    }
    function, jobs = functions[options.what]
    with tempfile.TemporaryDirectory() as folder:
        function(Path(folder), options.jobs or jobs, options.words)


if __name__ == "__main__":
    main()
