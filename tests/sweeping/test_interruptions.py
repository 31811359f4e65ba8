"""Wherever Ctrl-C comes in a sweep or a search, its tables are written, and the line that resumes it is printed."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Finished

from seqrnn.cli import reporting
from seqrnn.errors import DataError
from seqrnn.sweeping import sweeper, tables, watching
from seqrnn.sweeping.directory import SweepDirectory
from seqrnn.sweeping.job import CarryOut
from seqrnn.sweeping.search.searcher import Searcher
from seqrnn.sweeping.search.study import Study

Command = Callable[..., Finished]
Interrupt = Callable[..., None]
LINE = ("-m", "task=sincos", "model=elman", "device=cpu", "smoke=true", "sweep.jobs=1", "sweep.report=false",
        "plots.draw=false", "hydra.sweep.dir=sweep")  # fmt: skip
SWEEP = (*LINE, "seed=1,2")
SEARCH = (*LINE, "sweep.search=optuna", "sweep.trials=2", "optimizer.lr=interval(0.01,0.1)")


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """Lets Ctrl-C come when a call of a function has done its work, and before it returns; or before it begins."""

    def at_call(owner: Any, name: str, number: int = 1, *, before: int = 0, after: int = 1) -> None:
        real, calls = getattr(owner, name), 0

        def interrupted(*arguments: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            is_chosen = calls == number
            for _ in range(before * is_chosen):
                signal.raise_signal(signal.SIGINT)
            result = real(*arguments, **more)
            for _ in range(after * is_chosen):
                signal.raise_signal(signal.SIGINT)
            return result

        monkeypatch.setattr(owner, name, interrupted)

    return at_call


def check(ended: Finished) -> None:
    assert ended.exit_code == 130, ended.out + ended.err
    assert all((Path("sweep") / name).is_file() for name in (tables.CSV, tables.MARKDOWN, tables.TEX)), ended.out
    assert "resume the sweep with:" in ended.out
    assert "Traceback" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        (SweepDirectory, "write_job", 1),
        (SweepDirectory, "write_plan", 1),
        (SweepDirectory, "write_outcome", 1),  # it runs
        (SweepDirectory, "write_outcome", 2),  # it has ended
        (CarryOut, "run", 1),
        (CarryOut, "run", 2),
        (sweeper._Runner, "_run_jobs", 1),
    ],
)
def test_a_sweep_that_is_interrupted_at_any_moment_ends_with_its_tables(
    owner: Any, name: str, number: int, command: Command, interrupt: Interrupt
) -> None:
    interrupt(owner, name, number)
    check(command(*SWEEP))


@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        (Searcher, "begin", 1),
        (Study, "ask", 1),
        (Study, "values", 1),
        (SweepDirectory, "write_job", 1),
        (Study, "set_job", 2),
        (CarryOut, "run", 1),
        (Study, "tell", 1),
        ("optuna", "tell", 1),
    ],
)
def test_a_search_that_is_interrupted_at_any_moment_ends_with_its_tables(
    owner: Any, name: str, number: int, command: Command, interrupt: Interrupt
) -> None:
    optuna = pytest.importorskip("optuna")
    interrupt(optuna.study.Study if owner == "optuna" else owner, name, number)  # of optuna: within the database
    check(command(*SEARCH))


@pytest.mark.parametrize("ctrl_c", [1, 2])
def test_the_first_ctrl_c_waits_for_the_tables_and_the_second_ends_at_once(
    ctrl_c: int, command: Command, interrupt: Interrupt
) -> None:
    interrupt(tables, "write_tables", before=ctrl_c, after=0)
    ended = command(*SWEEP)
    assert ended.exit_code == 130
    assert (Path("sweep") / tables.TEX).is_file() == (ctrl_c == 1)
    assert ("2 jobs: 2 finished" in ended.out) == (ctrl_c == 1)
    assert "resume" not in ended.out  # all jobs have finished


def test_a_job_in_the_process_of_the_sweep_imports_nothing_that_ctrl_c_would_end_at_once(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where packages are imported, Ctrl-C ends the process without a word, and so without tables."""
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("ended at once"))
    real = CarryOut.run

    def run(*arguments: Any, **more: Any) -> None:
        monkeypatch.setattr(reporting, "importing", lambda: pytest.fail("imports"))
        real(*arguments, **more)

    monkeypatch.setattr(CarryOut, "run", run)
    assert command(*SWEEP).exit_code == 0


def test_what_fails_after_an_interruption_is_said(
    command: Command, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DataError("sweep.csv: No space left on device")

    monkeypatch.setattr(tables, "write_tables", fail)
    interrupt(CarryOut, "run")
    ended = command(*SWEEP)
    assert ended.exit_code == 130
    assert "the comparison is not complete: sweep.csv: No space left on device" in ended.out
    assert "resume the sweep with:" in ended.out


def test_an_interruption_that_a_package_has_made_another_error_of_is_one(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("the package has failed") from None

    monkeypatch.setattr(CarryOut, "run", fail)
    check(command(*SWEEP))


def test_where_the_output_of_a_sweep_is_full_its_tables_are_written(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "<stdout>")

    monkeypatch.setattr(watching.Watcher, "_print", fail)
    ended = command(*SWEEP)
    assert ended.exit_code == 2
    assert "No space left on device" in ended.err
    assert (Path("sweep") / tables.CSV).read_text(encoding="utf-8").count("finished") == 2
