"""A diagnosis at the end of a training: if it fails, the run stays finished and the problem is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Finished

from seqrnn.diagnosis import session
from seqrnn.diagnosis.diagnosis import TriedRemedy
from seqrnn.diagnosis.instrument import Examination
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.errors import DataError

Command = Callable[..., Finished]
RUN = ("task=sine", "model=gru", "model.hidden_size=4", "device=cpu", "smoke=true", "plots.draw=false")


def failing(error: BaseException) -> Callable[..., None]:
    def diagnose(*arguments: object) -> None:
        raise error

    return diagnose


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (DataError("no target\nat all"), 0, "its diagnosis failed: no target at all;"),
        (RuntimeError("a defect"), 0, "its diagnosis failed: a defect;"),
        (MemoryError(), 0, "its diagnosis failed: MemoryError();"),
        (KeyboardInterrupt(), 130, "its diagnosis was interrupted;"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_diagnosis_that_fails_leaves_the_run_finished(
    error: BaseException, exit_code: int, message: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "diagnose", failing(error))
    finished = command(*RUN, "diagnose=true")
    assert finished.exit_code == exit_code
    assert json.loads(Path("run/summary.json").read_text())["status"] == "finished"
    (line,) = [line for line in finished.err.splitlines() if "diagnosis" in line]
    assert message in line
    assert line.endswith(f"repeat it with: python -m seqrnn.diagnose {Path('run').absolute()}")
    assert "Traceback" not in finished.err


@pytest.mark.long
def test_resuming_a_finished_run_makes_the_diagnosis_that_is_missing(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(session, "diagnose", failing(RuntimeError("killed")))
        command(*RUN, "diagnose=true")
    assert not Path("run/diagnosis.json").exists()
    assert command("resume=run").exit_code == 0
    assert json.loads(Path("run/diagnosis.json").read_text())["task"] == "sine"
    monkeypatch.setattr(session, "diagnose", failing(RuntimeError("made a second time")))
    assert "second time" not in command("resume=run").err


def test_resuming_a_finished_run_without_diagnose_makes_no_diagnosis(command: Command) -> None:
    command(*RUN)
    command("resume=run")
    assert not Path("run/diagnosis.json").exists()


def test_a_second_diagnosis_continues_from_the_first(
    diagnosed_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainedRun(
        Path(shutil.copytree(diagnosed_run("task=sincos", "model=elman", "smoke=true"), tmp_path / "run"))
    )
    examined: list[str] = []
    trials: list[tuple[dict[Any, float], set[str]]] = []

    def examine(run: TrainedRun, *more: object) -> Examination:
        examined.append(run.directory.name)
        return Examination()

    def judge(found: Examination, run: TrainedRun, seconds: float, announce: object, known: Any, refuted: Any) -> Any:
        trials.append((dict(known), set(refuted)))
        known["a training"] = 0.5
        verdict = real(found, run, 0.0)[0]
        of = [("useless", 1.0, 1.2), ("short", 0.1, 1.2), ("good", 1.0, 0.7)]
        return verdict.model_copy(update={"other_trials": [tried(*one) for one in of]}), []

    def tried(name: str, part: float, effect: float) -> TriedRemedy:
        return TriedRemedy(remedy=name, overrides=[], length=1.0, part=part, effect=Interval(effect, 0.1, 2.0),
                           loss=0.1, seeds=3, cost=1.0, helps=False)  # fmt: skip

    real = session.judge
    monkeypatch.setattr(session, "examine", examine)
    monkeypatch.setattr(session, "judge", judge)
    monkeypatch.setattr(session.page, "draw_diagnosis", lambda directory: None)
    earlier = session.Earlier()
    for _ in range(2):
        session.diagnose_run(run, 30.0, lambda text: None, earlier)
    assert examined == ["run"]
    assert trials == [({}, set()), ({"a training": 0.5}, {"useless"})]
    session.diagnose_run(run, 30.0, lambda text: None)
    assert (len(examined), trials[2]) == (2, ({}, set()))


def test_where_no_line_was_found_the_reason_is_printed(
    diagnosed_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diagnosed(run: TrainedRun, seconds: float, announce: object) -> Any:
        verdict = session.judge(Examination(), run, 0.0)[0]
        return verdict.model_copy(update={"no_advice": "longer training helps, but by too little."}), []

    monkeypatch.setattr(session, "diagnose_run", diagnosed)
    session.diagnose(diagnosed_run("task=sincos", "model=elman", "smoke=true"), 30.0)
    printed = " ".join(capsys.readouterr().out.split())
    assert "No line to run next was found. longer training helps, but by too little. With more time," in printed
