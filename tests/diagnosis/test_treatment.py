"""--treat: what is better on validation data is kept, nothing is overwritten, and the best is always shown."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from seqrnn import api
from seqrnn.diagnosis import treatment
from seqrnn.diagnosis.instrument import Examination
from seqrnn.diagnosis.intervals import Interval, number
from seqrnn.diagnosis.session import Earlier
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.treatment import Step, Treatment
from seqrnn.diagnosis.trials import Trial
from seqrnn.diagnosis.verdict import judge
from seqrnn.errors import ConfigError, Diverged
from seqrnn.rundir.request import RunRequest

SMALL = ("task=sincos", "model=elman", "smoke=true", "optimizer.lr=0.0001")
BETTER, WORSE = {"optimizer.lr": 0.02}, {"optimizer.lr": 1e-7}


def trial(change: dict[str, Any], length: float = 1.0) -> Trial:
    return Trial("r", change, length, 1.0, Interval(0.5, 0.4, 0.6), 0.1, 3, 1.0)


@pytest.fixture
def small(diagnosed_run: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(diagnosed_run(*SMALL), tmp_path / "run"))


@pytest.fixture
def advising(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, bool]]]:
    """Makes diagnoses recommend these changes, one list for each diagnosis; returns a list that each diagnosis adds
    the name of its run to, and whether it had been examined."""

    def advise(*rounds: Sequence[Trial]) -> list[tuple[str, bool]]:
        left = chain(rounds, repeat([]))
        seen: list[tuple[str, bool]] = []

        def diagnose_run(
            run: TrainedRun, seconds: float, announce: object, earlier: Earlier
        ) -> tuple[Any, list[Trial]]:
            seen.append((run.directory.name, earlier.found is not None))
            earlier.found = Examination()
            return judge(Examination(), run, 0.0)[0], list(next(left))

        monkeypatch.setattr(treatment, "diagnose_run", diagnose_run)
        monkeypatch.setattr(treatment, "FACTORS", ())  # nothing is made longer
        return seen

    return advise


def make_run(request: RunRequest, evaluated: Callable[[Any], None]) -> None:
    api.carry_out(request, quiet=True, draws=False, evaluated=evaluated)


def treated(run: Path, make: Any = make_run, seconds: float = 100.0) -> tuple[Treatment, str]:
    console = Console(width=80, record=True, file=io.StringIO())
    made = Treatment(run, make, seconds, console=console)
    try:
        made.treat()
    finally:
        text = console.export_text()
    return made, text


def test_what_is_better_is_kept_and_its_line_makes_it(small: Path, advising: Callable[..., None]) -> None:
    advising([trial(BETTER)], [trial(WORSE)])
    before = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}
    made, text = treated(small)
    folder = small.parent / "run-treated"
    assert [step.directory for step in made.kept] == [small, folder / "1"]
    assert [step.directory.name for step in made.steps] == ["run", "1", "2"]
    assert made.kept[-1].loss < made.kept[0].loss
    assert "kept" in text
    assert "worse" in text
    *printed, path, line = text.rstrip().splitlines()
    assert max(map(len, printed)) <= 80
    assert path.endswith("run-treated/1")
    assert line.startswith("python -m seqrnn.train task=sincos")
    assert line.endswith("optimizer.lr=0.02")
    assert {path: path.read_bytes() for path in small.rglob("*") if path.is_file()} == before


def test_a_second_treatment_continues_from_the_best_and_overwrites_nothing(
    small: Path, advising: Callable[..., None]
) -> None:
    advising([trial(BETTER)])
    treated(small)
    first = json.loads((small.parent / "run-treated" / "1" / "summary.json").read_text())
    advising([trial(WORSE)])
    made, text = treated(small)
    assert [step.directory.name for step in made.steps] == ["run", "1", "2"]
    assert made.kept[-1].directory.name == "1"
    assert "earlier treatment" in text
    assert json.loads((small.parent / "run-treated" / "1" / "summary.json").read_text()) == first


def test_two_treatments_at_once_train_in_directories_of_their_own(small: Path, advising: Callable[..., None]) -> None:
    def meeting(request: RunRequest, evaluated: Callable[[Any], None]) -> None:
        other = treatment.Treatment(small, make_run)
        assert other._new_directory() != request.directory
        make_run(request, evaluated)

    advising([trial(BETTER)], [])
    made, _ = treated(small, meeting)
    assert [step.directory.name for step in made.steps] == ["run", "1"]
    assert not any((made.folder / "2").iterdir())


def test_a_treatment_writes_through_no_link(small: Path, advising: Callable[..., None], tmp_path: Path) -> None:
    advising([trial(BETTER)])
    small.with_name(f"{small.name}-treated").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link"):
        treated(small)
    assert not (tmp_path / "elsewhere").exists()


def test_where_nothing_helps_that_is_said(small: Path, advising: Callable[..., None]) -> None:
    advising([])
    made, text = treated(small)
    assert made.kept == made.steps
    assert "no remedy helped. Nothing was better" in " ".join(text.split())


def test_after_a_failure_there_is_a_longer_diagnosis_and_nothing_is_trained_twice(
    small: Path, advising: Callable[..., list[tuple[str, bool]]]
) -> None:
    seen = advising([trial(WORSE)], [trial(WORSE), trial(BETTER)], [trial(WORSE)], [trial(WORSE)])
    made, text = treated(small)
    assert seen == [("run", False), ("run", True), ("2", False), ("2", True)]  # a run is examined once
    assert [step.directory.name for step in made.steps] == ["run", "1", "2"]
    assert made.kept[-1].directory.name == "2"
    assert "no other remedy helped. The best run's" in " ".join(text.split())


def test_a_training_that_diverges_is_not_kept(small: Path, advising: Callable[..., None]) -> None:
    def diverging(request: RunRequest, evaluated: object) -> None:
        raise Diverged("NaN")

    advising([trial(BETTER), trial(WORSE)])
    made, text = treated(small, diverging)
    assert len(made.steps) == 3
    assert len(made.kept) == 1
    assert "diverged" in text


@pytest.mark.parametrize(
    ("error", "reason"), [(KeyboardInterrupt, "was interrupted"), (OSError(28, "No space left"), "failed")], ids=str
)
def test_an_interruption_and_an_error_show_the_best_so_far(
    error: Any, reason: str, small: Path, advising: Callable[..., None]
) -> None:
    def interrupted(request: RunRequest, evaluated: Callable[[Any], None]) -> None:
        if request.directory.name == "2":
            raise error
        make_run(request, evaluated)

    advising([trial(BETTER)], [trial(WORSE)])
    shown: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Treatment, "_print", lambda self, text, style=None: shown.append(text))
        with pytest.raises((KeyboardInterrupt, OSError)):
            treated(small, interrupted)
    assert f"it {reason}. The best run's" in shown[-1]


def test_a_training_ends_with_the_time(small: Path, advising: Callable[..., None]) -> None:
    advising([trial(BETTER)])
    made = Treatment(small, make_run, 100.0, console=Console(quiet=True))

    def late(request: RunRequest, evaluated: Callable[[Any], None]) -> None:
        made.seconds = -1.0
        make_run(request, evaluated)

    made.make_run = late
    made.treat()
    assert len(made.steps) == 1
    status = json.loads((small.parent / "run-treated" / "1" / "summary.json").read_text())["status"]
    assert status != "finished"


def made_run(folder: Path, name: str, loss: float, seconds: float, trained_by: str = "mse", mae: float = 0.0) -> Step:
    return Step(folder / name, [], trained_by, {"loss": loss, "mae": mae}, {"mae": mae}, seconds)


@pytest.mark.parametrize(
    ("losses", "left", "share", "factors"),
    [
        ([0.5, 0.3, 0.29, 0.1], 1000.0, 1.0, [4, 4, 4]),  # until it brings less than a tenth
        ([0.5, 0.3, 0.1], 10.0, 1.0, [4]),  # until the time is over
        ([0.5, 0.3], 3.0, 1.0, [2]),
        ([0.5], 10.0, 0.3, [2]),
        ([0.5], 10.0, 0.1, []),
        ([1.1], 100.0, 1.0, [4]),
    ],
)
def test_what_is_better_is_made_longer_as_long_as_that_helps_and_there_is_time(
    losses: list[float],
    left: float,
    share: float,
    factors: list[int],
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs of which the first takes a second, and each as long as its length says."""
    made = Treatment(small, make_run, left, console=Console(quiet=True))
    made.kept = [made_run(small.parent, "run", 1.0, 1.0)]
    made.kept[0] = replace(made.kept[0], directory=small)
    tried: list[float] = []
    results = iter(losses)

    def train(run: TrainedRun, remedy: Trial) -> None:
        assert remedy.change == {}
        tried.append(remedy.length)
        before = made.kept[-1]
        made.seconds -= before.seconds * remedy.length
        step = replace(before, scores={"loss": next(results)}, seconds=before.seconds * remedy.length)
        if step.relative_to(before) < treatment.BETTER:
            made.kept.append(step)

    monkeypatch.setattr(made, "_train", train)
    made._lengthen(share)
    assert tried == factors


