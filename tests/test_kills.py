"""Runs in processes of their own that are killed, at any instant and at every step of a write, and are resumed."""

from __future__ import annotations

import random
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import Server, assert_same, contents, wait_for

RUN = (
    "task=integral", "model=gru", "model.hidden_size=8", "task.train_timesteps=4000", "task.test_sequences=2",
    "task.test_timesteps=60", "task.validation_sequences=2", "task.validation_timesteps=60", "schedule=tbptt",
    "schedule.window=10", "schedule.stride=5", "schedule.streams=4", "schedule.epochs=2",
    "schedule.evaluate_every=50", "log_every=10", "checkpoint.every=20", "device=cpu", "threads=1",
)  # fmt: skip
PICTURES = ("plots.animation=true", "plots.frames=3")
KILLS = 20
pytestmark = pytest.mark.long


@pytest.fixture
def folder() -> Iterator[Path]:
    """Returns a directory, in memory where possible: files of a killed process stay there too, and it is fast."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def resume_run(server: Server, name: str, folder: Path, **more: Any) -> str:
    """Resumes a run, if there is one yet; returns its output."""
    if not (folder / name / "config.yaml").exists():
        ended = server.run(*RUN, *PICTURES, f"hydra.run.dir={name}", cwd=folder, **more)
    else:
        ended = server.run(f"resume={name}", cwd=folder, **more)
    assert ended.exit_code == 0, ended.err
    assert "Traceback" not in ended.err
    return " ".join(ended.out.split())


@pytest.mark.timeout(600)
def test_a_run_killed_at_random_instants_ends_like_an_uninterrupted_one(server: Server, folder: Path) -> None:
    began = time.monotonic()
    assert server.run(*RUN, *PICTURES, "hydra.run.dir=whole", cwd=folder).exit_code == 0
    lasts = time.monotonic() - began
    whole, rng, survived = contents(folder / "whole"), random.Random(0), 0
    for number in range(KILLS):
        name = f"run{number}"
        child = server.start(*RUN, *PICTURES, f"hydra.run.dir={name}", cwd=folder)
        if number % 3:  # two of three while it trains, which is when it writes checkpoints and rows
            wait_for(folder / name / "metrics.csv")
            time.sleep(rng.uniform(0, 0.35 * lasts))
        else:
            time.sleep(rng.uniform(0, lasts))
        child.send(signal.SIGKILL)
        survived += child.wait().exit_code == -signal.SIGKILL
        resume_run(server, name, folder)
        assert_same(contents(folder / name), whole)
    assert survived >= KILLS // 2  # the others had ended by then


def test_a_run_that_is_killed_again_and_again_still_finishes(server: Server, folder: Path) -> None:
    assert server.run(*RUN, *PICTURES, "hydra.run.dir=whole", cwd=folder).exit_code == 0
    rng = random.Random(1)
    for number in range(8):
        arguments = ["resume=run"] if (folder / "run" / "config.yaml").exists() else [*RUN, *PICTURES]
        where = [] if arguments[0] == "resume=run" else ["hydra.run.dir=run"]
        child = server.start(*arguments, *where, cwd=folder)
        time.sleep(rng.uniform(0.02, 0.5) * (1 + number / 4))
        child.send(signal.SIGKILL)
        child.wait()
    resume_run(server, "run", folder)
    assert_same(contents(folder / "run"), contents(folder / "whole"))


SHORT = ("schedule.max_updates=60", "plots.draw=false", "task.train_timesteps=2000")


@pytest.fixture(scope="module")
def short(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Returns the files of an uninterrupted short run."""
    folder = tmp_path_factory.mktemp("short")
    assert server.run(*RUN, *SHORT, "hydra.run.dir=run", cwd=folder).exit_code == 0
    return contents(folder / "run")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("call", ["fsync", "replace", "ftruncate", "unlink"])
def test_a_run_killed_before_each_step_of_a_write_can_be_resumed(
    call: str, server: Server, folder: Path, short: dict[str, Any]
) -> None:
    """Kills the run right before its first call of a function that changes the disk, then before its second, …"""
    for number in range(1, 100):
        name = f"run{number}"
        before = f"killed_at({call!r}, {number})"
        ended = server.run(*RUN, *SHORT, f"hydra.run.dir={name}", cwd=folder, before=before)
        if ended.exit_code == 0:
            break
        assert ended.exit_code == -signal.SIGKILL
        if (folder / name / "config.yaml").exists():
            repeated = server.run(f"resume={name}", cwd=folder)
            assert repeated.exit_code == 0, repeated.err
            assert_same(contents(folder / name), short)
    assert number > {"fsync": 10, "replace": 5, "ftruncate": 0, "unlink": 1}[call]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_run_killed_while_it_is_being_resumed_can_be_resumed(
    number: int, server: Server, folder: Path, short: dict[str, Any]
) -> None:
    for call in ("ftruncate", "replace", "fsync"):
        name = f"run{call}"
        killed = server.run(*RUN, *SHORT, f"hydra.run.dir={name}", cwd=folder, before="killed_at('fsync', 9)")
        assert killed.exit_code == -signal.SIGKILL
        server.run(f"resume={name}", cwd=folder, before=f"killed_at({call!r}, {number})")
        repeated = server.run(f"resume={name}", cwd=folder)
        assert repeated.exit_code == 0, repeated.err
        assert_same(contents(folder / name), short)


def test_a_torn_last_line_of_metrics_is_cut_off(server: Server, folder: Path, short: dict[str, Any]) -> None:
    server.run(*RUN, *SHORT, "hydra.run.dir=run", cwd=folder, before="killed_at('fsync', 9)")
    for name in ("metrics.csv", "metrics.jsonl"):
        with (folder / "run" / name).open("a") as file:
            file.write('{"timesteps": 12')
    resume_run(server, "run", folder)
    assert_same(contents(folder / "run"), short)


def test_missing_rows_of_metrics_are_reported(server: Server, folder: Path) -> None:
    server.run(*RUN, *SHORT, "hydra.run.dir=run", cwd=folder, before="killed_at('fsync', 9)")
    path = folder / "run" / "metrics.csv"
    path.write_bytes(path.read_bytes()[:200])
    (folder / "run" / "metrics.jsonl").unlink()
    printed = resume_run(server, "run", folder)
    assert "metrics.csv: rows are missing" in printed
    assert "metrics.jsonl: rows are missing" in printed


def test_a_killed_process_holds_no_lock(server: Server, folder: Path) -> None:
    server.run(*RUN, *SHORT, "hydra.run.dir=run", cwd=folder, before="killed_at('fsync', 9)")
    assert re.match(r"process \d+ on ", (folder / "run" / "checkpoints" / ".owner").read_text())
    resume_run(server, "run", folder)
    assert not (folder / "run" / "checkpoints" / ".owner").exists()