def test_what_learns_its_data_by_heart_is_not_made_longer(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Treatment(small, make_run, 100.0, console=Console(quiet=True))
    made.kept = [replace(made_run(small, "", 1.0, 1.0), directory=small)]
    monkeypatch.setattr(treatment, "is_overtrained", lambda run: True)
    tried: list[Any] = []
    monkeypatch.setattr(made, "_train", lambda run, remedy: tried.append(remedy))
    made._lengthen(1.0)
    assert not tried


def test_where_nothing_helps_a_longer_training_may_take_all_the_time_that_is_left(
    small: Path, advising: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    monkeypatch.setattr(Treatment, "_lengthen", lambda self, share: shares.append(share))
    advising([trial(BETTER)], [], [])
    treated(small)
    assert shares == [treatment.DIAGNOSING, 1.0, 1.0]


def test_another_loss_is_followed_and_judged_by_the_mean_absolute_error(
    small: Path, advising: Callable[..., Any]
) -> None:
    advising([trial({"task.loss": "l1", **BETTER})], [trial({"optimizer.lr": 0.03})])
    made, text = treated(small)
    first, second, third = made.steps
    assert [step.trained_by for step in made.steps] == ["mse", "l1", "l1"]
    assert second.relative_to(first) == second.scores["mae"] / first.scores["mae"]
    assert third.relative_to(second) == third.loss / second.loss
    assert second in made.kept
    words = " ".join(text.split())
    assert (
        f"validation mae is {number(made.kept[-1].scores['mae'] / first.scores['mae'])} times that of run 0; test"
        in words
    )
    assert "task.loss=l1" in words


def test_runs_of_one_loss_are_judged_by_it_and_shown_with_the_metric_of_their_task(
    diagnosed_run: Callable[..., Path], tmp_path: Path, advising: Callable[..., Any]
) -> None:
    run = Path(shutil.copytree(diagnosed_run(*SMALL, "task.loss=l1"), tmp_path / "run"))
    advising([trial(BETTER)])
    made, text = treated(run)
    first, second = made.steps
    assert second.loss == pytest.approx(second.scores["mae"])
    assert second.relative_to(first) == second.loss / first.loss
    assert "times that of run 0; test mae" in " ".join(text.split())


def test_a_damaged_run_of_an_earlier_treatment_is_named_and_left_out(
    small: Path, advising: Callable[..., None]
) -> None:
    folder = small.parent / "run-treated"
    for name, damaged in (("1", "weights.safetensors"), ("2", "summary.json")):
        shutil.copytree(small, folder / name)
        (folder / name / damaged).write_bytes(b"{")
    (folder / "3").mkdir()  # killed before it wrote anything
    advising([])
    made, text = treated(small)
    assert [step.directory for step in made.steps] == [small]
    shown = "".join(text.split())
    assert f"leftout:{folder}/1/weights.safetensors:" in shown
    assert f"leftout:{folder}/2/summary.json:" in shown
    assert "run-treated/3" not in shown
